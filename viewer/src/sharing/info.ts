/**
 * Section `info`: what a restored image needs besides its code (docs/format.md, section 6). What
 * describes no image is a DamagedSection.
 */
import { view } from "../bytes.ts";
import { Malformed } from "../canonical.ts";
import { INFO_BASE, INFO_PER_FRAME, type Header } from "../bundle/header.ts";
import { TEXTURE_BANDS, type Geometry } from "../bundle/geometry.ts";
import { limitsOf, type PlaneTexture, type StretchOf } from "../codec/job.ts";
import { DamagedSection } from "../errors.ts";
import {
  KINDS,
  PHOTOMETRIC,
  SAMPLE_TYPES,
  type Kind,
  type Photometric,
  type Quality,
  type SampleType,
} from "../release/types.ts";

const GROUPS = [1, 2, 4, 8];
const PER_MM = 1e9;
const MOST_SPACING = 10n ** 15n;
const MOST_TIMES = 16;
const EQUAL = 2 ** 32 - 1;

/** Range of the grey levels of a frame, before padding, not stretched, and threshold t. */
export interface FrameScale {
  readonly low: number;
  readonly high: number;
  readonly threshold: number;
}

export interface Info {
  readonly kind: Kind;
  readonly sampleType: SampleType;
  readonly photometric: Photometric;
  readonly bitDepth: number;
  readonly spacing: readonly [number, number] | null;
  /** Null where it was not measured. */
  readonly quality: Quality | null;
  readonly stretch: StretchOf | null;
  /** G: how many frames are coded together. */
  readonly group: number;
  readonly frames: readonly FrameScale[];
  /** Of a frame, by planes; none where samples are exact, and of a region. */
  readonly texture: (frame: number) => readonly PlaneTexture[];
}

/** Whether G of a bundle may be over 1, as far as its header tells. */
export function mayGroup({ profile: { settings }, geometry }: Header): boolean {
  return settings.protection === "keyed" && !settings.exactBits && geometry.frames > 1;
}

/** Section `info`, unsealed. Throws DamagedSection. */
export function readInfo(data: Uint8Array, header: Header): Info {
  return checked('section "info" does not describe an image', () => {
    const { info, rest } = framesOf(data, header, 0, header.geometry.frames - 1);
    const exact = header.profile.settings.exactBits > 0;
    if (info.stretch && (exact || header.geometry.channels > 1)) throw new Malformed("stretch");
    const texture = texturesOf(rest, header.geometry, exact);
    const measured = info.quality !== null && info.quality.psnr !== null;
    if (!measured && rest.some((byte) => byte !== 0)) throw new Malformed("texture");
    return { ...info, texture };
  });
}

/** What a grant has in place of it for some frames of a region. Throws DamagedSection. */
export function readRegionInfo(
  data: Uint8Array,
  header: Header,
  first: number,
  last: number,
): Info {
  return checked("what a grant says of a region's frames is malformed", () => {
    const { info, rest } = framesOf(data, header, first, last);
    if (rest.length || info.quality) throw new Malformed("more than a region has");
    return info;
  });
}

function checked(message: string, read: () => Info): Info {
  try {
    return read();
  } catch (error) {
    if (error instanceof Malformed || error instanceof RangeError) {
      throw new DamagedSection(message);
    }
    throw error;
  }
}

/** All but textures, and the bytes that hold these. */
function framesOf(
  data: Uint8Array,
  header: Header,
  first: number,
  last: number,
): { info: Info; rest: Uint8Array } {
  const numbers = view(data);
  const [kind, type, photometric] = [0, 1, 2].map((at) => numbers.getUint8(at));
  const sampleType = one(SAMPLE_TYPES, type!);
  const bitDepth = numbers.getUint8(3);
  const group = numbers.getUint8(35);
  if (bitDepth < 1 || bitDepth > bitsOf(sampleType)) throw new Malformed("depth");
  if (!GROUPS.includes(group) || (group > 1 && !mayGroup(header))) throw new Malformed("group");
  const end = INFO_BASE + INFO_PER_FRAME * (last - first + 1);
  if (data.length < end) throw new Malformed("frames");
  const info: Info = {
    kind: one(KINDS, kind!),
    sampleType,
    photometric: one(PHOTOMETRIC, photometric!),
    bitDepth,
    spacing: spacingOf(numbers),
    quality: qualityOf(numbers.getUint32(20), numbers.getInt16(24), header),
    stretch: stretchOf(numbers, sampleType),
    group,
    frames: scalesOf(data.subarray(INFO_BASE, end), sampleType, first, group),
    texture: () => [],
  };
  return { info, rest: data.subarray(end) };
}

