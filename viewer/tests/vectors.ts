/** The vectors that Python is tested against, and the files that ship with it. */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fromHex } from "../src/bytes.ts";
import { imageSecrets, releaseSecrets, type TierSecrets } from "../src/keys/seal.ts";
import type { Assets } from "../src/release/types.ts";
import { ModelError } from "../src/errors.ts";

const ROOT = join(process.cwd(), "..");
export const VECTORS = join(ROOT, "tests", "vectors");
const PACKAGE = join(ROOT, "src", "primis");

export function vector(...path: string[]): Uint8Array {
  return new Uint8Array(readFileSync(join(VECTORS, ...path)));
}

export function namesIn(folder: string, suffix: string): string[] {
  const names = readdirSync(join(VECTORS, folder)).filter((name) => name.endsWith(suffix));
  return names.map((name) => name.slice(0, -suffix.length)).sort();
}

export const FACTS: any = JSON.parse(readFileSync(join(VECTORS, "good.json"), "utf8"));

export function vectorSecrets(): TierSecrets {
  return imageSecrets(
    releaseSecrets(fromHex(FACTS.release_secret), "original"),
    FACTS.bundle_id as string,
  );
}

/** Kernel, graphs and weights as they lie in the Python package, the vectors' own weights too. */
export const ASSETS: Assets = {
  kernel: () => file(PACKAGE, "codes", "kernel", "kernel.wasm"),
  graph: (name) => file(PACKAGE, "network", "graphs", `${name}-decode.onnx`),
  runtime: () =>
    file(process.cwd(), "node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm"),
  weights(digest) {
    const files = ["default", "paper"].map((name) =>
      join(PACKAGE, "network", "weights", `${name}.safetensors`),
    );
    for (const path of [...files, join(VECTORS, "tiny.safetensors")]) {
      const data = readFileSync(path);
      const found = createHash("sha256").update(data).digest("hex");
      if (found === digest) return Promise.resolve(new Uint8Array(data));
    }
    return Promise.reject(new ModelError(`model "${digest.slice(0, 12)}" is not here`));
  },
};

function file(...path: string[]): Promise<Uint8Array> {
  return Promise.resolve(new Uint8Array(readFileSync(join(...path))));
}
