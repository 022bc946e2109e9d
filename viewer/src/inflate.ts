/**
 * Deflate (RFC 1951), taken out of a stream no further than is asked for: a small section may swell
 * to fill the memory (docs/format.md, section 4). It knows exactly where a stream ends, which the
 * browser's DecompressionStream does not tell, so that bytes after the end are refused.
 */
import { Malformed } from "./canonical.ts";

const WINDOW = 1 << 15;
const LENGTH_BASE = [
  3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131,
  163, 195, 227, 258,
];
const LENGTH_BITS = [
  0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0,
];
const DISTANCE_BASE = [
  1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049,
  3073, 4097, 6145, 8193, 12289, 16385, 24577,
];
const ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const LONGEST = 15;

/** Codes by their lengths: how many there are of each, and their symbols in order. */
interface Codes {
  readonly counts: Uint16Array;
  readonly symbols: Uint16Array;
}

/** What is being read: a stored block, codes, or nothing before the next block. */
type Block = { stored: number } | { lengths: Codes; distances: Codes } | null;

export class Inflating {
  private at = 0;
  private bits = 0;
  private count = 0;
  private block: Block = null;
  private last = false;
  private readonly window = new Uint8Array(WINDOW);
  private written = 0;
  private copy = { length: 0, distance: 0 };

  constructor(private readonly packed: Uint8Array) {}

  /** The next bytes, `most` or all that there are. Throws Malformed for what is no stream. */
  read(most: number): Uint8Array<ArrayBuffer> {
    let out = new Uint8Array(Math.min(most, 1 << 14));
    let size = 0;
    while (size < most) {
      const byte = this.next();
      if (byte < 0) break;
      if (size === out.length) out = grown(out, most);
      out[size++] = byte;
    }
    return out.slice(0, size);
  }

  /** Whether the stream has ended, and nothing follows it. */
  get ended(): boolean {
    return this.next() < 0 && this.at === this.packed.length;
  }

  /** The next byte, -1 at the end. */
  private next(): number {
    for (;;) {
      if (this.copy.length) {
        this.copy.length--;
        return this.put(this.window[(this.written - this.copy.distance) & (WINDOW - 1)]!);
      }
      if (this.block === null) {
        if (this.last) return -1;
        this.begin();
      } else if ("stored" in this.block) {
        if (this.block.stored-- > 0) return this.put(this.byte());
        this.block = null;
      } else {
        const symbol = this.symbol(this.block.lengths);
        if (symbol < 256) return this.put(symbol);
        if (symbol === 256) this.block = null;
        else this.copy = this.repeat(symbol, this.block.distances);
      }
    }
  }

  private put(byte: number): number {
    this.window[this.written++ & (WINDOW - 1)] = byte;
    return byte;
  }

  private begin(): void {
    this.last = this.take(1) === 1;
    const kind = this.take(2);
    if (kind === 0) this.block = { stored: this.stored() };
    else if (kind === 1) this.block = FIXED;
    else if (kind === 2) this.block = this.dynamic();
    else throw new Malformed("a block of no kind");
  }

  private stored(): number {
    this.bits = this.count = 0; // up to the next byte
    const length = this.byte() | (this.byte() << 8);
    if ((this.byte() | (this.byte() << 8)) !== (length ^ 0xffff)) {
      throw new Malformed("a length that is none");
    }
    return length;
  }

  private dynamic(): Block {
    const [literals, distances, orders] = [this.take(5) + 257, this.take(5) + 1, this.take(4) + 4];
    if (literals > 286 || distances > 30) throw new Malformed("more codes than there are");
    const of = new Uint8Array(19);
    for (const place of ORDER.slice(0, orders)) of[place] = this.take(3);
    const codes = codesOf(of);
    const lengths = new Uint8Array(literals + distances);
    for (let k = 0; k < lengths.length;) {
      const symbol = this.symbol(codes);
      const [value, times] = this.run(symbol, k ? lengths[k - 1]! : -1);
      if (k + times > lengths.length) throw new Malformed("more codes than there are");
      lengths.fill(value, k, k + times);
      k += times;
    }
    if (!lengths[256]) throw new Malformed("a block without end");
    return {
      lengths: codesOf(lengths.subarray(0, literals), true),
      distances: codesOf(lengths.subarray(literals), true),
    };
  }

