/**
 * The coder's kernel with the tables of one model in its memory: decodes tiles (docs/format.md,
 * section 7). Structures are laid out as `types.h` of the kernel has them.
 */
import { DC_BLOCK, DC_PLANES, dcLayout, type Layout, type Range } from "./layout.ts";
import { Memory } from "./memory.ts";
import { count, FEATURES, HIDDEN, type Rows, rowsOf, type Tables } from "./tables.ts";

const LANES = 8;
const INPUTS = 16;
/** Inputs in the order of the kernel's tables: what atoms of a visit share comes last. */
const ORDER = [0, 1, 2, 5, 6, 7, 9, 10, 11, 15, 12, 13, 3, 4, 8, 14];
const DECODE = 1;
const CODER_WORDS = 12;
const JOB_WORDS = 44;

/** What is decoded: `atoms` of levels (LM, h, w); those below them are known. */
export interface Job {
  readonly levels: Int16Array;
  readonly height: number;
  readonly width: number;
  readonly atoms: Range;
  /** ⌊8 log2(entries / positions)⌋ */
  readonly density: number;
  readonly support: Uint8Array;
  readonly values: Uint8Array;
  /** Z_p (LM, h, w), where the support is coded given it. */
  readonly open: Int16Array | null;
}

export class Kernel {
  private memory: Memory;
  private stack = 0;
  private dc = 0;
  private model = 0;
  private start = 0;

  constructor(
    private readonly module: WebAssembly.Module,
    private readonly tables: Tables,
    private readonly layout: Layout,
    private readonly dcStack: Layout = dcLayout(),
  ) {
    this.memory = this.fill();
  }

  /** Levels with `atoms` filled in; null if a stream is damaged. */
  decode(job: Job): Int16Array | null {
    if (this.memory.isLarge) this.memory = this.fill();
    const memory = this.memory;
    memory.top = this.start;
    const levels = memory.put(job.levels);
    const open = job.open ? memory.put(job.open) : 0;
    const words = new Int32Array(JOB_WORDS);
    const { height, width, atoms, density } = job;
    words.set([DECODE, height, width, atoms.start, atoms.stop, density]);
    words.set([this.stack, this.dc, this.model, levels, open], 6);
    const streams = [job.support, job.values] as const;
    streams.forEach((stream, k) => {
      words.set([memory.put(stream), stream.length], 18 + k * CODER_WORDS + 6);
    });
    words[42] = memory.take(workOf(this.layout, this.dcStack, height, width));
    if (!memory.run(memory.put(words))) return null;
    return new Int16Array(memory.bytes(levels, job.levels.byteLength).buffer);
  }

  private fill(): Memory {
    const memory = new Memory(this.module);
    const next = { head: 0, bias: 0, linear: 0 };
    this.dc = putStack(memory, this.dcStack, next);
    this.stack = putStack(memory, this.layout, next);
    this.model = putModel(memory, this.tables);
    this.start = memory.top;
    return memory;
  }
}

/** Decodes bits that are ones with one probability, in 65536ths; null if the stream is damaged. */
export function decodeFlat(
  module: WebAssembly.Module,
  data: Uint8Array,
  count: number,
  probability: number,
): Uint8Array | null {
  const memory = new Memory(module);
  const stream = memory.put(data);
  const bits = memory.put(new Uint8Array(count));
  const coder = new Int32Array(CODER_WORDS);
  coder.set([stream, data.length, 0, 0, 1], 6);
  if (!memory.flat(memory.put(coder), bits, count, probability)) return null;
  return memory.bytes(bits, count);
}

/** Where a stack is. next: its first head and rows; afterwards those that follow its own. */
function putStack(memory: Memory, layout: Layout, next: Rows): number {
  const groups = layout.groups.flatMap(({ start, stop, flagged }) => {
    const row = [start, stop - start, flagged ? 1 : 0, next.head, next.bias, next.linear];
    count(next, rowsOf(stop - start, flagged));
    return row;
  });
  const { own, finer, weights } = spansOf(layout);
  return memory.words(
    layout.atoms,
    layout.groups.length,
    memory.words(...groups),
    memory.put(layout.direction),
    memory.put(own),
    memory.put(finer),
    memory.put(weights),
  );
}