function bitsOf(type: SampleType): number {
  return type.endsWith("16") ? 16 : 8;
}

function one<T>(values: readonly T[], index: number): T {
  const found = values[index];
  if (found === undefined) throw new Malformed("a number that stands for nothing");
  return found;
}

function spacingOf(numbers: DataView): readonly [number, number] | null {
  const [row, column] = [numbers.getBigUint64(4), numbers.getBigUint64(12)];
  if (row > MOST_SPACING || column > MOST_SPACING || (row === 0n) !== (column === 0n)) {
    throw new Malformed("spacing");
  }
  return row === 0n ? null : [Number(row) / PER_MM, Number(column) / PER_MM];
}

function qualityOf(psnr: number, ssim: number, header: Header): Quality | null {
  if (psnr === EQUAL && ssim === 1000) return { psnr: null, ssim: 1 };
  const exact = header.profile.settings.exactBits > 0;
  if (exact || Math.abs(ssim) > 1000 || psnr === EQUAL) throw new Malformed("quality");
  if (psnr === 0 && ssim !== 0) throw new Malformed("half a quality");
  return psnr ? { psnr: psnr / 1000, ssim: ssim / 1000 } : null;
}

function stretchOf(numbers: DataView, type: SampleType): StretchOf | null {
  const [low, high] = [numbers.getInt32(26), numbers.getInt32(30)];
  const times = numbers.getUint8(34);
  if (low === 0 && high === 0 && times === 1) return null;
  const [least, largest] = limitsOf(type);
  const sound = least <= low && low < high && high <= largest;
  if (times <= 1 || times > MOST_TIMES || !sound) throw new Malformed("stretch");
  return { low, high, times };
}

/** first: the number of the first frame; frames of a group are the same. */
function scalesOf(data: Uint8Array, type: SampleType, first: number, group: number): FrameScale[] {
  const [least, largest] = limitsOf(type);
  const frames: FrameScale[] = [];
  for (let at = 0; at < data.length; at += INFO_PER_FRAME) {
    const numbers = view(data.subarray(at));
    const low = numbers.getInt32(0);
    const high = numbers.getInt32(4);
    const threshold = numbers.getFloat64(8);
    const sound = least <= low && low <= high && high <= largest;
    if (!sound || !(threshold >= 2 ** -126 && threshold < 2 ** 32)) throw new Malformed("scale");
    const before = frames.at(-1);
    const starts = (first + frames.length) % group === 0;
    if (before && !starts && !alike(before, { low, high, threshold })) throw new Malformed("group");
    frames.push({ low, high, threshold });
  }
  return frames;
}

function alike(a: FrameScale, b: FrameScale): boolean {
  return a.low === b.low && a.high === b.high && a.threshold === b.threshold;
}

/** All are looked at, and none is kept but as bytes: there may be millions. Throws Malformed. */
function texturesOf(
  data: Uint8Array,
  geometry: Geometry,
  exact: boolean,
): (frame: number) => PlaneTexture[] {
  const { textureBytes: size, channels } = geometry;
  const frames = exact ? 0 : geometry.frames;
  if (data.length !== frames * channels * size) throw new Malformed("texture");
  const planeAt = (number: number): Uint8Array => data.subarray(number * size, (number + 1) * size);
  for (let k = 0; k < frames * channels; k++) requireTexture(planeAt(k), geometry);
  if (!frames) return () => [];
  return (frame) =>
    Array.from({ length: channels }, (_, plane) => {
      return planeOf(planeAt(frame * channels + plane), geometry);
    });
}

function requireTexture(data: Uint8Array, geometry: Geometry): void {
  const [down, across] = geometry.textureRegions;
  const halves = 1 + TEXTURE_BANDS + down * across;
  const filled = halves % 2 === 0 || (data[data.length - 1]! & 15) === 0;
  const nothing = data.every((byte) => byte === 0);
  if (!filled || !(nothing || (data[0] && data[1]))) throw new Malformed("texture");
}

function planeOf(data: Uint8Array, geometry: Geometry): PlaneTexture {
  const [down, across] = geometry.textureRegions;
  const steps: number[] = [];
  for (const byte of data.subarray(2)) steps.push(byte >> 4, byte & 15);
  const end = 1 + TEXTURE_BANDS + down * across;
  const bands = steps.slice(1, 1 + TEXTURE_BANDS);
  const regions = steps.slice(1 + TEXTURE_BANDS, end);
  return { deviation: data[0]!, spread: data[1]!, contrast: steps[0]!, bands, regions };
}
