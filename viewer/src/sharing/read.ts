/**
 * One bundle to samples, with its secrets at hand:
 *
 * 1  what is asked for: frames, and the box of tiles            box
 * 2  per group of frames: index, supports, values               opened
 * 3  streams to samples                                         codec
 * 4  what was padding is put back                               padding
 */
import type { Header } from "../bundle/header.ts";
import { fromHex, view } from "../bytes.ts";
import { Malformed } from "../canonical.ts";
import {
  limitsOf,
  samplesOf,
  type Decoder,
  type FrameJob,
  type GroupJob,
  type RecordJob,
} from "../codec/job.ts";
import { DamagedSection, NoTexture, NotCovered, TooManyPixels, UsageError } from "../errors.ts";
import type { Pixels, ReadOptions, Region, SampleType, Samples, Tier } from "../release/types.ts";
import { boxOf, recordsIn, type Box } from "./box.ts";
import type { Info } from "./info.ts";
import type { OpenedBundle, RecordName } from "./opened.ts";
import { imposePadding } from "./padding.ts";
import { readSourceHeader, type SourceHeader } from "./source_header.ts";

const MOST_PIXELS = 300_000_000;
const OF_SMALL = 2 ** 25;
const PER_BYTE = 64;
/** Of frames that are decoded together: each is an object, and tiles may have 4 x 4 pixels. */
const MOST_RECORDS = 2 ** 20;

/** Frames of a group that are wanted: (place among all that are wanted, number). */
interface Wanted {
  readonly frames: readonly number[];
  readonly wanted: readonly (readonly [number, number])[];
}

/** Samples at tier preview or diagnostic: of all that is opened, or of some frames of it. */
export async function readPixels(
  bundle: OpenedBundle,
  tier: Tier,
  decoder: Decoder,
  options: ReadOptions = {},
): Promise<Pixels> {
  if (tier === "original")
    throw new UsageError('tier "original" is the file itself: "files" has it');
  if (options.texture && tier !== "diagnostic") {
    throw new UsageError(`texture was asked for at tier "${tier}", expected tier "diagnostic"`);
  }
  bundle.requireTier(tier);
  const { profile } = bundle.header;
  const info = await bundle.info();
  const frames = chosenFrames(bundle, options.frames); // 1
  const whole = bundle.keys.region === null && tier === "diagnostic";
  const exact = tier === "diagnostic" && profile.settings.exactBits > 0;
  const pixels = exact
    ? await exactPixels(bundle, info, frames)
    : await decodeFrames(bundle, info, tier, frames, decoder, options); // 2, 3
  if (whole) {
    const header = await sourceHeader(bundle);
    bundle.named(() => putBack(pixels, header, frames, info)); // 4
  }
  options.onProgress?.(1);
  return pixels;
}

const headers = new WeakMap<OpenedBundle, Promise<SourceHeader>>();

/** Name, padding and header of the source. Throws DamagedSection, TierTooLow. */
export function sourceHeader(bundle: OpenedBundle): Promise<SourceHeader> {
  const known = headers.get(bundle);
  if (known) return known;
  const reading = freshHeader(bundle);
  headers.set(bundle, reading); // that of a long series takes seconds, and each frame needs it
  reading.catch(() => headers.delete(bundle)); // the next one tries again
  return reading;
}

async function freshHeader(bundle: OpenedBundle): Promise<SourceHeader> {
  const [packed, info] = [await bundle.unseal("header"), await bundle.info()];
  const { header } = bundle;
  const most = mostSamples(header);
  return bundle.named(() => readSourceHeader(packed, header.geometry, info.sampleType, most));
}

function putBack(
  pixels: Pixels,
  { padding }: SourceHeader,
  frames: readonly number[],
  { sampleType, bitDepth }: Info,
): void {
  try {
    if (padding) imposePadding(pixels, padding, frames, sampleType, bitDepth);
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    throw new DamagedSection('section "header": its padding does not fit its image');
  }
}

function chosenFrames(bundle: OpenedBundle, asked: readonly number[] | undefined): number[] {
  const opened = bundle.keys.region?.region;
  const count = bundle.header.geometry.frames;
  const [first, last] = opened ? [opened.first, opened.last] : [0, count - 1];
  const all = Array.from({ length: last - first + 1 }, (_, k) => first + k);
  const frames = [...(asked ?? all)];
  const ascending = frames.every((frame, k) => k === 0 || frames[k - 1]! < frame);
  if (
    !frames.length ||
    !ascending ||
    !frames.every((f) => Number.isInteger(f) && 0 <= f && f < count)
  ) {
    throw new UsageError(`frames "${frames.join().slice(0, 60)}" are not in an image of ${count}`);
  }
  if (frames[0]! < first || frames.at(-1)! > last) {
    throw new NotCovered(`frames are not opened, the grant opens frames ${first} to ${last}`);
  }
  return frames;
}

