/**
 * The header of an age file, read within bounds before age's library sees it (docs/format.md,
 * section 5): anyone who can write into a release chooses its size. Over the bounds it is a BadKey.
 */
import { armor } from "age-encryption";
import { latin1 } from "../bytes.ts";
import { BadKey } from "../errors.ts";

const MOST_HEADER = 2 << 10;
const MOST_STANZAS = 6;
/** Highest work factor that is tried: a gigabyte and some seconds. */
export const MOST_SCRYPT = 20;
const AGE_BEGIN = "age-encryption.org/v1\n";
const ARMOR = "-----BEGIN AGE ENCRYPTED FILE-----";
const ARGUMENTS = /^-> [!-~]+(?: [!-~]+)*$/;
const BASE64 = /^[A-Za-z0-9+/]{0,64}$/;
const MAC = /^--- [A-Za-z0-9+/]{43}$/;
const COLUMNS = 64;

export interface AgeHeader {
  /** "X25519", "mlkem768x25519", "ssh-ed25519", "ssh-rsa", "scrypt" or another: of each stanza. */
  readonly kinds: readonly string[];
  /** N of a file for a passphrase, which takes 2^N steps; null for others. */
  readonly scrypt: number | null;
}

/** The header of an age file (binary, not armoured). Throws BadKey beyond the bounds. */
export function inspectAge(data: Uint8Array): AgeHeader {
  const head = latin1(data.subarray(0, MOST_HEADER));
  if (!head.startsWith(AGE_BEGIN)) throw new BadKey("it is not an age file");
  const stanzas: string[][] = [];
  let body = false;
  for (const line of head.slice(AGE_BEGIN.length).split("\n").slice(0, -1)) {
    if (body) {
      if (!BASE64.test(line)) throw new BadKey("its age header is malformed");
      body = line.length === COLUMNS;
    } else if (MAC.test(line) && stanzas.length) {
      return checked(stanzas);
    } else if (!ARGUMENTS.test(line)) {
      throw new BadKey("its age header is malformed");
    } else if (stanzas.length === MOST_STANZAS) {
      throw new BadKey(`its age header has over ${MOST_STANZAS} recipients`);
    } else {
      stanzas.push(line.slice(3).split(" "));
      body = true;
    }
  }
  const why = data.length > MOST_HEADER ? `has over ${MOST_HEADER} bytes` : "is cut off";
  throw new BadKey(`its age header ${why}`);
}

function checked(stanzas: readonly (readonly string[])[]): AgeHeader {
  const kinds = stanzas.map((stanza) => stanza[0]!);
  if (!kinds.includes("scrypt")) return { kinds, scrypt: null };
  const [, , factor] = stanzas[0]!;
  const alone = stanzas.length === 1 && stanzas[0]!.length === 3;
  if (!alone || !/^[1-9][0-9]?$/.test(factor!)) throw new BadKey("its age header is malformed");
  return { kinds, scrypt: Number(factor) };
}

/** The bytes of a file that is an age file, armoured or not; else null. Throws BadKey. */
export function ageFileIn(data: Uint8Array): Uint8Array | null {
  const text = latin1(data);
  if (text.startsWith(AGE_BEGIN)) return data;
  const at = text.indexOf(ARMOR);
  if (at < 0) return null;
  try {
    return armor.decode(text.slice(at));
  } catch {
    throw new BadKey("key file holds an age file that is damaged");
  }
}

/** Steps of scrypt that trying a passphrase takes; 0 for no passphrase and for what is no file. */
export function scryptWork(data: Uint8Array): number {
  try {
    const { scrypt } = inspectAge(data);
    return scrypt === null ? 0 : 2 ** scrypt;
  } catch (error) {
    if (error instanceof BadKey) return 0;
    throw error;
  }
}
