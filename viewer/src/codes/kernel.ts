/**
 * The coder's kernel with the tables of one model in its memory: decodes tiles (docs/format.md,
 * section 7). Structures are laid out as `kernel.c` has them.
 */
import { dcLayout, DC_PLANES, type Layout, type Range } from "./layout.ts";
import { Memory } from "./memory.ts";
import { FEATURES, headsOf, HIDDEN, type Tables } from "./tables.ts";

const LANES = 8;
const INPUTS = 16;
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
    words[42] = memory.take(workOf(this.layout.atoms, height, width));
    if (!memory.run(memory.put(words))) return null;
    return new Int16Array(memory.bytes(levels, job.levels.byteLength).buffer);
  }

  private fill(): Memory {
    const memory = new Memory(this.module);
    const next = { head: 0, bias: 0 };
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

/** Where a stack is. next: numbers of the head and of the row of `bias` that are its first. */
function putStack(memory: Memory, layout: Layout, next: { head: number; bias: number }): number {
  const groups = layout.groups.flatMap(({ start, stop, flagged }) => {
    const row = [start, stop - start, flagged ? 1 : 0, next.head, next.bias];
    const { heads, rows } = headsOf(stop - start, flagged);
    next.head += heads;
    next.bias += rows;
    return row;
  });
  const near = nearOf(layout);
  const finer = finerOf(layout);
  return memory.words(
    layout.atoms,
    layout.groups.length,
    memory.words(...groups),
    memory.put(near.start),
    memory.put(near.atom),
    memory.put(near.weight),
    memory.put(layout.direction),
    memory.put(finer.rows),
    memory.put(finer.weights),
  );
}

/** Of each atom those that are near it, and their weights, one after the other. */
function nearOf(layout: Layout): { start: Uint16Array; atom: Uint16Array; weight: Uint8Array } {
  const { atoms, nearness } = layout;
  const start = new Uint16Array(atoms + 1);
  const atom: number[] = [];
  const weight: number[] = [];
  for (let of = 0; of < atoms; of++) {
    start[of] = atom.length;
    for (let other = 0; other < atoms; other++) {
      const near = nearness[other * atoms + of]!;
      if (near) {
        atom.push(other);
        weight.push(near);
      }
    }
  }
  start[atoms] = atom.length;
  return { start, atom: Uint16Array.from(atom), weight: Uint8Array.from(weight) };
}

/** Where the atoms near each one in groups to come are, and their weights, in whole lanes. */
function finerOf(layout: Layout): { rows: Uint32Array; weights: Uint16Array } {
  const { atoms, nearness } = layout;
  const rows = new Uint32Array(3 * atoms);
  const weights: number[] = [];
  for (const group of layout.groups) {
    for (let atom = group.start; atom < group.stop; atom++) {
      const near = (other: number): number =>
        other >= group.stop && other < atoms ? nearness[other * atoms + atom]! : 0;
      const there = Array.from({ length: atoms }, (_, k) => k).filter((k) => near(k) > 0);
      const first = there.length ? Math.floor(there[0]! / LANES) * LANES : 0;
      const stop = there.length ? Math.ceil((there.at(-1)! + 1) / LANES) * LANES : 0;
      rows.set([first, (stop - first) / LANES, weights.length], 3 * atom);
      for (let k = first; k < stop; k++) weights.push(near(k));
    }
  }
  return { rows, weights: Uint16Array.from(weights) };
}

/** Where the tables are, in the order in which the kernel reads them. */
function putModel(memory: Memory, tables: Tables): number {
  const heads = tables.outer.length / HIDDEN;
  const linear = new Int16Array(heads * 2 * INPUTS);
  const inner = new Int16Array(heads * INPUTS * HIDDEN);
  for (let head = 0; head < heads; head++) {
    for (let feature = 0; feature < FEATURES; feature++) {
      for (let kind = 0; kind < 2; kind++) {
        const weight = tables.linear[(head * FEATURES + feature) * 2 + kind]!;
        linear[(head * 2 + kind) * INPUTS + feature] = weight;
      }
    }
    for (let unit = 0; unit < HIDDEN; unit++) {
      for (let input = 0; input < INPUTS; input++) {
        const pair = (head * (INPUTS / 2) + (input >> 1)) * HIDDEN + unit;
        inner[2 * pair + (input & 1)] = tables.inner[(head * HIDDEN + unit) * INPUTS + input]!;
      }
    }
  }
  return memory.words(
    memory.put(tables.bias),
    memory.put(linear),
    memory.put(inner),
    memory.put(tables.outer),
    memory.put(tables.mantissa),
    memory.put(Int16Array.from(tables.signs)),
    memory.put(Uint8Array.from(tables.logarithm)),
    memory.put(Uint16Array.from(tables.probability)),
    0, // prices, which decoding does not read
  );
}

/** At least the bytes of memory that a job takes for itself. */
function workOf(atoms: number, height: number, width: number): number {
  const [down, across] = [Math.ceil(height / 4), Math.ceil(width / 4)];
  const stacks = workOfStack(atoms, height, width) + workOfStack(DC_PLANES, down, across);
  return stacks + 4 * DC_PLANES * down * across + 4096;
}

function workOfStack(atoms: number, height: number, width: number): number {
  const whole = Math.ceil(atoms / LANES) * LANES;
  const places = (height + 2) * (width + 2);
  return places * (12 * whole + 36) + height * width * (4 * whole + 20) + 4 * whole + 16 * 8;
}