/** Samples that are held of an image at a time: a small bundle may claim a huge one. */
function mostSamples(header: Header): number {
  return Math.min(MOST_PIXELS, OF_SMALL + PER_BYTE * header.bytes);
}

function requireFew(header: Header, samples: number): void {
  const most = mostSamples(header);
  if (samples > most) {
    throw new TooManyPixels(
      `bundle "${header.id}" has ${samples} samples to decode, expected at most ${most}`,
    );
  }
}

/** Groups of G frames that hold those that are wanted, in their order. */
function touched(frames: readonly number[], group: number, count: number): Wanted[] {
  const groups = new Map<number, (readonly [number, number])[]>();
  frames.forEach((frame, place) => {
    const first = Math.floor(frame / group) * group;
    groups.set(first, [...(groups.get(first) ?? []), [place, frame]]);
  });
  return [...groups].map(([first, wanted]) => ({
    frames: Array.from({ length: Math.min(group, count - first) }, (_, k) => first + k),
    wanted,
  }));
}

/** What the code holds of some frames, without padding: no exact samples. */
export async function decodeFrames(
  bundle: OpenedBundle,
  info: Info,
  tier: Tier,
  frames: readonly number[],
  decoder: Decoder,
  options: ReadOptions = {},
): Promise<Pixels> {
  const { header } = bundle;
  const { geometry } = header;
  const region = bundle.keys.region?.region ?? null;
  if (options.texture && (region || info.quality === null)) {
    throw new NoTexture(`bundle "${header.id}" holds no texture: it was shared without measuring`);
  }
  const box = boxOf(geometry, region);
  const groups = touched(frames, await bundle.group(), geometry.frames);
  const count = groups.reduce((sum, group) => sum + group.frames.length, 0);
  requireFew(header, count * box.height * box.width * geometry.channels);
  const records = 2 * geometry.tileCount * Math.max(...groups.map((group) => group.frames.length));
  if (records > MOST_RECORDS) {
    throw new TooManyPixels(
      `bundle "${header.id}" has ${records} records to decode together, ` +
        `expected at most ${MOST_RECORDS}`,
    );
  }
  const shown = region ?? { x: 0, y: 0, width: geometry.width, height: geometry.height };
  const pixels = emptyPixels(info.sampleType, frames.length, shown, geometry.channels);
  for (const [k, group] of groups.entries()) {
    options.signal?.throwIfAborted();
    const job = await jobOf(bundle, info, tier, box, group, options.texture === true);
    const progress = (share: number): void => options.onProgress?.((k + share) / groups.length);
    const found = await decoder.decode(job, progress, options.signal);
    group.wanted.forEach(([place], number) => {
      crop(found[number]!, box, shown, geometry.stride, pixels, place);
    });
  }
  return pixels;
}

function emptyPixels(
  type: SampleType,
  frames: number,
  { width, height }: { width: number; height: number },
  channels: number,
): Pixels {
  const data = samplesOf(type, frames * height * width * channels);
  return { data, frames, height, width, channels };
}

/** What is shown of a decoded box, into the place of a frame. */
function crop(
  samples: Samples,
  box: Box,
  shown: Pick<Region, "x" | "y">,
  stride: number,
  pixels: Pixels,
  place: number,
): void {
  const { height, width, channels } = pixels;
  const [left, top] = [shown.x - box.columns.start * stride, shown.y - box.rows.start * stride];
  for (let y = 0; y < height; y++) {
    const from = ((top + y) * box.width + left) * channels;
    pixels.data.set(
      samples.subarray(from, from + width * channels),
      (place * height + y) * width * channels,
    );
  }
}

