/**
 * What Python restores of whole releases, compared: codes are equal, samples apart by one grey
 * level at most, files too but for their samples. `python -m tests.make_viewer_cases
 * viewer/.cases`, in the folder above, makes the cases; without them this says so and passes.
 */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { gunzipSync, inflateSync } from "node:zlib";
import { Codec } from "../src/codec/codec.ts";
import { samplesOf, type GroupJob } from "../src/codec/job.ts";
import { OtherPassphrase, TierTooLow } from "../src/errors.ts";
import { passphraseIdentity, readIdentities } from "../src/keys/identity.ts";
import { openRelease } from "../src/release/reader.ts";
import type { OpenedImage, Pixels, RestoredFile, Samples, Tier } from "../src/release/types.ts";
import { Folder } from "./folder.ts";
import { ASSETS } from "./vectors.ts";

const CASES = join(process.cwd(), ".cases");
const there = existsSync(join(CASES, "cases.json"));
type Any = any;
const { cases, passphrase }: Any = there
  ? JSON.parse(readFileSync(join(CASES, "cases.json"), "utf8"))
  : { cases: [], passphrase: "" };

const file = (name: string): Uint8Array => new Uint8Array(readFileSync(join(CASES, name)));

/** Keeps the jobs that it is given, so that their codes can be compared. */
class Watched extends Codec {
  readonly jobs: GroupJob[] = [];
  override decode(job: GroupJob, onProgress?: (share: number) => void): Promise<Samples[]> {
    this.jobs.push(job);
    return super.decode(job, onProgress);
  }
}
const decoder = new Watched(ASSETS);

if (!there) test("cases of Python", { skip: "python -m tests.make_viewer_cases viewer/.cases" });

const totals = { samples: 0, apart: 0, codes: 0, byFile: new Map<string, number>() };

for (const told of cases) {
  test(`${told.release}, by ${told.key}`, async (t) => {
    const identities = await readIdentities(file(told.key));
    const release = await openRelease(new Folder(join(CASES, told.release)), identities, {
      decoder,
    });
    const images = await release.images();
    assert.deepEqual(
      images.map((image) => image.id),
      told.images.map((image: Any) => image.id),
    );
    for (const image of told.images) {
      const entry = images.find(({ id }) => id === image.id)!;
      assert.equal(entry.tier, image.tier);
      await t.test(image.name ?? image.id, async () =>
        compare(await release.open(image.id), image),
      );
    }
  });
}

async function compare(image: OpenedImage, told: Any): Promise<void> {
  assert.equal(image.name, told.name);
  const { region } = image;
  const found = region && [
    region.x,
    region.y,
    region.width,
    region.height,
    region.first,
    region.last,
  ];
  assert.deepEqual(found, told.region);
  for (const tier of ["preview", "diagnostic"] as const) {
    const right = told.tiers[tier];
    if (right) requireLike(await image.read(tier), right, image, `${told.name} ${tier}`);
    else await assert.rejects(image.read(tier), TierTooLow);
  }
  if (told.texture) {
    assert.ok(image.hasTexture || image.exact);
    const read = image.read("diagnostic", { texture: true });
    requireLike(await read, told.texture, image, `${told.name} texture`, 2);
  }
  if (told.codes && !region) await compareCodes(image, told.codes);
  await compareFrames(image, told);
  if (told.name === "head.dcm") {
    const { display } = image;
    assert.deepEqual(display, { windows: [BRAIN, BONE], slope: 1, intercept: 0, units: "HU" });
  }
  for (const tier of ["diagnostic", "original"] as const) {
    if (told.files[tier].length) await compareFiles(image, tier, told.files[tier]);
  }
}

/** allowed: how far apart samples may be. With texture 2: its noise follows samples off by one. */
function requireLike(
  pixels: Pixels,
  told: Any,
  image: OpenedImage,
  what: string,
  allowed = 1,
): void {
  const { frames, height, width, channels } = pixels;
  assert.deepEqual([frames, height, width, channels], told.shape);
  const { sampleType, bitDepth, photometric, spacing, kind } = image;
  assert.deepEqual(
    { type: sampleType, bitDepth, photometric, spacing, kind },
    {
      type: told.type,
      bitDepth: told.bitDepth,
      photometric: told.photometric,
      spacing: told.spacing,
      kind: told.kind,
    },
  );
  const right = samplesOf(image.sampleType, pixels.data.length);
  new Uint8Array(right.buffer).set(file(told.file));
  let [most, count] = [0, 0];
  right.forEach((sample, k) => {
    const apart = Math.abs(sample - pixels.data[k]!);
    most = Math.max(most, apart);
    count += apart ? 1 : 0;
  });
  totals.samples += right.length;
  totals.apart += count;
  if (count) totals.byFile.set(what, count);
  assert.ok(most <= allowed, `${what}: apart by ${most}, ${count} of ${right.length}`);
}

