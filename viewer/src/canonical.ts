/**
 * Canonical JSON (RFC 8785), whole numbers only: one byte sequence for one meaning. docs/format.md,
 * section 1: a reader parses, writes again, and rejects the input unless the bytes are the same.
 */
import { equal, textOf, utf8 } from "./bytes.ts";

export type Json = null | boolean | number | string | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [name: string]: Json;
}

/** A text or bytes that are not what the format says: callers name the thing and its class. */
export class Malformed extends Error {}

/** The value of canonical JSON. Throws Malformed for any other bytes. */
export function parseCanonical(data: Uint8Array): Json {
  let value: Json;
  let again: Uint8Array;
  try {
    value = JSON.parse(textOf(data)) as Json;
    again = utf8(write(value));
  } catch {
    throw new Malformed("is not JSON of whole numbers");
  }
  if (!equal(again, data)) throw new Malformed("is not in canonical form (RFC 8785)");
  return value;
}

/** The canonical form of a value. Throws RangeError for what has none. */
export function canonical(value: Json): Uint8Array<ArrayBuffer> {
  return utf8(write(value));
}

function write(value: Json): string {
  if (typeof value === "string") return text(value);
  if (typeof value === "number") {
    if (!Number.isSafeInteger(value)) throw new RangeError("not a whole number of 53 bits");
    return JSON.stringify(value);
  }
  if (value === null || typeof value === "boolean") return String(value);
  if (Array.isArray(value)) return `[${value.map(write).join(",")}]`;
  const fields = value as JsonObject; // names in the order of their UTF-16 code units
  const names = Object.keys(fields).sort();
  return `{${names.map((name) => `${text(name)}:${write(fields[name] as Json)}`).join(",")}}`;
}

function text(value: string): string {
  if (!value.isWellFormed()) throw new RangeError("not Unicode");
  return JSON.stringify(value);
}
