/**
 * Fields of parsed JSON, checked: each function returns its type or throws Malformed.
 */
import { Malformed, type Json, type JsonObject } from "../canonical.ts";

const SHOWN = 40;

function shown(value: Json | undefined): string {
  const text = JSON.stringify(value) ?? "nothing";
  return text.replace(/[^ -~]/g, "?").slice(0, SHOWN);
}

/** An object of exactly these fields. */
export function record(value: Json | undefined, names: readonly string[]): JsonObject {
  const found = objectOf(value) ? Object.keys(value).sort().join() : "none";
  const expected = [...names].sort().join();
  if (!objectOf(value) || found !== expected) {
    const safe = found.replace(/[^ -~]/g, "?").slice(0, 80);
    throw new Malformed(`has fields "${safe}", expected "${expected}"`);
  }
  return value;
}

export function objectOf(value: Json | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** An object of any fields. */
export function anyObject(value: Json | undefined): JsonObject {
  if (!objectOf(value)) throw new Malformed(`has ${shown(value)}, expected an object`);
  return value;
}

/** A list of at most so many. */
export function items(value: Json | undefined, most: number): readonly Json[] {
  if (!Array.isArray(value) || value.length > most) {
    throw new Malformed(`has ${shown(value)}, expected a list of at most ${most}`);
  }
  return value as readonly Json[];
}

/** A whole number within limits. */
export function whole(value: Json | undefined, low: number, high: number): number {
  if (!Number.isSafeInteger(value) || (value as number) < low || (value as number) > high) {
    throw new Malformed(`has number ${shown(value)}, expected ${low}..${high}`);
  }
  return value as number;
}

/** So many hex digits, in lower case. */
export function hexadecimal(value: Json | undefined, digits: number): string {
  if (typeof value !== "string" || value.length !== digits || !/^[0-9a-f]*$/.test(value)) {
    throw new Malformed(`has ${shown(value)}, expected ${digits} lower-case hex digits`);
  }
  return value;
}

/** One of these values. */
export function oneOf<T extends Json>(value: Json | undefined, allowed: readonly T[]): T {
  const found = allowed.find((one) => one === value);
  if (found === undefined) {
    throw new Malformed(`has ${shown(value)}, expected one of ${allowed.join(", ")}`);
  }
  return found;
}

export function text(value: Json | undefined): string {
  if (typeof value !== "string") throw new Malformed(`has ${shown(value)}, expected a text`);
  return value;
}

/** UTC, in whole seconds: 2024-01-31T12:00:00Z. */
export function moment(value: Json | undefined): string {
  if (typeof value !== "string" || !/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(value)) {
    throw new Malformed("has a time of creation that is none");
  }
  return value;
}
