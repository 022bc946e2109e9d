/** Decoded frames of an image at one tier: read when they are asked for, kept within a budget. */
import type { OpenedImage, Tier } from "../release/types.ts";
import type { Frame } from "./raster.ts";

/** First and last frame that can be read, counted in the image. */
export interface FrameRange {
  readonly first: number;
  readonly last: number;
}

export function frameRange(image: Pick<OpenedImage, "frames" | "region">): FrameRange {
  const { frames, region } = image;
  return region ? { first: region.first, last: region.last } : { first: 0, last: frames - 1 };
}

/** Frames that are coded together with a frame, as far as they can be read. */
export function companions(frame: number, group: number, range: FrameRange): number[] {
  const size = Math.max(1, group);
  const start = Math.floor(frame / size) * size;
  const [first, last] = [Math.max(start, range.first), Math.min(start + size - 1, range.last)];
  return Array.from({ length: last - first + 1 }, (_, step) => first + step);
}

export interface LoadOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (share: number) => void;
}

export class FrameStore {
  readonly range: FrameRange;
  private readonly kept = new Map<number, Frame>();
  private readonly loading = new Map<number, Promise<void>>();
  private bytes = 0;

  constructor(
    private readonly image: OpenedImage,
    readonly tier: Tier,
    private readonly mostBytes = 192 << 20,
  ) {
    this.range = frameRange(image);
  }

  /** A frame that is at hand; it counts as used. */
  get(frame: number): Frame | null {
    const found = this.kept.get(frame);
    if (!found) return null;
    this.kept.delete(frame);
    this.kept.set(frame, found);
    return found;
  }

  has(frame: number): boolean {
    return this.kept.has(frame);
  }

  /** Reads a frame, and with it those that are coded together with it. */
  async load(frame: number, options: LoadOptions = {}): Promise<void> {
    if (this.kept.has(frame)) return;
    const wanted = companions(frame, this.image.group, this.range);
    const running = this.loading.get(wanted[0]!);
    if (running) return running;
    const read = this.read(wanted, options).finally(() => this.loading.delete(wanted[0]!));
    this.loading.set(wanted[0]!, read);
    return read;
  }

  private async read(wanted: readonly number[], options: LoadOptions): Promise<void> {
    const whole = wanted.length === this.range.last - this.range.first + 1;
    const asked = whole && !this.image.region ? options : { ...options, frames: wanted };
    const pixels = await this.image.read(this.tier, asked);
    const { height, width, channels } = pixels;
    const size = height * width * channels;
    wanted.forEach((number, index) => {
      const data = pixels.data.subarray(index * size, (index + 1) * size);
      this.keep(number, { data, height, width, channels });
    });
  }

  private keep(number: number, frame: Frame): void {
    const before = this.kept.get(number);
    if (before) this.bytes -= before.data.byteLength;
    this.kept.delete(number);
    this.kept.set(number, frame);
    this.bytes += frame.data.byteLength;
    for (const [oldest, { data }] of this.kept) {
      if (this.bytes <= this.mostBytes || oldest === number) return;
      this.kept.delete(oldest);
      this.bytes -= data.byteLength;
    }
  }
}
