/**
 * Between coefficients and grey levels: what levels stand for, the DC plane, windows, colours
 * (docs/format.md, section 6, Transform and code). Numbers are single precision where Python's are.
 */
import { DC_BLOCK } from "../codes/layout.ts";
import type { StretchOf } from "./job.ts";

/** Orthonormal: brightness and two differences of colour. */
const OPPONENT = [
  [1, 1, 1].map((x) => Math.fround(x / Math.sqrt(3))),
  [1, 0, -1].map((x) => Math.fround(x / Math.sqrt(2))),
  [1, -2, 1].map((x) => Math.fround(x / Math.sqrt(6))),
] as const;

/** The orthonormal DCT-II: n frequencies of n samples, by rows. */
export function dctMatrix(n: number): Float64Array {
  const matrix = new Float64Array(n * n);
  for (let k = 0; k < n; k++) {
    for (let x = 0; x < n; x++) {
      const wave = Math.cos((Math.PI * k * (2 * x + 1)) / (2 * n)) * Math.sqrt(2 / n);
      matrix[k * n + x] = k ? wave : Math.sqrt(1 / n);
    }
  }
  return matrix;
}

/** The DC plane (rows, columns), turned back in blocks along rows and columns, in place. */
export function restoreDc(plane: Float32Array, rows: number, columns: number): void {
  for (let y = 0; y < rows; y++) restoreLine(plane, y * columns, 1, columns);
  for (let x = 0; x < columns; x++) restoreLine(plane, x, columns, rows);
}

function restoreLine(plane: Float32Array, at: number, step: number, length: number): void {
  for (let start = 0; start < length; start += DC_BLOCK) {
    const n = Math.min(DC_BLOCK, length - start);
    const first = at + start * step;
    const block = Array.from({ length: n }, (_, k) => plane[first + k * step]!);
    for (let x = 0; x < n; x++) {
      let sum = 0;
      for (let k = 0; k < n; k++) sum += block[k]! * DCT[n]![k * n + x]!;
      plane[first + x * step] = sum;
    }
  }
}

const DCT = [0, 1, 2, 3, 4].map((n) => Float32Array.from(dctMatrix(n)));

/** One stretch of an axis: what to read, and what of it to keep. */
export interface Window {
  readonly low: number;
  readonly high: number;
  readonly start: number;
  readonly stop: number;
}

const WINDOW = 64;

/** Cover 0..length in stretches, each read with up to `halo` more on either side. */
export function windows(length: number, halo: number): Window[] {
  return Array.from({ length: Math.ceil(length / WINDOW) }, (_, k) => {
    const start = k * WINDOW;
    const stop = Math.min(start + WINDOW, length);
    return { low: Math.max(0, start - halo), high: Math.min(length, stop + halo), start, stop };
  });
}

/** Three planes to colours, or back: the rows of the matrix, or its columns. */
export function turn(planes: ArrayLike<number>, inverse: boolean): [number, number, number] {
  const [a, b, c] = [planes[0]!, planes[1]!, planes[2]!];
  const row = (k: number): number =>
    inverse
      ? OPPONENT[0][k]! * a + OPPONENT[1][k]! * b + OPPONENT[2][k]! * c
      : OPPONENT[k as 0 | 1 | 2][0]! * a +
        OPPONENT[k as 0 | 1 | 2][1]! * b +
        OPPONENT[k as 0 | 1 | 2][2]! * c;
  return [row(0), row(1), row(2)];
}

/** To the nearest whole number, half to even. */
export function roundHalfEven(x: number): number {
  const near = Math.round(x);
  return near - x === 0.5 && near % 2 ? near - 1 : near;
}

export function clip(x: number, low: number, high: number): number {
  return x < low ? low : x > high ? high : x;
}

/** A grey level as it is coded. */
export function stretched(grey: number, stretch: StretchOf | null): number {
  if (!stretch) return grey;
  return grey + (stretch.times - 1) * (clip(grey, stretch.low, stretch.high) - stretch.low);
}

/** Inverse of `stretched`, the nearest. */
export function unstretched(level: number, stretch: StretchOf | null): number {
  if (!stretch) return level;
  const top = stretched(stretch.high, stretch);
  const inside = clip(level, stretch.low, top) - stretch.low;
  return level - inside + roundHalfEven(inside / stretch.times);
}
