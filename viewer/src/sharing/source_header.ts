/**
 * Section `header`: an image's name, its padding and what its kind of file needs (docs/format.md,
 * sections 4 and 6). No more is taken out of the compressed stream than is needed next.
 */
import type { Geometry } from "../bundle/geometry.ts";
import { anyObject, text } from "../bundle/fields.ts";
import { concat } from "../bytes.ts";
import { Malformed, parseCanonical } from "../canonical.ts";
import { DamagedSection, TooManyPixels } from "../errors.ts";
import { Inflating } from "../inflate.ts";
import type { SampleType } from "../release/types.ts";
import {
  describedPadding,
  paddingBytes,
  readPadding,
  type Described,
  type Padding,
} from "./padding.ts";

const MOST_LINE = 1 << 16;
const NEWLINE = 10;

export interface SourceHeader {
  /** The path under which the image was shared. */
  readonly name: string;
  readonly padding: Padding | null;
  /** The header of its file. */
  readonly source: Uint8Array;
}

/** Bytes that a source's header may take. */
function mostSource(frames: number): number {
  return Math.min(2 ** 24 + 2 ** 17 * (frames - 1), 2 ** 28);
}

/**
 * The section, unsealed and without its padding to a budget. most: samples of an image whose padding
 * is read, since a small section describes that of a huge one. Throws DamagedSection, TooManyPixels.
 */
export function readSourceHeader(
  packed: Uint8Array,
  geometry: Geometry,
  type: SampleType,
  most = Infinity,
): SourceHeader {
  return checked(() => {
    const stream = new Ahead(packed);
    const { name, described } = lineOf(stream, geometry);
    if (described && geometry.samples > most) {
      throw new TooManyPixels(
        `an image of ${geometry.samples} samples has padding, expected at most ${most} samples`,
      );
    }
    const bytes = described && stream.read(paddingBytes(described, geometry));
    const padding = described && bytes && readPadding(described, bytes, geometry, type);
    return { name, padding, source: stream.rest(mostSource(geometry.frames)) };
  });
}

/** The name alone: nothing else is decompressed. Throws DamagedSection. */
export function readName(packed: Uint8Array, geometry: Geometry): string {
  return checked(() => lineOf(new Ahead(packed), geometry).name);
}

function checked<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    throw new DamagedSection('section "header" does not describe its image');
  }
}

function lineOf(stream: Ahead, geometry: Geometry): { name: string; described: Described | null } {
  const body = anyObject(parseCanonical(stream.line(MOST_LINE)));
  const padding = body["padding"];
  const described =
    padding === undefined || padding === null ? null : describedPadding(padding, geometry);
  return { name: plainPath(text(body["name"])), described };
}

/** A path without what says nothing in it. */
function plainPath(path: string): string {
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  return (path.startsWith("/") ? "/" : "") + parts.join("/") || ".";
}

/** What was compressed, as far as it is asked for. */
class Ahead {
  private readonly stream: Inflating;
  private ahead: Uint8Array = new Uint8Array(0);

  constructor(packed: Uint8Array) {
    this.stream = new Inflating(packed);
  }

  /** What comes before the first newline; with it at most so many bytes. */
  line(most: number): Uint8Array {
    const data = this.stream.read(most);
    const end = data.indexOf(NEWLINE);
    if (end < 0) throw new Malformed("no line");
    this.ahead = data.subarray(end + 1);
    return data.subarray(0, end);
  }

  /** The next bytes, exactly so many. */
  read(size: number): Uint8Array {
    const before = this.ahead.subarray(0, size);
    this.ahead = this.ahead.subarray(before.length);
    const data = concat(before, this.stream.read(size - before.length));
    if (data.length < size) throw new Malformed("it is cut off");
    return data;
  }

  /** All that follows to the end of the stream, at most so many bytes. */
  rest(most: number): Uint8Array {
    const data = concat(this.ahead, this.stream.read(Math.max(0, most - this.ahead.length)));
    if (data.length > most || !this.stream.ended) throw new Malformed("it goes on");
    return data;
  }
}
