/**
 * Releases seen before: trust on first use, as SSH does with hosts. The host of a release can
 * replace all of it, or put back an older state; so this browser remembers the signer and the
 * highest version, by place and by release. Same rules as src/primis/release/known.py.
 */
import { UnexpectedRelease, WrongSigner } from "../errors.ts";
import type { RememberedRelease } from "../release/types.ts";

/** A release as it was last seen. since, seen: days of the first and the latest sighting, UTC. */
export interface Sighting extends RememberedRelease {
  readonly since: string;
  readonly seen: string;
}

/** places: which sighting was the last at each; sightings: by release and signer. */
interface Known {
  readonly places: Record<string, string>;
  readonly sightings: Record<string, Sighting>;
}

/** Where text is kept: `localStorage`, or a map in tests. */
export interface Memory {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
}

/** How a sighting ended, where it was no error. */
export interface Recognised {
  /** Never seen at this place. */
  readonly first: boolean;
  /** Another release of the same signer was here, last on this day. */
  readonly replaced: string | null;
  /** The browser does not let this page remember anything. */
  readonly forgotten: boolean;
}

export interface Question {
  readonly place: string;
  readonly found: RememberedRelease;
  /** The signer that the configuration demands. */
  readonly demanded: string | null;
  /** Accept what differs from what was seen before, and remember it. */
  readonly anew: boolean;
  /** Today, `2024-01-31`. */
  readonly today: string;
}

const STORED_AS = "primis.known";
const EMPTY = (): Known => ({ places: {}, sightings: {} });
const keyOf = (seen: RememberedRelease) => `${seen.release} ${seen.signer}`;

/** Compares a verified release with what is known, and remembers it. Throws UnexpectedRelease. */
export function recognise(memory: Memory | null, question: Question): Recognised {
  const { place, found, demanded, anew, today } = question;
  if (demanded && demanded !== found.signer) {
    throw new WrongSigner(
      `release "${place}" is signed by "${found.signer}", expected "${demanded}"`,
    );
  }
  const known = readKnown(memory, anew);
  const there = known.sightings[known.places[place] ?? ""];
  const before = known.sightings[keyOf(found)];
  if (!anew) {
    const same = Object.values(known.sightings).filter((seen) => seen.release === found.release);
    if (!demanded) {
      for (const seen of there ? [there, ...same] : same) requireSameSigner(place, seen, found);
    }
    if (before) requireNotOlder(place, before, found);
  }
  if (anew) forget(known, found.release);
  known.sightings[keyOf(found)] = { ...found, since: before?.since ?? today, seen: today };
  known.places[place] = keyOf(found);
  const replaced = there && there.release !== found.release ? there.seen : null;
  return { first: !there, replaced, forgotten: !store(memory, known) };
}

/** What is accepted takes the place of what was seen, or it would be doubted again. */
function forget(known: Known, release: string): void {
  for (const [key, seen] of Object.entries(known.sightings)) {
    if (seen.release === release) delete known.sightings[key];
  }
}

function requireSameSigner(place: string, seen: Sighting, found: RememberedRelease): void {
  if (seen.signer === found.signer) return;
  throw new UnexpectedRelease(
    `release "${place}" is signed by "${found.signer}", but since ${seen.since} it was signed ` +
      `by "${seen.signer}"`,
  );
}

function requireNotOlder(place: string, seen: Sighting, found: RememberedRelease): void {
  if (found.version < seen.version) {
    throw new UnexpectedRelease(
      `release "${place}" is an older state, version ${found.version}; version ${seen.version} ` +
        `was seen on ${seen.seen}`,
    );
  }
  if (found.version === seen.version && found.digest !== seen.digest) {
    throw new UnexpectedRelease(
      `release "${place}" has version ${found.version} with other content than on ${seen.seen}`,
    );
  }
}

/** Damaged memory is an error, never taken for empty: damaging it must not win trust anew. */
function readKnown(memory: Memory | null, anew: boolean): Known {
  let text: string | null = null;
  try {
    text = memory?.getItem(STORED_AS) ?? null;
  } catch {
    // Storage that is forbidden remembers nothing; `store` says so.
  }
  const known = text === null ? EMPTY() : parsed(text);
  if (known) return known;
  if (anew) return EMPTY();
  throw new UnexpectedRelease(
    "what this browser remembers of signers is damaged: accept to remember them anew",
  );
}

function parsed(text: string): Known | null {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    return null;
  }
  if (!isRecord(body) || !isRecord(body["places"]) || !isRecord(body["sightings"])) return null;
  const sightings = Object.entries(body["sightings"]);
  const places = Object.entries(body["places"]);
  if (!sightings.every(([key, seen]) => isSighting(seen) && keyOf(seen) === key)) return null;
  if (!places.every(([, key]) => typeof key === "string")) return null;
  return {
    places: Object.fromEntries(places) as Record<string, string>,
    sightings: Object.fromEntries(sightings) as Record<string, Sighting>,
  };
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

function isSighting(value: unknown): value is Sighting {
  if (!isRecord(value) || !Number.isSafeInteger(value["version"])) return false;
  const texts = ["release", "signer", "digest", "since", "seen"];
  return texts.every((name) => typeof value[name] === "string");
}

function store(memory: Memory | null, known: Known): boolean {
  if (!memory) return false;
  try {
    memory.setItem(STORED_AS, JSON.stringify(known));
    return true;
  } catch {
    return false;
  }
}

/** What was last seen at a place; nothing if memory is damaged, which `recognise` reports. */
export function seenAt(memory: Memory | null, place: string): readonly Sighting[] {
  try {
    const known = readKnown(memory, true);
    const seen = known.sightings[known.places[place] ?? ""];
    return seen ? [seen] : [];
  } catch {
    return [];
  }
}

/** `localStorage`, or null where the browser forbids it. */
export function browserMemory(): Memory | null {
  try {
    return window.localStorage;
  } catch {
    return null;
  }
}
