/**
 * The shape of an image and of its code: positions, tiles and their order (docs/format.md,
 * section 2).
 */
import { Malformed } from "../canonical.ts";
import type { Profile } from "./settings.ts";

const MOST_SIDE = 1 << 17;
const MOST_SAMPLES = 2 ** 34;
const MOST_CHANNELS = 16;
const MOST_FRAMES = 1 << 20;

/** How `info` describes the lost texture: in bands, and in regions of so many pixels a side. */
export const TEXTURE_BANDS = 5;
export const TEXTURE_REGION = 128;

/** Positions of a side, from `start` up to and without `stop`. */
export interface Stretch {
  readonly start: number;
  readonly stop: number;
}

/** A tile of a frame, in positions. */
export interface Tile {
  readonly plane: number;
  readonly rows: Stretch;
  readonly columns: Stretch;
}

export class Geometry {
  readonly stride: number;
  readonly tile: number;
  readonly codeMaps: number;
  readonly atomsPerMap: number;

  /** Throws Malformed where a side is zero or over its limit. */
  constructor(
    profile: Profile,
    readonly frames: number,
    readonly height: number,
    readonly width: number,
    readonly channels: number,
  ) {
    ({
      stride: this.stride,
      tile: this.tile,
      codeMaps: this.codeMaps,
      atomsPerMap: this.atomsPerMap,
    } = profile);
    const limits = [
      ["frames", frames, MOST_FRAMES],
      ["height", height, MOST_SIDE],
      ["width", width, MOST_SIDE],
      ["channels", channels, MOST_CHANNELS],
    ] as const;
    for (const [name, value, most] of limits) {
      if (value < 1 || value > most)
        throw new Malformed(`has ${name} ${value}, expected 1..${most}`);
    }
    if (BigInt(frames * height) * BigInt(width * channels) > BigInt(MOST_SAMPLES)) {
      throw new Malformed(`describes more than ${MOST_SAMPLES} samples`);
    }
  }

  /** Rows and columns of positions of a plane. */
  get rows(): number {
    return Math.ceil(this.height / this.stride);
  }
  get columns(): number {
    return Math.ceil(this.width / this.stride);
  }
  /** P: positions of one frame, over its planes. */
  get positions(): number {
    return this.channels * this.rows * this.columns;
  }
  /** Samples of all frames, and of one. */
  get samples(): number {
    return this.frames * this.frameSamples;
  }
  get frameSamples(): number {
    return this.height * this.width * this.channels;
  }
  /** LM: atoms at a position. */
  get atoms(): number {
    return this.codeMaps * this.atomsPerMap;
  }
  /** Squares of a plane by which lost texture is told. */
  get textureRegions(): readonly [number, number] {
    return [Math.ceil(this.height / TEXTURE_REGION), Math.ceil(this.width / TEXTURE_REGION)];
  }
  /** X: bytes that tell of the lost texture of one plane of one frame. */
  get textureBytes(): number {
    const [down, across] = this.textureRegions;
    return 2 + Math.ceil((1 + TEXTURE_BANDS + down * across) / 2);
  }
  /** T: tiles of one frame. */
  get tileCount(): number {
    return this.channels * Math.ceil(this.rows / this.tile) * Math.ceil(this.columns / this.tile);
  }
  /** A tile of a frame, by plane, row and column. */
  tileAt(number: number): Tile {
    const across = Math.ceil(this.columns / this.tile);
    const down = Math.ceil(this.rows / this.tile);
    const row = Math.floor(number / across) % down;
    return {
      plane: Math.floor(number / (across * down)),
      rows: this.side(row, this.rows),
      columns: this.side(number % across, this.columns),
    };
  }

  private side(number: number, end: number): Stretch {
    const start = number * this.tile;
    return { start, stop: Math.min(start + this.tile, end) };
  }
}
