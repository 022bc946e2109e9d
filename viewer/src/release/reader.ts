/**
 * A release where it lies, read and verified (docs/format.md, sections 2 and 3):
 *
 * 1  the manifest's signature, over its raw bytes               bundle/manifest
 * 2  whose it is, and whether it is older than what was seen    known
 * 3  the grants that identities open                            grants_folder
 * 4  pages of bundles and of the catalogue, as they are asked   bundle/pages, catalogue
 * 5  of a bundle the header, and what a tier needs              bundle/header, sharing/
 */
import { readHeader, MOST_HEADER, profilesOf, type Profiles } from "../bundle/header.ts";
import { MOST_MANIFEST, readManifest, type Manifest } from "../bundle/manifest.ts";
import { entriesOf, findEntry, Pages, type Entry, type Leaf } from "../bundle/pages.ts";
import { RangedBytes } from "../bundle/ranged.ts";
import { sha256Large, toHex } from "../bytes.ts";
import { Malformed } from "../canonical.ts";
import type { Decoder } from "../codec/job.ts";
import {
  BadBundle,
  BadManifest,
  HostError,
  NotCovered,
  NotThere,
  StoreError,
  WrongSigner,
} from "../errors.ts";
import { covers, isExpired, keysFor, type Grant } from "../keys/grant.ts";
import type { Identity } from "../keys/identity.ts";
import { highest, type ImageKeys } from "../keys/image_keys.ts";
import { reaches, releaseSecrets, type Secret } from "../keys/seal.ts";
import { OpenedBundle } from "../sharing/opened.ts";
import { cataloguePages, readCataloguePage, Swelling } from "./catalogue.ts";
import { GrantsFolder } from "./grants_folder.ts";
import { openImage } from "./image.ts";
import { requireExpected } from "./known.ts";
import type {
  GrantInfo,
  ImageEntry,
  Listed,
  OpenedImage,
  Place,
  Release,
  RememberedRelease,
  Span,
} from "./types.ts";

/** Bytes of a bundle that is fetched whole in any case, and those that are fetched first. */
const SMALL = 2 ** 14;
const BEGINNING = 8192;

export interface OpenOptions {
  /** What decodes: `Codec`, or a worker. */
  readonly decoder: Decoder;
  /** The public key that must have signed the release, 64 hex digits. */
  readonly signer?: string;
  /** What was remembered of releases before. */
  readonly known?: readonly RememberedRelease[];
  /** Accept what does not fit what is known: a person said so. */
  readonly anew?: boolean;
  /** Label of the grant that a link names: no other one is tried. */
  readonly grant?: string;
}

/**
 * Open a release with identities. Throws BadManifest, WrongSigner, UnexpectedRelease,
 * NoMatchingGrant, OtherPassphrase, BadGrant, NotThere, HostError.
 */
export async function openRelease(
  place: Place,
  identities: readonly Identity[],
  options: OpenOptions,
): Promise<Release> {
  const manifest = await manifestOf(place); // 1
  const { signer, known = [], anew = false } = options; // 2
  if (signer !== undefined && signer !== manifest.signer) {
    throw new WrongSigner(
      `release "${place.name}" is signed by "${manifest.signer}", expected "${signer}"`,
    );
  }
  const seen = rememberedOf(place, manifest);
  if (!anew) requireExpected(seen, known, signer !== undefined);
  const trusted = known.some((before) => before.signer === manifest.signer);
  const trust = signer ?? (trusted ? manifest.signer : null);
  const notes: string[] = [];
  const note = (said: string): void => void (notes.includes(said) || notes.push(said));
  const grants = await new GrantsFolder(place, manifest, trust, note).open(
    identities,
    options.grant,
  ); // 3
  return new OpenRelease(place, manifest, grants, options.decoder, notes, note);
}

/** Digests of the weights that a release needs. Throws BadManifest, NotThere, HostError. */
export async function modelsOf(place: Place): Promise<string[]> {
  return modelsIn(await manifestOf(place));
}

function modelsIn(manifest: Manifest): string[] {
  return [...new Set(manifest.profiles.map((profile) => profile.model))];
}

