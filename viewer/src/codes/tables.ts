/**
 * The coder's tables, whole numbers that ship with the weights (docs/format.md, section 7,
 * Probability). Tables that are within these bounds make no sum of the kernel overflow.
 */
import type { Layout } from "./layout.ts";

export const FEATURES = 14;
export const HIDDEN = 16;
const EXPONENTS = 12;
/** Bits of a level below its highest that have heads. */
const BITS = 7;
const PASSES = 4;
const SIGNS = 5;
const LOGARITHMS = 8192;
const PROBABILITIES = 353;
const TABLE_LIMIT = 8191;
const SCORE_LIMIT = 2 ** 20;

export const TABLES = [
  "bias",
  "linear",
  "present",
  "inner",
  "outer",
  "rates",
  "mantissa",
  "signs",
  "logarithm",
  "probability",
] as const;
export type TableName = (typeof TABLES)[number];
export type Tables = Readonly<Record<TableName, Int32Array>>;

const LIMITS: Readonly<Record<TableName, readonly [number, number]>> = {
  bias: [-SCORE_LIMIT, SCORE_LIMIT],
  linear: [-TABLE_LIMIT, TABLE_LIMIT],
  present: [-TABLE_LIMIT, TABLE_LIMIT],
  inner: [-TABLE_LIMIT, TABLE_LIMIT],
  outer: [-SCORE_LIMIT, SCORE_LIMIT],
  rates: [1, 64000],
  mantissa: [-SCORE_LIMIT, SCORE_LIMIT],
  signs: [-TABLE_LIMIT, TABLE_LIMIT],
  logarithm: [0, 128],
  probability: [1, 65535],
};

/** How many heads there are, and rows of `bias` and `linear`. */
export interface Rows {
  head: number;
  bias: number;
  linear: number;
}

/** The heads of a group: its entries have a row of `linear` for each atom. */
export function rowsOf(atoms: number, flagged: boolean): Rows {
  const flags = flagged ? PASSES : 0;
  const others = EXPONENTS + BITS;
  return {
    head: PASSES + others + flags,
    bias: (PASSES + others) * atoms + flags,
    linear: PASSES * atoms + others + flags,
  };
}

/** Counts the heads of a group. */
export function count(rows: Rows, of: Rows): void {
  rows.head += of.head;
  rows.bias += of.bias;
  rows.linear += of.linear;
}

/** Shape of each table for the atoms of a layout and of its DC plane's stack. */
export function shapesOf(layout: Layout, dc: Layout): Record<TableName, readonly number[]> {
  const rows = { head: 0, bias: 0, linear: 0 };
  for (const group of [...dc.groups, ...layout.groups])
    count(rows, rowsOf(group.stop - group.start, group.flagged));
  return {
    bias: [rows.bias, 3],
    linear: [rows.linear, FEATURES],
    present: [rows.head, FEATURES],
    inner: [rows.head, HIDDEN, FEATURES + 2],
    outer: [rows.head, HIDDEN],
    rates: [7],
    mantissa: [EXPONENTS + 4],
    signs: [layout.atoms, PASSES, SIGNS, 2],
    logarithm: [LOGARITHMS],
    probability: [PROBABILITIES],
  };
}

/** Whether all numbers of the tables are within their bounds. */
export function withinLimits(tables: Tables): boolean {
  const within = (name: TableName): boolean => {
    const [low, high] = LIMITS[name];
    return tables[name].every((number) => low <= number && number <= high);
  };
  return TABLES.every(within) && tables.logarithm[0] === 0;
}
