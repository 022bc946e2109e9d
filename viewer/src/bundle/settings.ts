/**
 * A profile: what many bundles of a release have in common (docs/format.md, section 2). A profile
 * that parses is within all bounds that the format sets.
 */
import { sha256 } from "../bytes.ts";
import { canonical, Malformed, parseCanonical, type Json } from "../canonical.ts";
import { hexadecimal, oneOf, record, whole } from "./fields.ts";

export type Protection = "keyed" | "sca";

/** What an owner chose. sparsity, decoys, codeBits, originalBits: in thousandths. */
export interface Settings {
  readonly sparsity: number;
  readonly decoys: number;
  readonly codeBits: number;
  readonly originalBits: number;
  readonly protection: Protection;
  readonly headerBytes: number;
  readonly frameHeaderBytes: number;
  readonly exactBits: number;
}

/** digest: of its JSON; model: digest of the weights, 64 hex digits. */
export interface Profile {
  readonly digest: Uint8Array;
  readonly model: string;
  readonly codeMaps: number;
  readonly atomsPerMap: number;
  readonly stride: number;
  readonly tile: number;
  readonly settings: Settings;
}

export const PROFILE_NAME = 8;
const MOST_ATOMS = 1 << 13;
const MOST_TILE_ENTRIES = 2 ** 24;
const MOST_PER_POSITION = 4096_000;
const MOST_BITS = 64_000;
const EXACT_BITS = [0, 1, 2, 4, 8, 16] as const;

/** From its bytes. Throws Malformed. */
export function readProfile(data: Uint8Array): Profile {
  return profileOf(parseCanonical(data));
}

/** From parsed JSON. Throws Malformed. */
export function profileOf(value: Json): Profile {
  const body = record(value, ["code", "format", "model", "settings"]);
  whole(body["format"], 1, 1);
  const code = record(body["code"], ["atoms_per_map", "code_maps", "stride", "tile"]);
  const atomsPerMap = whole(code["atoms_per_map"], 1, 1 << 12);
  const codeMaps = whole(code["code_maps"], 1, 1 << 12);
  const stride = whole(code["stride"], 1, 64);
  const tile = whole(code["tile"], 1, 1 << 10);
  if (tile % 4) throw new Malformed(`has tiles of ${tile} positions, expected a multiple of 4`);
  const atoms = codeMaps * atomsPerMap;
  if (atoms > MOST_ATOMS) {
    throw new Malformed(`has ${atoms} atoms at a position, expected at most ${MOST_ATOMS}`);
  }
  if (tile * tile * atoms > MOST_TILE_ENTRIES) {
    throw new Malformed(
      `has ${tile * tile * atoms} places in a tile, expected at most ${MOST_TILE_ENTRIES}`,
    );
  }
  return {
    digest: sha256(canonical(value)),
    model: hexadecimal(body["model"], 64),
    codeMaps,
    atomsPerMap,
    stride,
    tile,
    settings: settingsOf(body["settings"]),
  };
}

function settingsOf(value: Json | undefined): Settings {
  const body = record(value, [
    "code_bits",
    "decoys",
    "exact_bits",
    "frame_header_bytes",
    "header_bytes",
    "original_bits",
    "protection",
    "sparsity",
  ]);
  const settings: Settings = {
    sparsity: whole(body["sparsity"], 1, MOST_PER_POSITION),
    decoys: whole(body["decoys"], 0, MOST_PER_POSITION),
    codeBits: whole(body["code_bits"], 0, MOST_BITS),
    originalBits: whole(body["original_bits"], 0, MOST_BITS),
    protection: oneOf(body["protection"], ["keyed", "sca"] as const),
    headerBytes: whole(body["header_bytes"], 64, 2 ** 24),
    frameHeaderBytes: whole(body["frame_header_bytes"], 0, 2 ** 20),
    exactBits: oneOf(body["exact_bits"], EXACT_BITS),
  };
  if (settings.decoys && settings.protection === "keyed") {
    throw new Malformed(`has decoys ${settings.decoys}, expected 0 at level keyed`);
  }
  return settings;
}
