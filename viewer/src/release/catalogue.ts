/**
 * The sealed catalogue: name, kind and labels of each image, for keys that open tier diagnostic of
 * the whole release (docs/format.md, section 3).
 */
import { anyObject, items, text, whole } from "../bundle/fields.ts";
import type { Manifest } from "../bundle/manifest.ts";
import { FANOUT, Pages, type FetchPage, type Leaf } from "../bundle/pages.ts";
import { fromHex } from "../bytes.ts";
import { Malformed, parseCanonical, type Json } from "../canonical.ts";
import { BadManifest, DamagedSection } from "../errors.ts";
import { inflate } from "../inflate.ts";
import { pageSecret, unpad, unseal, type Secret } from "../keys/seal.ts";
import type { Listed } from "./types.ts";

const PAGE_ID = 16;
const TAG = 16;
const MOST_PLAIN = 2 ** 24;
/** Bytes that all pages may take together, and more for each byte of a page as it is sealed. */
const OF_SMALL = 2 ** 27;
const PER_BYTE = 64;
const PER_MM = 1e9;
const MOST = Number.MAX_SAFE_INTEGER;

/** The pages of a release's catalogue. */
export function cataloguePages({ catalogue }: Manifest, fetch: FetchPage): Pages {
  return new Pages(catalogue, fetch, PAGE_ID + FANOUT * catalogue.bytesPerImage + TAG);
}

/** How much pages swell together: some megabytes must not fill the memory of whoever lists them. */
export class Swelling {
  private left = OF_SMALL;

  /** Throws Malformed where it is too much. */
  add(sealed: number, plain: number): void {
    this.left += PER_BYTE * sealed - plain;
    if (this.left < 0) throw new Malformed("it swells");
  }
}

/**
 * The images of a page. diagnostic: the release secret of that tier; swelling: of this page and those
 * before it. Throws BadManifest.
 */
export function readCataloguePage(
  leaf: Leaf,
  diagnostic: Secret,
  release: string,
  swelling: Swelling,
): Listed[] {
  try {
    const secret = pageSecret(diagnostic, leaf.data.subarray(0, PAGE_ID));
    const sealed = leaf.data.subarray(PAGE_ID);
    const padded = unseal(sealed, secret, "catalogue", fromHex(release));
    const plain = inflate(unpad(padded), MOST_PLAIN);
    swelling.add(sealed.length, plain.length);
    const body = anyObject(parseCanonical(plain));
    return items(body["images"], FANOUT).map(listedOf);
  } catch (error) {
    if (!(error instanceof Malformed || error instanceof DamagedSection)) throw error;
    throw new BadManifest("a page of the catalogue cannot be opened");
  }
}

function listedOf(value: Json): Listed {
  const body = anyObject(value);
  const size = (name: string): number => whole(body[name], 0, MOST);
  const labels = Object.entries(anyObject(body["labels"]));
  const spacing = body["spacing"];
  const [row, column] = spacing === null ? [null, null] : items(spacing, 2);
  return {
    id: text(body["id"]),
    name: text(body["name"]),
    kind: text(body["kind"]),
    frames: size("frames"),
    height: size("height"),
    width: size("width"),
    channels: size("channels"),
    spacing: row === null ? null : [whole(row, 0, MOST) / PER_MM, whole(column, 0, MOST) / PER_MM],
    modality: text(body["modality"]),
    study: text(body["study"]),
    series: text(body["series"]),
    instance: text(body["instance"]),
    labels: Object.fromEntries(labels.map(([name, label]) => [name, text(label)])),
  };
}
