// Bundles each test with esbuild and runs them all under node's own test runner.
// node scripts/test.mjs [words]: only the test files whose names hold one of these words.
import { spawnSync } from "node:child_process";
import { readdirSync, rmSync } from "node:fs";
import { build } from "esbuild";

const words = process.argv.slice(2);
const chosen = readdirSync("tests")
  .filter((name) => name.endsWith(".test.ts"))
  .filter((name) => !words.length || words.some((word) => name.includes(word)))
  .sort();
rmSync(".test", { recursive: true, force: true });
await build({
  entryPoints: chosen.map((name) => `tests/${name}`),
  outdir: ".test",
  outExtension: { ".js": ".mjs" },
  bundle: true,
  packages: "external",
  platform: "node",
  format: "esm",
  target: "node20",
  sourcemap: "inline",
});
const files = chosen.map((name) => `.test/${name.replace(/\.ts$/, ".mjs")}`);
const node = ["--enable-source-maps", "--test", "--test-concurrency=1", ...files];
process.exit(spawnSync(process.execPath, node, { stdio: "inherit" }).status ?? 1);
