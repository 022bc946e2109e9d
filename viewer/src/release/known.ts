/**
 * Trust on first use, as SSH does with hosts: the host of a release can replace all of it, or
 * put back an older state (docs/format.md, section 3).
 */
import { UnexpectedRelease } from "../errors.ts";
import type { RememberedRelease } from "./types.ts";

/**
 * Throws UnexpectedRelease if a release contradicts what was seen before. demanded: this very signer
 * was asked for, so others that were seen do not count; an older state of it is refused all the same.
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
