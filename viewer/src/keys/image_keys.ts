/** What opens an image: all of it by tier, or a region of it (docs/format.md, section 5). */
import { TIERS, type Region, type Tier } from "../release/types.ts";
import type { Secret, TierSecrets } from "./seal.ts";

/** info: what section `info` would hold of its frames alone. tiles: tier -> number -> secret. */
export interface RegionSecrets {
  readonly region: Region;
  readonly info: Uint8Array;
  readonly tiles: ReadonlyMap<Tier, ReadonlyMap<number, Secret>>;
}

export interface ImageKeys {
  /** Of the tiers that are opened whole; empty where a region is. */
  readonly secrets: TierSecrets;
  readonly region: RegionSecrets | null;
}

export function wholeKeys(secrets: TierSecrets): ImageKeys {
  return { secrets, region: null };
}

/** The highest tier that they open. */
export function highest(keys: ImageKeys): Tier {
  const opened: ReadonlyMap<Tier, unknown> = keys.region ? keys.region.tiles : keys.secrets;
  return TIERS.filter((tier) => opened.has(tier)).at(-1) ?? "preview";
}
