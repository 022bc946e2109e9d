/**
 * A model as a file: safetensors, whose manifest is in its metadata (src/primis/network/
 * checkpoint.py). It holds numbers and nothing else: the network's tensors after "network.", the
 * coder's tables after "tables.". The graphs that run them ship with the viewer.
 */
import { sha256Large, textOf, toHex, utf8, view } from "../bytes.ts";
import {
  dcLayout,
  frequencyLayout,
  learnedLayout,
  noLayout,
  type Layout,
} from "../codes/layout.ts";
import { shapesOf, TABLES, withinLimits, type Tables } from "../codes/tables.ts";
import { ModelError } from "../errors.ts";

const MOST_BYTES = 2 ** 28;
const MOST_HEADER = 2 ** 20;

/** What follows from an architecture (src/primis/network/architecture.py). */
interface Architecture {
  /** Positions beyond a window that the network sees, at most. */
  readonly halo: number;
  /** A level n stands for (|n| + offset) t. */
  readonly offset: number;
  /** Whether atoms are frequencies, with a DC plane; else they are learned, and no frames group. */
  readonly frequencies: boolean;
}

const ARCHITECTURES: Readonly<Record<string, Architecture>> = {
  lapped: { halo: 12, offset: 0.45, frequencies: true },
  grouped: { halo: 4, offset: 0, frequencies: false },
};

export interface Tensor {
  readonly shape: readonly number[];
  /** Numbers of 4 bytes, little-endian, as the file has them. */
  readonly data: Uint8Array;
}

export interface Model extends Architecture {
  readonly digest: string;
  readonly architecture: string;
  readonly stride: number;
  readonly codeMaps: number;
  readonly atomsPerMap: number;
  readonly layout: Layout;
  readonly dc: Layout;
  readonly tables: Tables;
  readonly network: ReadonlyMap<string, Tensor>;
}

/** The model of a digest, from its file. Throws ModelError. */
export async function readModel(data: Uint8Array, digest: string): Promise<Model> {
  const name = digest.slice(0, 12);
  if (data.length > MOST_BYTES || toHex(await sha256Large(data)) !== digest) {
    throw new ModelError(`model "${name}" is not the file that its bundles name`);
  }
  try {
    return parse(data, digest);
  } catch {
    throw new ModelError(`model "${name}" is damaged or not a primis model of format 1`);
  }
}

type Any = any;

function parse(data: Uint8Array, digest: string): Model {
  const length = Number(view(data).getBigUint64(0, true));
  if (length > MOST_HEADER) throw new RangeError("header");
  const head: Any = JSON.parse(textOf(data.subarray(8, 8 + length)));
  const manifest: Any = JSON.parse(head.__metadata__.primis);
  const preset: Any = manifest.preset;
  const kind = ARCHITECTURES[preset.architecture];
  const sizes: number[] = [preset.stride, preset.code_maps, preset.atoms_per_map];
  if (manifest.format !== 1 || !kind || !sizes.every((size) => Number.isInteger(size) && size > 0))
    throw new RangeError("preset");
  const [stride, codeMaps, atomsPerMap] = sizes as [number, number, number];
  const atoms = codeMaps * atomsPerMap;
  if (kind.frequencies && Math.round(Math.sqrt(atoms)) ** 2 !== atoms)
    throw new RangeError("atoms");
  const layout = kind.frequencies ? frequencyLayout(atoms) : learnedLayout(atoms, atomsPerMap);
  const dc = kind.frequencies ? dcLayout() : noLayout();
  const tensors = tensorsOf(head, data.subarray(8 + length));
  return {
    ...kind,
    digest,
    architecture: preset.architecture,
    stride,
    codeMaps,
    atomsPerMap,
    layout,
    dc,
    tables: tablesOf(tensors, layout, dc),
    network: new Map([...tensors].filter(([tensor]) => tensor.startsWith("network."))),
  };
}

function tensorsOf(head: Any, data: Uint8Array): Map<string, Tensor> {
  const tensors = new Map<string, Tensor>();
  for (const [name, told] of Object.entries<Any>(head)) {
    if (name === "__metadata__") continue;
    const [start, stop]: [number, number] = told.data_offsets;
    const shape: number[] = told.shape;
    const numbers = shape.reduce((product, side) => product * side, 1);
    const type = name.startsWith("tables.") ? "I32" : "F32";
    if (told.dtype !== type || stop - start !== 4 * numbers || start < 0 || stop > data.length) {
      throw new RangeError("tensor");
    }
    tensors.set(name, { shape, data: data.subarray(start, stop) });
  }
  return tensors;
}

function tablesOf(tensors: ReadonlyMap<string, Tensor>, layout: Layout, dc: Layout): Tables {
  const shapes = shapesOf(layout, dc);
  const found = TABLES.map((name) => {
    const tensor = tensors.get(`tables.${name}`);
    if (tensor?.shape.join() !== shapes[name].join()) throw new RangeError("table");
    const numbers = new Int32Array(tensor.data.length / 4);
    numbers.forEach((_, k) => (numbers[k] = view(tensor.data).getInt32(4 * k, true)));
    return [name, numbers] as const;
  });
  const tables = Object.fromEntries(found) as Tables;
  if (!withinLimits(tables)) throw new RangeError("table");
  return tables;
}

// Numbers of the fields in onnx.proto: of ModelProto, GraphProto and TensorProto.
const GRAPH_OF_MODEL = 7;
const INITIALIZER_OF_GRAPH = 5;
const [DIMS, TYPE, NAME, RAW_DATA] = [1, 2, 8, 9];
const FLOAT = 1;
const PARTS = ["network.decoder.", "network.projection."];

/**
 * A decoder's graph with the model's tensors: a message of Protocol Buffers with another of its
 * type behind it is read as the two merged, so that a tensor takes a few bytes in front.
 */
export function withTensors(graph: Uint8Array, model: Model): Uint8Array {
  const tensors = [...model.network].filter(([name]) => PARTS.some((p) => name.startsWith(p)));
  const initializers = tensors.flatMap(([name, tensor]) =>
    field(INITIALIZER_OF_GRAPH, tensorOf(name, tensor)),
  );
  const parts = [graph, ...field(GRAPH_OF_MODEL, initializers)];
  const whole = new Uint8Array(sizeOf(parts));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function tensorOf(name: string, tensor: Tensor): Uint8Array[] {
  const dims = tensor.shape.map((side) => number(DIMS, side));
  const head = [...dims, number(TYPE, FLOAT), ...field(NAME, [utf8(name)])];
  return [...head, ...field(RAW_DATA, [tensor.data])];
}

function number(field: number, value: number): Uint8Array {
  return Uint8Array.from([...varint(field << 3), ...varint(value)]);
}

function field(field: number, content: readonly Uint8Array[]): Uint8Array[] {
  return [Uint8Array.from([...varint((field << 3) | 2), ...varint(sizeOf(content))]), ...content];
}

function sizeOf(parts: readonly Uint8Array[]): number {
  return parts.reduce((size, part) => size + part.length, 0);
}

function varint(value: number): number[] {
  const bytes: number[] = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value & 127) | 128);
  return [...bytes, value];
}
