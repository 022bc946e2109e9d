/**
 * Who opens a release: age identities (X25519, and post-quantum ones) and passphrases. Opening is
 * the library's (age-encryption), after a look at the header within bounds. A private key never
 * leaves this module: it shows in no error, and an identity shows its public half alone.
 */
import { Decrypter, identityToRecipient } from "age-encryption";
import { sha256, toHex, utf8 } from "../bytes.ts";
import { BadKey, WrongPassphrase } from "../errors.ts";
import { ageFileIn, inspectAge, MOST_SCRYPT } from "./age_file.ts";
import { ScryptIdentity } from "./scrypt_identity.ts";

const MOST_KEY_FILE = 1 << 20;
const KEY = /AGE-SECRET-KEY-(?:PQ-)?1[0-9A-Z]+/gi;
const STANZAS = { age: "X25519", "age-pq": "mlkem768x25519", passphrase: "scrypt" } as const;

/** A private key or passphrase that may open grants. */
export interface Identity {
  readonly kind: keyof typeof STANZAS;
  /** The public key in one line, empty for a passphrase. */
  readonly text: string;
  /** What a person may know it by. */
  readonly label: string;
  /**
   * What an age file holds, or null if it is not for this identity. Throws WrongPassphrase, and
   * BadKey where the file is malformed, too large to be tried, or altered.
   */
  decrypt(sealed: Uint8Array): Promise<Uint8Array | null>;
}

/** Is told which passphrase is wanted, and gives it; null where nobody does. */
export type Ask = (what: string) => Promise<string | null>;

/** Opens grants that were sealed to this passphrase. */
export function passphraseIdentity(passphrase: string): Identity {
  const decrypter = new Decrypter();
  decrypter.addIdentity(new ScryptIdentity(passphrase));
  return identity("passphrase", "", "passphrase", decrypter);
}

/**
 * All private keys of a key file, as text or bytes; a file that is locked by a passphrase, armoured
 * or not, is opened with what `ask` gives. Throws BadKey if there is none that can be used.
 */
export async function readIdentities(file: string | Uint8Array, ask?: Ask): Promise<Identity[]> {
  const data = typeof file === "string" ? utf8(file) : file;
  if (data.length > MOST_KEY_FILE) {
    throw new BadKey(`key file has over ${MOST_KEY_FILE} bytes, expected keys`);
  }
  const locked = ageFileIn(data);
  const text = textOfKeys(locked ? await unlocked(locked, ask) : data);
  const lines = text.split(/\r\n?|\n/).filter((line) => !line.trimStart().startsWith("#"));
  const found = lines.flatMap((line) => line.match(KEY) ?? []).map((key) => key.toUpperCase());
  if (!found.length) throw new BadKey(`key file ${whyNone(text)}`);
  return Promise.all([...new Set(found)].map(identityOf));
}

async function identityOf(key: string): Promise<Identity> {
  const decrypter = new Decrypter();
  try {
    decrypter.addIdentity(key);
    const text = await identityToRecipient(key);
    const label = `age-${toHex(sha256(utf8(text))).slice(0, 8)}`;
    return identity(key.includes("-PQ-") ? "age-pq" : "age", text, label, decrypter);
  } catch {
    throw new BadKey("key file holds a damaged age identity");
  }
}

function identity(
  kind: Identity["kind"],
  text: string,
  label: string,
  decrypter: Decrypter,
): Identity {
  return { kind, text, label, decrypt: (sealed) => decrypt(sealed, kind, decrypter) };
}

async function decrypt(
  sealed: Uint8Array,
  kind: Identity["kind"],
  decrypter: Decrypter,
): Promise<Uint8Array | null> {
  const header = inspectAge(sealed);
  if (!header.kinds.includes(STANZAS[kind])) return null;
  if (kind === "passphrase" && header.scrypt! > MOST_SCRYPT) {
    throw new BadKey(`its scrypt work factor is over ${MOST_SCRYPT}`);
  }
  try {
    return await decrypter.decrypt(sealed);
  } catch (error) {
    const none = error instanceof Error && error.message.startsWith("no identity matched");
    if (none && kind === "passphrase") {
      throw new WrongPassphrase("the passphrase offered does not open it");
    }
    if (none) return null;
    throw new BadKey("it was altered, or is no sound age file"); // the library's words stay inside
  }
}

async function unlocked(locked: Uint8Array, ask: Ask | undefined): Promise<Uint8Array> {
  const passphrase = (await ask?.("passphrase of the key file")) ?? null;
  if (passphrase === null) throw new BadKey("key file is locked by a passphrase, expected it");
  const plain = await passphraseIdentity(passphrase).decrypt(locked);
  if (!plain) throw new BadKey("key file is locked, and not by a passphrase");
  return plain;
}

/** Text as editors leave it: UTF-8 or UTF-16, with or without a byte order mark. */
function textOfKeys(data: Uint8Array): string {
  const [a, b] = [data[0], data[1]];
  const little = (a === 0xff && b === 0xfe) || (data.length > 1 && b === 0);
  const big = (a === 0xfe && b === 0xff) || (data.length > 1 && a === 0);
  return new TextDecoder(little ? "utf-16le" : big ? "utf-16be" : "utf-8").decode(data);
}

function whyNone(text: string): string {
  if (/-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(text)) {
    return "holds an SSH or PEM key, which the viewer does not open: expected an age identity";
  }
  if (/\bage1[a-z0-9]{20}/.test(text)) return "holds a public key, expected the private one";
  return "holds no private key that the viewer knows, expected an age identity";
}
