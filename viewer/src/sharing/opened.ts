/**
 * A bundle with the secrets at hand: its sealed parts, each verified before it is used
 * (docs/format.md, sections 2, 4 and 6).
 */
import { TAG, RECORD, type Header, type SectionName } from "../bundle/header.ts";
import type { RangedBytes } from "../bundle/ranged.ts";
import { equal, sha256, view } from "../bytes.ts";
import { openTileBytes } from "../codes/coder.ts";
import { BadBundle, DamagedSection, NotCovered, TierTooLow } from "../errors.ts";
import type { ImageKeys } from "../keys/image_keys.ts";
import { infoSecret, mask, opened, tileSecret, unpad, unseal, type Secret } from "../keys/seal.ts";
import type { Region, Span, Tier } from "../release/types.ts";
import { mayGroup, readInfo, readRegionInfo, type Info } from "./info.ts";

/** Sections that are sealed whole, and the tier that opens each. */
const SEALED_WHOLE = {
  info: "preview",
  header: "diagnostic",
  exact: "diagnostic",
  original: "original",
} as const satisfies Partial<Record<SectionName, Tier>>;
export type SealedWhole = keyof typeof SEALED_WHOLE;

const NOTHING = new Uint8Array(0);
/** Bytes that are fetched rather than by a request more, and spans of one request. */
const SLACK = 128;
const MOST_SPANS = 2048;

/** Where a record's values and its sealed stream lie, in the part that its group has. */
export interface IndexRecord {
  readonly at: number;
  readonly length: number;
  readonly entries: number;
  readonly streamAt: number;
  readonly streamLength: number;
  readonly digest: Uint8Array;
}

/** A record of a frame: its tier, its number among those of the frame, and its tile's. */
export interface RecordName {
  readonly frame: number;
  readonly tier: Tier;
  readonly number: number;
  readonly tile: number;
}

/** Throws DamagedSection where an image cannot have such a region. */
function requireRegion({ x, y, width, height, last }: Region, header: Header): void {
  const { geometry, profile } = header;
  const within =
    x + width <= geometry.width && y + height <= geometry.height && last < geometry.frames;
  if (!within || profile.settings.exactBits || profile.settings.protection === "sca") {
    throw new DamagedSection("a grant opens a region that the image does not have");
  }
}

export class OpenedBundle {
  private known: Promise<Info> | null = null;
  private plain: Promise<Uint8Array[][]> | null = null;

  constructor(
    readonly header: Header,
    private readonly file: RangedBytes,
    readonly keys: ImageKeys,
  ) {}

  has(name: SectionName): boolean {
    return this.header.sections.has(name);
  }

  /** Fetch sections whole, all at once. */
  async want(...names: readonly SectionName[]): Promise<void> {
    await this.file.want(names.filter((name) => this.has(name)).map((name) => this.span(name)));
  }

  /** Throws TierTooLow unless the secrets open a tier and all below it. */
  requireTier(tier: Tier): void {
    const has: ReadonlyMap<Tier, unknown> = this.keys.region?.tiles ?? this.keys.secrets;
    const missing = opened(tier)
      .filter((below) => !has.has(below))
      .at(-1);
    if (missing) {
      throw new TierTooLow(
        `tier "${tier}" was asked for, but the secrets offered do not open "${missing}"`,
      );
    }
  }

  /** A section sealed whole, without its padding. Throws DamagedSection, TierTooLow. */
  async unseal(name: SealedWhole): Promise<Uint8Array> {
    const tier = SEALED_WHOLE[name];
    this.requireTier(tier);
    const secret = this.keys.secrets.get(tier);
    if (!secret) {
      throw new NotCovered(`bundle "${this.header.id}": section "${name}" is not opened`);
    }
    const { start, end } = this.span(name);
    const sealed = await this.file.read(start, end);
    return this.named(() => {
      const opens = name === "info" ? infoSecret(secret) : secret;
      const data = unseal(sealed, opens, name, this.header.binding);
      return name === "header" || name === "original" ? unpad(data) : data;
    });
  }

  /** Section `info`, or what the grant of a region has in its place. Throws DamagedSection. */
  info(): Promise<Info> {
    const { region } = this.keys;
    this.known ??= (async () => {
      if (!region) {
        const data = await this.unseal("info");
        return this.named(() => readInfo(data, this.header));
      }
      const { first, last } = region.region;
      return this.named(() => {
        requireRegion(region.region, this.header);
        return readRegionInfo(region.info, this.header, first, last);
      });
    })();
    return this.known;
  }

  /** G: how many frames are coded together. */
  async group(): Promise<number> {
    return mayGroup(this.header) ? (await this.info()).group : 1;
  }

  /** Of a record's tile. Throws NotCovered, TierTooLow. */
  secretOf({ frame, tier, tile }: RecordName): Secret {
    const number = frame * this.header.geometry.tileCount + tile;
    this.requireTier(tier);
    const { region, secrets } = this.keys;
    if (!region) return tileSecret(secrets.get(tier)!, number);
    const secret = region.tiles.get(tier)?.get(number);
    if (secret) return secret;
    throw new NotCovered(
      `bundle "${this.header.id}": tile ${number} at tier "${tier}" is not opened`,
    );
  }

