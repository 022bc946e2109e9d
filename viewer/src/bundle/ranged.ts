/**
 * Bytes of a bundle that are fetched when they are first read, in as few requests as possible.
 *
 * Nothing here verifies them. Its seals do: each sealed part authenticates the head and the
 * profile, and an index record holds a digest of its values (docs/format.md, section 2).
 */
import type { Span } from "../release/types.ts";

/** A gap of at most so many bytes is fetched too, rather than by one more request. */
const SLACK = 4096;
/** Spans of one request; beyond them all that lies between is fetched too. */
const MOST_SPANS = 64;

export type Fetch = (spans: readonly Span[]) => Promise<readonly Uint8Array[]>;

interface Chunk {
  readonly start: number;
  readonly data: Uint8Array;
}

export class RangedBytes {
  private chunks: Chunk[] = [];

  /** fetch: gets parts of a file of `size` bytes. */
  constructor(
    readonly size: number,
    private readonly fetch: Fetch,
  ) {}

  /** Of bytes that are there. */
  static of(data: Uint8Array): RangedBytes {
    const file = new RangedBytes(data.length, () => Promise.resolve([]));
    file.chunks = [{ start: 0, data }];
    return file;
  }

  /** The bytes from `start` up to and without `end`, within the file. */
  async read(start: number, end: number): Promise<Uint8Array> {
    if (start < 0 || end > this.size || end < start) throw new RangeError("outside the file");
    await this.want([{ start, end }]);
    const whole = new Uint8Array(end - start);
    for (const { start: at, data } of this.chunks) {
      const [low, high] = [Math.max(at, start), Math.min(at + data.length, end)];
      if (low < high) whole.set(data.subarray(low - at, high - at), low - start);
    }
    return whole;
  }

  /** Fetch what is missing of these, all at once. */
  async want(spans: readonly Span[], slack = SLACK, most = MOST_SPANS): Promise<void> {
    const missing = merged(
      spans.flatMap((span) => this.gaps(span)),
      slack,
      most,
    );
    if (!missing.length) return;
    const fetched = await this.fetch(missing);
    missing.forEach(({ start, end }, k) => {
      const data = fetched[k];
      if (data?.length !== end - start) throw new RangeError("other bytes than were asked for");
      this.chunks.push({ start, data });
    });
    this.chunks.sort((a, b) => a.start - b.start);
  }

  private gaps(span: Span): Span[] {
    const found: Span[] = [];
    let at = span.start;
    for (const { start, data } of this.chunks) {
      if (start >= span.end) break;
      if (start > at) found.push({ start: at, end: start });
      at = Math.max(at, start + data.length);
    }
    if (at < span.end) found.push({ start: at, end: span.end });
    return found;
  }
}

/** In order, and those that lie near each other as one. */
function merged(spans: readonly Span[], slack: number, most: number): Span[] {
  const found: Span[] = [];
  for (const span of [...spans].sort((a, b) => a.start - b.start)) {
    const before = found.at(-1);
    if (before && span.start - before.end <= slack) {
      found[found.length - 1] = { start: before.start, end: Math.max(before.end, span.end) };
    } else {
      found.push(span);
    }
  }
  if (found.length <= most) return found;
  return [{ start: found[0]!.start, end: found.at(-1)!.end }];
}
