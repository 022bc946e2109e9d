/** One image on the screen: which frame, at which tier, through which window, from where. */
import type { ImageEntry, Tier } from "../release/types.ts";
import type { ShownImage, ShownRelease } from "./engine.ts";
import type { Explained } from "./explain.ts";
import { FrameStore, frameRange, type FrameRange } from "./frames.ts";
import { aspectOf, FIT, type Layout, type Point, type View } from "./geometry.ts";
import { Observable } from "./observable.ts";
import { isColour, type Frame } from "./raster.ts";
import { between, fullWindow, rescaleOf, windowFrom, type Rescale, type Window } from "./window.ts";

/** Tiers that can be shown; the original is a file to save. */
export type ShownTier = Exclude<Tier, "original">;
export type Tool = "window" | "pan" | "zoom" | "measure";

/** A distance, in pixels of the image from its upper left corner. */
export interface Line {
  readonly frame: number;
  readonly from: Point;
  readonly to: Point;
}

export type Explainer = (error: unknown) => Promise<Explained>;

/** While frames change faster than this, in ms, only previews are read. */
const SETTLED = 140;

export class Pane extends Observable {
  image: ShownImage | null = null;
  tier: ShownTier = "preview";
  frame = 0;
  view: View = FIT;
  window: Window = { center: 128, width: 256 };
  /** Name of the preset, `auto` where the window follows the image, else empty. */
  windowName = "auto";
  inverted = false;
  channel = 0;
  tool: Tool = "window";
  lines: readonly Line[] = [];
  /** Where the pointer is, or the cursor that the keyboard moves, in pixels of the image. */
  pointer: Point | null = null;
  cursor: Point | null = null;
  /** Share of the frame that is loaded, null while nothing is. */
  progress: number | null = 0;
  error: Explained | null = null;
  /** Told after view or frame were changed by hand. */
  onMoved: (pane: Pane) => void = () => {};

  private stores: Partial<Record<ShownTier, FrameStore>> = {};
  private readonly stop = new AbortController();
  private moved = 0;
  /** Tier that the automatic window was made from. */
  private windowFor: ShownTier | null = null;

  constructor(
    private readonly release: ShownRelease,
    readonly entry: ImageEntry,
    private readonly explainer: Explainer,
    private readonly wanted: ShownTier = "diagnostic",
  ) {
    super();
  }

  async open(): Promise<void> {
    try {
      const image = await this.release.open(this.entry.id, this.stop.signal);
      if (this.stop.signal.aborted) return image.close();
      this.prepare(image);
      await this.load();
    } catch (error) {
      await this.fail(error);
    }
  }

  private prepare(image: ShownImage): void {
    this.image = image;
    for (const tier of this.tiers) this.stores[tier] = new FrameStore(image, tier);
    this.tier = this.tiers.includes(this.wanted) ? this.wanted : this.tiers.at(-1)!;
    const { first, last } = this.range;
    this.frame = Math.floor((first + last) / 2);
    if (last - first + 1 !== image.frames || image.frames === 1) this.frame = first;
    this.inverted = false;
    const preset = image.display?.windows[0];
    if (preset) this.choosePreset(0);
    else if (this.hasPlainLevels) {
      this.window = fullWindow(image.sampleType, image.bitDepth);
      this.windowFor = "diagnostic";
    }
  }

  close(): void {
    this.stop.abort();
    this.image?.close();
    this.stores = {};
  }

  /** Opens anew after an error. */
  async retry(): Promise<void> {
    this.error = null;
    this.progress = 0;
    this.changed();
    await (this.image ? this.load() : this.open());
  }

  get tiers(): readonly ShownTier[] {
    const tiers = this.image?.tiers ?? [];
    return tiers.filter((tier): tier is ShownTier => tier !== "original");
  }

  get range(): FrameRange {
    return this.image ? frameRange(this.image) : { first: 0, last: 0 };
  }

  get frames(): number {
    return this.range.last - this.range.first + 1;
  }

  get rescale(): Rescale {
    return rescaleOf(this.image?.display ?? null);
  }

  /** Eight bits that a screen shows as they are: no window is made from them. */
  private get hasPlainLevels(): boolean {
    const { sampleType, photometric, kind } = this.image!;
    const isDicom = kind.startsWith("dicom") || kind.startsWith("nifti");
    return isColour(photometric) || (sampleType === "uint8" && !isDicom);
  }

  /** Size as it is laid out: that of the part that the key opens. */
  get layout(): Layout {
    const { height = 1, width = 1, region = null, spacing = null } = this.image ?? {};
    const aspect = aspectOf(spacing);
    return region
      ? { height: region.height, width: region.width, aspect }
      : { height, width, aspect };
  }

