/**
 * Signatures of owners: Ed25519 (RFC 8032), on a line before what they are of. They are verified
 * over the raw bytes, before anything is parsed (docs/format.md, sections 3 and 5).
 */
import { ed25519 } from "@noble/curves/ed25519.js";
import { concat, fromHex, latin1, utf8 } from "./bytes.ts";

const LINE = /^([0-9a-f]{64}) ([0-9a-f]{128})\n/;
const LINE_BYTES = 64 + 1 + 128 + 1;
const SPACE = 0x20;

/** What an owner signed: the signer's key in hex, and the bytes that the signature is of. */
export interface SignedPart {
  readonly signer: string;
  readonly body: Uint8Array;
}

/**
 * Splits off the line with a signature over `primis/1 <what> <signer>`, a newline and the rest;
 * null unless it verifies. spaces: those at the end are not signed.
 */
export function verified(
  data: Uint8Array,
  what: "manifest" | "grant",
  spaces = false,
): SignedPart | null {
  const line = LINE.exec(latin1(data.subarray(0, LINE_BYTES)));
  if (!line) return null;
  const [, signer, signature] = line as unknown as [string, string, string];
  let end = data.length;
  while (spaces && end > LINE_BYTES && data[end - 1] === SPACE) end--;
  const body = data.subarray(LINE_BYTES, end);
  const message = concat(utf8(`primis/1 ${what} ${signer}\n`), body);
  return verify(signer, message, signature) ? { signer, body } : null;
}

function verify(signer: string, message: Uint8Array, signature: string): boolean {
  try {
    return ed25519.verify(fromHex(signature), message, fromHex(signer), { zip215: false });
  } catch {
    return false; // no point of the curve
  }
}
