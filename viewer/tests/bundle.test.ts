import assert from "node:assert/strict";
import { test } from "node:test";
import { deflateRawSync } from "node:zlib";
import { concat, equal, fromHex, toHex, utf8, words } from "../src/bytes.ts";
import { canonical, Malformed, parseCanonical } from "../src/canonical.ts";
import { BadManifest } from "../src/errors.ts";
import { readHeader } from "../src/bundle/header.ts";
import { readManifest } from "../src/bundle/manifest.ts";
import { inflate, Inflating } from "../src/inflate.ts";
import { derive, infoSecret, pageSecret, releaseSecrets, tileSecret } from "../src/keys/seal.ts";
import { FACTS, namesIn, vector, vectorSecrets } from "./vectors.ts";

const hexOf = (map: ReadonlyMap<string, Uint8Array>): Record<string, string> =>
  Object.fromEntries([...map].map(([tier, secret]) => [tier, toHex(secret)]));

test("canonical JSON is read, everything else is refused", () => {
  const good = '{"a":[1,-2,null,true],"b":"\u00e9\\n","\u20ac":{}}';
  assert.equal(toHex(canonical(parseCanonical(utf8(good)))), toHex(utf8(good)));
  const bad = ['{"a":1.0}', '{"a":1.5}', '{"a":1e3}', '{"a": 1}', '{"b":1,"a":1}', '{"a":1,"a":1}'];
  for (const text of [...bad, '"\\ud800"', "-0", "9007199254740993", "[".repeat(1e5), "", "NaN"]) {
    assert.throws(() => parseCanonical(utf8(text)), Malformed, text.slice(0, 20));
  }
});

test("what zlib deflates is inflated, cut off or longer streams are refused", () => {
  let seed = 1;
  const random = () => (seed = (seed * 48271) % 2147483647);
  for (const size of [0, 1, 100, 70000]) {
    for (const level of [0, 1, 9]) {
      const data = Uint8Array.from({ length: size }, () => (random() % 7) * (random() % 3));
      const packed = new Uint8Array(deflateRawSync(data, { level }));
      assert.ok(equal(inflate(packed, size), data));
      assert.throws(() => inflate(packed.subarray(0, -1), size), Malformed);
      assert.throws(() => inflate(concat(packed, new Uint8Array(1)), size), Malformed);
      if (size) assert.throws(() => inflate(packed, size - 1), Malformed);
    }
  }
  const stream = new Inflating(new Uint8Array(deflateRawSync(new Uint8Array(1 << 24))));
  assert.equal(stream.read(10).length, 10);
});

test("secrets are derived as specified", () => {
  const secrets = vectorSecrets();
  assert.deepEqual(hexOf(secrets), FACTS.image_secrets);
  const tree = FACTS.key_tree;
  const release = releaseSecrets(fromHex(FACTS.release_secret), "original");
  assert.deepEqual(hexOf(release), tree.release);
  const preview = secrets.get("preview")!;
  assert.equal(toHex(infoSecret(preview)), tree.info);
  assert.equal(toHex(tileSecret(preview, 0)), tree["tile 0"].preview);
  assert.equal(toHex(derive(infoSecret(preview), "seal info")), tree["seal info"]);
  assert.equal(toHex(derive(tileSecret(preview, 0), "mask")), tree["mask of tile 0, preview"]);
  const page = pageSecret(release.get("diagnostic")!, new Uint8Array(16));
  assert.equal(toHex(page), tree["catalogue page of id 00..00"]);
});

test("the head of the good bundle binds as specified", () => {
  const data = vector("bundles", "good.primis");
  const header = readHeader(data, data.length, "good", null);
  assert.equal(toHex(header.binding), FACTS.binding);
  assert.equal(header.id, FACTS.bundle_id);
  const { frames, height, width, channels } = header.geometry;
  assert.deepEqual([frames, height, width, channels], FACTS.shape);
});

test("the good manifest verifies, every bad one is refused", () => {
  const good = readManifest(vector("manifests", "good.json"), "good");
  assert.ok(good.version >= 1);
  const bad = namesIn("manifests", ".json").filter((name) => name !== "good");
  assert.ok(bad.length > 20);
  for (const name of bad) {
    const read = () => readManifest(vector("manifests", `${name}.json`), name);
    assert.throws(
      read,
      (error: Error) => error instanceof BadManifest && !/\n/.test(error.message),
    );
  }
});

test("numbers are big-endian", () => assert.equal(toHex(words(1, 0x01020304)), "0000000101020304"));
