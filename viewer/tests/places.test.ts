import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { utf8 } from "../src/bytes.ts";
import { HostError, NotThere, StoreError, UsageError } from "../src/errors.ts";
import { httpAssets } from "../src/release/assets.ts";
import { httpPlace } from "../src/release/places.ts";
import { serve, type Answers, type Served } from "./server.ts";

const DATA = utf8("0123456789");
const FILE = (path: string): Uint8Array | null => (path === "/r/a b" ? DATA : null);

async function served<T>(answers: Answers, use: (host: Served) => Promise<T>): Promise<T> {
  const host = await serve(answers);
  try {
    return await use(host);
  } finally {
    host.close();
  }
}

const spans = [
  { start: 1, end: 3 },
  { start: 7, end: 10 },
];

test("files and ranges are read, with as many requests as there are spans", async () => {
  await served({ file: FILE }, async (host) => {
    const place = httpPlace(`${host.url}/r/`);
    assert.deepEqual(await place.read("a b", 10), DATA);
    assert.deepEqual(await place.ranges("a b", spans, 10), [utf8("12"), utf8("789")]);
    assert.deepEqual(host.asked, ["/r/a%20b", "/r/a%20b bytes=1-2", "/r/a%20b bytes=7-9"]);
  });
});

test("a host without ranges is not asked twice", async () => {
  await served({ file: FILE, ranges: false }, async (host) => {
    const place = httpPlace(`${host.url}/r`);
    assert.equal(await place.ranges("a b", spans, 10), null);
    assert.equal(await place.ranges("a b", spans, 10), null);
    assert.equal(host.asked.length, 1);
  });
});

test("what is missing, too long or moved is an error", async () => {
  await served({ file: FILE }, async (host) => {
    const place = httpPlace(`${host.url}/r`);
    await assert.rejects(place.read("b", 10), NotThere);
    await assert.rejects(place.read("a b", 9), StoreError);
    await assert.rejects(place.ranges("a b", [{ start: 5, end: 12 }], 12), StoreError);
    const before = host.asked.length; // a section of a pebibyte is not even begun
    await assert.rejects(place.ranges("a b", [{ start: 0, end: 2 ** 50 }], 2 ** 50), /bytes/);
    assert.equal(host.asked.length, before);
  });
  const elsewhere = { file: () => "http://127.0.0.1:1/x" };
  await served(elsewhere, async (host) => {
    await assert.rejects(httpPlace(host.url).read("a", 10), HostError);
    assert.equal(host.asked.length, 1);
  });
});

test("a busy host is asked again, one that refuses is not", async () => {
  const busy = (count: number): number => (count < 3 ? 503 : 200);
  await served({ file: FILE, status: busy }, async (host) => {
    assert.deepEqual(await httpPlace(`${host.url}/r`).read("a b", 10), DATA);
  });
  await served({ file: FILE, status: () => 403 }, async (host) => {
    await assert.rejects(httpPlace(`${host.url}/r`).read("a b", 10), /refuses it \(403\)/);
    assert.equal(host.asked.length, 1);
  });
});

test("what is given up is not read", async () => {
  await served({ file: FILE }, async (host) => {
    const signal = AbortSignal.abort();
    await assert.rejects(httpPlace(host.url).read("a", 10, signal), { name: "AbortError" });
  });
});

test("what is no address is refused", () => {
  for (const url of ["", "release", "file:///x", "ftp://host/x", "https://me:secret@host/x"]) {
    assert.throws(() => httpPlace(url), UsageError);
  }
});

test("ONNX Runtime is unpacked in the page, as far as its bound; a damaged file is an error", async () => {
  const plain = new Uint8Array(2 ** 20).fill(7);
  const packed = new Uint8Array(gzipSync(plain));
  const over = new Uint8Array(gzipSync(new Uint8Array(2 ** 26 + 1)));
  const read = (data: Uint8Array): Promise<Uint8Array> => {
    const file = (path: string) => (path === "/a/ort-wasm-simd-threaded.wasm.gz" ? data : null);
    return served({ file }, (host) => httpAssets(`${host.url}/a`).runtime());
  };
  assert.deepEqual(await read(packed), plain);
  assert.deepEqual(await read(plain), plain); // the host had it unpacked
  for (const bad of [packed.subarray(0, -1), packed.subarray(0, 20), over]) {
    await assert.rejects(read(bad), (error: Error) => {
      return error instanceof HostError && /a part of the viewer is damaged/.test(error.message);
    });
  }
});
