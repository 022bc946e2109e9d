// Times the viewer in Chromium for benchmarks/viewer.py, which gives one JSON object on standard
// input and reads one from standard output.
//   page     address of `primis view` without a key; large: the same of a release of one large image
//   release  address of the release that `page` shows, for pages of every host; key: a key file
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { build } from "esbuild";
import { launchChromium } from "../chromium.mjs";

const asked = JSON.parse(readFileSync(0, "utf8"));
const TIMES = 15;
const COLD = 3;

const browser = await launchChromium();
let elsewhere = 0;

async function newTab(...addresses) {
  const own = new Set(addresses.map((address) => new URL(address).origin));
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  context.on("request", (request) => {
    const url = request.url();
    if (/^https?:/.test(url) && !own.has(new URL(url).origin)) elsewhere++;
  });
  const tab = await context.newPage();
  tab.setDefaultTimeout(120_000);
  return tab;
}

/** Seconds from the key to the list, the first image's preview and its diagnostic image. */
async function fromKey(address) {
  const tab = await newTab(address);
  await tab.goto(address);
  await tab.getByText("Drop your key file here").waitFor();
  const seen = tab.evaluate(watchOpening);
  await tab.locator('input[type="file"]').setInputFiles(asked.key);
  const times = await seen;
  const memory = await peakOfRenderer();
  await tab.context().close();
  return { ...times, memory };
}

/** Runs in the page: chooses the first image as soon as it is listed. */
function watchOpening() {
  const times = {};
  let start = 0;
  addEventListener("change", () => (start ||= performance.now()), { capture: true });
  const lit = () => {
    const canvas = document.querySelector(".stage canvas");
    const { width, height } = canvas;
    const { data } = canvas.getContext("2d").getImageData(width / 2 - 9, height / 2 - 9, 18, 18);
    return data.some((value, at) => at % 4 === 0 && value);
  };
  return new Promise((resolve, reject) => {
    const mark = (name) => (times[name] ??= (performance.now() - start) / 1000);
    const look = () => {
      const error = document.querySelector(".stage-error, .problem");
      if (error) return reject(new Error(error.textContent));
      const row = document.querySelector(".row");
      if (row && !times.listed) {
        mark("listed");
        row.click();
      }
      const isThere = document.querySelector(".written.top-left") && lit();
      if (isThere) mark("preview");
      if (isThere && !document.querySelector(".loading")) {
        mark("diagnostic");
        return resolve(times);
      }
      return requestAnimationFrame(look);
    };
    look();
  });
}

/** Bytes that the largest renderer had in memory at most. */
async function peakOfRenderer() {
  const session = await browser.newBrowserCDPSession();
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  await session.detach();
  const peaks = processInfo.filter(({ type }) => type === "renderer").map(({ id }) => peakOf(id));
  return Math.max(...peaks);
}

function peakOf(pid) {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return 1024 * Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)[1]);
}

/** Seconds of warm reads of tier diagnostic: the engine alone, in a page of its own. */
async function warm() {
  const { address, close } = await serveReader();
  const tab = await newTab(address, asked.release);
  await tab.goto(address);
  const key = readFileSync(asked.key, "utf8");
  const given = { release: asked.release, assets: new URL("assets", asked.page).href, key };
  const times = await tab.evaluate((what) => globalThis.readOften(what), {
    ...given,
    times: TIMES,
  });
  await tab.context().close();
  close();
  return times;
}

const READER = `
  import { Codec, httpAssets, httpPlace, openRelease, readIdentities } from "./src/index.ts";
  /** What was fetched once is at hand, as the files of a folder are for Python. */
  const atHand = (place) => {
    const kept = new Map();
    const once = (key, fetched) => {
      if (!kept.has(key)) kept.set(key, fetched());
      return kept.get(key);
    };
    return {
      name: place.name,
      read: (key, ...rest) => once(key, () => place.read(key, ...rest)),
      ranges: (key, spans, ...rest) =>
        once(key + JSON.stringify(spans), () => place.ranges(key, spans, ...rest)),
    };
  };
  globalThis.readOften = async ({ release, key, times }) => {
    const decoder = new Codec(httpAssets(new URL("assets", location.href).href));
    const keys = await readIdentities(key);
    const opened = await openRelease(atHand(httpPlace(release)), keys, { decoder });
    const image = await opened.open((await opened.images())[0].id);
    await image.read("diagnostic");
    const found = [];
    for (let k = 0; k < times; k++) {
      const start = performance.now();
      await image.read("diagnostic");
      found.push((performance.now() - start) / 1000);
    }
    return found;
  };
`;

/** A page with the reader alone; what else it needs comes from dist/. */
async function serveReader() {
  const built = await build({
    stdin: { contents: READER, resolveDir: process.cwd(), loader: "ts" },
    bundle: true,
    minify: true,
    write: false,
    format: "esm",
    target: "es2022",
  });
  const scripts = { "/page.js": built.outputFiles[0].contents };
  const server = createServer((request, response) => {
    const path = new URL(request.url, "http://host").pathname;
    const type = path.endsWith(".js") ? "text/javascript" : "application/octet-stream";
    if (path === "/") {
      response.setHeader("Content-Type", "text/html");
      return response.end('<!doctype html><script type="module" src="page.js"></script>');
    }
    response.setHeader("Content-Type", type);
    return response.end(scripts[path] ?? fileOf(path));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = `http://127.0.0.1:${server.address().port}/`;
  return { address, close: () => server.close() };
}

function fileOf(path) {
  assert.match(path, /^\/(favicon\.ico|assets(\/[\w-]+)+(\.\w+)*)$/);
  return path === "/favicon.ico" ? "" : readFileSync(`dist${path}`);
}

const cold = [];
for (let k = 0; k < COLD; k++) cold.push(await fromKey(asked.page));
const large = await fromKey(asked.large);
const times = await warm();
console.log(JSON.stringify({ version: browser.version(), cold, large, warm: times, elsewhere }));
await browser.close();