  /** (length of a code, how many have it) */
  private run(symbol: number, before: number): [number, number] {
    if (symbol < 16) return [symbol, 1];
    if (symbol === 16) {
      if (before < 0) throw new Malformed("nothing to repeat");
      return [before, 3 + this.take(2)];
    }
    return symbol === 17 ? [0, 3 + this.take(3)] : [0, 11 + this.take(7)];
  }

  private repeat(symbol: number, distances: Codes): { length: number; distance: number } {
    const base = LENGTH_BASE[symbol - 257];
    if (base === undefined) throw new Malformed("a length that is none");
    const length = base + this.take(LENGTH_BITS[symbol - 257]!);
    const code = this.symbol(distances);
    const from = DISTANCE_BASE[code];
    if (from === undefined) throw new Malformed("a distance that is none");
    const distance = from + this.take(code < 2 ? 0 : (code >> 1) - 1);
    if (distance > this.written) throw new Malformed("a distance before the beginning");
    return { length, distance };
  }

  private symbol(codes: Codes): number {
    let code = 0;
    let first = 0;
    let index = 0;
    for (let length = 1; length <= LONGEST; length++) {
      code |= this.take(1);
      const count = codes.counts[length]!;
      if (code - count < first) return codes.symbols[index + code - first]!;
      index += count;
      first = (first + count) << 1;
      code <<= 1;
    }
    throw new Malformed("a code that is none");
  }

  private take(count: number): number {
    while (this.count < count) {
      this.bits |= this.byte() << this.count;
      this.count += 8;
    }
    const value = this.bits & ((1 << count) - 1);
    this.bits >>>= count;
    this.count -= count;
    return value;
  }

  private byte(): number {
    const byte = this.packed[this.at++];
    if (byte === undefined) throw new Malformed("a stream that is cut off");
    return byte;
  }
}

/** All of a stream, at most so many bytes. Throws Malformed. */
export function inflate(packed: Uint8Array, most: number): Uint8Array<ArrayBuffer> {
  const stream = new Inflating(packed);
  const data = stream.read(most);
  if (!stream.ended) throw new Malformed("a stream that is too large, or goes on after its end");
  return data;
}

function grown(data: Uint8Array, most: number): Uint8Array<ArrayBuffer> {
  const larger = new Uint8Array(Math.min(most, 2 * data.length));
  larger.set(data);
  return larger;
}

/** alone: a single code of one bit, or none, may leave others missing, as zlib allows. */
function codesOf(lengths: Uint8Array, alone = false): Codes {
  const counts = new Uint16Array(LONGEST + 1);
  for (const length of lengths) counts[length]!++;
  let left = 1;
  for (let length = 1; length <= LONGEST; length++) {
    left = (left << 1) - counts[length]!;
    if (left < 0) throw new Malformed("more codes than fit");
  }
  const used = lengths.length - counts[0]!;
  if (left > 0 && !(alone && used === counts[1]!)) throw new Malformed("codes that are missing");
  const at = new Uint16Array(LONGEST + 2);
  for (let length = 1; length <= LONGEST; length++) at[length + 1] = at[length]! + counts[length]!;
  const symbols = new Uint16Array(used);
  lengths.forEach((length, symbol) => {
    if (length) symbols[at[length]!++] = symbol;
  });
  counts[0] = 0;
  return { counts, symbols };
}

function fixedLengths(): Uint8Array {
  const lengths = new Uint8Array(288).fill(8);
  lengths.fill(9, 144, 256).fill(7, 256, 280);
  return lengths;
}

const FIXED: Block = {
  lengths: codesOf(fixedLengths()),
  distances: codesOf(new Uint8Array(32).fill(5)),
};
