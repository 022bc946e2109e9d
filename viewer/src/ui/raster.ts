/** Samples of a frame as pixels for a canvas: through a window, in grey or in colour. */
import type { Photometric, Samples } from "../release/types.ts";
import { leastOf, sampleTypeOf } from "./window.ts";

export interface Frame {
  readonly data: Samples;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
}

/** Which channels are red, green, blue and the opacity (null: opaque). */
interface Planes {
  readonly colours: readonly [number, number, number];
  readonly opacity: number | null;
}

/** channel: which one is shown of an image whose channels are no colours. */
export function planesOf(photometric: Photometric, channels: number, channel = 0): Planes {
  if (photometric === "RGB" && channels >= 3) return { colours: [0, 1, 2], opacity: null };
  if (photometric === "RGBA" && channels >= 4) return { colours: [0, 1, 2], opacity: 3 };
  if (photometric === "LA" && channels >= 2) return { colours: [0, 0, 0], opacity: 1 };
  const shown = Math.min(channel, channels - 1);
  return { colours: [shown, shown, shown], opacity: null };
}

export const isColour = (photometric: Photometric): boolean =>
  photometric === "RGB" || photometric === "RGBA";

/** RGBA, four bytes a pixel; on black where the image is transparent. */
export function paint(
  frame: Frame,
  planes: Planes,
  table: Uint8ClampedArray,
): Uint8ClampedArray<ArrayBuffer> {
  const { data, channels } = frame;
  const least = leastOf(sampleTypeOf(data));
  const count = frame.width * frame.height;
  const pixels = new Uint8ClampedArray(count * 4);
  const [red, green, blue] = planes.colours;
  for (let at = 0, from = 0, to = 0; at < count; at++, from += channels, to += 4) {
    pixels[to] = table[data[from + red]! - least]!;
    pixels[to + 1] = table[data[from + green]! - least]!;
    pixels[to + 2] = table[data[from + blue]! - least]!;
    pixels[to + 3] = 255;
  }
  if (planes.opacity !== null) onBlack(pixels, frame, planes.opacity);
  return pixels;
}

function onBlack(pixels: Uint8ClampedArray, { data, channels }: Frame, opacity: number): void {
  const most = data.BYTES_PER_ELEMENT === 1 ? 255 : 65535;
  for (let from = opacity, to = 0; to < pixels.length; from += channels, to += 4) {
    const share = data[from]! / most;
    for (let colour = 0; colour < 3; colour++) pixels[to + colour]! *= share;
  }
}

/** The samples of one pixel, all channels. */
export function samplesAt(frame: Frame, x: number, y: number): number[] {
  const start = (y * frame.width + x) * frame.channels;
  return Array.from(frame.data.subarray(start, start + frame.channels));
}
