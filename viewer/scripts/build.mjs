// Builds the viewer to static files in dist/; two builds give the same bytes.
//   dist/index.html, style sheets     as they stand in this folder
//   dist/viewer.js                    the interface
//   dist/worker.js                    the reader engine, in a worker of its own
//   dist/assets/                      kernel, graphs, weights (by digest), ONNX Runtime's wasm
import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

process.chdir(fileURLToPath(new URL("..", import.meta.url)));
const engine = "../src/primis";

rmSync("dist", { recursive: true, force: true });
mkdirSync("dist/assets/weights", { recursive: true });
await build({
  entryPoints: { viewer: "src/ui/main.ts", worker: "src/ui/worker.ts" },
  outdir: "dist",
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  platform: "browser",
  legalComments: "linked",
  logLevel: "warning",
});
for (const name of ["index.html", "style.css", "icon.svg"]) {
  if (existsSync(name)) copyFileSync(name, `dist/${name}`);
}
copyFileSync(`${engine}/codes/kernel/kernel.wasm`, "dist/assets/kernel.wasm");
for (const name of ["lapped-decode.onnx", "grouped-decode.onnx"]) {
  copyFileSync(`${engine}/network/graphs/${name}`, `dist/assets/${name}`);
}
for (const name of readdirSync(`${engine}/network/weights`).sort()) {
  const file = `${engine}/network/weights/${name}`;
  const digest = createHash("sha256").update(readFileSync(file)).digest("hex");
  copyFileSync(file, `dist/assets/weights/${digest}.safetensors`);
}
const runtime = "ort-wasm-simd-threaded.wasm";
copyFileSync(`node_modules/onnxruntime-web/dist/${runtime}`, `dist/assets/${runtime}`);