async function manifestOf(place: Place): Promise<Manifest> {
  const name = `${place.name}/manifest.json`;
  try {
    return readManifest(await place.read("manifest.json", MOST_MANIFEST), name);
  } catch (error) {
    if (error instanceof NotThere) throw error; // most likely a mistyped address: nothing is damaged
    if (error instanceof HostError || !(error instanceof StoreError)) throw error;
    throw new BadManifest(
      `"${place.name}" is not a release: manifest.json cannot be read (${error.why})`,
    );
  }
}

function rememberedOf(place: Place, manifest: Manifest): RememberedRelease {
  const { release, signer, version, digest } = manifest;
  return { place: place.name, release, signer, version, digest };
}

function today(): string {
  return new Date().toISOString().slice(0, 10);
}

class OpenRelease implements Release {
  private readonly profiles: Profiles;
  private readonly bundles: Pages;
  private readonly catalogue: Pages;

  constructor(
    private readonly where: Place,
    private readonly manifest: Manifest,
    private readonly opened: readonly Grant[],
    private readonly decoder: Decoder,
    readonly notes: readonly string[],
    private readonly note: (said: string) => void,
  ) {
    this.profiles = profilesOf(manifest.profiles);
    const fetch = (digest: string, most: number): Promise<Uint8Array> => this.page(digest, most);
    this.bundles = new Pages(manifest.bundles, fetch);
    this.catalogue = cataloguePages(manifest, fetch);
  }

  get place(): string {
    return this.where.name;
  }
  get signer(): string {
    return this.manifest.signer;
  }
  get id(): string {
    return this.manifest.release;
  }
  get version(): number {
    return this.manifest.version;
  }
  get digest(): string {
    return this.manifest.digest;
  }
  get created(): string {
    return this.manifest.created;
  }
  get count(): number {
    return this.manifest.bundles.count;
  }
  get grants(): readonly GrantInfo[] {
    return this.opened.map(grantInfo);
  }

  /** See Release. */
  async prepare(): Promise<void> {
    for (const model of modelsIn(this.manifest)) await this.decoder.prepare(model);
  }

  remembered(): RememberedRelease {
    return rememberedOf(this.where, this.manifest);
  }

  async images(): Promise<ImageEntry[]> {
    const found: ImageEntry[] = [];
    for await (const page of this.pages()) found.push(...page);
    return found;
  }

  async *pages(): AsyncGenerator<ImageEntry[]> {
    try {
      if (this.opened.some((grant) => grant.secret)) yield* this.allPages();
      else yield await this.named();
    } catch (error) {
      if (!(error instanceof Malformed)) throw error;
      throw new BadManifest(`manifest: ${error.message}`);
    }
  }

  /** Pages of bundles, each beside the page of the catalogue that lists the same images. */
  private async *allPages(): AsyncGenerator<ImageEntry[]> {
    const diagnostic = this.diagnostic();
    const listed = diagnostic ? this.catalogue.leaves() : null;
    const swelling = new Swelling();
    for await (const leaf of this.bundles.leaves()) {
      const page = listed && (await listed.next());
      const images = page && !page.done ? this.read(page.value, diagnostic!, swelling) : [];
      const byId = new Map(images.map((image) => [image.id, image]));
      yield entriesOf(leaf)
        .filter(({ id }) => this.covers(id))
        .map(({ id }) => this.entryOf(id, byId.get(id) ?? null));
    }
  }

  /** Images that grants name one by one. */
  private async named(): Promise<ImageEntry[]> {
    const ids = this.opened.flatMap((grant) => [...grant.images.keys(), ...grant.regions.keys()]);
    const found: ImageEntry[] = [];
    for (const id of [...new Set(ids)].sort()) {
      if (await findEntry(this.bundles, id)) found.push(this.entryOf(id, null));
    }
    return found;
  }

  /** See Release. */
  async open(id: string, signal?: AbortSignal): Promise<OpenedImage> {
    const keys = keysFor(this.opened, id, null, today());
    const entry = await this.entry(id);
    const file = await this.file(entry, signal);
    const beginning = await file.read(0, Math.min(BEGINNING, file.size));
    const start = beginning.subarray(0, MOST_HEADER);
    const header = readHeader(start, entry.bytes, id, this.profiles);
    if (header.id !== id) throw new BadBundle(`bundle "${id}" calls itself "${header.id}"`);
    const bundle = new OpenedBundle(header, file, keys);
    return openImage(bundle, highest(keys), this.id, this.decoder);
  }

