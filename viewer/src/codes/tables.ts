/**
 * The coder's tables, whole numbers that ship with the weights (docs/format.md, section 7,
 * Probability). Tables that are within these bounds make no sum of the kernel overflow.
 */
import type { Layout } from "./layout.ts";

export const FEATURES = 14;
export const HIDDEN = 16;
const EXPONENTS = 12;
const PASSES = 4;
const SIGNS = 5;
const LOGARITHMS = 8192;
const PROBABILITIES = 353;
const TABLE_LIMIT = 8191;
const SCORE_LIMIT = 2 ** 20;

export const TABLES = [
  "bias",
  "linear",
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
  inner: [-TABLE_LIMIT, TABLE_LIMIT],
  outer: [-SCORE_LIMIT, SCORE_LIMIT],
  rates: [1, 64000],
  mantissa: [-SCORE_LIMIT, SCORE_LIMIT],
  signs: [-TABLE_LIMIT, TABLE_LIMIT],
  logarithm: [0, 128],
  probability: [1, 65535],
};

/** Heads that a group has, and rows of `bias`. */
export function headsOf(atoms: number, flagged: boolean): { heads: number; rows: number } {
  const flags = flagged ? PASSES : 0;
  return { heads: PASSES + EXPONENTS + flags, rows: (PASSES + EXPONENTS) * atoms + flags };
}

/** Shape of each table for the atoms of a layout and of its DC plane's stack. */
export function shapesOf(layout: Layout, dc: Layout): Record<TableName, readonly number[]> {
  let [heads, rows] = [0, 0];
  for (const group of [...dc.groups, ...layout.groups]) {
    const of = headsOf(group.stop - group.start, group.flagged);
    heads += of.heads;
    rows += of.rows;
  }
  return {
    bias: [rows, 3],
    linear: [heads, FEATURES, 2],
    inner: [heads, HIDDEN, FEATURES + 2],
    outer: [heads, HIDDEN],
    rates: [7],
    mantissa: [EXPONENTS + 4],
    signs: [layout.atoms, PASSES, SIGNS],
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
