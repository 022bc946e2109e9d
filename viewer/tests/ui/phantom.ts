/** Images that are nobody's: ellipses with a little texture, computed pixel by pixel. */
import type { OpenedImage, Pixels, Samples } from "../../src/release/types.ts";

/** Centre, half axes, in shares of the image, and what it adds to the level. */
type Ellipse = readonly [x: number, y: number, a: number, b: number, level: number];

const CHEST: readonly Ellipse[] = [
  [0.5, 0.55, 0.46, 0.5, 0.45],
  [0.31, 0.5, 0.15, 0.3, -0.28],
  [0.69, 0.5, 0.15, 0.3, -0.28],
  [0.5, 0.5, 0.05, 0.48, 0.25],
  [0.57, 0.62, 0.14, 0.16, 0.16],
  [0.36, 0.4, 0.02, 0.02, 0.18],
];
const HEAD: readonly Ellipse[] = [
  [0.5, 0.5, 0.36, 0.44, 0.62],
  [0.5, 0.5, 0.33, 0.41, -0.31],
  [0.42, 0.47, 0.06, 0.14, -0.05],
  [0.58, 0.47, 0.06, 0.14, -0.05],
  [0.63, 0.62, 0.05, 0.04, 0.06],
];

export type Shape = "chest" | "head";

/** From 0 to about 1. slice: from 0 to 1 through the series. */
export function levelAt(shape: Shape, x: number, y: number, slice: number): number {
  const size = shape === "head" ? Math.sqrt(Math.max(0.05, 1 - (2 * slice - 1) ** 2)) : 1;
  let level = 0.04;
  for (const [cx, cy, a, b, add] of shape === "chest" ? CHEST : HEAD) {
    const [dx, dy] = [(x - cx) / (a * size), (y - cy) / (b * size)];
    const inside = 1 - Math.hypot(dx, dy);
    level += add * Math.min(1, Math.max(0, inside * 12));
  }
  const ribs =
    shape === "chest" && Math.abs(x - 0.5) < 0.44 ? Math.sin((y + (x - 0.5) ** 2) * 75) : 0;
  return level + 0.02 * ribs + 0.012 * Math.sin(x * 211 + Math.sin(y * 173) * 3);
}

type Facts = Pick<OpenedImage, "height" | "width" | "channels" | "sampleType" | "bitDepth">;

/** coarse: squares of so many pixels have one level, as a preview shows them. */
export function phantom(
  shape: Shape,
  facts: Facts & { readonly inverted: boolean },
  slices: readonly number[],
  coarse: number,
): Pixels {
  const { height, width, channels } = facts;
  const data = samplesFor(facts, slices.length * height * width * channels);
  const most = 2 ** facts.bitDepth - 1;
  let at = 0;
  for (const slice of slices) {
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const row = (Math.floor(y / coarse) + 0.5) * coarse;
        const column = (Math.floor(x / coarse) + 0.5) * coarse;
        const level = Math.min(1, levelAt(shape, column / width, row / height, slice));
        for (let channel = 0; channel < channels; channel++) {
          const tint = channels === 3 ? [1, 0.82, 0.62][channel]! : 1;
          data[at++] = Math.round(most * (facts.inverted ? 1 - level : level) * tint);
        }
      }
    }
  }
  return { data, frames: slices.length, height, width, channels };
}

function samplesFor({ sampleType }: Facts, count: number): Samples {
  if (sampleType === "uint8") return new Uint8Array(count);
  return sampleType === "int16" ? new Int16Array(count) : new Uint16Array(count);
}
