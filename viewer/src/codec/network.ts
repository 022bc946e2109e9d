/**
 * The decoder network under ONNX Runtime: its WebAssembly backend on one thread, with the very
 * graphs and weights that ship in Python. What it computes is only ever rounded to grey levels.
 */
import * as ort from "onnxruntime-web/wasm";
import { ModelError } from "../errors.ts";
import { withTensors, type Model } from "./model.ts";

/** runtime: ONNX Runtime's own WebAssembly file. To be called before the first network is made. */
export function useRuntime(runtime: Uint8Array): void {
  ort.env.logLevel = "fatal";
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = runtime as Uint8Array<ArrayBuffer>;
}

export class Network {
  private constructor(
    private readonly session: ort.InferenceSession,
    private readonly model: Model,
  ) {}

  /** graph: the decoder's, of the model's architecture. Throws ModelError. */
  static async make(graph: Uint8Array, model: Model): Promise<Network> {
    try {
      const session = await ort.InferenceSession.create(withTensors(graph, model), {
        executionProviders: ["wasm"],
        logSeverityLevel: 4,
      });
      return new Network(session, model);
    } catch {
      const name = model.digest.slice(0, 12);
      throw new ModelError(`model "${name}" cannot be run: ONNX Runtime refuses it`);
    }
  }

  /**
   * A plane (stride h, stride w) in units of the frame's range from coefficients (LM, h, w).
   * opened: the part of the code maps that is known. Throws ModelError.
   */
  async decode(
    q: Float32Array,
    height: number,
    width: number,
    threshold: number,
    opened: number,
  ): Promise<Float32Array> {
    const inputs: Record<string, ort.Tensor> = {
      q: new ort.Tensor("float32", q, [1, this.model.layout.atoms, height, width]),
      threshold: scalar(threshold),
      opened: scalar(opened),
    };
    const wanted = this.session.inputNames.map((name) => [name, inputs[name]!] as const);
    const outputs = await this.session.run(Object.fromEntries(wanted));
    const plane = outputs[this.session.outputNames[0]!]!.data as Float32Array;
    if (!allFinite(plane)) {
      const name = this.model.digest.slice(0, 12);
      throw new ModelError(`model "${name}" gives values that are not finite`);
    }
    return plane;
  }
}

/** A loop, since `every` takes ten times as long. */
function allFinite(plane: Float32Array): boolean {
  for (let at = 0; at < plane.length; at++) {
    if (!Number.isFinite(plane[at])) return false;
  }
  return true;
}

function scalar(value: number): ort.Tensor {
  return new ort.Tensor("float32", Float32Array.of(value), [1, 1, 1, 1]);
}
