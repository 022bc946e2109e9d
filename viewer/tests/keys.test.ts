import assert from "node:assert/strict";
import { test } from "node:test";
import { ed25519 } from "@noble/curves/ed25519.js";
import {
  armor,
  Encrypter,
  generateHybridIdentity,
  generateIdentity,
  identityToRecipient,
} from "age-encryption";
import { concat, fromHex, latin1, toHex, utf8 } from "../src/bytes.ts";
import { canonical, parseCanonical, type Json, type JsonObject } from "../src/canonical.ts";
import { Codec } from "../src/codec/codec.ts";
import {
  BadGrant,
  BadKey,
  GrantExpired,
  NoMatchingGrant,
  NotCovered,
  OtherPassphrase,
  TierTooLow,
  WrongPassphrase,
  WrongSigner,
} from "../src/errors.ts";
import { inspectAge } from "../src/keys/age_file.ts";
import { readGrant, signedGrant } from "../src/keys/grant.ts";
import { passphraseIdentity, readIdentities } from "../src/keys/identity.ts";
import { derive, imageSecrets, releaseSecrets } from "../src/keys/seal.ts";
import { sha256 } from "../src/bytes.ts";
import { openRelease } from "../src/release/reader.ts";
import type { Release } from "../src/release/types.ts";
import { Folder } from "./folder.ts";
import { ASSETS, vector, VECTORS } from "./vectors.ts";

const decoder = new Codec(ASSETS);
const OWNER = latin1(vector("keys", "owner.key")).trim();
const READER = latin1(vector("keys", "reader.key")).trim();
const SEED = derive(utf8(OWNER), "signing key");
const INDEX = "grants/index.json";

async function sealed(data: Uint8Array, to: readonly string[]): Promise<Uint8Array> {
  const encrypter = new Encrypter();
  for (const recipient of to) encrypter.addRecipient(recipient);
  return encrypter.encrypt(data);
}

async function locked(text: string, passphrase: string): Promise<Uint8Array> {
  const encrypter = new Encrypter();
  encrypter.setScryptWorkFactor(8);
  encrypter.setPassphrase(passphrase);
  return encrypter.encrypt(text);
}

test("identities of both kinds open what is sealed to them", async () => {
  for (const [key, kind] of [
    [await generateIdentity(), "age"],
    [await generateHybridIdentity(), "age-pq"],
  ] as const) {
    const [identity] = await readIdentities(`# a comment\r\n${key}\r\n`);
    assert.equal(identity!.kind, kind);
    const file = await sealed(utf8("hello"), [identity!.text]);
    assert.deepEqual(await identity!.decrypt(file), utf8("hello"));
    const [other] = await readIdentities(await generateIdentity());
    assert.equal(await other!.decrypt(file), null);
    const altered = file.slice();
    altered[altered.length - 1]! ^= 1;
    await assert.rejects(identity!.decrypt(altered), BadKey);
  }
});

test("key files are read as people have them", async () => {
  const utf16 = concat(Uint8Array.of(0xff, 0xfe), new Uint8Array(Buffer.from(READER, "utf16le")));
  const file = await locked(READER, "open sesame");
  const ask = (): Promise<string> => Promise.resolve("open sesame");
  const [reader] = await readIdentities(READER);
  for (const data of [utf16, file, utf8(armor.encode(file)), utf8(`\ufeff${READER}`)]) {
    const [found] = await readIdentities(data, ask);
    assert.equal(found!.text, reader!.text);
  }
  await assert.rejects(readIdentities(file), /locked by a passphrase/);
  await assert.rejects(
    readIdentities(file, () => Promise.resolve("no")),
    WrongPassphrase,
  );
  for (const [data, why] of [
    ["-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----", /SSH or PEM/],
    [reader!.text, /public key, expected the private one/],
    ["", /no private key/],
    [`${READER.slice(0, -1)}Q`, /damaged/],
  ] as const) {
    await assert.rejects(readIdentities(data), (error: Error) => {
      assert.ok(error instanceof BadKey && why.test(error.message), error.message);
      return !error.message.includes("AGE-SECRET");
    });
  }
});

test("headers of age files are looked at within bounds", async () => {
  const [identity] = await readIdentities(READER);
  const file = await sealed(utf8("x"), Array<string>(7).fill(identity!.text));
  assert.throws(() => inspectAge(file), /over 6 recipients/);
  assert.throws(() => inspectAge(utf8("age-encryption.org/v1\n-> X25519 a\n")), /cut off/);
  assert.throws(() => inspectAge(utf8(`age-encryption.org/v1\n${"-> a\n\n".repeat(600)}`)), BadKey);
  const heavy = utf8("age-encryption.org/v1\n-> scrypt AAAAAAAAAAAAAAAAAAAAAA 21\n\n");
  const whole = concat(heavy, utf8(`--- ${"A".repeat(43)}\n`));
  await assert.rejects(passphraseIdentity("x").decrypt(whole), /work factor is over 20/);
});

/** The reader's grant in the release of the vectors. */
async function body(): Promise<{ grant: JsonObject; index: string[] }> {
  const index = parseCanonical(vector("release", "grants", "index.json")) as JsonObject;
  const names = index["grants"] as string[];
  const [reader] = await readIdentities(READER);
  const name = names.find((one) => one.startsWith("reader."))!;
  const payload = (await reader!.decrypt(vector("release", "grants", name)))!;
  const { signer, body } = signedGrant(payload, name);
  assert.equal(readGrant(signer, body, name).label, "reader");
  return { grant: parseCanonical(body) as JsonObject, index: names };
}

