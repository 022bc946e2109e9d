/**
 * In a real browser: a release on another host is opened by the page's engine and decoded in its
 * worker, under a policy like the viewer's. Skipped where there is no Chromium.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { Codec } from "../src/codec/codec.ts";
import { readIdentities } from "../src/keys/identity.ts";
import { openRelease } from "../src/release/reader.ts";
import { Folder } from "./folder.ts";
import { serve } from "./server.ts";
import { ASSETS, vector, VECTORS } from "./vectors.ts";

const CHROMIUM = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(
  existsSync,
);
const POLICY =
  "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src blob:; " +
  "connect-src 'self' http:";
const PAGE = '<!doctype html><script type="module" src="page.js"></script>';

/** What the page does; it posts what it found. */
const SCRIPT = `
  import { workerEngine } from "./src/ui/engine.ts";
  const found = [];
  try {
    const key = { kind: "identity", text: await (await fetch("key")).text() };
    const assets = new URL("assets", document.baseURI).href;
    const where = new URLSearchParams(location.search).get("release");
    const engine = workerEngine(new URL("worker.js", document.baseURI));
    const request = { release: where, key, assets, signer: null, known: [] };
    const release = await engine.open(request);
    const first = await release.open((await release.images())[0].id);
    const end = new AbortController();
    const late = first.read("diagnostic", { signal: end.signal });
    end.abort();
    const name = await late.then(() => "none", (error) => error.name);
    if (name !== "AbortError") throw new Error("read on, though it was given up: " + name);
    for (const { id } of await release.images()) {
      const image = await release.open(id);
      const { data } = await image.read("diagnostic", { texture: false });
      found.push({ name: image.name, data: [...data] });
    }
    await fetch("result", { method: "POST", body: JSON.stringify({ found }) });
  } catch (error) {
    const why = error.name + ": " + error.message;
    await fetch("result", { method: "POST", body: JSON.stringify({ why }) });
  }
`;

async function scripts(): Promise<Map<string, Uint8Array>> {
  const common = {
    bundle: true,
    minify: true,
    write: false,
    format: "esm",
    target: "es2022",
  } as const;
  const stdin = { contents: SCRIPT, resolveDir: process.cwd(), loader: "ts" } as const;
  const [page, worker] = await Promise.all([
    build({ ...common, stdin }),
    build({ ...common, entryPoints: ["src/ui/worker.ts"] }),
  ]);
  return new Map([
    ["/page.js", page.outputFiles[0]!.contents],
    ["/worker.js", worker.outputFiles[0]!.contents],
  ]);
}

async function assetOf(path: string): Promise<Uint8Array | null> {
  const name = path.split("/").at(-1)!;
  if (name === "kernel.wasm") return ASSETS.kernel();
  if (name.endsWith("-decode.onnx")) return ASSETS.graph(name.replace("-decode.onnx", ""));
  if (name.endsWith(".safetensors")) return ASSETS.weights(name.replace(".safetensors", ""));
  return name.startsWith("ort-") ? new Uint8Array(gzipSync(await ASSETS.runtime())) : null;
}

test("a browser reads the release of the vectors", { skip: !CHROMIUM }, async () => {
  const files = await scripts();
  files.set("/index.html", new TextEncoder().encode(PAGE));
  files.set("/key", vector("keys", "reader.key"));
  const weights = vector("tiny.safetensors");
  const { createHash } = await import("node:crypto");
  const digest = createHash("sha256").update(weights).digest("hex");
  const names = ["kernel.wasm", "lapped-decode.onnx", "ort-wasm-simd-threaded.wasm.gz"];
  for (const name of [...names, `${digest}.safetensors`]) {
    const folder = name.endsWith(".safetensors") ? "/assets/weights/" : "/assets/";
    files.set(folder + name, (await assetOf(name))!);
  }
  let posted: (body: string) => void = () => undefined;
  const result = new Promise<string>((resolve) => (posted = resolve));
  const page = await serve({
    file: (path) => files.get(path) ?? null,
    headers: { "content-security-policy": POLICY },
    posted,
  });
  const host = await serve({
    file: (path) => {
      const key = join(VECTORS, "release", path);
      return existsSync(key) ? new Uint8Array(readFileSync(key)) : null;
    },
    headers: { "access-control-allow-origin": "*" },
  });
  const profile = mkdtempSync(join(tmpdir(), "primis-browser-"));
  const options = ["--headless=new", "--no-sandbox", "--disable-gpu", `--user-data-dir=${profile}`];
  const address = `${page.url}/index.html?release=${encodeURIComponent(host.url)}`;
  const browser = spawn(CHROMIUM!, [...options, address], { stdio: "ignore" });
  const ended = new Promise((resolve) => browser.once("exit", resolve));
  try {
    const late = new Promise<string>((_, reject) => {
      setTimeout(() => reject(new Error("the browser says nothing")), 60_000).unref();
    });
    const told = JSON.parse(await Promise.race([result, late])) as {
      why?: string;
      found: { name: string; data: number[] }[];
    };
    assert.equal(told.why, undefined);
    await requireSame(told.found);
  } finally {
    browser.kill();
    await ended;
    page.close();
    host.close();
    rmSync(profile, { recursive: true, force: true, maxRetries: 20 });
  }
});

/** What node decodes, sample by sample. */
async function requireSame(found: readonly { name: string; data: number[] }[]): Promise<void> {
  const identities = await readIdentities(vector("keys", "reader.key"));
  const place = new Folder(join(VECTORS, "release"));
  const release = await openRelease(place, identities, { decoder: new Codec(ASSETS) });
  for (const { id, name } of await release.images()) {
    const { data } = await (await release.open(id)).read("diagnostic");
    assert.deepEqual(found.find((one) => one.name === name)!.data, [...data]);
  }
}
