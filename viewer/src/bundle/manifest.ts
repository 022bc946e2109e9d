/**
 * manifest.json (docs/format.md, section 3): a line with a signature, then canonical JSON. The
 * signature is verified over the raw bytes before anything is parsed.
 */
import { sha256, toHex } from "../bytes.ts";
import { Malformed, parseCanonical, type Json } from "../canonical.ts";
import { BadManifest } from "../errors.ts";
import { verified, type SignedPart } from "../signature.ts";
import { hexadecimal, items, moment, record, whole } from "./fields.ts";
import { PROFILE_NAME, profileOf, type Profile } from "./settings.ts";

export const MOST_MANIFEST = 1 << 22;
const MOST_PROFILES = 1024;
export const MOST_COUNT = 2 ** 28;

/** The root of a tree of pages: its digest, and how many entries are below it. */
export interface Listing {
  readonly count: number;
  readonly page: string;
}

export interface Manifest {
  readonly signer: string;
  readonly release: string;
  readonly version: number;
  readonly keys: string;
  readonly created: string;
  readonly profiles: readonly Profile[];
  readonly bundles: Listing;
  readonly catalogue: Listing & { readonly bytesPerImage: number };
  /** SHA-256 of the JSON, hex. */
  readonly digest: string;
}

/** The manifest of a release. name: for errors. Throws BadManifest. */
export function readManifest(data: Uint8Array, name: string): Manifest {
  if (data.length > MOST_MANIFEST) {
    throw new BadManifest(`manifest "${name}" is over ${MOST_MANIFEST} bytes long`);
  }
  const signed = verified(data, "manifest");
  if (!signed) {
    throw new BadManifest(
      `manifest "${name}" does not start with a signer and a signature that verifies`,
    );
  }
  try {
    return manifestOf(parseCanonical(signed.body), signed);
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    throw new BadManifest(`manifest "${name}" ${error.message}`);
  }
}

function manifestOf(value: Json, signed: SignedPart): Manifest {
  const names = ["bundles", "catalogue", "created", "format", "keys", "profiles"];
  const body = record(value, [...names, "release", "version"]);
  whole(body["format"], 1, 1);
  const profiles = items(body["profiles"], MOST_PROFILES).map(profileOf);
  requireSorted(profiles);
  const bundles = record(body["bundles"], ["count", "page"]);
  const catalogue = record(body["catalogue"], ["bytes_per_image", "count", "page"]);
  const count = whole(bundles["count"], 1, MOST_COUNT);
  return {
    signer: signed.signer,
    release: hexadecimal(body["release"], 32),
    version: whole(body["version"], 1, Number.MAX_SAFE_INTEGER),
    keys: hexadecimal(body["keys"], 32),
    created: moment(body["created"]),
    profiles,
    bundles: { count, page: hexadecimal(bundles["page"], 64) },
    catalogue: {
      bytesPerImage: whole(catalogue["bytes_per_image"], 1, 1 << 17),
      count: whole(catalogue["count"], count, count),
      page: hexadecimal(catalogue["page"], 64),
    },
    digest: toHex(sha256(signed.body)),
  };
}

function requireSorted(profiles: readonly Profile[]): void {
  const digests = profiles.map((profile) => toHex(profile.digest));
  const names = new Set(digests.map((digest) => digest.slice(0, 2 * PROFILE_NAME)));
  const sorted = digests.every((digest, k) => k === 0 || digests[k - 1]! < digest);
  if (!profiles.length || !sorted || names.size !== profiles.length) {
    throw new Malformed("has profiles twice, out of order or none");
  }
}
