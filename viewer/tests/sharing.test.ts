import assert from "node:assert/strict";
import { test } from "node:test";
import { readHeader } from "../src/bundle/header.ts";
import { RangedBytes } from "../src/bundle/ranged.ts";
import { fromHex, toHex, utf8, view } from "../src/bytes.ts";
import { Codec } from "../src/codec/codec.ts";
import { decodeRecord } from "../src/codes/coder.ts";
import { Kernel } from "../src/codes/kernel.ts";
import { FormatError } from "../src/errors.ts";
import { wholeKeys, type ImageKeys } from "../src/keys/image_keys.ts";
import { regionOf } from "../src/keys/grant.ts";
import type { Pixels, Tier } from "../src/release/types.ts";
import { OpenedBundle } from "../src/sharing/opened.ts";
import { readPixels, sourceHeader } from "../src/sharing/read.ts";
import { ASSETS, FACTS, namesIn, vector, vectorSecrets } from "./vectors.ts";

const CODEC = new Codec(ASSETS);
const TIERS: Tier[] = ["preview", "diagnostic"];

function open(name: string, keys: ImageKeys = wholeKeys(vectorSecrets())): OpenedBundle {
  const data = vector("bundles", `${name}.primis`);
  const header = readHeader(data, data.length, name, null);
  return new OpenedBundle(header, RangedBytes.of(data), keys);
}

/** Samples of 16 bits, big-endian, in hex. */
function samples(hex: string): number[] {
  const data = view(fromHex(hex));
  return Array.from({ length: data.byteLength / 2 }, (_, k) => data.getUint16(2 * k));
}

function apart(pixels: Pixels, right: readonly number[]): number {
  assert.equal(pixels.data.length, right.length);
  return right.reduce((most, value, k) => Math.max(most, Math.abs(value - pixels.data[k]!)), 0);
}

test("streams decode to the levels of the vector", async () => {
  const model = await CODEC.model(FACTS.profile.model as string);
  const module = await WebAssembly.compile((await ASSETS.kernel()) as Uint8Array<ArrayBuffer>);
  const kernel = new Kernel(module, model.tables, model.layout, model.dc);
  const [, height, width] = FACTS.records[0].shape as [number, number, number];
  const levels = new Int16Array(model.layout.atoms * height * width);
  for (const record of FACTS.records) {
    const [start, stop] = record.atoms as [number, number];
    const streams = {
      support: fromHex(record.support as string),
      values: fromHex(record.values as string),
      open: null,
    };
    const tile = { levels: levels.slice(), height, width };
    const found = decodeRecord(kernel, tile, { start, stop }, record.levels.length, streams);
    for (const [at, level] of record.levels) levels[start * height * width + at] = level;
    assert.deepEqual(found, levels);
  }
});

test("info and header unseal to those of the vector", async () => {
  const bundle = open("good");
  assert.equal(toHex(await bundle.unseal("info")), FACTS.info);
  assert.equal(toHex(await bundle.unseal("header")), FACTS.header);
  assert.deepEqual(await bundle.unseal("original"), utf8("the original file"));
  assert.equal((await sourceHeader(bundle)).name, "phantom.tif");
});

for (const tier of TIERS) {
  test(`the code decodes to the pixels of the vector: ${tier}`, async () => {
    const pixels = await readPixels(open("good"), tier, CODEC);
    assert.ok(apart(pixels, samples(FACTS["pixels, 16 bits each"][tier])) <= 1);
  });

  test(`the group of the vector decodes to its frames: ${tier}`, async () => {
    const right = samples(FACTS.group["pixels, 16 bits each"][tier]);
    assert.ok(apart(await readPixels(open("good_group"), tier, CODEC), right) <= 1);
    const frames = [1, 5];
    const some = await readPixels(open("good_group"), tier, CODEC, { frames });
    const size = right.length / 6;
    const wanted = frames.flatMap((k) => right.slice(k * size, (k + 1) * size));
    assert.ok(apart(some, wanted) <= 1);
  });
}

test("texture is that of the vector", async () => {
  const pixels = await readPixels(open("good"), "diagnostic", CODEC, { texture: true });
  assert.ok(apart(pixels, samples(FACTS["pixels with texture, 16 bits each"])) <= 1);
});

for (const [name, facts, frame] of [
  ["good", FACTS, 0],
  ["good_group", FACTS.group, 4],
] as const) {
  test(`a region opens its pixels: ${name}`, async () => {
    const told = facts["region, as a grant has it"];
    const region = regionOf(told, "diagnostic");
    const bundle = open(name, { secrets: new Map(), region });
    const [x, y, width, height] = told.region as [number, number, number, number];
    const [, rows, columns] = facts.shape as [number, number, number];
    const whole = samples(facts["pixels, 16 bits each"].diagnostic);
    const wanted = Array.from({ length: width * height }, (_, k) => {
      const at = (frame * rows + y + Math.floor(k / width)) * columns;
      return whole[at + x + (k % width)]!;
    });
    assert.ok(apart(await readPixels(bundle, "diagnostic", CODEC), wanted) <= 1);
    await assert.rejects(bundle.unseal("header"), /not opened/);
  });
}

const BAD = namesIn("bundles", ".primis").filter((name) => !name.startsWith("good"));

test("there are bad bundles", () => assert.ok(BAD.length >= 60));

for (const name of BAD) {
  test(`refused: ${name}`, async () => {
    const read = async (): Promise<void> => {
      await readPixels(open(name), "diagnostic", CODEC);
      await open(name).unseal("original");
    };
    await assert.rejects(read, (error: Error) => {
      assert.ok(error instanceof FormatError, `${error.name}: ${error.message}`);
      assert.ok(!error.message.includes("\n"));
      const altered = /^(\w+)_altered$/.exec(name);
      if (altered) assert.ok(error.message.includes(`"${altered[1]}"`), error.message);
      return true;
    });
  });
}

test("an altered byte is an error or changes nothing", async () => {
  const data = vector("bundles", "good.primis");
  const right = samples(FACTS["pixels, 16 bits each"].diagnostic);
  let refused = 0;
  for (let k = 0; k < 60; k++) {
    const bad = data.slice();
    bad[Math.floor((k * (data.length - 1)) / 59)]! ^= 1;
    try {
      const header = readHeader(bad, bad.length, "bad", null);
      const bundle = new OpenedBundle(header, RangedBytes.of(bad), wholeKeys(vectorSecrets()));
      await bundle.unseal("original");
      assert.ok(apart(await readPixels(bundle, "diagnostic", CODEC), right) <= 1);
    } catch (error) {
      refused++;
      assert.ok(error instanceof Error && /Error|Bad|Damaged/.test(error.name));
      assert.ok(!(error instanceof assert.AssertionError));
    }
  }
  assert.ok(refused > 40);
});
