/**
 * What anyone sees of a bundle, and the sizes that follow from it (docs/format.md, section 2). At
 * level keyed every size follows from geometry and settings.
 */
import { sha256, startsWith, toHex, utf8, view } from "../bytes.ts";
import { Malformed } from "../canonical.ts";
import { BadBundle } from "../errors.ts";
import { Geometry } from "./geometry.ts";
import { PROFILE_NAME, readProfile, type Profile } from "./settings.ts";

export const SECTIONS = [
  "info",
  "index",
  "public",
  "supports",
  "header",
  "exact",
  "original",
] as const;
export type SectionName = (typeof SECTIONS)[number];

export const TAG = 16;
export const RECORD = 36;
export const INFO_BASE = 36;
export const INFO_PER_FRAME = 16;
const MAGIC = utf8("PRIMIS1\n");
const HEAD = 48;
const PROFILE_SIZE = 2;
const MOST_PROFILE = 1 << 12;
const PUBLIC_SIZE = 8;
const MOST_BYTES = 2 ** 50;
/** Bytes of a bundle that hold any header. */
export const MOST_HEADER = HEAD + PROFILE_SIZE + MOST_PROFILE + PUBLIC_SIZE;
/** A bundle that claims more samples for each of its bytes is refused. */
const SAMPLES_PER_BYTE = 8192;

/** Profiles of a release by their names, in hex. */
export type Profiles = ReadonlyMap<string, Profile>;

export interface Section {
  readonly start: number;
  readonly bytes: number;
}

/** id: 32 hex digits. binding: sealed sections authenticate it. sections: those that are there. */
export interface Header {
  readonly id: string;
  readonly geometry: Geometry;
  readonly profile: Profile;
  readonly binding: Uint8Array;
  /** R: records of a frame. */
  readonly records: number;
  /** B: bytes of a frame's code. */
  readonly codeBudget: number;
  readonly sections: ReadonlyMap<SectionName, Section>;
  /** Bytes of the whole bundle. */
  readonly bytes: number;
}

export function profilesOf(profiles: readonly Profile[]): Profiles {
  return new Map(profiles.map((profile) => [nameOf(profile), profile]));
}

function nameOf(profile: Profile): string {
  return toHex(profile.digest.subarray(0, PROFILE_NAME));
}

/**
 * The header of a bundle, from its beginning. size: of the whole file. name: for errors. profiles:
 * of its release, null for a bundle that brings its own. Throws BadBundle.
 */
export function readHeader(
  data: Uint8Array,
  size: number,
  name: string,
  profiles: Profiles | null,
): Header {
  try {
    return parse(data, size, profiles);
  } catch (error) {
    if (error instanceof Malformed) throw new BadBundle(`bundle "${name}" ${error.message}`);
    throw error;
  }
}

function parse(data: Uint8Array, size: number, profiles: Profiles | null): Header {
  if (!startsWith(data, MAGIC)) throw new Malformed("is none of format 1");
  let start = HEAD + PROFILE_SIZE;
  if (data.length < start) throw new Malformed(`has ${data.length} bytes, expected ${start}`);
  const numbers = view(data);
  const length = numbers.getUint16(HEAD);
  if ((length === 0) !== (profiles !== null) || length > MOST_PROFILE) {
    const expected = profiles ? "none in a release" : "its own, as it stands alone";
    throw new Malformed(`has a profile of ${length} bytes, expected ${expected}`);
  }
  const named = toHex(data.subarray(24, 24 + PROFILE_NAME));
  const profile = theProfile(data.subarray(start, start + length), named, profiles);
  start += length;
  const [frames, height, width, channels] = [32, 36, 40, 44].map((at) => numbers.getUint32(at));
  const geometry = new Geometry(profile, frames!, height!, width!, channels!);
  const budget = codeBudget(geometry, profile);
  const sizes = sectionSizes(geometry, profile, budget);
  if (profile.settings.protection === "sca") {
    if (data.length < start + PUBLIC_SIZE) throw new Malformed("ends in its header");
    sizes.set("public", numbers.getBigUint64(start));
    start += PUBLIC_SIZE;
  }
  const sections = layOut(sizes, start, size);
  requireBytes(geometry, size);
  return {
    id: toHex(data.subarray(8, 24)),
    geometry,
    profile,
    binding: sha256(data.subarray(0, HEAD), profile.digest),
    records: 2 * geometry.tileCount,
    codeBudget: Number(budget),
    sections,
    bytes: size,
  };
}

