/**
 * A key file that a passkey locks: an age file with a stanza of age's type fido2prf. The passkey
 * encrypts and decrypts with one secret, which never leaves the device that keeps it; so an owner
 * cannot seal a grant to it, but its holder can lock a key. Only a page may ask for a passkey, a
 * worker may not.
 */
import { Decrypter, Encrypter, webauthn } from "age-encryption";
import { textOf } from "../bytes.ts";
import { BadKey } from "../errors.ts";
import { ageFileIn, inspectAge } from "./age_file.ts";

const STANZA = "age-encryption.org/fido2prf";

/** What locks a key file. */
export type Lock = "passphrase" | "passkey";

/** What locks a file. Throws BadKey for other locks, and for a file that is none of age. */
export function lockOf(file: Uint8Array): Lock {
  const { kinds, scrypt } = inspectAge(ageFileIn(file) ?? file);
  if (scrypt !== null) return "passphrase";
  if (kinds.includes(STANZA)) return "passkey";
  throw new BadKey("the key file is encrypted, but neither by a passphrase nor by a passkey");
}

/**
 * Make a passkey, and a file that it locks. name: what the passkey is called where it is kept. The
 * browser asks twice. Throws BadKey where passkeys of this device cannot lock files.
 */
export async function lockWithPasskey(text: string, name: string): Promise<Uint8Array> {
  const identity = await capable(() => webauthn.createCredential({ keyName: name }));
  const encrypter = new Encrypter();
  encrypter.addRecipient(new webauthn.WebAuthnRecipient({ identity }));
  return capable(() => encrypter.encrypt(text));
}

/** What a passkey locked. Throws BadKey where another passkey did. */
export async function unlockWithPasskey(file: Uint8Array): Promise<string> {
  const decrypter = new Decrypter();
  decrypter.addIdentity(new webauthn.WebAuthnIdentity());
  const locked = ageFileIn(file)!;
  return textOf(await capable(() => decrypter.decrypt(locked)));
}

/** The library's errors in other words; the browser's own stay what they are. */
async function capable<T>(use: () => Promise<T>): Promise<T> {
  try {
    return await use();
  } catch (error) {
    if (error instanceof DOMException) throw error;
    const message = error instanceof Error ? error.message : "";
    if (message.startsWith("no identity matched")) {
      throw new BadKey("another passkey locked this key file");
    }
    if (message.includes("PRF")) {
      throw new BadKey("passkeys of this browser or device cannot encrypt (no PRF extension)");
    }
    throw new BadKey("the key file was altered, or no passkey locked it");
  }
}
