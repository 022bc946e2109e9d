/**
 * Time of a warm decode of 512 x 512 of tests/make_viewer_cases.py: `npm run bench`.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { Codec } from "../src/codec/codec.ts";
import type { Decoder, GroupJob } from "../src/codec/job.ts";
import { readIdentities } from "../src/keys/identity.ts";
import { openRelease } from "../src/release/reader.ts";
import { Folder } from "./folder.ts";
import { ASSETS } from "./vectors.ts";

const CASES = join(process.cwd(), ".cases");
const TIMES = 20;
const codec = new Codec(ASSETS);
let job: GroupJob | null = null;
const decoder: Decoder = {
  decode(asked, onProgress) {
    job = asked;
    return codec.decode(asked, onProgress);
  },
  prepare: (model) => codec.prepare(model),
};

async function median(what: string, work: () => Promise<unknown>): Promise<void> {
  const times: number[] = [];
  for (let k = 0; k < TIMES; k++) {
    const start = performance.now();
    await work();
    times.push(performance.now() - start);
  }
  const middle = times.sort((a, b) => a - b)[TIMES / 2]!;
  console.log(`${what}: ${middle.toFixed(1)} ms (least ${times[0]!.toFixed(1)}, of ${TIMES})`);
}

const identities = await readIdentities(new Uint8Array(readFileSync(join(CASES, "alice.key"))));
const place = new Folder(join(CASES, "default"));
const start = performance.now();
const release = await openRelease(place, identities, { decoder });
const entry = (await release.images()).find(({ name }) => name === "square.png")!;
await (await release.open(entry.id)).read("diagnostic");
console.log(`first image, from nothing: ${(performance.now() - start).toFixed(0)} ms`);
const image = await release.open(entry.id);
await median("read diagnostic, verified and unsealed, 512 x 512", () => image.read("diagnostic"));
await median("decode alone", () => codec.decode(job!));
await median("levels alone (kernel)", () => codec.levels(job!));
await median("read preview", () => image.read("preview"));
