/**
 * Where an image lies on the screen: zoom, pan, quarter turns and flips, there and back, and how
 * far two of its points are apart. A view knows no pixels, so images of any size can share one.
 */

export interface Point {
  readonly x: number;
  readonly y: number;
}

/** A screen in CSS pixels, or an image in its own. */
export interface Size {
  readonly width: number;
  readonly height: number;
}

/**
 * zoom: 1 fits the image into the screen. x, y: the point of the image in the middle of the screen,
 * as shares of its width and height. turns: quarters, clockwise, after `flip` left to right.
 */
export interface View {
  readonly zoom: number;
  readonly x: number;
  readonly y: number;
  readonly turns: number;
  readonly flip: boolean;
}

/** An image as it is laid out. aspect: height of a pixel by its width. */
export interface Layout extends Size {
  readonly aspect: number;
}

/** As of `CanvasRenderingContext2D.setTransform`. */
export type Matrix = readonly [number, number, number, number, number, number];

export const FIT: View = { zoom: 1, x: 0.5, y: 0.5, turns: 0, flip: false };
export const LEAST_ZOOM = 0.25;
export const MOST_ZOOM = 64;

const COS = [1, 0, -1, 0] as const;
const SIN = [0, 1, 0, -1] as const;

/** Pixels need not be square: spacing is that between rows and between columns, in mm. */
export function aspectOf(spacing: readonly [number, number] | null): number {
  return spacing && spacing[0] > 0 && spacing[1] > 0 ? spacing[0] / spacing[1] : 1;
}

/** Screen pixels for each column of the image. */
export function scaleOf(view: View, image: Layout, screen: Size): number {
  const upright = view.turns % 2 === 0;
  const tall = image.height * image.aspect;
  const [width, height] = upright ? [image.width, tall] : [tall, image.width];
  return Math.min(screen.width / width, screen.height / height) * view.zoom;
}

/** From pixels of the image, corner to corner, to the screen. */
export function matrixOf(view: View, image: Layout, screen: Size): Matrix {
  const scale = scaleOf(view, image, screen);
  const cos = COS[view.turns % 4]! * scale;
  const sin = SIN[view.turns % 4]! * scale;
  const across = view.flip ? -1 : 1;
  const matrix = [cos * across, sin * across, -sin * image.aspect, cos * image.aspect] as const;
  const [a, b, c, d] = matrix;
  const [x, y] = [view.x * image.width, view.y * image.height];
  return [a, b, c, d, screen.width / 2 - a * x - c * y, screen.height / 2 - b * x - d * y];
}

export function apply([a, b, c, d, e, f]: Matrix, { x, y }: Point): Point {
  return { x: a * x + c * y + e, y: b * x + d * y + f };
}

export function invert([a, b, c, d, e, f]: Matrix): Matrix {
  const area = a * d - b * c;
  return [d / area, -b / area, -c / area, a / area, (c * f - d * e) / area, (b * e - a * f) / area];
}

/** Moves what lies on the screen at `from` to `to`. */
export function panned(view: View, image: Layout, screen: Size, from: Point, to: Point): View {
  const back = invert(matrixOf(view, image, screen));
  const [was, is] = [apply(back, from), apply(back, to)];
  return clamped({
    ...view,
    x: view.x - (is.x - was.x) / image.width,
    y: view.y - (is.y - was.y) / image.height,
  });
}

/** Zooms by a factor; what lies at `about` stays there. */
export function zoomed(
  view: View,
  image: Layout,
  screen: Size,
  factor: number,
  about: Point,
): View {
  const zoom = Math.min(MOST_ZOOM, Math.max(LEAST_ZOOM, view.zoom * factor));
  const held = apply(invert(matrixOf(view, image, screen)), about);
  const larger = { ...view, zoom };
  const now = apply(matrixOf(larger, image, screen), held);
  return panned(larger, image, screen, now, about);
}

function clamped(view: View): View {
  const within = (share: number) => Math.min(1, Math.max(0, share));
  return { ...view, x: within(view.x), y: within(view.y) };
}

/** A quarter clockwise as seen on the screen; a negative number turns the other way. */
export function turned(view: View, quarters = 1): View {
  return { ...view, turns: (((view.turns + quarters) % 4) + 4) % 4 };
}

/** Mirrored as seen on the screen: left to right, or top to bottom. */
export function mirrored(view: View, axis: "across" | "down"): View {
  const turns = axis === "across" ? 4 - view.turns : 6 - view.turns;
  return { ...view, flip: !view.flip, turns: turns % 4 };
}

/** Between two points of an image, in mm; null where its spacing is unknown. */
export function distance(
  from: Point,
  to: Point,
  spacing: readonly [number, number] | null,
): { readonly pixels: number; readonly mm: number | null } {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const mm = spacing ? Math.hypot(dx * spacing[1], dy * spacing[0]) : null;
  return { pixels: Math.hypot(dx, dy), mm };
}

/** The pixel that a point lies in, or null outside. */
export function pixelAt(point: Point, image: Size): Point | null {
  const [x, y] = [Math.floor(point.x), Math.floor(point.y)];
  return x >= 0 && y >= 0 && x < image.width && y < image.height ? { x, y } : null;
}
