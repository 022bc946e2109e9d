/**
 * The files that ship with the viewer, from where the viewer itself lies and never from a
 * release's host: kernel, graphs, weights by digest, ONNX Runtime.
 */
import { HostError, ModelError, NotThere } from "../errors.ts";
import { httpPlace } from "./places.ts";
import type { Assets } from "./types.ts";

const MOST = 2 ** 28;

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
    runtime: () => read("ort-wasm-simd-threaded.wasm"),
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
