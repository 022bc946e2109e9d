/** Draws a pane on a canvas: the image through its window, distances and the cursor above it. */
import { apply, distance, matrixOf, scaleOf, type Point, type Size } from "./geometry.ts";
import type { Pane } from "./pane.ts";
import { paint, planesOf, type Frame } from "./raster.ts";
import { sampleTypeOf, tableOf } from "./window.ts";
import { distanceText } from "./words.ts";

/** From this many screen pixels for each of the image's, its pixels are shown as squares. */
const SQUARES = 4;
const MARK = "#ffd34d";

export class Scene {
  private readonly raster = document.createElement("canvas");
  private drawn = "";
  private frame: Frame | null = null;

  constructor(private readonly canvas: HTMLCanvasElement) {}

  /** screen: in CSS pixels. */
  draw(pane: Pane, screen: Size): void {
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [screen.width * ratio, screen.height * ratio].map(Math.round);
    if (this.canvas.width !== width) this.canvas.width = width!;
    if (this.canvas.height !== height) this.canvas.height = height!;
    const context = this.canvas.getContext("2d")!;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    const shown = pane.shown;
    if (!shown) return;
    this.paintRaster(pane, shown.frame);
    this.drawImage(context, pane, screen, ratio);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.drawMarks(context, pane, screen);
  }

  private paintRaster(pane: Pane, frame: Frame): void {
    const { window, rescale, isInverted, channel } = pane;
    const key = [window.center, window.width, isInverted, channel].join();
    if (frame === this.frame && key === this.drawn) return;
    [this.frame, this.drawn] = [frame, key];
    const table = tableOf(window, rescale, sampleTypeOf(frame.data), isInverted);
    const planes = planesOf(pane.image!.photometric, frame.channels, channel);
    const pixels = new ImageData(paint(frame, planes, table), frame.width, frame.height);
    this.raster.width = frame.width;
    this.raster.height = frame.height;
    this.raster.getContext("2d")!.putImageData(pixels, 0, 0);
  }

  private drawImage(
    context: CanvasRenderingContext2D,
    pane: Pane,
    screen: Size,
    ratio: number,
  ): void {
    const { layout, view } = pane;
    const matrix = matrixOf(view, layout, screen).map((value) => value * ratio);
    context.setTransform(...(matrix as [number, number, number, number, number, number]));
    context.imageSmoothingEnabled = scaleOf(view, layout, screen) < SQUARES;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.raster, 0, 0, layout.width, layout.height);
  }

  private drawMarks(context: CanvasRenderingContext2D, pane: Pane, screen: Size): void {
    const matrix = matrixOf(pane.view, pane.layout, screen);
    context.lineWidth = 1.5;
    context.font = "600 13px system-ui, sans-serif";
    for (const { frame, from, to } of pane.lines) {
      if (frame !== pane.frame) continue;
      const length = distanceText(distance(from, to, pane.image!.spacing));
      drawLine(context, apply(matrix, from), apply(matrix, to), length);
    }
    if (pane.cursor) drawCursor(context, apply(matrix, pane.cursor));
  }
}

function drawLine(context: CanvasRenderingContext2D, from: Point, to: Point, text: string): void {
  const trace = () => {
    context.beginPath();
    context.moveTo(from.x, from.y);
    context.lineTo(to.x, to.y);
    for (const { x, y } of [from, to]) {
      context.moveTo(x - 5, y);
      context.lineTo(x + 5, y);
      context.moveTo(x, y - 5);
      context.lineTo(x, y + 5);
    }
    context.stroke();
  };
  outlined(context, trace);
  const [x, y] = [Math.max(from.x, to.x) + 9, (from.x > to.x ? from.y : to.y) - 9];
  context.lineWidth = 3.5;
  context.strokeStyle = "#000";
  context.strokeText(text, x, y);
  context.fillStyle = MARK;
  context.fillText(text, x, y);
}

function drawCursor(context: CanvasRenderingContext2D, { x, y }: Point): void {
  outlined(context, () => {
    context.beginPath();
    for (const [dx, dy] of [
      [1, 0],
      [-1, 0],
      [0, 1],
      [0, -1],
    ] as const) {
      context.moveTo(x + dx * 4, y + dy * 4);
      context.lineTo(x + dx * 16, y + dy * 16);
    }
    context.stroke();
  });
}

/** Dark below and light above: seen on any image. */
function outlined(context: CanvasRenderingContext2D, trace: () => void): void {
  context.lineWidth = 4;
  context.strokeStyle = "#000";
  trace();
  context.lineWidth = 1.5;
  context.strokeStyle = MARK;
  trace();
}