/** Spans of those near each atom, in its group and in groups to come, and their weights. */
function spansOf(layout: Layout): { own: Uint32Array; finer: Uint32Array; weights: Uint16Array } {
  const { atoms, nearness } = layout;
  const [own, finer] = [new Uint32Array(3 * atoms), new Uint32Array(3 * atoms)];
  const weights: number[] = [];
  for (const { start, stop } of layout.groups) {
    for (let atom = start; atom < stop; atom++) {
      const near = Array.from({ length: atoms }, (_, other) => nearness[other * atoms + atom]!);
      own.set(putSpan(near.slice(start, stop), weights), 3 * atom);
      finer.set(putSpan(near.fill(0, 0, stop), weights), 3 * atom);
    }
  }
  return { own, finer, weights: Uint16Array.from(weights) };
}

/** Append those from the first that is not zero to the last, in whole lanes: which these are. */
function putSpan(near: readonly number[], weights: number[]): [number, number, number] {
  const there = near.flatMap((weight, k) => (weight ? [k] : []));
  if (!there.length) return [0, 0, 0];
  const first = Math.floor(there[0]! / LANES) * LANES;
  const stop = wholeLanes(there.at(-1)! + 1);
  const at = weights.length;
  for (let k = first; k < stop; k++) weights.push(near[k] ?? 0);
  return [first, (stop - first) / LANES, at];
}

function wholeLanes(atoms: number): number {
  return Math.ceil(atoms / LANES) * LANES;
}

/** Where the tables are, in the order in which the kernel reads them. */
function putModel(memory: Memory, tables: Tables): number {
  return memory.words(
    memory.put(tables.bias),
    memory.put(headsIn(tables)),
    memory.put(asInputs(tables.linear)),
    memory.put(tables.mantissa),
    memory.put(Int16Array.from(tables.signs)),
    memory.put(Uint8Array.from(tables.logarithm)),
    memory.put(Uint16Array.from(tables.probability)),
    0, // prices, which decoding does not read
  );
}

/** Weights of features, a row after the other, as those of all inputs in the kernel's order. */
function asInputs(weights: Int32Array): Int16Array {
  const inputs = new Int16Array((weights.length / FEATURES) * INPUTS);
  ORDER.forEach((input, at) => {
    for (let row = 0; input < FEATURES && row < weights.length / FEATURES; row++)
      inputs[row * INPUTS + at] = weights[row * FEATURES + input]!;
  });
  return inputs;
}

/** Weights of each head: inner [pair of inputs][hidden][2], present, outer. */
function headsIn(tables: Tables): Int16Array {
  const heads = tables.outer.length / HIDDEN;
  const size = INPUTS * HIDDEN + INPUTS + 2 * HIDDEN;
  const present = asInputs(tables.present);
  const rows = new Int16Array(heads * size);
  for (let head = 0; head < heads; head++) {
    const row = rows.subarray(head * size, (head + 1) * size);
    ORDER.forEach((input, at) => {
      for (let unit = 0; unit < HIDDEN; unit++) {
        const weight = tables.inner[(head * HIDDEN + unit) * INPUTS + input]!;
        row[2 * ((at >> 1) * HIDDEN + unit) + (at & 1)] = weight;
      }
    });
    row.set(present.subarray(head * INPUTS, (head + 1) * INPUTS), INPUTS * HIDDEN);
    const outer = tables.outer.slice(head * HIDDEN, (head + 1) * HIDDEN);
    row.set(new Int16Array(outer.buffer), INPUTS * HIDDEN + INPUTS);
  }
  return rows;
}

/** At least the bytes of memory that a job takes for itself. */
function workOf(layout: Layout, dc: Layout, height: number, width: number): number {
  const [down, across] = [Math.ceil(height / DC_BLOCK), Math.ceil(width / DC_BLOCK)];
  const stacks = workOfStack(layout, height, width) + workOfStack(dc, down, across);
  return stacks + 4 * height * width + 8 * DC_PLANES * down * across + 16 * 16 * 2;
}

function workOfStack(layout: Layout, height: number, width: number): number {
  const lanes = Math.max(0, ...layout.groups.map(({ start, stop }) => wholeLanes(stop - start)));
  const [places, plane] = [(height + 3) * (width + 2) + 2, height * width];
  const sums = 2 * wholeLanes(layout.atoms) + 3 * lanes + 36;
  return places * sums + 22 * plane + 40 * lanes + 4 * layout.atoms;
}
