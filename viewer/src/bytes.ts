/**
 * Bytes: hexadecimal, base64, text, big-endian numbers, digests. Pure functions.
 */
import { sha256 as hash } from "@noble/hashes/sha2.js";

const TEXT = new TextEncoder();
const STRICT = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** UTF-8 of a text. */
export function utf8(text: string): Uint8Array<ArrayBuffer> {
  return TEXT.encode(text);
}

/** Text of UTF-8. Throws TypeError for bytes that are none. */
export function textOf(data: Uint8Array): string {
  return STRICT.decode(data);
}

/** One character a byte, whatever it is. */
export function latin1(data: Uint8Array): string {
  let text = "";
  for (let at = 0; at < data.length; at += 8192) {
    text += String.fromCharCode(...data.subarray(at, at + 8192));
  }
  return text;
}

export function toHex(data: Uint8Array): string {
  let text = "";
  for (const byte of data) text += byte.toString(16).padStart(2, "0");
  return text;
}

/** Inverse of `toHex`. Throws RangeError unless it is hexadecimal in lower case. */
export function fromHex(text: string): Uint8Array<ArrayBuffer> {
  if (text.length % 2 || !/^[0-9a-f]*$/.test(text)) throw new RangeError("no hexadecimal");
  const data = new Uint8Array(text.length / 2);
  for (let k = 0; k < data.length; k++) data[k] = parseInt(text.slice(2 * k, 2 * k + 2), 16);
  return data;
}

/** Bytes of base64. Throws RangeError for a text that is none. */
export function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  try {
    return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  } catch {
    throw new RangeError("no base64");
  }
}

export function concat(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

export function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, k) => byte === b[k]);
}

export function startsWith(data: Uint8Array, start: Uint8Array): boolean {
  return data.length >= start.length && start.every((byte, k) => byte === data[k]);
}

export function view(data: Uint8Array): DataView {
  return new DataView(data.buffer, data.byteOffset, data.byteLength);
}

/** Numbers of 4 bytes, big-endian. */
export function words(...numbers: readonly number[]): Uint8Array<ArrayBuffer> {
  const data = new Uint8Array(4 * numbers.length);
  numbers.forEach((number, k) => view(data).setUint32(4 * k, number));
  return data;
}

export function sha256(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const state = hash.create();
  for (const part of parts) state.update(part);
  return new Uint8Array(state.digest());
}

/** SHA-256 of what may be large: by WebCrypto where that is offered. */
export async function sha256Large(data: Uint8Array): Promise<Uint8Array> {
  const subtle = globalThis.crypto?.subtle;
  if (!subtle || data.length < 1 << 16) return sha256(data);
  return new Uint8Array(await subtle.digest("SHA-256", data as Uint8Array<ArrayBuffer>));
}
