import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { readHeader } from "../src/bundle/header.ts";
import { RangedBytes } from "../src/bundle/ranged.ts";
import { fromHex, toHex, utf8, view } from "../src/bytes.ts";
import { Codec } from "../src/codec/codec.ts";
import { decodeRecord } from "../src/codes/coder.ts";
import { Kernel } from "../src/codes/kernel.ts";
import { FormatError } from "../src/errors.ts";
import { safeName } from "../src/imaging/names.ts";
import { wholeKeys, type ImageKeys } from "../src/keys/image_keys.ts";
import { regionOf } from "../src/keys/grant.ts";
import type { Pixels, Tier } from "../src/release/types.ts";
import { openImage } from "../src/release/image.ts";
import { OpenedBundle } from "../src/sharing/opened.ts";
import { decodeFrames, readPixels, sourceHeader } from "../src/sharing/read.ts";
import { ASSETS, FACTS, namesIn, vector, VECTORS, vectorSecrets } from "./vectors.ts";

const CODEC = new Codec(ASSETS);
const RELEASE = "0".repeat(32);
const TIERS: Tier[] = ["preview", "diagnostic"];

function open(name: string, keys: ImageKeys = wholeKeys(vectorSecrets())): OpenedBundle {
  const data = vector("bundles", `${name}.primis`);
  const header = readHeader(data, data.length, name, null);
  return new OpenedBundle(header, RangedBytes.of(data), keys);
}

