/** Signatures of owners: Ed25519 (RFC 8032). */
import { ed25519 } from "@noble/curves/ed25519.js";
import { concat, fromHex, utf8 } from "../bytes.ts";

/** Whether `signature` is by the key `signer` (both in hex) over a line and what follows it. */
export function verify(signer: string, line: string, body: Uint8Array, signature: string): boolean {
  try {
    const message = concat(utf8(line), body);
    return ed25519.verify(fromHex(signature), message, fromHex(signer), { zip215: false });
  } catch {
    return false; // no point of the curve
  }
}
