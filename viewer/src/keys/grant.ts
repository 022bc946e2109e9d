/**
 * A grant: the secrets that open a release, named images of it or regions of them, up to a tier
 * (docs/format.md, section 5). The owner's signature is verified before anything is parsed.
 */
import { anyObject, hexadecimal, items, oneOf, record, text, whole } from "../bundle/fields.ts";
import { fromHex } from "../bytes.ts";
import { Malformed, parseCanonical, type Json } from "../canonical.ts";
import { BadGrant, GrantExpired, NotCovered, TierTooLow } from "../errors.ts";
import { verified, type SignedPart } from "../signature.ts";
import { TIERS, type Region, type Tier } from "../release/types.ts";
import { wholeKeys, type ImageKeys, type RegionSecrets } from "./image_keys.ts";
import {
  imageSecrets,
  opened,
  reaches,
  releaseSecrets,
  type Secret,
  type TierSecrets,
} from "./seal.ts";

const LABEL = /^[A-Za-z0-9_-]{1,64}$/;
const DAY = /^(?!0000)\d{4}-\d\d-\d\d$/;

export interface Grant {
  readonly signer: string;
  readonly release: string;
  readonly keys: string;
  readonly tier: Tier;
  readonly label: string;
  /** Its public key in one line, empty for a passphrase. */
  readonly recipient: string;
  readonly note: string | null;
  readonly notAfter: string | null;
  /** Release secret of the tier; null where images or regions are opened. */
  readonly secret: Secret | null;
  readonly images: ReadonlyMap<string, TierSecrets>;
  readonly regions: ReadonlyMap<string, RegionSecrets>;
}

export function isLabel(label: string): boolean {
  return LABEL.test(label);
}

/** A decrypted grant, before anything in it is parsed. Throws BadGrant. */
export function signedGrant(payload: Uint8Array, where: string): SignedPart {
  const signed = verified(payload, "grant", true);
  if (signed) return signed;
  throw new BadGrant(`grant "${where}" is not signed by the owner that it names`);
}

/** The grant, once its signer is one to be trusted. Throws BadGrant. */
export function readGrant(signer: string, body: Uint8Array, where: string): Grant {
  try {
    return grantOf(signer, anyObject(parseCanonical(body)));
  } catch (error) {
    if (!(error instanceof Malformed || error instanceof RangeError)) throw error;
    throw new BadGrant(`grant "${where}" is not a grant of format 1`);
  }
}

function grantOf(signer: string, body: Readonly<Record<string, Json>>): Grant {
  whole(body["format"], 1, 1);
  const tier = oneOf(body["tier"], TIERS);
  const label = text(body["label"]);
  const secret = body["secret"] === null ? null : secretOf(body["secret"]);
  const images = mapOf(body["images"], (tiers) => {
    return new Map(opened(tier).map((t) => [t, secretOf(anyObject(tiers)[t])] as const));
  });
  const regions = mapOf(body["regions"] ?? {}, (told) => regionOf(told, tier));
  const parts = images.size + regions.size > 0;
  const both = [...images.keys()].some((id) => regions.has(id));
  const none = body["regions"] !== undefined && !regions.size;
  if (!isLabel(label) || (secret === null) !== parts || both || none) throw new Malformed("scope");
  const notAfter = body["not_after"] === null ? null : text(body["not_after"]);
  if (notAfter !== null && !isDay(notAfter)) throw new Malformed("not_after");
  return {
    signer,
    release: hexadecimal(body["release"], 32),
    keys: hexadecimal(body["keys"], 32),
    tier,
    label,
    recipient: text(body["recipient"]),
    note: body["note"] === null ? null : printable(text(body["note"])),
    notAfter,
    secret,
    images,
    regions,
  };
}

function isDay(day: string): boolean {
  return DAY.test(day) && new Date(`${day}T00:00:00Z`).toJSON()?.slice(0, 10) === day;
}

function printable(note: string): string {
  return note.replace(/[\p{Cc}\p{Cf}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/gu, "");
}

function mapOf<T>(value: Json | undefined, read: (value: Json) => T): Map<string, T> {
  return new Map(Object.entries(anyObject(value)).map(([id, told]) => [id, read(told)]));
}

function secretOf(value: Json | undefined): Secret {
  return fromHex(hexadecimal(value, 64));
}

/** What opens a region. tier: of the grant. Throws Malformed, RangeError. */
export function regionOf(value: Json, tier: Tier): RegionSecrets {
  const body = anyObject(value);
  const [x, y, width, height, first, last, ...more] = items(body["region"], 6).map((n) =>
    whole(n, 0, Number.MAX_SAFE_INTEGER),
  );
  if (
    more.length ||
    !width ||
    !height ||
    first === undefined ||
    last === undefined ||
    last < first
  ) {
    throw new Malformed("region");
  }
  const tiles = record(body["tiles"], opened(tier));
  const region: Region = { x: x!, y: y!, width, height, first, last };
  return {
    region,
    info: fromHex(text(body["info"])),
    tiles: new Map(opened(tier).map((t) => [t, tilesOf(tiles[t])])),
  };
}

/** By number, each written in one way. */
function tilesOf(value: Json | undefined): Map<number, Secret> {
  const tiles = Object.entries(anyObject(value));
  if (!tiles.length || tiles.some(([number]) => !/^(0|[1-9]\d{0,15})$/.test(number))) {
    throw new Malformed("tiles");
  }
  return new Map(tiles.map(([number, secret]) => [Number(number), secretOf(secret)]));
}

/** Whether a grant opens an image, or a region of it, at any tier. */
export function covers(grant: Grant, id: string): boolean {
  return grant.secret !== null || grant.images.has(id) || grant.regions.has(id);
}

/** What a grant opens of an image; null for nothing. */
function keysOf(grant: Grant, id: string): ImageKeys | null {
  if (grant.secret) return wholeKeys(imageSecrets(releaseSecrets(grant.secret, grant.tier), id));
  const secrets = grant.images.get(id);
  if (secrets) return wholeKeys(secrets);
  const region = grant.regions.get(id);
  return region ? { secrets: new Map(), region } : null;
}

export function isExpired(grant: Grant, today: string): boolean {
  return grant.notAfter !== null && today > grant.notAfter;
}

/**
 * What opens an image by the best of the grants, which are sorted: those of all the image before
 * those of a region. tier: asked for, null for the highest. today: UTC, `2024-01-31`. Throws
 * NotCovered, GrantExpired, TierTooLow.
 */
export function keysFor(
  grants: readonly Grant[],
  id: string,
  tier: Tier | null,
  today: string,
): ImageKeys {
  const region = (grant: Grant): number => (grant.secret || grant.images.has(id) ? 0 : 1);
  const covering = grants.filter((grant) => covers(grant, id));
  const ordered = covering.sort((a, b) => region(a) - region(b));
  let refused: Error | null = null;
  for (const grant of ordered) {
    if (isExpired(grant, today)) {
      refused ??= new GrantExpired(
        `grant "${grant.label}" expired after ${grant.notAfter}, today is ${today}`,
      );
    } else if (tier && !reaches(grant.tier, tier)) {
      refused ??= new TierTooLow(
        `tier "${tier}" was asked for, but grant "${grant.label}" opens up to "${grant.tier}"`,
      );
    } else {
      return keysOf(grant, id)!;
    }
  }
  const labels = grants.map((grant) => grant.label).join(", ");
  throw refused ?? new NotCovered(`image "${id}" is not covered by grant "${labels}"`);
}