  /** Index records, fetched in as few requests as that goes. Throws DamagedSection. */
  async records(names: readonly RecordName[]): Promise<IndexRecord[]> {
    const size = RECORD + TAG;
    const start = this.span("index").start;
    const spans = names.map(({ frame, number }) => {
      const at = start + size * (frame * this.header.records + number);
      return { start: at, end: at + size };
    });
    await this.file.want(spans, SLACK, MOST_SPANS);
    const group = await this.group();
    return Promise.all(
      names.map(async (name, k) => {
        const sealed = await this.file.read(spans[k]!.start, spans[k]!.end);
        return this.named(() => this.record(name, sealed, group));
      }),
    );
  }

  private record(name: RecordName, sealed: Uint8Array, group: number): IndexRecord {
    const { header } = this;
    const plain = unseal(sealed, this.secretOf(name), "index", header.binding);
    const [at, length, entries, streamAt, streamLength] = [0, 4, 8, 12, 16].map((place) =>
      view(plain).getUint32(place),
    ) as [number, number, number, number, number];
    const part = this.partOf(name.frame, group);
    const values = header.profile.settings.protection === "keyed" ? part.end - part.start : 0;
    if (at + length > values || streamAt + streamLength > part.end - part.start) {
      throw new DamagedSection('section "index": a record points outside its section');
    }
    return { at, length, entries, streamAt, streamLength, digest: plain.subarray(20, RECORD) };
  }

  /** Where records of a frame, and of those coded with it, lie in the section of the code. */
  private partOf(frame: number, group: number): Span {
    const { codeBudget, geometry } = this.header;
    const first = Math.floor(frame / group) * group;
    const stop = Math.min(first + group, geometry.frames);
    return { start: first * codeBudget, end: stop * codeBudget };
  }

  /** Fetch what records point to. */
  async wantRuns(names: readonly RecordName[], records: readonly IndexRecord[]): Promise<void> {
    if (this.has("supports")) return this.want("public", "supports");
    const [start, group] = [this.span("public").start, await this.group()];
    const spans = records.flatMap((record, k) => {
      const part = start + this.partOf(names[k]!.frame, group).start;
      const { at, length, streamAt, streamLength } = record;
      return [
        { start: part + at, end: part + at + length },
        { start: part + streamAt, end: part + streamAt + streamLength },
      ];
    });
    await this.file.want(spans.filter((span) => span.end > span.start));
  }

  /** A record's support, in clear. Throws DamagedSection. */
  async support(name: RecordName, record: IndexRecord): Promise<Uint8Array> {
    if (!record.streamLength) return NOTHING;
    const section = this.span(this.has("supports") ? "supports" : "public");
    const start = section.start + this.partOf(name.frame, await this.group()).start;
    const from = start + record.streamAt;
    const sealed = await this.file.read(from, from + record.streamLength);
    const { binding } = this.header;
    return this.named(() => unseal(sealed, this.secretOf(name), "supports", binding));
  }

  /** Level keyed: a record's values, verified and unmasked. Throws DamagedSection. */
  async values(name: RecordName, record: IndexRecord): Promise<Uint8Array> {
    const part = this.partOf(name.frame, await this.group());
    const start = this.span("public").start + part.start + record.at;
    const values = this.verified(await this.file.read(start, start + record.length), record);
    return mask(values, this.secretOf(name));
  }

  /** Level sca: the part of `public` of a record's tile, verified. Throws DamagedSection. */
  async open(name: RecordName, record: IndexRecord): Promise<Uint8Array> {
    this.plain ??= this.openTiles();
    return this.verified((await this.plain)[name.frame]![name.tile]!, record);
  }

  private async openTiles(): Promise<Uint8Array[][]> {
    const { start, end } = this.span("public");
    const data = await this.file.read(start, end);
    const { frames, tileCount } = this.header.geometry;
    return this.named(() => {
      let at = 0;
      const found = Array.from({ length: frames }, () =>
        Array.from({ length: tileCount }, () => {
          const size = openTileBytes(data.subarray(at));
          at += size;
          return data.subarray(at - size, at);
        }),
      );
      if (at === data.length) return found;
      throw new DamagedSection(
        `section "public" has ${data.length - at} bytes after its last tile`,
      );
    });
  }

  private verified(values: Uint8Array, record: IndexRecord): Uint8Array {
    if (equal(sha256(values).subarray(0, 16), record.digest)) return values;
    const { id } = this.header;
    throw new DamagedSection(`bundle "${id}": section "public" has values that were altered`);
  }

  private span(name: SectionName): Span {
    const section = this.header.sections.get(name);
    if (!section) throw new BadBundle(`bundle "${this.header.id}" has no section "${name}"`);
    return { start: section.start, end: section.start + section.bytes };
  }

  /** What is damaged is damaged in this bundle. */
  named<T>(read: () => T): T {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof DamagedSection) || error.message.startsWith("bundle")) throw error;
      throw new DamagedSection(`bundle "${this.header.id}": ${error.message}`);
    }
  }
}
