/**
 * Texture that was lost, put back as noise: the same whenever a bundle is restored (docs/format.md,
 * section 6, Texture). For measuring texture, never for reading images.
 */
import { concat, sha256, utf8, words } from "../bytes.ts";
import type { PlaneTexture } from "./job.ts";
import { clip, dctMatrix, roundHalfEven, turn } from "./planes.ts";

const BLOCK = 16;
const PLACES = BLOCK * BLOCK;
const REGION = 128 / BLOCK;
const LIMITS = [9, 30, 72, 144];
const MOST_WEIGHT = 4;
const PURPOSE = utf8("primis/1 texture");
const BASIS = dctMatrix(BLOCK);
const BAND = Array.from({ length: PLACES }, (_, k) => {
  const [u, v] = [k >> 4, k & 15];
  return k ? LIMITS.filter((limit) => limit < u * u + v * v).length : -1;
});

/** Decoded grey levels of a frame, channels of a pixel together; changed in place. */
export interface GreyFrame {
  readonly grey: Int32Array;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  /** Range of its grey levels. */
  readonly low: number;
  readonly high: number;
}

/** Put noise in a frame. seed: the bundle's id; number: of the frame. */
export function addTexture(
  frame: GreyFrame,
  textures: readonly PlaneTexture[],
  seed: Uint8Array,
  number: number,
): void {
  if (textures.every((texture) => !texture.deviation)) return;
  const across = Math.ceil(frame.width / BLOCK);
  for (let row = 0; row * BLOCK < frame.height; row++) {
    const planes = stripOf(frame, row, across);
    const noise = planes.map((plane, index) => {
      const start = concat(PURPOSE, seed, words(number, index, row));
      return noiseOf(plane, textures[index]!, frame, start, row, across);
    });
    addStrip(frame, noise, row, across);
  }
}

/** A row of blocks (16, 16 across) of each plane, the border repeated to whole blocks. */
function stripOf(frame: GreyFrame, row: number, across: number): Float64Array[] {
  const { grey, height, width, channels } = frame;
  const side = across * BLOCK;
  const planes = Array.from({ length: channels }, () => new Float64Array(BLOCK * side));
  const pixel = new Float64Array(channels);
  for (let y = 0; y < BLOCK; y++) {
    const line = Math.min(row * BLOCK + y, height - 1) * width;
    for (let x = 0; x < side; x++) {
      const at = (line + Math.min(x, width - 1)) * channels;
      for (let c = 0; c < channels; c++) pixel[c] = grey[at + c]!;
      if (channels >= 3) pixel.set(turn(pixel, false));
      for (let c = 0; c < channels; c++) planes[c]![y * side + x] = pixel[c]!;
    }
  }
  return planes;
}

function addStrip(frame: GreyFrame, noise: readonly Float64Array[], row: number, across: number) {
  const { grey, height, width, channels, low, high } = frame;
  const side = across * BLOCK;
  const pixel = new Float64Array(channels);
  for (let y = 0; y < BLOCK && row * BLOCK + y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < channels; c++) pixel[c] = noise[c]![y * side + x]!;
      if (channels >= 3) pixel.set(turn(pixel, true));
      const at = ((row * BLOCK + y) * width + x) * channels;
      for (let c = 0; c < channels; c++) {
        grey[at + c] = clip(roundHalfEven(grey[at + c]! + pixel[c]!), low, high);
      }
    }
  }
}

/** Of a row of blocks of a plane. start: what the digest of each block begins with. */
function noiseOf(
  plane: Float64Array,
  texture: PlaneTexture,
  frame: GreyFrame,
  start: Uint8Array,
  row: number,
  across: number,
): Float64Array {
  const noise = new Float64Array(plane.length);
  if (!texture.deviation) return noise;
  const range = Math.max(frame.high - frame.low, 1);
  const fine = (step: number): number => range * 2 ** ((1 - step) / 8);
  const [deviation, spread] = [fine(texture.deviation), fine(texture.spread)];
  const share = texture.contrast / 16;
  const bands = texture.bands.map((step) => coarse(step, 10));
  const regions = Math.floor(row / REGION) * Math.ceil(across / REGION);
  for (let column = 0; column < across; column++) {
    const relative = variation(plane, column, across) / spread;
    const weight = Math.sqrt(Math.min(1 - share + share * relative, MOST_WEIGHT));
    const region = texture.regions[regions + Math.floor(column / REGION)]!;
    const size = deviation * weight * coarse(region, 9);
    const digest = sha256(start, words(column));
    const spectrum = Float64Array.from({ length: PLACES }, (_, k) => {
      const sign = (digest[k >> 3]! >> (7 - (k & 7))) & 1 ? -1 : 1;
      return k ? sign * bands[BAND[k]!]! * size : 0;
    });
    synthesise(spectrum, noise, column, across);
  }
  return noise;
}

/** Factor that a number from 0 to 15 stands for. */
function coarse(step: number, one: number): number {
  return step > 0 ? 2 ** ((step - one) / 3) : 0;
}

/** Root of the mean square of the differences between neighbours in a block. */
function variation(plane: Float64Array, column: number, across: number): number {
  const side = across * BLOCK;
  let [down, right] = [0, 0];
  for (let y = 0; y < BLOCK; y++) {
    for (let x = 0; x < BLOCK; x++) {
      const at = y * side + column * BLOCK + x;
      if (y + 1 < BLOCK) down += (plane[at + side]! - plane[at]!) ** 2;
      if (x + 1 < BLOCK) right += (plane[at + 1]! - plane[at]!) ** 2;
    }
  }
  const pairs = BLOCK * (BLOCK - 1);
  return Math.sqrt((down / pairs + right / pairs) / 2);
}

/** The inverse DCT of a block's coefficients, along rows and columns. */
function synthesise(spectrum: Float64Array, noise: Float64Array, column: number, across: number) {
  const half = new Float64Array(PLACES);
  for (let y = 0; y < BLOCK; y++) {
    for (let v = 0; v < BLOCK; v++) {
      let sum = 0;
      for (let u = 0; u < BLOCK; u++) sum += BASIS[u * BLOCK + y]! * spectrum[u * BLOCK + v]!;
      half[y * BLOCK + v] = sum;
    }
  }
  for (let y = 0; y < BLOCK; y++) {
    for (let x = 0; x < BLOCK; x++) {
      let sum = 0;
      for (let v = 0; v < BLOCK; v++) sum += half[y * BLOCK + v]! * BASIS[v * BLOCK + x]!;
      noise[(y * across + column) * BLOCK + x] = sum;
    }
  }
}