/** Samples of 16 bits, big-endian, in hex. */
function samples(hex: string, signed = false): number[] {
  const data = view(fromHex(hex));
  const read = (k: number): number => (signed ? data.getInt16(2 * k) : data.getUint16(2 * k));
  return Array.from({ length: data.byteLength / 2 }, (_, k) => read(k));
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

test("a region that the image does not have is refused before anything is made of it", async () => {
  const told = FACTS["region, as a grant has it"];
  const [x, y, width, height, first, last] = told.region as number[];
  const beyond = [
    [x, y, 2 ** 17, height, first, last],
    [x, y, width, 2 ** 50, first, last],
    [2 ** 40, y, width, height, first, last],
    [x, y, width, height, 7, 7],
  ];
  for (const region of beyond) {
    const bundle = open("good", {
      secrets: new Map(),
      region: regionOf({ ...told, region }, "diagnostic"),
    });
    await assert.rejects(readPixels(bundle, "diagnostic", CODEC), FormatError, region.join());
  }
  const sca = open("good_sca", { secrets: new Map(), region: regionOf(told, "diagnostic") });
  await assert.rejects(sca.info(), FormatError);
});

for (const [name, told] of Object.entries<any>(FACTS.kinds)) {
  test(`a bundle of another kind decodes to its samples and files: ${name}`, async () => {
    const bundle = open(name);
    assert.equal(toHex(await bundle.unseal("info")), told.info);
    assert.equal(toHex(await bundle.unseal("header")), told.header);
    const image = await openImage(bundle, "original", RELEASE, CODEC);
    const { frames, height, width, channels } = image;
    assert.deepEqual([frames, height, width, channels], told.shape);
    assert.equal(image.sampleType.startsWith("int"), told.signed);
    const [info, all] = [await bundle.info(), Array.from({ length: frames }, (_, k) => k)];
    for (const tier of TIERS) {
      const pixels = await decodeFrames(bundle, info, tier, all, CODEC);
      assert.ok(apart(pixels, samples(told.samples[tier], told.signed)) <= 1, tier);
    }
    const files = await image.files("diagnostic");
    const names = files.map((file) => file.name);
    assert.deepEqual(names, told.files);
  });
}

test("round padding of a series is put back, sample by sample", async () => {
  const image = await openImage(open("good_series"), "diagnostic", RELEASE, CODEC);
  const { data } = await image.read("diagnostic");
  const code = samples(FACTS.kinds.good_series.samples.diagnostic, true);
  data.forEach((sample, at) => {
    const [x, y] = [(at % 48) - 23.5, (Math.floor(at / 48) % 48) - 23.5];
    if (Math.hypot(x, y) > 24) assert.equal(sample, -2000);
    else assert.ok(Math.abs(sample - code[at]!) <= 1);
  });
});

test("labels are those that were shared, exactly", async () => {
  const image = await openImage(open("good_labels"), "diagnostic", RELEASE, CODEC);
  const { data } = await image.read("diagnostic");
  const within = (value: number, low: number, high: number) => low <= value && value < high;
  const right = data.map((_, at) => {
    const [x, y] = [at % 48, Math.floor(at / 48)];
    if (within(y, 8, 20) && within(x, 10, 30)) return 1;
    return within(y, 25, 35) && within(x, 5, 40) ? 200 : 0;
  });
  assert.deepEqual(data, right);
});

test("files have safe names, by the same rules as Python", () => {
  const id = "0123456789abcdef".repeat(2);
  const hostile = readFileSync(join(VECTORS, "..", "hostile_names.txt"), "utf8").trimEnd();
  const more = ["x.dcm ", " x.dcm", "\u202egpj.exe", "x\u200b.dcm", "\x1b]0;x\x07.dcm"];
  for (const type of ["image/png", "application/dicom"]) {
    for (const name of [...hostile.split("\n"), ...more]) {
      const safe = safeName(name, id, type);
      assert.notEqual(safe, name);
      assert.match(safe, type === "image/png" ? /\.png$/ : /\.dcm$|^[^.]*$|^[0-9.]+$/);
      for (const part of safe.split("/")) {
        assert.match(part, /^[^.\-~=+@ ]/);
        assert.doesNotMatch(part, /[\p{C}\\:*?"<>|$`;&%!^']|[. ]$/u);
        assert.doesNotMatch(part, /^(con|prn|aux|nul|com1)(\.|$)/i);
      }
    }
  }
  for (const [name, type] of [
    ["chest.dcm", "application/dicom"],
    ["series 1/IM000001", "application/dicom"],
    ["1.2.840.113619.2.5", "application/dicom"],
    ["scan (2), left.JPG", "image/jpeg"],
    ["Ärzte/Röntgen.png", "image/png"],
    ["brain.nii.gz", "application/gzip"],
  ] as const) {
    assert.equal(safeName(name, id, type), name);
  }
  assert.equal(safeName("a/chest.png", id, "application/dicom"), "a/chest.dcm");
  for (const name of ["", "...", "/", `${"x".repeat(300)}.dcm`, Array(40).fill("a").join("/")]) {
    assert.equal(safeName(name, id, "application/dicom"), `${id}.dcm`);
  }
});

test("a file of tier original is called as images of its kind are", async () => {
  const image = await openImage(open("good"), "original", RELEASE, CODEC);
  Object.assign(image, {
    source: { ...(image as any).source, name: "../-x/report.pdf\u202e.exe" },
  });
  const [file] = await image.files("original");
  assert.equal(file!.name, "x/report.pdf.exe.tif");
});

test("a header that is no JSON object is refused, as Python does", async () => {
  for (const source of ["[1]", "{", "null", "1"]) {
    const image = await openImage(open("good"), "diagnostic", RELEASE, CODEC);
    Object.assign(image, { source: { ...(image as any).source, source: utf8(source) } });
    await assert.rejects(image.files("diagnostic"), FormatError, source);
  }
});

test("there is one table for some levels", async () => {
  const bundle = open("good_labels");
  const good = await bundle.unseal("exact");
  const read = (exact: Uint8Array) => {
    bundle.unseal = (name) =>
      name === "exact" ? Promise.resolve(exact) : OpenedBundle.prototype.unseal.call(bundle, name);
    return readPixels(bundle, "diagnostic", CODEC);
  };
  await read(good);
  const swapped = good.slice(); // a table of the same levels in another order
  swapped.set(good.subarray(2, 4), 0);
  swapped.set(good.subarray(0, 2), 2);
  await assert.rejects(read(swapped), FormatError);
  const other = good.slice(); // the last level is not repeated to the end
  other.set(good.subarray(0, 2), 2 * 2 ** bundle.header.profile.settings.exactBits - 2);
  await assert.rejects(read(other), FormatError);
});

const BAD = namesIn("bundles", ".primis").filter((name) => !name.startsWith("good"));

test("there are bad bundles", () => assert.ok(BAD.length >= 60));

for (const name of BAD) {
  test(`refused: ${name}`, async () => {
    const read = async (): Promise<void> => {
      const image = await openImage(open(name), "original", RELEASE, CODEC);
      for (const tier of ["diagnostic", "original"] as const) await image.files(tier);
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
