/** Whatever the bytes are that an owner sealed, a parser reads them or says that they are damaged. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { deflateRawSync } from "node:zlib";
import { readHeader } from "../src/bundle/header.ts";
import { concat, fromHex, utf8, words } from "../src/bytes.ts";
import { Malformed, parseCanonical } from "../src/canonical.ts";
import { readOpenTile } from "../src/codes/coder.ts";
import { PrimisError } from "../src/errors.ts";
import { displayOf } from "../src/imaging/display.ts";
import { readHeaderFile } from "../src/imaging/dicom_elements.ts";
import { headersIn } from "../src/imaging/dicom_series.ts";
import { writeNifti } from "../src/imaging/nifti.ts";
import { inflate } from "../src/inflate.ts";
import { readInfo } from "../src/sharing/info.ts";
import { readSourceHeader } from "../src/sharing/source_header.ts";
import { ASSETS, FACTS, vector } from "./vectors.ts";

const TIMES = 3000;
let seed = 12345;
const below = (limit: number): number => (seed = (seed * 48271) % 2147483647) % limit;

/** Some bytes altered, cut out or repeated. */
function mutated(data: Uint8Array): Uint8Array {
  const bad = data.slice();
  for (let k = below(4); k >= 0; k--) bad[below(bad.length)] = below(256);
  const kind = below(4);
  if (kind === 0) return bad.subarray(0, below(bad.length + 1));
  if (kind === 1) return concat(bad, bad.subarray(below(bad.length)));
  return bad;
}

async function fuzz(good: Uint8Array, read: (data: Uint8Array) => unknown): Promise<void> {
  await read(good.slice());
  let refused = 0;
  for (let k = 0; k < TIMES; k++) {
    try {
      await read(mutated(good));
    } catch (error) {
      refused++;
      assert.ok(error instanceof Malformed || error instanceof PrimisError, String(error));
    }
  }
  assert.ok(refused > TIMES / 50, `${refused} refused`);
}

const bundle = vector("bundles", "good.primis");
const header = readHeader(bundle, bundle.length, "good", null);
const sources = FACTS["source headers"];
const series = fromHex(sources["dicom-series"].header as string);
const alone = fromHex(sources["dicom-series"].files[0].header as string);

test("JSON", () => fuzz(utf8('{"a":[1,2,{"b":"c"}],"d":null}'), parseCanonical));
test("deflate", () => {
  const packed = new Uint8Array(deflateRawSync(utf8("primis ".repeat(99) + "0123456789")));
  return fuzz(packed, (data) => inflate(data, 1 << 16));
});
test("the header of a bundle", () => {
  return fuzz(bundle.slice(0, 500), (data) => readHeader(data, bundle.length, "x", null));
});
test("section info", () => {
  return fuzz(fromHex(FACTS.info as string), (data) => readInfo(data, header));
});
test("section header", async () => {
  const mask = new Uint8Array(Math.ceil((72 * 56) / 8));
  mask[0] = 0xf0;
  const line = utf8('{"name":"a","padding":{"declared":[5,9],"frames":0,"values":1}}\n');
  const plain = concat(line, mask, Uint8Array.of(0, 7), utf8("the rest"));
  const read = (data: Uint8Array): unknown => readSourceHeader(data, header.geometry, "uint16");
  await fuzz(new Uint8Array(deflateRawSync(plain)), read);
  await fuzz(plain, (data) => read(new Uint8Array(deflateRawSync(data))));
});
test("a DICOM header", () => {
  return fuzz(alone, (data) => {
    displayOf("dicom", data, 1);
    return readHeaderFile(data);
  });
});
test("the headers of a series", () => {
  return fuzz(series, (data) => headersIn(data, 2).map((file) => file.elements()));
});
test("a NIfTI header", () => {
  const nifti = fromHex(sources.nifti.header as string);
  const data = Uint16Array.from(sources.nifti.samples as number[]);
  const pixels = { data, frames: 2, height: 2, width: 2, channels: 1 };
  return fuzz(nifti, (bad) => writeNifti(bad, pixels, false));
});
test("a tile of level sca", async () => {
  const module = await WebAssembly.compile((await ASSETS.kernel()) as Uint8Array<ArrayBuffer>);
  const tile = concat(words(2, 3), Uint8Array.of(0x80, 1, 2), Uint8Array.of(1, 0, 2, 0));
  let read = 0;
  for (let k = 0; k < TIMES; k++) {
    try {
      readOpenTile(module, k ? mutated(tile) : tile, 64);
      read++;
    } catch (error) {
      assert.ok(error instanceof PrimisError, String(error));
    }
  }
  assert.ok(read < TIMES);
});
