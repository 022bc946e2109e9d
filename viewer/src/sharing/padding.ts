/**
 * Padding: samples that stand for no tissue, kept exactly beside the code and put back at tier
 * diagnostic (docs/format.md, section 6, `header`).
 */
import type { Geometry } from "../bundle/geometry.ts";
import { objectOf, whole } from "../bundle/fields.ts";
import { view } from "../bytes.ts";
import { Malformed, type Json } from "../canonical.ts";
import { limitsOf, samplesOf } from "../codec/job.ts";
import type { Pixels, Samples, SampleType } from "../release/types.ts";

/** What describes padding in the line of JSON. */
export interface Described {
  readonly values: number;
  readonly between: boolean;
  /** The lowest and highest sample that the file says are padding. */
  readonly declared: readonly [number, number] | null;
}

export interface Padding {
  /** 1 where a pixel is padding: by frame, row and column. */
  readonly mask: Uint8Array;
  /** In the pixels' order, for each its channels; of one pixel, where it stands for all. */
  readonly values: Samples;
  readonly declared: readonly [number, number] | null;
}

function pixelsOf(geometry: Geometry): number {
  return geometry.frames * geometry.height * geometry.width;
}

/** Throws Malformed where it describes no padding of such an image. */
export function describedPadding(value: Json, geometry: Geometry): Described {
  if (!objectOf(value)) throw new Malformed("no padding");
  const declared = value["declared"];
  if (declared === undefined) throw new Malformed("no declared range, nor that there is none");
  return {
    values: whole(value["values"], 1, pixelsOf(geometry)),
    between: whole(value["frames"], 0, 1) === 1,
    declared: declared === null ? null : rangeOf(declared),
  };
}

function rangeOf(value: Json): readonly [number, number] {
  const [low, high, ...more] = Array.isArray(value) ? (value as readonly Json[]) : [];
  const most = Number.MAX_SAFE_INTEGER;
  if (more.length) throw new Malformed("a range that is none");
  const least = whole(low, -most, most);
  return [least, whole(high, least, most)];
}

/** How many bytes of padding follow the line. */
export function paddingBytes(described: Described, geometry: Geometry): number {
  return Math.ceil(pixelsOf(geometry) / 8) + 2 * described.values * geometry.channels;
}

/** Throws Malformed where the parts do not fit. */
export function readPadding(
  described: Described,
  data: Uint8Array,
  geometry: Geometry,
  type: SampleType,
): Padding {
  const size = pixelsOf(geometry);
  const mask = new Uint8Array(size);
  const [width, frame] = [geometry.width, geometry.width * geometry.height];
  let count = 0;
  for (let at = 0; at < size; at++) {
    let bit = (data[at >> 3]! >> (7 - (at & 7))) & 1;
    if (at % frame >= width) bit ^= mask[at - width]!; // the row above in its frame
    mask[at] = bit;
  }
  for (let at = frame; described.between && at < size; at++) mask[at]! ^= mask[at - frame]!;
  for (let at = 0; at < size; at++) count += mask[at]!;
  if (described.values !== 1 && described.values !== count) throw new Malformed("other values");
  return {
    mask,
    values: valuesOf(described, data, size, geometry, type),
    ...declaredOf(described),
  };
}

function declaredOf({ declared }: Described): { declared: readonly [number, number] | null } {
  return { declared };
}

function valuesOf(
  described: Described,
  data: Uint8Array,
  size: number,
  geometry: Geometry,
  type: SampleType,
): Samples {
  const bytes = view(data.subarray(Math.ceil(size / 8)));
  const [least, largest] = limitsOf(type);
  const values = samplesOf(type, described.values * geometry.channels);
  for (let k = 0; k < values.length; k++) {
    const value = type.startsWith("u") ? bytes.getUint16(2 * k) : bytes.getInt16(2 * k);
    if (value < least || value > largest) throw new Malformed("padding outside the range");
    values[k] = value;
  }
  return values;
}

/**
 * Put padding back, in place. frames: the numbers of those that the pixels are of. Throws Malformed
 * where the declared range leaves no place for a sample.
 */
export function imposePadding(
  pixels: Pixels,
  padding: Padding,
  frames: readonly number[],
  type: SampleType,
  bitDepth: number,
): void {
  const { data, channels } = pixels;
  const size = pixels.height * pixels.width;
  const alone = padding.values.length === channels;
  const beside = padding.declared && besideOf(padding.declared, type, bitDepth);
  let [value, before] = [0, 0];
  frames.forEach((frame, k) => {
    for (; !alone && before < frame * size; before++) value += padding.mask[before]!;
    let next = value;
    for (let at = 0; at < size; at++) {
      const pixel = (k * size + at) * channels;
      if (padding.mask[frame * size + at]) {
        const from = alone ? 0 : next++ * channels;
        for (let c = 0; c < channels; c++) data[pixel + c] = padding.values[from + c]!;
      } else if (padding.declared && within(data, pixel, channels, padding.declared)) {
        if (beside === null) throw new Malformed("a range that holds all values");
        data.fill(beside, pixel, pixel + channels);
      }
    }
  });
}

/** Where a sample goes that would be padding; null where there is no place. */
function besideOf(
  [low, high]: readonly [number, number],
  type: SampleType,
  bitDepth: number,
): number | null {
  const largest = 2 ** (bitDepth - (type.startsWith("u") ? 0 : 1)) - 1;
  const beside = high < largest ? high + 1 : low - 1;
  const [least, most] = limitsOf(type);
  return least <= beside && beside <= most ? beside : null;
}

function within(
  data: Pixels["data"],
  pixel: number,
  channels: number,
  [low, high]: readonly [number, number],
): boolean {
  for (let c = 0; c < channels; c++) {
    const sample = data[pixel + c]!;
    if (sample < low || sample > high) return false;
  }
  return true;
}