  /** The best that is at hand of the current frame. */
  get shown(): { readonly tier: ShownTier; readonly frame: Frame } | null {
    for (const tier of this.tier === "preview" ? (["preview"] as const) : BEST_FIRST) {
      const frame = this.stores[tier]?.get(this.frame);
      if (frame) return { tier, frame };
    }
    return null;
  }

  get isInverted(): boolean {
    return this.inverted !== (this.image?.photometric === "MONOCHROME1");
  }

  isReady(frame: number): boolean {
    return this.stores[this.tier]?.has(frame) ?? false;
  }

  /** Reads what is missing of the current frame: the preview first. */
  async load(): Promise<void> {
    const frame = this.frame;
    const target = this.stores[this.tier];
    if (!target || target.has(frame)) return this.arrived();
    this.progress = 0;
    this.changed();
    const { signal } = this.stop;
    const hasBoth = this.tier === "diagnostic" && this.stores.preview;
    if (hasBoth && !this.shown) {
      await this.stores.preview!.load(frame, { signal });
      this.settleWindow();
      this.changed();
      await this.settled();
      if (frame !== this.frame || target !== this.stores[this.tier]) return;
    }
    await target.load(frame, { signal, onProgress: (share) => this.advanced(frame, share) });
    if (frame === this.frame && target === this.stores[this.tier]) this.arrived();
  }

  private arrived(): void {
    this.progress = null;
    this.error = null;
    this.settleWindow();
    this.changed();
  }

  private advanced(frame: number, share: number): void {
    if (frame !== this.frame) return;
    this.progress = share;
    this.changed();
  }

  private settled(): Promise<void> {
    const rest = this.moved + SETTLED - performance.now();
    return rest > 0 ? new Promise((resolve) => setTimeout(resolve, rest)) : Promise.resolve();
  }

  private async fail(error: unknown): Promise<void> {
    if (this.stop.signal.aborted) return;
    this.error = await this.explainer(error);
    this.progress = null;
    this.changed();
  }

  private loadSafely(): void {
    this.load().catch((error: unknown) => this.fail(error));
  }

  /** Reads a frame ahead of time, for the cine. An error waits until the frame is shown. */
  async prefetch(frame: number): Promise<void> {
    const { first, last } = this.range;
    if (frame < first || frame > last) return;
    await this.stores[this.tier]?.load(frame, { signal: this.stop.signal }).catch(() => {});
  }

  goTo(frame: number): void {
    const { first, last } = this.range;
    const next = Math.min(last, Math.max(first, Math.round(frame)));
    if (next === this.frame) return;
    this.frame = next;
    this.moved = performance.now();
    this.error = null;
    this.changed();
    this.onMoved(this);
    this.loadSafely();
  }

  chooseTier(tier: ShownTier): void {
    this.tier = tier;
    this.error = null;
    this.changed();
    this.loadSafely();
  }

  look(view: View): void {
    this.view = view;
    this.changed();
    this.onMoved(this);
  }

  setWindow(window: Window, name = ""): void {
    this.window = window;
    this.windowName = name;
    this.changed();
  }

  choosePreset(index: number): void {
    const preset = this.image?.display?.windows[index];
    if (preset) this.setWindow(preset, preset.name);
  }

  /** A window from the frame that is shown. */
  chooseAuto(): void {
    this.windowName = "auto";
    this.windowFor = null;
    this.settleWindow();
    this.changed();
  }

  /** All levels that the image's bits hold. */
  chooseFull(): void {
    const { slope, intercept } = this.rescale;
    const { center, width } = fullWindow(this.image!.sampleType, this.image!.bitDepth);
    const [low, high] = [center - width / 2, center + width / 2 - 1];
    this.setWindow(between(low * slope + intercept, high * slope + intercept), "full");
  }

  private settleWindow(): void {
    const shown = this.shown;
    if (this.windowName !== "auto" || !shown) return;
    if (this.windowFor === "diagnostic" || this.windowFor === shown.tier) return;
    this.window = windowFrom(shown.frame.data, this.rescale);
    this.windowFor = shown.tier;
  }

  update(
    change: Partial<Pick<Pane, "tool" | "inverted" | "channel" | "pointer" | "cursor">>,
  ): void {
    Object.assign(this, change);
    this.changed();
  }

  setLines(lines: readonly Line[]): void {
    this.lines = lines;
    this.changed();
  }

  reset(): void {
    this.inverted = false;
    this.lines = [];
    this.cursor = null;
    this.look(FIT);
    if (this.image?.display?.windows.length) this.choosePreset(0);
    else if (this.hasPlainLevels) this.chooseFull();
    else this.chooseAuto();
  }
}

const BEST_FIRST = ["diagnostic", "preview"] as const;
