/** The parts of the page that need no browser. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { armor } from "age-encryption";
import { utf8 } from "../src/bytes.ts";
import {
  BadKey,
  DamagedSection,
  HostError,
  UnexpectedRelease,
  WrongSigner,
} from "../src/errors.ts";
import type { ImageEntry, RememberedRelease } from "../src/release/types.ts";
import { addressOf, configFrom } from "../src/ui/config.ts";
import { explain } from "../src/ui/explain.ts";
import { filtered } from "../src/ui/filter.ts";
import { companions, FrameStore } from "../src/ui/frames.ts";
import {
  apply,
  aspectOf,
  distance,
  FIT,
  invert,
  matrixOf,
  mirrored,
  panned,
  pixelAt,
  turned,
  zoomed,
  type View,
} from "../src/ui/geometry.ts";
import { keyFrom, keyFromText, linkFrom, linkKey } from "../src/ui/key.ts";
import { recognise, seenAt, type Memory } from "../src/ui/known.ts";
import { policyFor } from "../src/ui/policy.ts";
import { Previews } from "../src/ui/previews.ts";
import { paint, planesOf, samplesAt } from "../src/ui/raster.ts";
import { fromFailure, toFailure } from "../src/ui/rpc.ts";
import { archiveOf, safeName } from "../src/ui/saving.ts";
import { between, fullWindow, tableOf, windowFrom } from "../src/ui/window.ts";
import {
  bytesText,
  counted,
  distanceText,
  figure,
  grouped,
  nameOf,
  qualityText,
  legible,
  windowText,
} from "../src/ui/words.ts";
import { openFake, GOOD_KEY } from "./ui/fake_release.ts";

const PLAIN = { slope: 1, intercept: 0, units: "" };
const IMAGE = { width: 400, height: 200, aspect: 1 };
const SCREEN = { width: 800, height: 800 };
const near = (one: number, other: number) => assert.ok(Math.abs(one - other) < 1e-6, `${one}`);

test("a window maps its ends to black and white, as DICOM says", () => {
  const table = tableOf({ center: 50.5, width: 101 }, PLAIN, "uint8", false);
  assert.deepEqual([table[0], table[50], table[100], table[255]], [0, 128, 255, 255]);
  const inverted = tableOf({ center: 50.5, width: 101 }, PLAIN, "uint8", true);
  assert.deepEqual([inverted[0], inverted[100]], [255, 0]);
});

test("eight bits through their full window stay what they are", () => {
  const table = tableOf(fullWindow("uint8", 8), PLAIN, "uint8", false);
  assert.deepEqual(
    Array.from(table),
    Array.from({ length: 256 }, (_, level) => level),
  );
});

test("signed samples are rescaled before the window", () => {
  const hounsfield = { slope: 2, intercept: -1000, units: "HU" };
  const table = tableOf({ center: 0.5, width: 101 }, hounsfield, "int16", false);
  assert.equal(table[32768 + 500], 128); // 500 is stored, 0 HU
  assert.deepEqual([table[32768 + 400], table[32768 + 600]], [0, 255]);
});

test("a window from samples leaves out the few that are far off", () => {
  const samples = Uint16Array.from({ length: 2000 }, (_, at) =>
    at === 0 ? 60000 : 100 + (at % 100),
  );
  const { center, width } = windowFrom(samples, PLAIN);
  assert.deepEqual([center, width], [150, 100]);
  assert.deepEqual(between(9, 3), { center: 6.5, width: 7 });
});

test("colours, transparency and single channels are painted", () => {
  const table = tableOf(fullWindow("uint8", 8), PLAIN, "uint8", false);
  const rgb = { data: Uint8Array.of(1, 2, 3), width: 1, height: 1, channels: 3 };
  assert.deepEqual([...paint(rgb, planesOf("RGB", 3), table)], [1, 2, 3, 255]);
  assert.deepEqual([...paint(rgb, planesOf("CHANNELS", 3, 1), table)], [2, 2, 2, 255]);
  const grey = { data: Uint8Array.of(200, 51), width: 1, height: 1, channels: 2 };
  assert.deepEqual([...paint(grey, planesOf("LA", 2), table)], [40, 40, 40, 255]);
  assert.deepEqual(samplesAt(rgb, 0, 0), [1, 2, 3]);
});

test("an image fits the screen, and points go there and back", () => {
  const matrix = matrixOf(FIT, IMAGE, SCREEN);
  assert.deepEqual(apply(matrix, { x: 0, y: 0 }), { x: 0, y: 200 });
  const back = apply(invert(matrix), { x: 800, y: 600 });
  near(back.x, 400);
  near(back.y, 200);
  assert.equal(aspectOf([2, 1]), 2);
  const tall = matrixOf(FIT, { ...IMAGE, aspect: 2 }, SCREEN);
  assert.deepEqual(apply(tall, { x: 0, y: 0 }), { x: 0, y: 0 });
});

test("what lies under the pointer stays there while zooming, in any orientation", () => {
  const about = { x: 130, y: 420 };
  for (const turns of [0, 1, 2, 3]) {
    for (const flip of [false, true]) {
      const view: View = { ...FIT, turns, flip };
      const before = apply(invert(matrixOf(view, IMAGE, SCREEN)), about);
      const larger = zoomed(view, IMAGE, SCREEN, 3, about);
      const after = apply(invert(matrixOf(larger, IMAGE, SCREEN)), about);
      if (pixelAt(before, IMAGE)) near(after.x, before.x);
      if (pixelAt(before, IMAGE)) near(after.y, before.y);
    }
  }
});

test("a drag moves the image with the pointer", () => {
  const view = panned(FIT, IMAGE, SCREEN, { x: 400, y: 400 }, { x: 440, y: 410 });
  const { x, y } = apply(matrixOf(view, IMAGE, SCREEN), { x: 200, y: 100 });
  near(x, 440);
  near(y, 410);
});

test("turns and mirrors are those of the screen, and undo themselves", () => {
  for (const start of [FIT, { ...FIT, turns: 1 }, { ...FIT, turns: 3, flip: true }]) {
    const corner = (view: View) => apply(matrixOf(view, IMAGE, SCREEN), { x: 0, y: 0 });
    const before = corner(start);
    near(corner(mirrored(start, "across")).x, 800 - before.x);
    near(corner(mirrored(start, "across")).y, before.y);
    near(corner(mirrored(start, "down")).y, 800 - before.y);
    near(corner(turned(start)).x, 800 - before.y);
    near(corner(turned(start)).y, before.x);
    assert.deepEqual(mirrored(mirrored(start, "down"), "down"), start);
    assert.deepEqual(turned(turned(start), -1), start);
  }
});

test("distances are in mm where the spacing is known", () => {
  const length = distance({ x: 0, y: 0 }, { x: 30, y: 40 }, [0.5, 1]);
  near(length.mm!, Math.hypot(30, 20));
  assert.equal(distanceText({ pixels: 50, mm: null }), "50 px");
  assert.equal(distanceText(length), "36.1 mm");
});

class Kept implements Memory {
  private readonly kept = new Map<string, string>();
  getItem = (key: string) => this.kept.get(key) ?? null;
  setItem = (key: string, value: string) => void this.kept.set(key, value);
}

const seen = (change: Partial<RememberedRelease> = {}): RememberedRelease => ({
  place: "p",
  release: "r",
  signer: "a".repeat(64),
  version: 2,
  digest: "d2",
  ...change,
});
const ask = (memory: Memory, found: RememberedRelease, more = {}) =>
  recognise(memory, {
    place: "here",
    found,
    demanded: null,
    anew: false,
    today: "2025-01-02",
    ...more,
  });

test("a release is remembered, and what fits it is known", () => {
  const memory = new Kept();
  assert.ok(ask(memory, seen()).first);
  assert.ok(!ask(memory, seen()).first);
  assert.ok(!ask(memory, seen({ version: 3, digest: "d3" })).first);
  assert.equal(seenAt(memory, "here")[0]?.version, 3);
  assert.equal(ask(memory, seen({ release: "r2" })).replaced, "2025-01-02");
});

test("another signer, an older state and a fork are refused until they are accepted", () => {
  const changes = [
    [{ signer: "b".repeat(64) }, /since 2025-01-02 it was signed by "aaa/],
    [{ version: 1 }, /older state, version 1; version 2 was seen on 2025-01-02/],
    [{ digest: "other" }, /version 2 with other content than on 2025-01-02/],
  ] as const;
  for (const [change, message] of changes) {
    const memory = new Kept();
    ask(memory, seen());
    const refused = () => ask(memory, seen(change));
    assert.throws(refused, UnexpectedRelease);
    assert.throws(refused, message);
    ask(memory, seen(change), { anew: true });
    assert.ok(!ask(memory, seen(change)).first);
  }
});

test("the same release elsewhere, signed by another, is refused as well", () => {
  const memory = new Kept();
  ask(memory, seen());
  const found = seen({ signer: "b".repeat(64) });
  assert.throws(() => ask(memory, found, { place: "mirror" }), UnexpectedRelease);
});

test("a signer that is demanded must be the one", () => {
  const demanded = "c".repeat(64);
  assert.throws(() => ask(new Kept(), seen(), { demanded, anew: true }), WrongSigner);
  assert.ok(ask(new Kept(), seen({ signer: demanded }), { demanded }).first);
});

test("damaged memory is an error, and a browser without memory says so", () => {
  const memory = new Kept();
  memory.setItem("primis.known", '{"places":{},"sightings":{"x":{}}}');
  assert.throws(() => ask(memory, seen()), /is damaged/);
  assert.ok(ask(memory, seen(), { anew: true }).first);
  const full: Memory = {
    getItem: () => null,
    setItem: () => {
      throw new Error("full");
    },
  };
  assert.ok(ask(full, seen()).forgotten);
});

test("keys are told apart by what they hold", async () => {
  assert.equal((await keyFromText("# mine\nAGE-SECRET-KEY-1ABC\n")).kind, "identity");
  assert.equal((await keyFromText("AGE-SECRET-KEY-PQ-1ABC")).kind, "identity");
  const named = await keyFrom(utf8("AGE-SECRET-KEY-1ABC"), "alice.key");
  assert.ok(named.kind === "identity" && named.name === "alice");
  for (const [stanza, by] of [
    ["scrypt AAAAAAAAAAAAAAAAAAAAAA 18", "passphrase"],
    ["age-encryption.org/fido2prf AAAAAAAAAAAAAAAAAAAAAA", "passkey"],
  ] as const) {
    const file = `age-encryption.org/v1\n-> ${stanza}\n\n--- ${"A".repeat(43)}\n`;
    for (const text of [file, armor.encode(utf8(file))]) {
      const found = await keyFromText(text);
      assert.ok(found.kind === "locked" && found.by === by);
    }
    await assert.rejects(
      keyFromText(file.replace(stanza, "X25519 abc")),
      /neither by a passphrase/,
    );
    await assert.rejects(keyFromText(file.slice(0, 60)), BadKey);
  }
  await assert.rejects(keyFromText("AGE-PLUGIN-FIDO2PRF-1ABC"), /not an age key/);
  await assert.rejects(keyFromText("age1abcdef"), /public key/);
  await assert.rejects(keyFromText("-----BEGIN OPENSSH PRIVATE KEY-----"), /primis restore/);
  await assert.rejects(keyFromText(""), BadKey);
});

test("a link's fragment gives the passphrase of its grant", () => {
  assert.equal(linkFrom("#other=1"), null);
  assert.deepEqual(linkKey(linkFrom("#open=abc")!), { kind: "passphrase", passphrase: "abc" });
  const link = linkFrom("#open=abc&pin")!;
  assert.ok(link.asksPin);
  assert.deepEqual(linkKey(link, " 12 "), { kind: "passphrase", passphrase: "abc-12" });
  const named = linkFrom("#open=abc&pin&grant=link-2")!;
  assert.deepEqual(named, { secret: "abc", asksPin: true, grant: "link-2" });
  assert.deepEqual(linkKey(named, "1"), {
    kind: "passphrase",
    passphrase: "abc-1",
    grant: "link-2",
  });
});

test("addresses are https, or of this machine", () => {
  const page = new URL("https://viewer.example/v/index.html");
  assert.equal(addressOf("../release/", page), "https://viewer.example/release");
  assert.equal(addressOf("http://127.0.0.1:80/x", page), "http://127.0.0.1/x");
  for (const bad of ["http://host/x", "ftp://host/x", "javascript:1", "https://a:b@host/x"]) {
    assert.throws(() => addressOf(bad, page), /cannot be opened/);
  }
  const config = configFrom({ release: "r", place: "P", signer: null, key: true }, page);
  assert.deepEqual(config, {
    release: "https://viewer.example/v/r",
    place: "P",
    signer: null,
    key: true,
  });
  assert.throws(() => configFrom({ release: "r", signer: "x" }, page), /64 hexadecimal/);
  assert.equal(policyFor("https://host:8/a/b"), "connect-src 'self' https://host:8");
});

test("images are filtered by words, each of which must occur", () => {
  const entry = (name: string, labels: Record<string, string>): ImageEntry => {
    const shape = { kind: "dicom", frames: 1, height: 20, width: 10, channels: 1, spacing: null };
    const uids = { modality: "CT", study: "", series: "", instance: "" };
    const listed = { id: name, name, labels, ...shape, ...uids };
    return { id: name, name, tier: "diagnostic", region: null, listed };
  };
  const all = [entry("a/one.dcm", { site: "Left" }), entry("b/two.dcm", { site: "right" })];
  const names = (typed: string) => filtered(all, typed).map(({ name }) => name);
  assert.deepEqual(names(" CT  left"), ["a/one.dcm"]);
  assert.deepEqual(names("site=right"), ["b/two.dcm"]);
  assert.deepEqual(names("10x20 dcm").length, 2);
  assert.equal(filtered(all, " "), all);
});

test("errors keep their class on the way from the worker, and are told in words", () => {
  const host = fromFailure(toFailure(new HostError("https://h/x", "it does not answer")));
  assert.ok(host instanceof HostError && host.what === "https://h/x");
  const damaged = fromFailure(toFailure(new DamagedSection('section "support" has 3 bytes')));
  assert.ok(damaged instanceof DamagedSection);
  assert.match(explain(damaged).title, /altered or damaged/);
  const connection = { online: true, refusesPages: true, origin: "https://v" };
  assert.match(explain(host, connection).hint, /Access-Control-Allow-Origin: https:\/\/v/);
  assert.match(explain(host, { ...connection, online: false }).title, /offline/);
  assert.equal(fromFailure(toFailure(new DOMException("x", "AbortError"))).name, "AbortError");
});

test("frames that are coded together are read together, and the oldest are let go", async () => {
  assert.deepEqual(companions(5, 4, { first: 0, last: 39 }), [4, 5, 6, 7]);
  assert.deepEqual(companions(39, 8, { first: 35, last: 39 }), [35, 36, 37, 38, 39]);
  const key = { kind: "identity", text: GOOD_KEY } as const;
  const request = { release: "r", key, assets: "", signer: null, known: [] };
  const release = await openFake(request);
  const image = await release.open("1".padStart(32, "0"));
  const store = new FrameStore(image, "preview", 256 * 256 * 2 * 5);
  await Promise.all([store.load(1), store.load(2)]);
  assert.deepEqual([store.get(3)?.width, store.get(4)], [256, null]);
  await store.load(9);
  assert.deepEqual([store.has(0), store.has(8), store.has(11)], [false, true, true]);
});

test("files of an archive stay below one folder", () => {
  assert.equal(safeName("../../etc/passwd"), "etc/passwd");
  assert.equal(safeName("C:\\x\\..\\y?.dcm"), "C_/x/y_.dcm");
  const file = (name: string) => ({ name, type: "", bytes: new Uint8Array(1) });
  const names = Object.keys(archiveOf([file("a/x.dcm"), file("a/x.dcm"), file("..")]));
  assert.deepEqual(names, ["a/x.dcm", "a/x-2.dcm", "image"]);
  const odd = ["A/X.dcm", "a/x.dcm", "__proto__", "constructor", "constructor"].map(file);
  const given = ["A/X.dcm", "a/x-2.dcm", "__proto__", "constructor", "constructor-2"];
  assert.deepEqual(Object.keys(archiveOf(odd)), given);
});

test("texts of a release are shown short, and say what they are", () => {
  assert.equal(legible("chest\u202egpj.exe\u0000\u200b\n"), "chestgpj.exe");
  assert.equal(legible("x".repeat(1e6)).length, 300);
  const entry = { id: "0".repeat(32), name: "a\u2066b", listed: null } as unknown as ImageEntry;
  assert.equal(nameOf(entry), "ab");
});

test("no picture for the list is made of an image that fills the memory", async () => {
  let opened = 0;
  const image = {
    ...{ name: "a", width: 2 ** 15, height: 2 ** 15, frames: 1, region: null, tiers: ["preview"] },
    read: () => assert.fail("it was read"),
    close: () => opened++,
  };
  const previews = new Previews({ open: () => Promise.resolve(image) } as never);
  previews.want([{ id: "1" } as ImageEntry]);
  await new Promise((resolve) => setTimeout(resolve, 10));
  assert.equal(opened, 1);
  assert.deepEqual([previews.get("1")?.failed, previews.get("1")?.name], [true, "a"]);
});

test("names that are all one fill an archive in no time", () => {
  const file = { name: "x.dcm", type: "", bytes: new Uint8Array(1) };
  const names = Object.keys(archiveOf(Array.from({ length: 50_000 }, () => file)));
  assert.equal(new Set(names).size, 50_000);
});

test("numbers as the page writes them", () => {
  assert.deepEqual([figure(-3), figure(2.25)], ["\u22123", "2.3"]);
  assert.deepEqual([counted(1, "image"), counted(1200, "image")], ["1 image", "1,200 images"]);
  assert.deepEqual([bytesText(10), bytesText(2048)], ["10 B", "2.0 KiB"]);
  assert.equal(windowText({ center: 40, width: 80 }), "C 40 W 80");
  assert.equal(windowText({ center: -0.25, width: 1.5 }), "C \u22120.25 W 1.50");
  assert.equal(qualityText({ psnr: 43.21, ssim: 0.97 }, false), "PSNR 43.2 dB, SSIM 0.970");
  assert.equal(grouped("ab".repeat(8)), "abababab abababab");
});
