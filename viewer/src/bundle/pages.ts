/**
 * Lists of any length as a tree of pages, each named by its digest (docs/format.md, section 3).
 * The manifest vouches for the root, so each page is verified before it is parsed.
 */
import { sha256, toHex, view } from "../bytes.ts";
import { Malformed, parseCanonical, type Json } from "../canonical.ts";
import { hexadecimal, items, record, whole } from "./fields.ts";
import { MOST_COUNT, type Listing } from "./manifest.ts";

export const FANOUT = 128;
const MOST_PAGE = 1 << 16;
const REMEMBERED = 16;
const MOST_BUNDLE = 2 ** 50;
const ENTRY = 56;

/** (digest, most bytes) -> the page, not yet verified. */
export type FetchPage = (digest: string, most: number) => Promise<Uint8Array>;

/** A page as the page above lists it. first: its lowest id, "" for the root. */
interface Node {
  readonly count: number;
  readonly first: string;
  readonly page: string;
}

export interface Leaf extends Node {
  readonly data: Uint8Array;
}

export class Pages {
  private readonly read = new Map<string, Uint8Array>();
  private readonly depth: number;

  /** most: bytes of a leaf. What does not fit is thrown as Malformed. */
  constructor(
    private readonly listing: Listing,
    private readonly fetch: FetchPage,
    private readonly most = MOST_PAGE,
  ) {
    let [depth, capacity] = [0, FANOUT];
    while (capacity < listing.count) [depth, capacity] = [depth + 1, capacity * FANOUT];
    this.depth = depth;
  }

  /** Leaves in order: all, or from the one on that holds an id, if any does. */
  leaves(start = ""): AsyncGenerator<Leaf> {
    const { count, page } = this.listing;
    return this.below({ count, first: "", page }, this.depth, start);
  }

  /** The leaf that holds an id, if any leaf does. */
  async leafOf(id: string): Promise<Leaf> {
    for await (const leaf of this.leaves(id)) return leaf;
    throw new Malformed("has no pages");
  }

  private async *below(node: Node, depth: number, start: string): AsyncGenerator<Leaf> {
    if (!depth) {
      yield { ...node, data: await this.page(node.page, this.most) };
      return;
    }
    const children = await this.children(node);
    const at = children.filter((child) => child.first <= start).length;
    for (const child of children.slice(Math.max(at - 1, 0))) {
      yield* this.below(child, depth - 1, start);
    }
  }

  private async children(node: Node): Promise<Node[]> {
    const body = record(parseCanonical(await this.page(node.page, MOST_PAGE)), ["pages"]);
    const nodes = items(body["pages"], FANOUT).map(nodeOf);
    const count = nodes.reduce((sum, child) => sum + child.count, 0);
    if (count !== node.count || !ascending(nodes.map((child) => child.first))) {
      throw new Malformed(
        `page "${node.page.slice(0, 16)}" does not list what the page above it says`,
      );
    }
    if (node.first && nodes[0]?.first !== node.first) {
      throw new Malformed(`page "${node.page.slice(0, 16)}" begins at another id than is said`);
    }
    return nodes;
  }

  private async page(digest: string, most: number): Promise<Uint8Array> {
    const kept = this.read.get(digest);
    if (kept) return kept;
    const data = await this.fetch(digest, most);
    if (data.length > most || toHex(sha256(data)) !== digest) {
      throw new Malformed(`page "${digest.slice(0, 16)}" is not the one that is listed`);
    }
    if (this.read.size >= REMEMBERED) this.read.clear();
    this.read.set(digest, data);
    return data;
  }
}

function nodeOf(value: Json): Node {
  const body = record(value, ["count", "first", "page"]);
  return {
    count: whole(body["count"], 1, MOST_COUNT),
    first: hexadecimal(body["first"], 32),
    page: hexadecimal(body["page"], 64),
  };
}

function ascending(ids: readonly string[]): boolean {
  return ids.every((id, k) => k === 0 || ids[k - 1]! < id);
}

/** A bundle as its page lists it. */
export interface Entry {
  readonly id: string;
  readonly bytes: number;
  readonly digest: string;
}

/** The bundles of a leaf. Throws Malformed. */
export function entriesOf(leaf: Leaf): Entry[] {
  if (leaf.data.length !== leaf.count * ENTRY) {
    throw new Malformed(
      `page "${leaf.page.slice(0, 16)}" has ${leaf.data.length} bytes, ` +
        `expected ${leaf.count} times ${ENTRY}`,
    );
  }
  const entries = Array.from({ length: leaf.count }, (_, k) => {
    const data = leaf.data.subarray(k * ENTRY, (k + 1) * ENTRY);
    const bytes = whole(Number(view(data).getBigUint64(16)), 1, MOST_BUNDLE);
    return { id: toHex(data.subarray(0, 16)), bytes, digest: toHex(data.subarray(24)) };
  });
  const ids = entries.map((entry) => entry.id);
  if (!ascending(ids) || (leaf.first && ids[0] !== leaf.first)) {
    throw new Malformed(
      `page "${leaf.page.slice(0, 16)}" does not list what the page above it says`,
    );
  }
  return entries;
}

/** The entry of an id, or null. Throws Malformed. */
export async function findEntry(pages: Pages, id: string): Promise<Entry | null> {
  return entriesOf(await pages.leafOf(id)).find((entry) => entry.id === id) ?? null;
}
