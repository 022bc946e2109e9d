/**
 * What the codec is asked for. Streams are in clear here: a job never leaves the thread.
 */
import type { Range } from "../codes/layout.ts";
import type { SampleType, Samples } from "../release/types.ts";

/** A record, unsealed. row, column: of its tile's first position in the box that is decoded. */
export interface RecordJob {
  readonly atoms: Range;
  readonly plane: number;
  readonly row: number;
  readonly column: number;
  readonly height: number;
  readonly width: number;
  readonly entries: number;
  readonly support: Uint8Array;
  readonly values: Uint8Array;
  /** The tile's part of `public` at level sca, which is in clear. */
  readonly open: Uint8Array | null;
}

/** Grey levels from low to high take `times` their width. */
export interface StretchOf {
  readonly low: number;
  readonly high: number;
  readonly times: number;
}

/** What one plane of a frame lost (docs/format.md, section 6, Texture). */
export interface PlaneTexture {
  readonly deviation: number;
  readonly spread: number;
  readonly contrast: number;
  readonly bands: readonly number[];
  readonly regions: readonly number[];
}

/** A frame of the group that is wanted. number: in the group; texture: to be added, or null. */
export interface FrameJob {
  readonly number: number;
  readonly texture: FrameTexture | null;
}

/** seed: the bundle's id; frame: number in the image. */
export interface FrameTexture {
  readonly planes: readonly PlaneTexture[];
  readonly seed: Uint8Array;
  readonly frame: number;
}

/** A group of frames that are coded together; one that is coded alone is a group of one. */
export interface GroupJob {
  /** Digest of the model. */
  readonly model: string;
  /** Of the bundle's profile: what the model must have. */
  readonly stride: number;
  readonly codeMaps: number;
  readonly atomsPerMap: number;
  /** By frame of the group, in the order of the format. */
  readonly records: readonly (readonly RecordJob[])[];
  readonly wanted: readonly FrameJob[];
  readonly channels: number;
  /** Positions of the box that is decoded. */
  readonly rows: number;
  readonly columns: number;
  /** Its pixels, as far as the image goes. */
  readonly height: number;
  readonly width: number;
  readonly threshold: number;
  /** Range of the frames' grey levels, not stretched. */
  readonly low: number;
  readonly high: number;
  readonly stretch: StretchOf | null;
  readonly sampleType: SampleType;
  /** Whether the first code map alone is known. */
  readonly preview: boolean;
}

/** Runs jobs. */
export interface Decoder {
  /** Samples of each wanted frame (height, width, channels). */
  decode(
    job: GroupJob,
    onProgress?: (share: number) => void,
    signal?: AbortSignal,
  ): Promise<Samples[]>;
  /** Load what decodes a model's jobs (its digest), so that the first does not wait for it. */
  prepare(model: string): Promise<void>;
}

const ARRAYS = {
  uint8: Uint8Array,
  uint16: Uint16Array,
  int8: Int8Array,
  int16: Int16Array,
} as const;

/** Zeros of a type. */
export function samplesOf(type: SampleType, size: number): Samples {
  return new ARRAYS[type](size);
}

/** Least and largest sample of a type. */
export function limitsOf(type: SampleType): readonly [number, number] {
  const bits = type.endsWith("16") ? 16 : 8;
  return type.startsWith("u") ? [0, 2 ** bits - 1] : [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1];
}
