/**
 * Windows of grey levels (DICOM PS3.3, C.11.2.1.2): what range of samples is shown from black to
 * white, as a table with an entry for each possible sample.
 */
import type { Display, SampleType, Samples } from "../release/types.ts";

/** In units after rescaling. */
export interface Window {
  readonly center: number;
  readonly width: number;
}

/** From samples as they are stored to units that a person reads. */
export interface Rescale {
  readonly slope: number;
  readonly intercept: number;
  readonly units: string;
}

const LEAST: Record<SampleType, number> = { uint8: 0, uint16: 0, int8: -128, int16: -32768 };
const LEVELS: Record<SampleType, number> = { uint8: 256, uint16: 65536, int8: 256, int16: 65536 };

/** Shares of the samples that a window made from them leaves black and white. */
const TAIL = 0.002;
const MOST_LOOKED_AT = 1 << 18;

export function rescaleOf(display: Display | null): Rescale {
  if (!display || display.slope === 0) return { slope: 1, intercept: 0, units: "" };
  return { slope: display.slope, intercept: display.intercept, units: display.units };
}

export function sampleTypeOf(samples: Samples): SampleType {
  if (samples instanceof Uint8Array) return "uint8";
  if (samples instanceof Uint16Array) return "uint16";
  return samples instanceof Int8Array ? "int8" : "int16";
}

/** All levels that so many bits hold. */
export function fullWindow(type: SampleType, bits: number): Window {
  const levels = 2 ** bits;
  const low = type.startsWith("u") ? 0 : -levels / 2;
  return { center: low + levels / 2, width: levels };
}

/** What most samples lie in, after rescaling. */
export function windowFrom(samples: Samples, rescale: Rescale): Window {
  const counts = countsOf(samples);
  const least = LEAST[sampleTypeOf(samples)];
  const total = counts.reduce((sum, count) => sum + count, 0);
  const low = quantile(counts, total * TAIL) + least;
  const high = quantile(counts, total * (1 - TAIL)) + least;
  return between(low * rescale.slope + rescale.intercept, high * rescale.slope + rescale.intercept);
}

/** The window that shows one end black and the other white. */
export function between(one: number, other: number): Window {
  const [low, high] = one < other ? [one, other] : [other, one];
  return { center: (low + high) / 2 + 0.5, width: Math.max(high - low + 1, 2) };
}

function countsOf(samples: Samples): Uint32Array {
  const type = sampleTypeOf(samples);
  const [counts, least] = [new Uint32Array(LEVELS[type]), LEAST[type]];
  const step = Math.max(1, Math.floor(samples.length / MOST_LOOKED_AT));
  for (let at = 0; at < samples.length; at += step) counts[samples[at]! - least]!++;
  return counts;
}

function quantile(counts: Uint32Array, rank: number): number {
  let sum = 0;
  const index = counts.findIndex((count) => (sum += count) > rank);
  return index < 0 ? counts.length - 1 : index;
}

/** A screen level, 0 to 255, for each sample from the lowest of its type. */
export function tableOf(
  window: Window,
  rescale: Rescale,
  type: SampleType,
  inverted: boolean,
): Uint8ClampedArray {
  const [least, table] = [LEAST[type], new Uint8ClampedArray(LEVELS[type])];
  const span = Math.max(window.width - 1, 1e-6);
  for (let level = 0; level < table.length; level++) {
    const value = (level + least) * rescale.slope + rescale.intercept;
    const shade = ((value - (window.center - 0.5)) / span + 0.5) * 255;
    table[level] = inverted ? 255 - shade : shade;
  }
  return table;
}

export const leastOf = (type: SampleType): number => LEAST[type];

/** A window after a drag across (width) and down (center), in shares of `range`. */
export function dragged(window: Window, across: number, down: number, range: number): Window {
  const width = Math.max(window.width + across * range, range / 4096, 1);
  return { center: window.center + down * range, width };
}
