/**
 * From secrets to sealed bytes: derivation, sealing and the mask of level keyed, as docs/format.md,
 * section 4, has them. A secret is 32 bytes; none shows in an error.
 */
import { chacha20, chacha20poly1305 } from "@noble/ciphers/chacha.js";
import { hkdf } from "@noble/hashes/hkdf.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { fromHex, utf8, view } from "../bytes.ts";
import { DamagedSection } from "../errors.ts";
import { TIERS, type Tier } from "../release/types.ts";

export type Secret = Uint8Array;

/** The secret of each tier that is opened, of a release or of an image. */
export type TierSecrets = ReadonlyMap<Tier, Secret>;

const SECRET = 32;
const LENGTH = 4;
const TAG = 16;

/** This tier and all below it, from the lowest. */
export function opened(tier: Tier): readonly Tier[] {
  return TIERS.slice(0, TIERS.indexOf(tier) + 1);
}

/** Whether tier a opens what tier b does. */
export function reaches(a: Tier, b: Tier): boolean {
  return TIERS.indexOf(a) >= TIERS.indexOf(b);
}

/** HKDF-SHA256 of a secret for one purpose. */
export function derive(secret: Secret, purpose: string, salt?: Uint8Array): Secret {
  return hkdf(sha256, secret, salt, utf8(`primis/1 ${purpose}`), SECRET);
}

/** The release secrets of a tier and of all below it, from the one of this tier. */
export function releaseSecrets(secret: Secret, tier: Tier): TierSecrets {
  const secrets = new Map<Tier, Secret>([[tier, secret]]);
  let above = secret;
  for (const below of opened(tier).slice(0, -1).reverse()) {
    above = derive(above, `tier ${below}`);
    secrets.set(below, above);
  }
  return secrets;
}

/** The secrets of one image, from the release secrets. */
export function imageSecrets(release: TierSecrets, id: string): TierSecrets {
  const salt = fromHex(id);
  return new Map([...release].map(([tier, secret]) => [tier, derive(secret, "image", salt)]));
}

/** Of a tile, from the image secret of its tier. */
export function tileSecret(secret: Secret, tile: number): Secret {
  return derive(secret, `tile ${tile}`);
}

/** What opens `info`, from the image secret of tier preview. */
export function infoSecret(preview: Secret): Secret {
  return derive(preview, "info");
}

/** What opens a page of the catalogue, from the release secret of tier diagnostic. */
export function pageSecret(diagnostic: Secret, pageId: Uint8Array): Secret {
  return derive(diagnostic, "catalogue", pageId);
}

/** Sealed bytes, opened. Throws DamagedSection where a byte, the key or the binding differs. */
export function unseal(
  sealed: Uint8Array,
  secret: Secret,
  purpose: string,
  binding: Uint8Array,
): Uint8Array {
  const key = derive(secret, `seal ${purpose}`);
  try {
    if (sealed.length < TAG) throw new RangeError("too short");
    return chacha20poly1305(key, new Uint8Array(12), binding).decrypt(sealed);
  } catch {
    throw new DamagedSection(
      `section "${purpose}" does not verify under the key offered: ` +
        "it was altered, or sealed for another",
    );
  }
}

/** What was padded: a length, the content, zeros. Throws DamagedSection for other bytes. */
export function unpad(padded: Uint8Array): Uint8Array {
  const length = padded.length < LENGTH ? Infinity : view(padded).getUint32(0);
  const rest = padded.subarray(LENGTH + length);
  if (length > padded.length - LENGTH || rest.some((byte) => byte !== 0)) {
    throw new DamagedSection(`a padded part of ${padded.length} bytes is malformed`);
  }
  return padded.subarray(LENGTH, LENGTH + length);
}

/** Level keyed: the values of a record under a keystream. Its own inverse. */
export function mask(values: Uint8Array, secret: Secret): Uint8Array {
  return chacha20(derive(secret, "mask"), new Uint8Array(12), values);
}