/** The profile that a bundle brings, or names. */
function theProfile(own: Uint8Array, named: string, profiles: Profiles | null): Profile {
  if (profiles) {
    const profile = profiles.get(named);
    if (profile) return profile;
    throw new Malformed(`has profile "${named}", which its release does not list`);
  }
  const profile = readProfile(own);
  if (nameOf(profile) !== named) {
    throw new Malformed(`has profile "${nameOf(profile)}", its head names "${named}"`);
  }
  return profile;
}

/** B, of a frame. Whole numbers beyond 53 bits occur before they are compared with anything. */
function codeBudget(geometry: Geometry, { settings }: Profile): bigint {
  const all = BigInt(geometry.positions) * BigInt(geometry.atoms);
  const wanted = roundHalfEven(BigInt(settings.sparsity) * BigInt(geometry.positions));
  const entries = wanted < 1n ? 1n : wanted > all ? all : wanted;
  return ceil(BigInt(settings.codeBits) * entries, 8000n) + 24n * 2n * BigInt(geometry.tileCount);
}

function sectionSizes(
  geometry: Geometry,
  { settings }: Profile,
  budget: bigint,
): Map<SectionName, bigint> {
  const frames = BigInt(geometry.frames);
  const samples = BigInt(geometry.samples);
  const exact = settings.exactBits;
  const texture = exact ? 0 : geometry.channels * geometry.textureBytes;
  const header = BigInt(settings.headerBytes + settings.frameHeaderBytes * (geometry.frames - 1));
  const sizes = new Map<SectionName, bigint>();
  sizes.set("info", 52n + BigInt(INFO_PER_FRAME + texture) * frames);
  sizes.set("index", BigInt((RECORD + TAG) * 2 * geometry.tileCount) * frames);
  sizes.set("public", budget * frames);
  if (settings.protection === "sca") sizes.set("supports", budget * frames);
  sizes.set("header", header + 16n);
  if (exact) {
    const table = exact < 16 ? 2n * 2n ** BigInt(exact) : 0n;
    sizes.set("exact", ceil(BigInt(exact) * samples, 8n) + 16n + table);
  }
  if (settings.originalBits) {
    const bytes = ceil(BigInt(settings.originalBits) * samples, 8000n);
    sizes.set("original", bytes + 4n * header + 16n);
  }
  return sizes;
}

/** Where each section lies. Throws Malformed unless they fill the file to its end. */
function layOut(
  sizes: ReadonlyMap<SectionName, bigint>,
  start: number,
  size: number,
): Map<SectionName, Section> {
  const sections = new Map<SectionName, Section>();
  let at = BigInt(start);
  for (const [name, bytes] of sizes) {
    const there = at > BigInt(size) ? 0n : BigInt(size) - at;
    if (bytes > MOST_BYTES || there < bytes) {
      const found = there < bytes ? there : bytes;
      throw new Malformed(`has ${found} bytes of section "${name}", expected ${bytes}`);
    }
    sections.set(name, { start: Number(at), bytes: Number(bytes) });
    at += bytes;
  }
  if (at !== BigInt(size)) {
    throw new Malformed(`has ${BigInt(size) - at} bytes after its last section`);
  }
  return sections;
}

/** Throws Malformed where a bundle claims more than its bytes can hold. */
function requireBytes(geometry: Geometry, size: number): void {
  if (geometry.samples > SAMPLES_PER_BYTE * size) {
    throw new Malformed(
      `has ${size} bytes and claims ${geometry.samples} samples, ` +
        `expected at most ${SAMPLES_PER_BYTE} for each byte`,
    );
  }
}

function ceil(a: bigint, b: bigint): bigint {
  return (a + b - 1n) / b;
}

function roundHalfEven(thousandths: bigint): bigint {
  const whole = thousandths / 1000n;
  const rest = thousandths % 1000n;
  const up = rest > 500n || (rest === 500n && whole % 2n === 1n);
  return up ? whole + 1n : whole;
}