/** What the codec is to decode of a group. */
export async function jobOf(
  bundle: OpenedBundle,
  info: Info,
  tier: Tier,
  box: Box,
  group: Wanted,
  texture: boolean,
): Promise<GroupJob> {
  const { header, keys } = bundle;
  const names = group.frames.map((frame) => recordsIn(box, header.geometry, frame, tier));
  const all = names.flat();
  const records = await bundle.records(all);
  await bundle.wantRuns(all, records);
  const jobs = await Promise.all(all.map((name, k) => recordJob(bundle, name, records[k]!, box)));
  const each = names[0]!.length;
  const first = keys.region?.region.first ?? 0;
  const scale = info.frames[group.wanted[0]![1] - first]!;
  return {
    model: header.profile.model,
    stride: header.geometry.stride,
    codeMaps: header.geometry.codeMaps,
    atomsPerMap: header.geometry.atomsPerMap,
    records: group.frames.map((_, k) => jobs.slice(k * each, (k + 1) * each)),
    wanted: group.wanted.map(([, frame]) => frameJob(bundle, info, frame, group, texture)),
    channels: header.geometry.channels,
    rows: box.rows.stop - box.rows.start,
    columns: box.columns.stop - box.columns.start,
    height: box.height,
    width: box.width,
    ...scale,
    stretch: info.stretch,
    sampleType: info.sampleType,
    preview: tier === "preview",
  };
}

function frameJob(
  bundle: OpenedBundle,
  info: Info,
  frame: number,
  group: Wanted,
  texture: boolean,
): FrameJob {
  const number = frame - group.frames[0]!;
  if (!texture) return { number, texture: null };
  const seed = fromHex(bundle.header.id);
  return { number, texture: { planes: info.texture(frame), seed, frame } };
}

async function recordJob(
  bundle: OpenedBundle,
  name: RecordName,
  record: Parameters<OpenedBundle["support"]>[1],
  box: Box,
): Promise<RecordJob> {
  const { geometry, profile } = bundle.header;
  const { plane, rows, columns } = geometry.tileAt(name.tile);
  const [first, every] = [geometry.atomsPerMap, geometry.atoms];
  const sca = profile.settings.protection === "sca";
  return {
    atoms: name.tier === "preview" ? { start: 0, stop: first } : { start: first, stop: every },
    plane,
    row: rows.start - box.rows.start,
    column: columns.start - box.columns.start,
    height: rows.stop - rows.start,
    width: columns.stop - columns.start,
    entries: record.entries,
    support: await bundle.support(name, record),
    values: sca ? new Uint8Array(0) : await bundle.values(name, record),
    open: sca ? await bundle.open(name, record) : null,
  };
}

/** An image whose samples are sealed one by one. */
async function exactPixels(
  bundle: OpenedBundle,
  info: Info,
  frames: readonly number[],
): Promise<Pixels> {
  const { geometry, profile } = bundle.header;
  requireFew(bundle.header, geometry.samples);
  const data = await bundle.unseal("exact");
  const { sampleType } = info;
  return bundle.named(() => {
    const bits = profile.settings.exactBits;
    const sample = exactSamples(data, bits, sampleType, geometry.samples);
    const pixels = emptyPixels(sampleType, frames.length, geometry, geometry.channels);
    const size = geometry.frameSamples;
    frames.forEach((frame, place) => {
      for (let at = 0; at < size; at++) pixels.data[place * size + at] = sample(frame * size + at);
    });
    return pixels;
  });
}

/** Whether levels ascend, and the last is repeated to the end. */
function isTable(levels: Int32Array): boolean {
  const last = levels.at(-1);
  return levels.every((level, k) => {
    const before = levels[k - 1];
    return before === undefined || level > before || (level === before && level === last);
  });
}

/** The sample of a number. Throws DamagedSection where levels are no table, or do not fit. */
function exactSamples(
  data: Uint8Array,
  bits: number,
  type: SampleType,
  samples: number,
): (at: number) => number {
  const [least, largest] = limitsOf(type);
  const numbers = view(data);
  const level = (k: number): number => {
    const value = type.startsWith("u") ? numbers.getUint16(2 * k) : numbers.getInt16(2 * k);
    if (least <= value && value <= largest) return value;
    throw new DamagedSection('section "exact" does not describe its image');
  };
  if (bits === 16) return level;
  const table = Int32Array.from({ length: 2 ** bits }, (_, k) => level(k));
  const packed = data.subarray(2 * 2 ** bits);
  const each = 8 / bits;
  const unused = 8 * packed.length - bits * samples;
  if (!isTable(table) || (unused && packed.at(-1)! & (2 ** unused - 1))) {
    throw new DamagedSection('section "exact" does not describe its image');
  }
  return (at) => {
    const byte = packed[Math.floor(at / each)]!;
    return table[(byte >> (8 - bits * ((at % each) + 1))) & (2 ** bits - 1)]!;
  };
}
