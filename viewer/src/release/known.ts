/**
 * Trust on first use, as SSH does with hosts: whoever stores a release can replace all of it, or
 * put back an older state (docs/format.md, section 3).
 */
import { UnexpectedRelease } from "../errors.ts";
import type { RememberedRelease } from "./types.ts";

/**
 * Throws UnexpectedRelease where what is there does not fit what was seen before. demanded: this
 * very signer was asked for, so that others who were seen do not count; their older states do not
 * come back all the same.
 */
export function requireExpected(
  seen: RememberedRelease,
  known: readonly RememberedRelease[],
  demanded: boolean,
): void {
  for (const before of known) {
    const same = before.release === seen.release;
    if (!same && before.place !== seen.place) continue;
    if (before.signer !== seen.signer) {
      if (demanded) continue;
      throw new UnexpectedRelease(
        `"${seen.place}" is signed by "${seen.signer}", before by "${before.signer}"`,
      );
    }
    if (!same) continue;
    if (seen.version < before.version) {
      throw new UnexpectedRelease(
        `"${seen.place}" is at version ${seen.version}, version ${before.version} was seen ` +
          "before: somebody put back an older state",
      );
    }
    if (seen.version === before.version && seen.digest !== before.digest) {
      throw new UnexpectedRelease(
        `"${seen.place}" has other content than version ${before.version} had before`,
      );
    }
  }
}
