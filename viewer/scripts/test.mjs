// Bundles each test with esbuild and runs them all under node's own test runner.
// node scripts/test.mjs [words]: only the test files whose names hold one of these words.
// node scripts/test.mjs --bench: times, by tests/bench.ts.
import { spawnSync } from "node:child_process";
import { readdirSync, rmSync } from "node:fs";
import { build } from "esbuild";

const words = process.argv.slice(2);
const bench = words[0] === "--bench";
const tests = bench ? ["bench.ts"] : readdirSync("tests").filter((n) => n.endsWith(".test.ts"));
const chosen = tests
  .filter((name) => bench || !words.length || words.some((word) => name.includes(word)))
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
const how = bench ? [] : ["--test", "--test-concurrency=1"];
const node = ["--enable-source-maps", ...how, ...files];
process.exit(spawnSync(process.execPath, node, { stdio: "inherit" }).status ?? 1);
