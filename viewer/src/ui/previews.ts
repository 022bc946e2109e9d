/**
 * Small pictures for the list: read for the images that are in sight and for no others, a few at a
 * time, and not while an image is being opened.
 */
import type { ImageEntry, Quality } from "../release/types.ts";
import type { ShownImage, ShownRelease } from "./engine.ts";
import { frameRange } from "./frames.ts";
import { aspectOf } from "./geometry.ts";
import { Observable } from "./observable.ts";
import { isColour, paint, planesOf, type Frame } from "./raster.ts";
import { fullWindow, rescaleOf, sampleTypeOf, tableOf, windowFrom } from "./window.ts";

/** What the list learns from a preview, for images that are in no catalogue. */
export interface Preview {
  readonly picture: HTMLCanvasElement | null;
  readonly name: string | null;
  readonly width: number;
  readonly height: number;
  readonly frames: number;
  readonly quality: Quality | null;
  readonly failed: boolean;
}

const AT_ONCE = 2;
const MOST_KEPT = 400;
/** Of an image that nobody asked to see: a list must not fill the memory by itself. */
const MOST_PIXELS = 2 ** 26;
/** Pixels of the longer side, for screens of two pixels each. */
const SIDE = 128;

export class Previews extends Observable {
  private readonly kept = new Map<string, Preview>();
  private readonly running = new Map<string, AbortController>();
  private wanted: readonly ImageEntry[] = [];
  private isHeld = false;

  constructor(private readonly release: ShownRelease) {
    super();
  }

  get(id: string): Preview | undefined {
    return this.kept.get(id);
  }

  /** What is in sight now, from the top; what is no longer is cancelled. */
  want(entries: readonly ImageEntry[]): void {
    this.wanted = entries;
    const ids = new Set(entries.map(({ id }) => id));
    for (const [id, controller] of this.running) if (!ids.has(id)) controller.abort();
    this.next();
  }

  /** Waits while something more important is read. */
  hold(isHeld: boolean): void {
    this.isHeld = isHeld;
    this.next();
  }

  private next(): void {
    const missing = this.wanted.filter(({ id }) => !this.kept.has(id) && !this.running.has(id));
    while (!this.isHeld && this.running.size < AT_ONCE && missing.length) {
      void this.read(missing.shift()!);
    }
  }

  private async read({ id }: ImageEntry): Promise<void> {
    const controller = new AbortController();
    this.running.set(id, controller);
    const preview = await this.previewOf(id, controller.signal);
    this.running.delete(id);
    if (preview) this.keep(id, preview);
    this.next();
  }

  private async previewOf(id: string, signal: AbortSignal): Promise<Preview | null> {
    let image: ShownImage | null = null;
    try {
      image = await this.release.open(id, signal);
      return await pictured(image, signal);
    } catch {
      return signal.aborted ? null : FAILED;
    } finally {
      image?.close();
    }
  }

  private keep(id: string, preview: Preview): void {
    this.kept.set(id, preview);
    const oldest = this.kept.keys().next().value;
    if (this.kept.size > MOST_KEPT && oldest !== undefined) this.kept.delete(oldest);
    this.changed();
  }
}

const FAILED: Preview = {
  picture: null,
  name: null,
  width: 0,
  height: 0,
  frames: 0,
  quality: null,
  failed: true,
};

async function pictured(image: ShownImage, signal: AbortSignal): Promise<Preview> {
  const shown = image.region ?? image;
  if (shown.width * shown.height > MOST_PIXELS) return { ...FAILED, name: image.name };
  const { first, last } = frameRange(image);
  const middle = Math.floor((first + last) / 2);
  const tier = image.tiers[0] ?? "preview";
  const options = first === last && !image.region ? { signal } : { signal, frames: [middle] };
  const pixels = await image.read(tier, options);
  const { name, width, height, frames, quality } = image;
  return { picture: pictureOf(image, pixels), name, width, height, frames, quality, failed: false };
}

function pictureOf(image: ShownImage, frame: Frame): HTMLCanvasElement {
  const rescale = rescaleOf(image.display);
  const isPlain = isColour(image.photometric) || image.bitDepth === 8;
  const window =
    image.display?.windows[0] ??
    (isPlain ? fullWindow(image.sampleType, 8) : windowFrom(frame.data, rescale));
  const inverted = image.photometric === "MONOCHROME1";
  const table = tableOf(window, rescale, sampleTypeOf(frame.data), inverted);
  const pixels = paint(frame, planesOf(image.photometric, frame.channels), table);
  const whole = canvasOf(frame.width, frame.height);
  whole.getContext("2d")!.putImageData(new ImageData(pixels, frame.width, frame.height), 0, 0);
  const tall = frame.height * aspectOf(image.spacing);
  const scale = Math.min(1, SIDE / Math.max(frame.width, tall));
  const small = canvasOf(Math.max(1, frame.width * scale), Math.max(1, tall * scale));
  const context = small.getContext("2d")!;
  context.imageSmoothingQuality = "high";
  context.drawImage(whole, 0, 0, small.width, small.height);
  return small;
}

function canvasOf(width: number, height: number): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(width);
  canvas.height = Math.round(height);
  return canvas;
}
