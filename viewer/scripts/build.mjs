// Builds the viewer to static files; two builds give the same bytes.
// node scripts/build.mjs [folder]: dist/, or another folder.
//   index.html, style sheet           as they stand in this folder
//   viewer.js, passkey-*.js           the interface, and what it loads for passkeys alone
//   worker.js                         the reader engine, in a worker of its own
//   assets/                           kernel, graphs, weights (by digest), ONNX Runtime's wasm
//   licences/                         of every package that is in there
//   SHA256SUMS                        of all these files, for sha256sum --check
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { gzip } from "pako";

const out = resolve(process.argv[2] ?? fileURLToPath(new URL("../dist", import.meta.url)));
process.chdir(fileURLToPath(new URL("..", import.meta.url)));
const engine = "../src/primis";
const runtime = "ort-wasm-simd-threaded.wasm";

rmSync(out, { recursive: true, force: true });
mkdirSync(`${out}/assets/weights`, { recursive: true });
copyLicences(await bundle());
for (const name of ["index.html", "style.css", "icon.svg"]) copyFileSync(name, `${out}/${name}`);
copyAssets();
packRuntime();
writeSums();

// The packages that were bundled.
async function bundle() {
  // The worker is started from a blob, whence it cannot import: it is one file.
  const page = await script({ viewer: "src/ui/main.ts" }, true);
  const worker = await script({ worker: "src/ui/worker.ts" }, false);
  const outputs = [...Object.values(page.outputs), ...Object.values(worker.outputs)];
  const used = outputs.flatMap(({ inputs }) => Object.entries(inputs));
  const paths = used.filter(([, { bytesInOutput }]) => bytesInOutput > 0).map(([path]) => path);
  const names = paths.map((path) => /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1]);
  return [...new Set(names.filter((name) => name !== undefined))].sort();
}

async function script(entryPoints, splitting) {
  const { metafile } = await build({
    entryPoints,
    splitting,
    absWorkingDir: process.cwd(), // after chdir: esbuild keeps the one that it was loaded in
    outdir: out,
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    platform: "browser",
    legalComments: "none", // the whole licences lie beside
    logLevel: "warning",
    metafile: true,
  });
  return metafile;
}

// ONNX Runtime's packages come without their licences; licences/ has them.
function copyLicences(packages) {
  mkdirSync(`${out}/licences`);
  const own = readdirSync("licences");
  for (const name of packages) {
    const file = `${name.replace("@", "").replace("/", "-")}.txt`;
    if (own.includes(file)) continue;
    copyFileSync(`node_modules/${name}/LICENSE`, `${out}/licences/${file}`);
  }
  for (const file of own) copyFileSync(`licences/${file}`, `${out}/licences/${file}`);
}

function copyAssets() {
  copyFileSync(`${engine}/codes/kernel/kernel.wasm`, `${out}/assets/kernel.wasm`);
  for (const name of ["lapped-decode.onnx", "grouped-decode.onnx"]) {
    copyFileSync(`${engine}/network/graphs/${name}`, `${out}/assets/${name}`);
  }
  for (const name of readdirSync(`${engine}/network/weights`).sort()) {
    const file = `${engine}/network/weights/${name}`;
    copyFileSync(file, `${out}/assets/weights/${digestOf(file)}.safetensors`);
  }
}

// By pako, since the zlib in Node gives other bytes with other versions. The page unpacks it.
function packRuntime() {
  const data = readFileSync(`node_modules/onnxruntime-web/dist/${runtime}`);
  const packed = gzip(data, { level: 9, header: { time: 0, os: 255 } });
  writeFileSync(`${out}/assets/${runtime}.gz`, packed);
}

function writeSums() {
  const files = readdirSync(out, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .map((file) => [relative(out, file).split(sep).join("/"), digestOf(file)])
    .sort(([one], [other]) => (one < other ? -1 : 1));
  writeFileSync(`${out}/SHA256SUMS`, files.map(([name, sum]) => `${sum}  ${name}\n`).join(""));
}

function digestOf(file) {
  return createHash("sha256").update(readFileSync(file)).digest("hex");
}
