/**
 * An image that is open: what it is, its samples and its files.
 */
import { BadBundle, TierTooLow, UsageError } from "../errors.ts";
import type { Decoder } from "../codec/job.ts";
import { displayOf } from "../imaging/display.ts";
import { originalFiles, restoredFiles } from "../imaging/files.ts";
import { safeName } from "../imaging/names.ts";
import { opened } from "../keys/seal.ts";
import type { Info } from "../sharing/info.ts";
import type { OpenedBundle } from "../sharing/opened.ts";
import { readPixels, sourceHeader } from "../sharing/read.ts";
import type { SourceHeader } from "../sharing/source_header.ts";
import type {
  Display,
  Kind,
  OpenedImage,
  Photometric,
  Pixels,
  Quality,
  ReadOptions,
  Region,
  RestoredFile,
  SampleType,
  Tier,
} from "./types.ts";

/** tier: the highest that the keys open. release: the release's id. */
export async function openImage(
  bundle: OpenedBundle,
  tier: Tier,
  release: string,
  decoder: Decoder,
): Promise<OpenedImage> {
  const whole = bundle.keys.region === null && tier !== "preview";
  await bundle.want("info", ...(whole ? (["header"] as const) : []));
  const info = await bundle.info();
  const source = whole ? await sourceHeader(bundle) : null;
  const tiers = opened(tier).filter((one) => one !== "original" || bundle.has("original"));
  return new BundleImage(bundle, info, source, tiers, release, decoder);
}

class BundleImage implements OpenedImage {
  readonly display: Display | null;

  constructor(
    private readonly bundle: OpenedBundle,
    private readonly info: Info,
    private readonly source: SourceHeader | null,
    readonly tiers: readonly Tier[],
    private readonly release: string,
    private readonly decoder: Decoder,
  ) {
    this.display = source ? displayOf(info.kind, source.source, this.frames) : null;
  }

  get id(): string {
    return this.bundle.header.id;
  }
  get name(): string | null {
    return this.source?.name ?? null;
  }
  get kind(): Kind {
    return this.info.kind;
  }
  get frames(): number {
    return this.bundle.header.geometry.frames;
  }
  get height(): number {
    return this.bundle.header.geometry.height;
  }
  get width(): number {
    return this.bundle.header.geometry.width;
  }
  get channels(): number {
    return this.bundle.header.geometry.channels;
  }
  get spacing(): readonly [number, number] | null {
    return this.info.spacing;
  }
  get sampleType(): SampleType {
    return this.info.sampleType;
  }
  get bitDepth(): number {
    return this.info.bitDepth;
  }
  get photometric(): Photometric {
    return this.info.photometric;
  }
  get region(): Region | null {
    return this.bundle.keys.region?.region ?? null;
  }
  get quality(): Quality | null {
    return this.info.quality;
  }
  get protection(): "keyed" | "sca" {
    return this.bundle.header.profile.settings.protection;
  }
  get sparsity(): number {
    return this.bundle.header.profile.settings.sparsity / 1000;
  }
  get decoys(): number {
    return this.bundle.header.profile.settings.decoys / 1000;
  }
  get model(): string {
    return this.bundle.header.profile.model;
  }
  get exact(): boolean {
    return this.bundle.header.profile.settings.exactBits > 0;
  }
  get group(): number {
    return this.info.group;
  }
  get hasTexture(): boolean {
    const measured = this.info.quality !== null && !this.region;
    return measured && this.tiers.includes("diagnostic");
  }

  read(tier: Tier, options: ReadOptions = {}): Promise<Pixels> {
    return readPixels(this.bundle, tier, this.decoder, options);
  }

  async files(tier: Tier, options: ReadOptions = {}): Promise<RestoredFile[]> {
    const files = await this.filesAsNamed(tier, options);
    return files.map((file) => ({ ...file, name: safeName(file.name, this.id, file.type) }));
  }

  private async filesAsNamed(tier: Tier, options: ReadOptions): Promise<RestoredFile[]> {
    if (tier !== "original") {
      const pixels = await this.read(tier, options);
      const frames = options.frames ?? null;
      return restoredFiles(this.bundle, this.info, this.sourceAt(tier), pixels, {
        tier,
        release: this.release,
        texture: options.texture === true && !this.exact,
        frames,
      });
    }
    if (options.texture) throw new UsageError('texture was asked for at tier "original"');
    if (!this.bundle.has("original")) {
      throw new TierTooLow(`bundle "${this.id}" has no original: it was shared without`);
    }
    const data = await this.bundle.unseal("original");
    if (!this.source) throw new BadBundle(`bundle "${this.id}" names no file`);
    return originalFiles(this.info.kind, this.source.name, data, this.frames, options.frames);
  }

  /** At tier preview a file has no header of its source. */
  private sourceAt(tier: Tier): SourceHeader | null {
    return tier === "diagnostic" ? this.source : null;
  }
}
