/**
 * Deflate (RFC 1951) by pako, taken out of a stream no further than is asked for: a small section
 * may swell to fill the memory (docs/format.md, section 4). The browser's DecompressionStream does
 * not tell where a stream ends, and bytes after the end are refused.
 */
import { Z_OK, Z_NO_FLUSH, Z_STREAM_END, ZStream, zlibInflate, zlibInflateInit2 } from "pako";
import { concat } from "./bytes.ts";
import { Malformed } from "./canonical.ts";

/** A raw stream: no header of zlib or gzip, and the whole window. */
const RAW = -15;
const PIECE = 1 << 16;

export class Inflating {
  private readonly stream = new ZStream();
  private hasEnded = false;

  constructor(packed: Uint8Array) {
    zlibInflateInit2(this.stream, RAW);
    this.stream.input = packed;
    this.stream.avail_in = packed.length;
  }

  /** The next bytes, `most` or all that there are. Throws Malformed for what is no stream. */
  read(most: number): Uint8Array<ArrayBuffer> {
    const parts: Uint8Array[] = [];
    for (let left = most; left > 0 && !this.hasEnded;) {
      const part = this.piece(Math.min(left, PIECE));
      parts.push(part);
      left -= part.length;
    }
    return concat(...parts);
  }

  /** Whether the stream has ended, and nothing follows it. Asks for a byte more. */
  get ended(): boolean {
    return this.read(1).length === 0 && this.stream.avail_in === 0;
  }

  /** So many bytes, fewer at the end of the stream alone. */
  private piece(size: number): Uint8Array {
    const { stream } = this;
    stream.output = new Uint8Array(size);
    [stream.next_out, stream.avail_out] = [0, size];
    const status = zlibInflate(stream, Z_NO_FLUSH);
    this.hasEnded = status === Z_STREAM_END;
    if (!this.hasEnded && (status !== Z_OK || stream.avail_out > 0)) {
      throw new Malformed(stream.msg || "a stream that is cut off");
    }
    return stream.output.subarray(0, stream.next_out);
  }
}

/** All of a stream, at most so many bytes. Throws Malformed. */
export function inflate(packed: Uint8Array, most: number): Uint8Array<ArrayBuffer> {
  const stream = new Inflating(packed);
  const data = stream.read(most);
  if (!stream.ended) throw new Malformed("a stream that is too large, or goes on after its end");
  return data;
}
