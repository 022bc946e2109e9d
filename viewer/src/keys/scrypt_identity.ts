/**
 * A passphrase as an identity of age: the scrypt stanza of age-encryption.org/v1. It does what the
 * library's own does, but yields the thread now and then: seconds of scrypt would freeze a page.
 */
import { chacha20poly1305 } from "@noble/ciphers/chacha.js";
import { scryptAsync } from "@noble/hashes/scrypt.js";
import type { Identity as AgeIdentity, Stanza } from "age-encryption";
import { concat, fromBase64, utf8 } from "../bytes.ts";
import { BadKey } from "../errors.ts";
import { MOST_SCRYPT } from "./age_file.ts";

const LABEL = utf8("age-encryption.org/v1/scrypt");
const SALT = 16;
const BODY = 32;
const TICK_MS = 20;

export class ScryptIdentity implements AgeIdentity {
  constructor(private readonly passphrase: string) {}

  /** The file's key, or null where the passphrase is another. Throws BadKey for a bad stanza. */
  async unwrapFileKey(stanzas: Stanza[]): Promise<Uint8Array | null> {
    const stanza = stanzas.find(({ args }) => args[0] === "scrypt");
    if (!stanza) return null;
    const [, salt = "", factor = ""] = stanza.args;
    const bytes = fromBase64(salt);
    const sound = stanzas.length === 1 && stanza.args.length === 3 && bytes.length === SALT;
    const work = /^[1-9][0-9]?$/.test(factor) ? Number(factor) : Infinity;
    if (!sound || work > MOST_SCRYPT || stanza.body.length !== BODY) {
      throw new BadKey("its scrypt stanza is malformed");
    }
    const how = { N: 2 ** work, r: 8, p: 1, dkLen: 32, asyncTick: TICK_MS };
    const key = await scryptAsync(utf8(this.passphrase), concat(LABEL, bytes), how);
    try {
      return chacha20poly1305(key, new Uint8Array(12)).decrypt(stanza.body);
    } catch {
      return null;
    }
  }
}