interface How {
  readonly seed?: Uint8Array;
  readonly name?: string;
  readonly to?: string;
  readonly trust?: string;
}

function signed(grant: Json, seed: Uint8Array = SEED): Uint8Array {
  const signer = toHex(ed25519.getPublicKey(seed));
  const data = canonical(grant);
  const message = concat(utf8(`primis/1 grant ${signer}\n`), data);
  const signature = toHex(ed25519.sign(message, seed));
  return concat(utf8(`${signer} ${signature}\n`), data, utf8(" ".repeat(100)));
}

/** Opens the release with this grant in place of the reader's. */
async function withGrant(grant: Json, how: How = {}): Promise<Release> {
  const payload = signed(grant, how.seed);
  const file = await sealed(payload, [how.to ?? (await identityToRecipient(READER))]);
  const name = `${how.name ?? "reader"}.${toHex(sha256(file)).slice(0, 8)}.age`;
  const changed = new Map([
    [`grants/${name}`, file],
    [INDEX, canonical({ format: 1, grants: [name] })],
  ]);
  const place = new Folder(`${VECTORS}/release`, true, changed);
  return openRelease(place, await readIdentities(READER), { decoder });
}

test("a grant counts only if it is the owner's, for this key, release and label", async () => {
  const { grant } = await body();
  assert.equal((await withGrant(grant)).grants[0]!.label, "reader");
  const other = { seed: new Uint8Array(32).fill(7) };
  await assert.rejects(withGrant(grant, other), WrongSigner);
  await assert.rejects(withGrant(grant, { name: "somebody" }), /renamed/);
  const zeros = "0".repeat(32);
  await assert.rejects(withGrant({ ...grant, release: zeros }), /belongs to release/);
  await assert.rejects(withGrant({ ...grant, keys: zeros }), /earlier state/);
  const recipient = await identityToRecipient(await generateIdentity());
  await assert.rejects(withGrant({ ...grant, recipient }), NoMatchingGrant);
  for (const wrong of [
    { format: 2 },
    { tier: "all" },
    { secret: null },
    { secret: "00" },
    { not_after: "2024-02-30" },
    { label: "../x" },
    { images: { [zeros]: {} } },
    { regions: {} },
  ]) {
    await assert.rejects(withGrant({ ...grant, ...wrong }), BadGrant);
  }
});

test("the grant that a link names is tried, and no other one", async () => {
  const { grant } = await body();
  const changed = new Map<string, Uint8Array>();
  const add = async (label: string, passphrase: string): Promise<string> => {
    const file = await locked(latin1(signed({ ...grant, label, recipient: "" })), passphrase);
    const name = `${label}.${toHex(sha256(file)).slice(0, 8)}.age`;
    changed.set(`grants/${name}`, file);
    return name;
  };
  const links = Array.from({ length: 12 }, (_, k) => add(`link-${k}`, `secret ${k}`));
  const grants = (await Promise.all(links)).sort();
  changed.set(INDEX, canonical({ format: 1, grants }));
  const place = new Folder(`${VECTORS}/release`, true, changed);
  const open = async (secret: string, label: string): Promise<string[]> => {
    const options = { decoder, grant: label };
    const release = await openRelease(place, [passphraseIdentity(secret)], options);
    return release.grants.map((found) => found.label);
  };
  place.requests = 0;
  assert.deepEqual(await open("secret 11", "link-11"), ["link-11"]);
  assert.equal(place.requests, 3); // manifest, list and the grant
  await assert.rejects(open("secret 11", "link-3"), OtherPassphrase);
  await assert.rejects(open("secret 11", "link-12"), /has no grant "link-12"/);
});

test("a grant opens no more than it says", async () => {
  const { grant } = await body();
  const release = await withGrant(grant);
  const [first, second] = (await release.images()).map((image) => image.id) as [string, string];
  const secrets = imageSecrets(
    releaseSecrets(fromHex(grant["secret"] as string), "diagnostic"),
    first,
  );
  const tiers = Object.fromEntries([...secrets].map(([tier, secret]) => [tier, toHex(secret)]));
  const named = await withGrant({ ...grant, secret: null, images: { [first]: tiers } });
  assert.deepEqual(
    (await named.images()).map((image) => [image.id, image.name]),
    [[first, null]],
  );
  assert.match((await named.open(first)).name!, /^chest-/);
  await assert.rejects(named.open(second), NotCovered);
  const preview = toHex(secrets.get("preview")!);
  const low = { ...grant, secret: null, tier: "preview", images: { [first]: { preview } } };
  const image = await (await withGrant(low)).open(first);
  assert.equal(image.name, null);
  assert.deepEqual(image.tiers, ["preview"]);
  assert.ok((await image.read("preview")).data.length > 0);
  await assert.rejects(image.read("diagnostic"), TierTooLow);
  const late = await withGrant({ ...grant, not_after: "2020-01-31" });
  assert.ok(late.grants[0]!.expired);
  await assert.rejects(late.open(first), GrantExpired);
});
