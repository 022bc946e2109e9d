/**
 * The files that ship with the viewer, from where the viewer itself lies and never from a
 * release's host: kernel, graphs, weights by digest, ONNX Runtime.
 */
import { HostError, ModelError, NotThere } from "../errors.ts";
import { gunzip } from "../gunzip.ts";
import { httpPlace } from "./places.ts";
import type { Assets } from "./types.ts";

const MOST = 2 ** 28;
const RUNTIME = "ort-wasm-simd-threaded.wasm.gz";
const MOST_RUNTIME = 2 ** 26;

/** base: the address of the folder `assets`. */
export function httpAssets(base: string): Assets {
  const place = httpPlace(base);
  const read = async (key: string): Promise<Uint8Array> => {
    try {
      return await place.read(key, MOST);
    } catch (error) {
      if (!(error instanceof NotThere)) throw error;
      throw new HostError(`${base}/${key}`, "a part of the viewer is missing");
    }
  };
  return {
    kernel: () => read("kernel.wasm"),
    graph: (architecture) => read(`${architecture}-decode.onnx`),
    async runtime() {
      const data = await read(RUNTIME);
      try {
        return await gunzip(data, MOST_RUNTIME);
      } catch {
        throw new HostError(`${base}/${RUNTIME}`, "a part of the viewer is damaged");
      }
    },
    async weights(digest) {
      try {
        return await place.read(`weights/${digest}.safetensors`, MOST);
      } catch (error) {
        if (!(error instanceof NotThere)) throw error;
        throw new ModelError(
          `model "${digest.slice(0, 12)}" is needed, which does not come with this viewer`,
        );
      }
    },
  };
}
