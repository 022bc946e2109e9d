/**
 * The atoms of a code as the coder sees them: what each stands for, and which are coded together
 * (docs/format.md, section 7, Order and Features).
 */

/** Consecutive atoms, from `start` up to and without `stop`. */
export interface Range {
  readonly start: number;
  readonly stop: number;
}

/** A group of atoms that are coded together. */
export interface Group extends Range {
  /** Whether a flag says at each position if the group has any entry there. */
  readonly flagged: boolean;
}

export interface Layout {
  readonly atoms: number;
  /** From coarse to fine. */
  readonly groups: readonly Group[];
  /** How near atom b is to atom a in frequency, 0 to 16: at a * atoms + b. */
  readonly nearness: Uint8Array;
  /** Share of the vertical frequencies, then of the horizontal ones, in 16ths. */
  readonly direction: Uint8Array;
}

/** Positions of a block of the DC plane, in each direction, and planes of its stack. */
export const DC_BLOCK = 4;
export const DC_PLANES = DC_BLOCK * DC_BLOCK;

const BORDERS = [1, 4, 10, 16, 24, 34, 48, 68, 96, 136, 188];
const DC_BORDERS = [0, 1, 3, 6];
const FIRST_FLAGGED = 24;
const LEARNED_GROUP = 64;

/** Atoms of a cosine transform of a square block, of which the first is the DC plane. */
export function frequencyLayout(atoms: number): Layout {
  const groups = groupsOf(BORDERS, atoms, (start) => start >= FIRST_FLAGGED);
  return { atoms, groups, ...frequencies(atoms) };
}

/** The stack of the DC plane: the frequencies of a block of it, coded like atoms of their own. */
export function dcLayout(): Layout {
  const groups = groupsOf(DC_BORDERS, DC_PLANES, () => false);
  return { atoms: DC_PLANES, groups, ...frequencies(DC_PLANES) };
}

/** Atoms that are learned and have no order among them. */
export function learnedLayout(atoms: number, atomsPerMap: number): Layout {
  const step = Math.min(LEARNED_GROUP, atomsPerMap);
  const borders = Array.from({ length: Math.ceil(atoms / step) }, (_, k) => k * step);
  const nearness = new Uint8Array(atoms * atoms);
  for (let atom = 0; atom < atoms; atom++) nearness[atom * atoms + atom] = 16;
  const direction = new Uint8Array(2 * atoms);
  return { atoms, groups: groupsOf(borders, atoms, () => false), nearness, direction };
}

/** No atoms: what stands for the DC plane where there is none. */
export function noLayout(): Layout {
  const none = new Uint8Array(0);
  return { atoms: 0, groups: [], nearness: none, direction: none };
}

/** (u, v) of each atom of side x side, by u² + v², then u. */
export function atomFrequencies(side: number): readonly (readonly [number, number])[] {
  const all = Array.from({ length: side * side }, (_, k) => {
    return [Math.floor(k / side), k % side] as const;
  });
  return all.sort((a, b) => sum2(a) - sum2(b) || a[0] - b[0]);
}

function sum2([u, v]: readonly [number, number]): number {
  return u * u + v * v;
}

function groupsOf(
  borders: readonly number[],
  atoms: number,
  flagged: (start: number) => boolean,
): Group[] {
  const ends = [...borders.filter((border) => border < atoms), atoms];
  return ends.slice(0, -1).map((start, k) => {
    return { start, stop: ends[k + 1]!, flagged: flagged(start) };
  });
}

function frequencies(atoms: number): { nearness: Uint8Array; direction: Uint8Array } {
  const of = atomFrequencies(Math.round(Math.sqrt(atoms)));
  const nearness = new Uint8Array(atoms * atoms);
  const direction = new Uint8Array(2 * atoms);
  of.forEach(([u, v], a) => {
    direction[a] = Math.floor((16 * u) / Math.max(u + v, 1));
    direction[atoms + a] = Math.floor((16 * v) / Math.max(u + v, 1));
    of.forEach(([x, y], b) => {
      const distance = (u - x) ** 2 + (v - y) ** 2;
      const least = Math.max(distance, 1);
      if (distance <= 9) nearness[a * atoms + b] = Math.floor((32 + least) / (2 * least));
    });
  });
  return { nearness, direction };
}