async function compareCodes(image: OpenedImage, told: Any): Promise<void> {
  decoder.jobs.length = 0;
  await image.read("diagnostic");
  const levels = (await Promise.all(decoder.jobs.map((job) => decoder.levels(job)))).flat();
  const right = new Int16Array(file(told.file).slice().buffer);
  const each = right.length / told.shape[0];
  assert.equal(levels.length, told.shape[0]);
  levels.forEach((frame, k) => assert.deepEqual(frame, right.subarray(k * each, (k + 1) * each)));
  totals.codes += right.length;
}

/** Some frames alone are those of the whole. */
async function compareFrames(image: OpenedImage, told: Any): Promise<void> {
  if (image.frames < 2 || image.region || !told.tiers.diagnostic) return;
  const whole = await image.read("diagnostic");
  const chosen = [...new Set([1, image.frames - 1])];
  const some = await image.read("diagnostic", { frames: chosen });
  const size = whole.data.length / whole.frames;
  chosen.forEach((frame, k) => {
    const right = whole.data.slice(frame * size, (frame + 1) * size);
    assert.deepEqual(some.data.slice(k * size, (k + 1) * size), right);
  });
}

const BRAIN = { center: 35, width: 100, name: "BRAIN" };
const BONE = { center: 300, width: 1500, name: "BONE" };

async function compareFiles(image: OpenedImage, tier: Tier, told: Any[]): Promise<void> {
  const files = await image.files(tier);
  if (tier === "original" || image.kind.startsWith("dicom")) {
    assert.deepEqual(
      files.map(({ name }) => name),
      told.map(({ name }) => name),
    );
    files.forEach((one, k) => requireAlike(one, file(told[k].file), tier));
  } else if (image.kind === "tiff") {
    await requireTiff(image, files[0]!);
  } else if (image.kind.startsWith("nifti")) {
    requireAlike(files[0]!, file(told[0].file), tier);
  } else {
    requirePng(files);
  }
}

/** Equal; below tier original but for samples that are apart by one. */
function requireAlike(one: RestoredFile, right: Uint8Array, tier: Tier): void {
  if (tier === "original") return assert.ok(Buffer.from(one.bytes).equals(right));
  const zipped = one.type === "application/gzip";
  const [a, b] = [one.bytes, right].map((data) => (zipped ? gunzipSync(data) : data));
  assert.equal(a!.length, b!.length);
  let differing = 0;
  a!.forEach((byte, k) => (differing += byte === b![k] ? 0 : 1));
  assert.ok(differing <= a!.length / 200, `${one.name}: ${differing} bytes differ`);
}

/** Its first page holds the first frame. */
async function requireTiff(image: OpenedImage, { bytes, name }: RestoredFile): Promise<void> {
  assert.equal(name, image.name);
  const data = Buffer.from(bytes);
  const page = data.readUInt32LE(4);
  const entries = Array.from({ length: data.readUInt16LE(page) }, (_, k) => page + 2 + 12 * k);
  const value = (tag: number): number => {
    const at = entries.find((entry) => data.readUInt16LE(entry) === tag)!;
    return data.readUInt16LE(at + 2) === 3 ? data.readUInt16LE(at + 8) : data.readUInt32LE(at + 8);
  };
  assert.deepEqual([value(256), value(257)], [image.width, image.height]);
  const strip = inflateSync(data.subarray(value(273), value(273) + value(279)));
  const right = await image.read("diagnostic", { frames: [0] });
  assert.deepEqual(new Uint8Array(strip), new Uint8Array(right.data.buffer));
}

/** A PNG whose lines are whole. */
function requirePng(files: readonly RestoredFile[]): void {
  for (const { bytes, type, name } of files) {
    if (type !== "image/png") {
      assert.ok(name.endsWith(".npy"));
      continue;
    }
    const data = Buffer.from(bytes);
    const at = data.indexOf("IDAT");
    assert.ok(inflateSync(data.subarray(at + 4, at + 4 + data.readUInt32BE(at - 4))).length > 0);
  }
}

test("a passphrase opens its grant, another does not", { skip: !there }, async () => {
  const place = new Folder(join(CASES, "lossless"));
  const release = await openRelease(place, [passphraseIdentity(passphrase)], { decoder });
  assert.equal(release.grants[0]!.label, "passphrase");
  const other = [passphraseIdentity("another one")];
  await assert.rejects(openRelease(place, other, { decoder }), OtherPassphrase);
});

test("in all", { skip: !there }, (t) => {
  const { samples, apart, codes, byFile } = totals;
  t.diagnostic(`${codes} levels equal; ${apart} of ${samples} samples apart by one grey level`);
  for (const [what, count] of byFile) t.diagnostic(`${count} apart: ${what}`);
});