  private async entry(id: string): Promise<Entry> {
    const found = await this.checked(() => findEntry(this.bundles, id));
    if (found) return found;
    throw new NotCovered(`image "${id}" is not in the release`);
  }

  /** A bundle of which the host is asked for what is read; one that is had whole is compared. */
  private async file(entry: Entry, signal?: AbortSignal): Promise<RangedBytes> {
    const key = `bundles/${entry.id}.primis`;
    if (entry.bytes <= SMALL) return RangedBytes.of(await this.whole(entry, key, signal));
    let whole: Uint8Array | null = null;
    return new RangedBytes(entry.bytes, async (spans: readonly Span[]) => {
      const parts = whole ? null : await this.ranges(key, spans, entry.bytes, signal);
      if (parts) return parts;
      this.note(`"${this.place}" serves no ranges: whole files are fetched`);
      whole ??= await this.whole(entry, key, signal);
      const data = whole;
      return spans.map((span) => data.subarray(span.start, span.end));
    });
  }

  private ranges(
    key: string,
    spans: readonly Span[],
    size: number,
    signal?: AbortSignal,
  ): Promise<Uint8Array[] | null> {
    return this.stored(() => this.where.ranges(key, spans, size, signal));
  }

  private async whole(entry: Entry, key: string, signal?: AbortSignal): Promise<Uint8Array> {
    const data = await this.stored(() => this.where.read(key, entry.bytes + 1, signal));
    const path = `${this.place}/${key}`;
    if (data.length !== entry.bytes) {
      throw new BadBundle(
        `bundle "${path}" has ${data.length} bytes, the manifest lists ${entry.bytes}`,
      );
    }
    if (toHex(await sha256Large(data)) === entry.digest) return data;
    throw new BadBundle(
      `bundle "${path}" was altered or damaged: it is not the one that the manifest lists`,
    );
  }

  private async stored<T>(read: () => Promise<T>): Promise<T> {
    try {
      return await read();
    } catch (error) {
      if (error instanceof HostError || !(error instanceof StoreError)) throw error;
      throw new BadBundle(`bundle "${error.what}" cannot be read: ${error.why}`);
    }
  }

  private async page(digest: string, most: number): Promise<Uint8Array> {
    try {
      return await this.where.read(`pages/${digest}`, most);
    } catch (error) {
      if (error instanceof HostError || !(error instanceof StoreError)) throw error;
      throw new BadManifest(
        `page "${error.what}" cannot be read: ${error.why}; ` +
          "if the release was changed meanwhile, open it again",
      );
    }
  }

  private async checked<T>(read: () => Promise<T>): Promise<T> {
    try {
      return await read();
    } catch (error) {
      if (!(error instanceof Malformed)) throw error;
      throw new BadManifest(`manifest: ${error.message}`);
    }
  }

  private read(leaf: Leaf, diagnostic: Secret, swelling: Swelling): Listed[] {
    return readCataloguePage(leaf, diagnostic, this.id, swelling);
  }

  /** The release secret of tier diagnostic, where a grant that has not expired opens it. */
  private diagnostic(): Secret | null {
    const day = today();
    const grant = this.opened.find(
      (one) => one.secret && reaches(one.tier, "diagnostic") && !isExpired(one, day),
    );
    return grant ? releaseSecrets(grant.secret!, grant.tier).get("diagnostic")! : null;
  }

  private covers(id: string): boolean {
    return this.opened.some((grant) => covers(grant, id));
  }

  private entryOf(id: string, listed: Listed | null): ImageEntry {
    const covering = this.opened.filter((grant) => covers(grant, id));
    const whole = covering.find((grant) => grant.secret || grant.images.has(id));
    const grant = whole ?? covering[0]!;
    const region = whole ? null : grant.regions.get(id)!.region;
    return { id, name: listed?.name ?? null, tier: grant.tier, region, listed };
  }
}

function grantInfo(grant: Grant): GrantInfo {
  return {
    label: grant.label,
    tier: grant.tier,
    note: grant.note,
    notAfter: grant.notAfter,
    expired: isExpired(grant, today()),
    scope: grant.secret ? "release" : "images",
    images: grant.images.size,
    regions: grant.regions.size,
  };
}

export type { ImageKeys };
