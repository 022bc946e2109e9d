/**
 * TIFF without loss (deflate), a page for each frame: grey, colour and up to 16 channels, signed or
 * not. What a sealed header keeps of its source comes back (docs/format.md, section 6, `header`);
 * values of it that do not fit are ignored. Samples take whole bytes.
 */
import { concat, fromBase64, view } from "../bytes.ts";
import type { Pixels, SampleType } from "../release/types.ts";
import { compress } from "./compress.ts";

const [BLACK_IS_ZERO, RGB] = [1, 2];
const [SHORT, LONG, RATIONAL, UNDEFINED] = [3, 4, 5, 7];
const SIZES: Readonly<Record<number, number>> = { 3: 2, 4: 4, 5: 8, 7: 1 };
const UNSPECIFIED = 0;

/** A field of a directory: numbers of its type, of RATIONAL two for each. */
interface Field {
  readonly tag: number;
  readonly type: number;
  readonly values: ArrayLike<number>;
}

type Kept = Readonly<Record<string, unknown>>;

/** inverted: the lowest sample is white, where the header says no more. */
export async function writeTiff(
  pixels: Pixels,
  type: SampleType,
  kept: Kept,
  inverted: boolean,
): Promise<Uint8Array> {
  const size = pixels.height * pixels.width * pixels.channels;
  const parts: Uint8Array[] = [Uint8Array.of(0x49, 0x49, 42, 0, 8, 0, 0, 0)];
  let at = 8;
  for (let frame = 0; frame < pixels.frames; frame++) {
    const samples = pixels.data.subarray(frame * size, (frame + 1) * size);
    const strip = await compress(littleEndian(samples), "deflate");
    const fields = fieldsOf(pixels, type, kept, inverted);
    const page = pageOf(fields, strip, at, frame + 1 < pixels.frames);
    parts.push(page);
    at += page.length;
  }
  return concat(...parts);
}

function littleEndian(samples: Pixels["data"]): Uint8Array {
  const bytes = new Uint8Array(samples.length * samples.BYTES_PER_ELEMENT);
  const numbers = view(bytes);
  samples.forEach((sample, k) => {
    if (samples.BYTES_PER_ELEMENT === 1) bytes[k] = sample;
    else numbers.setUint16(2 * k, sample & 0xffff, true);
  });
  return bytes;
}

function fieldsOf(pixels: Pixels, type: SampleType, kept: Kept, inverted: boolean): Field[] {
  const { height, width, channels } = pixels;
  const each = (value: number): number[] => Array<number>(channels).fill(value);
  const fields: Field[] = [
    { tag: 256, type: LONG, values: [width] },
    { tag: 257, type: LONG, values: [height] },
    { tag: 258, type: SHORT, values: each(8 * pixels.data.BYTES_PER_ELEMENT) },
    { tag: 259, type: SHORT, values: [8] },
    { tag: 277, type: SHORT, values: [channels] },
    { tag: 278, type: LONG, values: [height] },
    { tag: 284, type: SHORT, values: [1] },
    { tag: 339, type: SHORT, values: each(type.startsWith("u") ? 1 : 2) },
  ];
  const photometric = photometricOf(kept, channels, inverted);
  fields.push({ tag: 262, type: SHORT, values: [photometric] });
  const extra = channels - (photometric === RGB ? 3 : 1);
  if (extra > 0) {
    const values = wholes(kept["338"], extra, 2) ?? Array<number>(extra).fill(UNSPECIFIED);
    fields.push({ tag: 338, type: SHORT, values });
  }
  return [...fields, ...declared(kept)];
}

function photometricOf(kept: Kept, channels: number, inverted: boolean): number {
  const [told] = wholes([kept["262"]], 1, 2) ?? [];
  if (told !== undefined && (told !== RGB || channels >= 3)) return told;
  return channels >= 3 ? RGB : inverted ? 0 : BLACK_IS_ZERO;
}

/** Resolution, orientation and profile, as the source had them. */
function declared(kept: Kept): Field[] {
  const fields: Field[] = [];
  const [across, down] = [wholes(kept["282"], 2, 2 ** 32 - 1), wholes(kept["283"], 2, 2 ** 32 - 1)];
  if (across?.[1] && down?.[1]) {
    fields.push({ tag: 282, type: RATIONAL, values: across });
    fields.push({ tag: 283, type: RATIONAL, values: down });
    const unit = wholes([kept["296"]], 1, 3)?.[0];
    fields.push({ tag: 296, type: SHORT, values: [unit || 2] });
  }
  const orientation = wholes([kept["274"]], 1, 8)?.[0];
  if (orientation) fields.push({ tag: 274, type: SHORT, values: [orientation] });
  const profile = bytesOf(kept["34675"]);
  if (profile) fields.push({ tag: 34675, type: UNDEFINED, values: profile });
  return fields;
}

function wholes(value: unknown, count: number, most: number): number[] | null {
  if (!Array.isArray(value) || value.length !== count) return null;
  const sound = value.every((n) => Number.isSafeInteger(n) && n >= 0 && n <= most);
  return sound ? (value as number[]) : null;
}

function bytesOf(value: unknown): Uint8Array | null {
  try {
    return typeof value === "string" && value ? fromBase64(value) : null;
  } catch {
    return null;
  }
}

/** A directory, what does not fit in it, and the strip. start: where it lies in the file. */
function pageOf(fields: Field[], strip: Uint8Array, start: number, more: boolean): Uint8Array {
  const all = [
    ...fields,
    { tag: 273, type: LONG, values: [0] },
    { tag: 279, type: LONG, values: [strip.length] },
  ].sort((a, b) => a.tag - b.tag);
  const directory = 2 + 12 * all.length + 4;
  const outside = all.map((field) => (sizeOf(field) > 4 ? sizeOf(field) + (sizeOf(field) % 2) : 0));
  const body = directory + outside.reduce((sum, size) => sum + size, 0);
  const page = new Uint8Array(body + strip.length + (strip.length % 2));
  const numbers = view(page);
  numbers.setUint16(0, all.length, true);
  let free = directory;
  all.forEach((field, k) => {
    const at = 2 + 12 * k;
    numbers.setUint16(at, field.tag, true);
    numbers.setUint16(at + 2, field.type, true);
    numbers.setUint32(at + 4, countOf(field), true);
    const values = field.tag === 273 ? [start + body] : field.values;
    put(numbers, outside[k] ? free : at + 8, field.type, values);
    if (outside[k]) numbers.setUint32(at + 8, start + free, true);
    free += outside[k]!;
  });
  numbers.setUint32(directory - 4, more ? start + page.length : 0, true);
  page.set(strip, body);
  return page;
}

function countOf({ type, values }: Field): number {
  return type === RATIONAL ? values.length / 2 : values.length;
}

function sizeOf(field: Field): number {
  return countOf(field) * SIZES[field.type]!;
}

function put(numbers: DataView, at: number, type: number, values: ArrayLike<number>): void {
  for (let k = 0; k < values.length; k++) {
    if (type === SHORT) numbers.setUint16(at + 2 * k, values[k]!, true);
    else if (type === UNDEFINED) numbers.setUint8(at + k, values[k]!);
    else numbers.setUint32(at + 4 * k, values[k]!, true);
  }
}
