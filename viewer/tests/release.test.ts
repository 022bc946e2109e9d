import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { generateIdentity } from "age-encryption";
import { Codec } from "../src/codec/codec.ts";
import {
  BadBundle,
  BadManifest,
  NoMatchingGrant,
  PrimisError,
  UnexpectedRelease,
  WrongSigner,
} from "../src/errors.ts";
import { readIdentities } from "../src/keys/identity.ts";
import { openRelease } from "../src/release/reader.ts";
import type { RememberedRelease } from "../src/release/types.ts";
import { Folder } from "./folder.ts";
import { ASSETS, vector, VECTORS } from "./vectors.ts";

const RELEASE = join(VECTORS, "release");
const decoder = new Codec(ASSETS);
const reader = await readIdentities(vector("keys", "reader.key"));
const owner = await readIdentities(vector("keys", "owner.key"));

test("the release of the vectors opens, and its catalogue lists it", async () => {
  const release = await openRelease(new Folder(RELEASE), reader, { decoder });
  const images = await release.images();
  assert.equal(release.count, 3);
  assert.deepEqual(images.map((image) => image.name).sort(), [
    "chest-0.dcm",
    "chest-1.dcm",
    "chest-2.dcm",
  ]);
  const first = images.find((image) => image.name === "chest-0.dcm")!;
  assert.deepEqual(first.listed!.labels, { label: "normal", patient: "a" });
  assert.equal(first.listed!.kind, "dicom");
  assert.equal(release.grants[0]!.label, "reader");
  assert.deepEqual(release.notes, []);
});

test("images are read, whether a host serves ranges or not", async () => {
  const found: number[][] = [];
  for (const ranged of [true, false]) {
    const release = await openRelease(new Folder(RELEASE, ranged), reader, { decoder });
    const [entry] = await release.images();
    const image = await release.open(entry!.id);
    assert.equal(image.name, entry!.name);
    const pixels = await image.read("diagnostic");
    assert.deepEqual([pixels.height, pixels.width, pixels.channels], [64, 64, 1]);
    found.push([...pixels.data]);
    const [file] = await image.files("diagnostic");
    assert.equal(file!.type, "application/dicom");
  }
  assert.deepEqual(found[0], found[1]);
});

test("a grant for another key does not open it, the owner's key does", async () => {
  const stranger = await readIdentities(await generateIdentity());
  const open = openRelease(new Folder(RELEASE), stranger, { decoder });
  await assert.rejects(open, NoMatchingGrant);
  const release = await openRelease(new Folder(RELEASE), owner, { decoder });
  assert.equal(release.grants[0]!.tier, "original");
});

test("another signer, an older state and a fork are refused", async () => {
  const release = await openRelease(new Folder(RELEASE), reader, { decoder });
  const seen = release.remembered();
  const open = (known: Partial<RememberedRelease>): Promise<unknown> =>
    openRelease(new Folder(RELEASE), reader, { decoder, known: [{ ...seen, ...known }] });
  await open({});
  await open({ version: seen.version - 1, digest: "0".repeat(64) });
  for (const known of [
    { signer: "0".repeat(64) },
    { version: seen.version + 1 },
    { digest: "0".repeat(64) },
    { release: "0".repeat(32), signer: "0".repeat(64) },
  ]) {
    await assert.rejects(open(known), UnexpectedRelease);
  }
  const signer = "0".repeat(64);
  await assert.rejects(openRelease(new Folder(RELEASE), reader, { decoder, signer }), WrongSigner);
  const demand = (known: Partial<RememberedRelease>): Promise<unknown> =>
    openRelease(new Folder(RELEASE), reader, {
      decoder,
      signer: seen.signer,
      known: [{ ...seen, ...known }],
    });
  await demand({ signer }); // who is asked for by name need not be who was seen before
  for (const known of [{ version: seen.version + 1 }, { digest: "0".repeat(64) }]) {
    await assert.rejects(demand(known), UnexpectedRelease);
  }
});

/** The folder with a byte of a file altered. */
function altered(key: string, at = -1): Folder {
  const data = vector("release", ...key.split("/")).slice();
  data[at < 0 ? data.length + at : at]! ^= 1;
  return new Folder(RELEASE, true, new Map([[key, data]]));
}

async function readAll(place: Folder): Promise<void> {
  const release = await openRelease(place, reader, { decoder });
  for (const { id } of await release.images()) {
    await (await release.open(id)).read("diagnostic");
  }
}

test("an altered manifest, page or bundle is refused", async () => {
  await readAll(new Folder(RELEASE));
  await assert.rejects(readAll(altered("manifest.json")), BadManifest);
  for (const page of readdirSync(join(RELEASE, "pages"))) {
    await assert.rejects(readAll(altered(`pages/${page}`)), BadManifest);
  }
  for (const bundle of readdirSync(join(RELEASE, "bundles"))) {
    await assert.rejects(readAll(altered(`bundles/${bundle}`)), BadBundle);
  }
});

test("an altered grant is passed over, with a note", async () => {
  const names = readdirSync(join(RELEASE, "grants")).filter((name) => name.startsWith("reader"));
  const place = altered(`grants/${names[0]}`);
  await assert.rejects(openRelease(place, reader, { decoder }), (error: Error) => {
    return error instanceof PrimisError && error.message.includes("no grant for the key offered");
  });
});
