/**
 * NIfTI from the bytes before its voxels and the samples (docs/format.md, section 6, `header`):
 * a voxel is the sample, or `base` more, or a + b times it. Malformed where the two do not fit.
 */
import { concat, fromBase64, textOf, view } from "../bytes.ts";
import { Malformed } from "../canonical.ts";
import { roundHalfEven } from "../codec/planes.ts";
import type { Pixels } from "../release/types.ts";
import { compress } from "./compress.ts";

type Put = (at: number, value: number) => void;

/** How a voxel of a data type is written: its bytes, whole numbers' limits (null: real numbers). */
interface Voxel {
  readonly bytes: number;
  readonly limits: readonly [number, number] | null;
  readonly put: (numbers: DataView, little: boolean) => Put;
}

const whole = (bytes: number, signed: boolean, put: Voxel["put"]): Voxel => {
  const size = 2 ** (8 * bytes);
  return { bytes, limits: signed ? [-size / 2, size / 2 - 1] : [0, size - 1], put };
};

/** By the standard's codes of data types. */
const VOXELS: Readonly<Record<number, Voxel>> = {
  2: whole(1, false, (n) => (at, v) => n.setUint8(at, v)),
  256: whole(1, true, (n) => (at, v) => n.setInt8(at, v)),
  512: whole(2, false, (n, le) => (at, v) => n.setUint16(at, v, le)),
  4: whole(2, true, (n, le) => (at, v) => n.setInt16(at, v, le)),
  768: whole(4, false, (n, le) => (at, v) => n.setUint32(at, v, le)),
  8: whole(4, true, (n, le) => (at, v) => n.setInt32(at, v, le)),
  16: { bytes: 4, limits: null, put: (n, le) => (at, v) => n.setFloat32(at, v, le) },
  64: { bytes: 8, limits: null, put: (n, le) => (at, v) => n.setFloat64(at, v, le) },
  128: whole(1, false, (n) => (at, v) => n.setUint8(at, v)), // RGB
  2304: whole(1, false, (n) => (at, v) => n.setUint8(at, v)), // RGB and opacity
};
const COLOUR: Readonly<Record<number, number>> = { 128: 3, 2304: 4 };

/** The file, compressed where its source was. Throws Malformed. */
export async function writeNifti(
  header: Uint8Array,
  pixels: Pixels,
  compressed: boolean,
): Promise<Uint8Array> {
  const file = plainNifti(header, pixels);
  return compressed ? compress(file, "gzip") : file;
}

function plainNifti(header: Uint8Array, pixels: Pixels): Uint8Array {
  const kept = keptOf(header);
  const head = base64(kept["head"]);
  const { little, code } = formOf(head);
  const voxel = VOXELS[code];
  if (!voxel || (COLOUR[code] ?? 1) !== pixels.channels) throw new Malformed("voxels of no kind");
  const body = new Uint8Array(pixels.data.length * voxel.bytes);
  const put = voxel.put(view(body), little);
  const value = valueOf(kept, voxel, pixels);
  pixels.data.forEach((sample, k) => put(k * voxel.bytes, value(sample)));
  return concat(head, body);
}

function keptOf(header: Uint8Array): Record<string, unknown> {
  try {
    const body: unknown = JSON.parse(textOf(header));
    if (typeof body === "object" && body !== null) return body as Record<string, unknown>;
  } catch {
    // as below
  }
  throw new Malformed("the header is no JSON object");
}

function base64(value: unknown): Uint8Array {
  try {
    if (typeof value === "string") return fromBase64(value);
  } catch {
    // as below
  }
  throw new Malformed("the header is none of NIfTI");
}

function formOf(head: Uint8Array): { little: boolean; code: number } {
  if (head.length < 348) throw new Malformed("the header is none of NIfTI");
  const numbers = view(head);
  for (const little of [true, false]) {
    const size = numbers.getInt32(0, little);
    if (size === 348) return { little, code: numbers.getInt16(70, little) };
    if (size === 540) return { little, code: numbers.getInt16(12, little) };
  }
  throw new Malformed("the header is none of NIfTI");
}

/** What a sample stands for. */
function valueOf(
  kept: Readonly<Record<string, unknown>>,
  { bytes, limits }: Voxel,
  { data }: Pixels,
): (sample: number) => number {
  const round = bytes === 4 && !limits ? Math.fround : (x: number): number => x;
  const base = kept["base"];
  if (Number.isSafeInteger(base)) {
    const from = round(base as number);
    return (sample) => round(sample + from);
  }
  if (kept["scale"] !== undefined) {
    const numbers = view(base64(kept["scale"]));
    if (numbers.byteLength !== 16) throw new Malformed("no scale");
    const [low, step] = [numbers.getFloat64(0), numbers.getFloat64(8)];
    return (sample) => nearest(low + step * sample, limits);
  }
  if (base !== undefined || bytes !== data.BYTES_PER_ELEMENT) throw new Malformed("other samples");
  return (sample) => sample;
}

function nearest(value: number, limits: Voxel["limits"]): number {
  if (!limits) return value;
  return Math.min(Math.max(roundHalfEven(value), limits[0]), limits[1]);
}
