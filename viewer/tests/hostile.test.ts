/** What a hostile owner seals is refused before it fills the memory of a page or hangs it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { deflateRawSync } from "node:zlib";
import { chacha20poly1305 } from "@noble/ciphers/chacha.js";
import { Geometry } from "../src/bundle/geometry.ts";
import type { Header } from "../src/bundle/header.ts";
import type { Leaf } from "../src/bundle/pages.ts";
import type { Profile } from "../src/bundle/settings.ts";
import { concat, utf8, view, words } from "../src/bytes.ts";
import { canonical } from "../src/canonical.ts";
import { BadManifest, DamagedSection, TooManyPixels } from "../src/errors.ts";
import { elementHead, encode, type DataSet } from "../src/imaging/dicom_elements.ts";
import { displayOf } from "../src/imaging/display.ts";
import { derive, pageSecret } from "../src/keys/seal.ts";
import { readCataloguePage, Swelling } from "../src/release/catalogue.ts";
import { readInfo } from "../src/sharing/info.ts";
import type { OpenedBundle } from "../src/sharing/opened.ts";
import { decodeFrames, sourceHeader } from "../src/sharing/read.ts";

const PROFILE = { stride: 1, tile: 4, codeMaps: 1, atomsPerMap: 1 } as Profile;

/** As far as it is asked before anything is fetched of it. */
function bundleOf(geometry: Geometry, bytes: number, header: Uint8Array): OpenedBundle {
  return {
    header: { id: "0".repeat(32), geometry, bytes },
    keys: { secrets: new Map(), region: null },
    unseal: () => Promise.resolve(header),
    info: () => Promise.resolve({ sampleType: "uint16" }),
    group: () => Promise.resolve(1),
    named: (read: () => unknown) => read(),
    records: () => Promise.reject(new Error("the records of millions of tiles were asked for")),
  } as unknown as OpenedBundle;
}

test("padding of an image of sixteen billion samples in a bundle of two megabytes", async () => {
  const geometry = new Geometry(PROFILE, 1, 2 ** 17, 2 ** 17, 1);
  const line = '{"name":"a","padding":{"declared":null,"frames":0,"values":1}}\n';
  const header = new Uint8Array(deflateRawSync(utf8(line)));
  await assert.rejects(sourceHeader(bundleOf(geometry, 2 ** 21, header)), TooManyPixels);
});

test("what describes no padding", async () => {
  const geometry = new Geometry(PROFILE, 1, 1, 8, 1);
  const good = { declared: null, frames: 0, values: 1 };
  const { declared: _, ...without } = good;
  const read = (padding: object) => {
    const plain = concat(canonical({ name: "a", padding } as never), utf8("\n"), new Uint8Array(3));
    return sourceHeader(bundleOf(geometry, 2 ** 10, new Uint8Array(deflateRawSync(plain))));
  };
  assert.equal((await read(good)).padding?.values.length, 1);
  for (const bad of [without, { ...good, frames: 2 }, { ...good, values: true }, []]) {
    await assert.rejects(read(bad), DamagedSection);
  }
});

test("a frame of tiles of four pixels a side", async () => {
  const geometry = new Geometry(PROFILE, 1, 16_000, 16_000, 1);
  const bundle = bundleOf(geometry, 2 ** 32, new Uint8Array(0));
  const info = await bundle.info();
  await assert.rejects(decodeFrames(bundle, info, "diagnostic", [0], {} as never), TooManyPixels);
});

test("texture of a million planes", () => {
  const geometry = new Geometry(PROFILE, 2 ** 16, 1, 1, 16);
  const settings = { protection: "keyed", exactBits: 0 };
  const header = { geometry, profile: { settings } } as unknown as Header;
  const frame = new Uint8Array(16);
  view(frame).setFloat64(8, 1);
  const data = new Uint8Array(36 + 2 ** 16 * (16 + 16 * geometry.textureBytes));
  data.set([4, 0, 5, 8]);
  view(data).setUint32(20, 1000);
  data.set([1, 1], 34);
  for (let k = 0; k < 2 ** 16; k++) data.set(frame, 36 + 16 * k);
  data.fill(0x11, 36 + 2 ** 20);
  for (let at = 36 + 2 ** 20; at < data.length; at += 6) data[at + 5] = 0x10;
  const before = process.memoryUsage().heapUsed;
  const info = readInfo(data, header);
  assert.ok(process.memoryUsage().heapUsed - before < 2 ** 26);
  assert.equal(info.texture(7).length, 16);
});

/** A page of the catalogue of one image, whose name is as long as that. */
function pageOf(size: number): Leaf {
  const texts = { id: "0".repeat(32), name: "x".repeat(size), kind: "png", modality: "" };
  const more = { study: "", series: "", instance: "", spacing: null, labels: {} };
  const image = { ...texts, ...more, frames: 1, height: 1, width: 1, channels: 1 };
  const packed = new Uint8Array(deflateRawSync(canonical({ images: [image] })));
  const plain = concat(words(packed.length), packed);
  const [id, secret] = [new Uint8Array(16), new Uint8Array(32)];
  const key = derive(pageSecret(secret, id), "seal catalogue");
  const sealed = chacha20poly1305(key, new Uint8Array(12), new Uint8Array(16)).encrypt(plain);
  return { count: 1, first: "", page: "", data: concat(id, sealed) };
}

test("pages of a catalogue that swell together", () => {
  const [secret, release] = [new Uint8Array(32), "0".repeat(32)];
  const swelling = new Swelling();
  const [small, large] = [pageOf(100), pageOf(2 ** 23)];
  for (let k = 0; k < 1000; k++) readCataloguePage(small, secret, release, swelling);
  assert.equal(readCataloguePage(large, secret, release, swelling).length, 1);
  assert.throws(() => {
    for (let k = 0; k < 20; k++) readCataloguePage(large, secret, release, swelling);
  }, BadManifest);
});

/** A DICOM header with these elements. */
function headerOf(elements: DataSet): Uint8Array {
  const syntax = utf8("1.2.840.10008.1.2.1\0");
  const meta = concat(elementHead(0x00020010, "UI", syntax.length), syntax);
  return concat(new Uint8Array(128), utf8("DICM"), meta, encode(elements));
}

test("windows without end, and units that fill a page", () => {
  const values = (vr: string, text: string) => ({ vr, value: utf8(text) });
  for (const [vr, count] of [
    ["DS", 2000],
    ["UT", 1_000_000],
  ] as const) {
    const many = "1\\".repeat(count);
    const header = headerOf(
      new Map([
        [0x00281050, values(vr, many)],
        [0x00281051, values(vr, many)],
        [0x00281054, values("UT", "HU".repeat(2 ** 20))],
      ]),
    );
    const display = displayOf("dicom", header, 1)!;
    assert.ok(display.windows.length <= 64, `${display.windows.length}`);
    assert.ok(display.units.length <= 4096);
  }
});
