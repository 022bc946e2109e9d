/**
 * What a person can open a release with. A key is held in the memory of the page and its worker
 * alone: it is in no storage, no log and no address.
 */
import { BadKey } from "../errors.ts";
import type { Lock } from "../keys/passkey.ts";

export type Key =
  | { readonly kind: "identity"; readonly text: string }
  | { readonly kind: "sealed"; readonly file: Uint8Array; readonly passphrase: string }
  | {
      readonly kind: "passphrase";
      readonly passphrase: string;
      /** Label of the grant that a link names. */
      readonly grant?: string;
    };

/** A key file that has to be unlocked. */
export interface LockedKey {
  readonly kind: "locked";
  readonly file: Uint8Array;
  readonly by: Lock;
}

/** A key as it lies in a file. name: of the file, without its ending. */
export interface PlainKey {
  readonly kind: "identity";
  readonly text: string;
  readonly name: string;
}

/** What a file or a pasted text turned out to be. */
export type Offered = PlainKey | LockedKey;

const MOST_BYTES = 1 << 16;
const AGE_FILE = /^age-encryption\.org\/v1\n|-----BEGIN AGE ENCRYPTED FILE-----/;
const ADDRESS = /^[\d.]+$|^\[/;
const IDENTITY = /^AGE-SECRET-KEY-(PQ-)?1[A-Z0-9]+$/im;

/** name: of the file. Throws BadKey, which says what was expected and never what was read. */
export async function keyFrom(file: Uint8Array, name = "key"): Promise<Offered> {
  if (file.length > MOST_BYTES) {
    throw new BadKey(`the key has ${file.length} bytes, expected ${MOST_BYTES} at most`);
  }
  const text = new TextDecoder().decode(file).trim();
  if (AGE_FILE.test(text)) {
    const { lockOf } = await import("../keys/passkey.ts"); // a larger part of the page
    return { kind: "locked", file, by: lockOf(file) };
  }
  if (IDENTITY.test(text)) return { kind: "identity", text, name: stemOf(name) };
  throw new BadKey(whyNot(text));
}

export const keyFromText = (text: string): Promise<Offered> =>
  keyFrom(new TextEncoder().encode(text));

function stemOf(name: string): string {
  return name.replace(/\.(key|txt|age)$/i, "") || name;
}

function whyNot(text: string): string {
  if (!text) return "it is empty, expected a line AGE-SECRET-KEY-1...";
  if (/^age1[a-z0-9]+/m.test(text)) {
    return "this is a public key; the private key is in the file without .pub at the end";
  }
  if (/BEGIN .*PRIVATE KEY/.test(text)) {
    return "SSH and PEM keys cannot be used in a browser: use primis restore, or ask for a grant to an age key";
  }
  return "this is not an age key, expected a line AGE-SECRET-KEY-1... or an encrypted age file";
}

/** Whether a page at this host can have passkeys: they belong to a name, and never to a number. */
export function hasPasskeys(host: string): boolean {
  return "PublicKeyCredential" in globalThis && isSecureContext && !ADDRESS.test(host);
}

/** What the fragment of a link holds: `#open=<secret>`, then `&pin`, then `&grant=<label>`. */
export interface Link {
  readonly secret: string;
  readonly asksPin: boolean;
  /** Label of the grant that it opens, null where it names none. */
  readonly grant: string | null;
}

export function linkFrom(fragment: string): Link | null {
  const [first = "", ...rest] = fragment.replace(/^#/, "").split("&");
  if (!first.startsWith("open=")) return null;
  const secret = decoded(first.slice("open=".length));
  if (!secret) return null;
  const named = rest.find((part) => part.startsWith("grant="));
  const grant = named === undefined ? null : decoded(named.slice("grant=".length));
  return { secret, asksPin: rest.includes("pin"), grant };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The passphrase of a link's grant. */
export function linkKey(link: Link, pin = ""): Key {
  const passphrase = link.asksPin ? `${link.secret}-${pin.trim()}` : link.secret;
  return { kind: "passphrase", passphrase, ...(link.grant === null ? {} : { grant: link.grant }) };
}
