/**
 * Streams to levels, once they are in clear (docs/format.md, section 7). Whatever does not
 * decode to what its record says is a DamagedSection.
 */
import { view } from "../bytes.ts";
import { DamagedSection } from "../errors.ts";
import { decodeFlat, type Kernel } from "./kernel.ts";
import type { Range } from "./layout.ts";

const DENSITY_UNIT = 8n;
const FRACTION = 512n;
const LEVEL_LIMIT = 32767;
const TILE_HEAD = 8;

/** A record's streams, and where its entries go. open: the tile's part of `public` at level sca. */
export interface Streams {
  readonly support: Uint8Array;
  readonly values: Uint8Array;
  readonly open: Int16Array | null;
}

/** A tile of levels (LM, h, w), in place. */
export interface LevelTile {
  readonly levels: Int16Array;
  readonly height: number;
  readonly width: number;
}

/** floor(8 log2(entries / positions)), exactly: log2 of the eighth power, of integers. */
export function entryDensity(entries: number, positions: number): number {
  const above = (BigInt(entries) ** DENSITY_UNIT) << FRACTION;
  const ratio = above / BigInt(positions) ** DENSITY_UNIT;
  return ratio.toString(2).length - 1 - Number(FRACTION);
}

/** The tile with `atoms` filled in; those below them are right, those above are zero. */
export function decodeRecord(
  kernel: Kernel,
  tile: LevelTile,
  atoms: Range,
  entries: number,
  streams: Streams,
): Int16Array {
  const { levels, height, width } = tile;
  const positions = height * width;
  const places = (atoms.stop - atoms.start) * positions;
  const there = streams.support.length + streams.values.length > 0;
  if (entries > places || (there && !entries)) {
    throw new DamagedSection(`section "index": ${entries} entries in a record of ${places} places`);
  }
  if (!entries) return levels;
  const density = entryDensity(entries, positions);
  const found = run(kernel, { levels, height, width, atoms, density, ...streams });
  if (!found) throw new DamagedSection('section "supports" or "public": a stream is damaged');
  const part = found.subarray(atoms.start * positions, atoms.stop * positions);
  const count = part.reduce((sum, level) => sum + (level === 0 ? 0 : 1), 0);
  if (count !== entries) {
    throw new DamagedSection(
      `section "supports": a stream decodes to ${count} entries, expected ${entries}`,
    );
  }
  return found;
}

function run(kernel: Kernel, job: Parameters<Kernel["decode"]>[0]): Int16Array | null {
  try {
    return kernel.decode(job);
  } catch (error) {
    if (error instanceof WebAssembly.RuntimeError) return null;
    throw error;
  }
}

/** Bytes of a tile's part of `public` at level sca, from its first ones. Throws DamagedSection. */
export function openTileBytes(data: Uint8Array): number {
  const size = data.length < TILE_HEAD ? Infinity : TILE_HEAD + 2 * word(data, 0) + word(data, 4);
  if (size > data.length) throw new DamagedSection('section "public" is shorter than its tiles');
  return size;
}

function word(data: Uint8Array, at: number): number {
  return view(data).getUint32(at);
}

/** Z_p of a tile (LM, h, w) of so many places, from its part of `public`. Throws DamagedSection. */
export function readOpenTile(
  module: WebAssembly.Module,
  data: Uint8Array,
  places: number,
): Int16Array {
  openTileBytes(data);
  const [count, length] = [word(data, 0), word(data, 4)];
  if (count > places) throw new DamagedSection(`a stream has ${count} of ${places} entries`);
  const bits = decodeFlat(module, data.subarray(8, 8 + length), places, odds(places, count));
  if (!bits) throw new DamagedSection("a stream of supports is damaged");
  const found = bits.reduce((sum, bit) => sum + bit, 0);
  if (found !== count) {
    throw new DamagedSection(`a stream decodes to ${found} entries, expected ${count}`);
  }
  const levels = new Int16Array(places);
  const values = view(data.subarray(8 + length));
  let next = 0;
  bits.forEach((bit, place) => {
    if (bit) levels[place] = sound(values.getInt16(2 * next++, true));
  });
  return levels;
}

function sound(level: number): number {
  if (level === 0 || level < -LEVEL_LIMIT) {
    throw new DamagedSection(`section "public" has values outside 1..${LEVEL_LIMIT} in size`);
  }
  return level;
}

/** That a place has an entry, in 65536ths. */
function odds(places: number, entries: number): number {
  const share = Math.floor((65536 * entries + Math.floor(places / 2)) / places);
  return Math.min(Math.max(1, share), 65535);
}
