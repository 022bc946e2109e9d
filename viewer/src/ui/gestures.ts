/**
 * Mouse, pen and touch on an image. One finger, or the left button, is the tool that is chosen; two
 * fingers zoom and pan; the right button zooms, the middle one pans; the wheel turns frames, or
 * zooms where there is one frame, or with Ctrl.
 */
import { apply, invert, matrixOf, panned, zoomed, type Point, type Size } from "./geometry.ts";
import type { Pane, Tool } from "./pane.ts";
import { dragged } from "./window.ts";

const BUTTON_TOOLS: readonly (Tool | null)[] = [null, "pan", "zoom"];
/** How far the wheel turns, in its pixels, for one frame. */
const NOTCH = 40;

interface Drag {
  readonly tool: Tool;
  readonly start: Point;
  last: Point;
}

export class Gestures {
  private readonly touching = new Map<number, Point>();
  private drag: Drag | null = null;
  private turned = 0;
  private readonly stop = new AbortController();

  constructor(
    private readonly stage: HTMLElement,
    private readonly pane: () => Pane,
  ) {
    const { signal } = this.stop;
    const on = <K extends keyof HTMLElementEventMap>(
      type: K,
      listener: (event: HTMLElementEventMap[K]) => void,
    ) => stage.addEventListener(type, listener, { signal, passive: false });
    on("pointerdown", (event) => this.down(event));
    on("pointermove", (event) => this.move(event));
    on("pointerup", (event) => this.up(event));
    on("pointercancel", (event) => this.up(event));
    on("pointerleave", () => this.pane().update({ pointer: null }));
    on("wheel", (event) => this.wheel(event));
    on("dblclick", () => this.pane().reset());
    on("contextmenu", (event) => event.preventDefault());
  }

  end(): void {
    this.stop.abort();
  }

  private get screen(): Size {
    return { width: this.stage.clientWidth, height: this.stage.clientHeight };
  }

  private at(event: MouseEvent): Point {
    const { left, top } = this.stage.getBoundingClientRect();
    return { x: event.clientX - left, y: event.clientY - top };
  }

  private onImage(point: Point): Point {
    const { view, layout } = this.pane();
    return apply(invert(matrixOf(view, layout, this.screen)), point);
  }

  private down(event: PointerEvent): void {
    if (!this.pane().image) return;
    this.stage.setPointerCapture(event.pointerId);
    const point = this.at(event);
    this.touching.set(event.pointerId, point);
    const tool = BUTTON_TOOLS[event.button] ?? this.pane().tool;
    this.drag = this.touching.size === 1 ? { tool, start: point, last: point } : null;
    if (this.drag?.tool === "measure") this.startLine(point);
  }

  private move(event: PointerEvent): void {
    const point = this.at(event);
    const pane = this.pane();
    if (!pane.image) return;
    const before = this.touching.get(event.pointerId);
    if (before && this.touching.size === 2) this.pinch(event.pointerId, before, point);
    if (before) this.touching.set(event.pointerId, point);
    if (this.drag) this.dragTo(this.drag, point);
    pane.update({ pointer: this.onImage(point) });
  }

  private up(event: PointerEvent): void {
    this.touching.delete(event.pointerId);
    if (this.drag?.tool === "measure") this.endLine(this.drag);
    this.drag = null;
    if (event.pointerType === "touch") this.pane().update({ pointer: null });
  }

  private dragTo(drag: Drag, to: Point): void {
    const pane = this.pane();
    const [dx, dy] = [to.x - drag.last.x, to.y - drag.last.y];
    if (drag.tool === "pan") {
      pane.look(panned(pane.view, pane.layout, this.screen, drag.last, to));
    } else if (drag.tool === "zoom") {
      pane.look(zoomed(pane.view, pane.layout, this.screen, Math.exp(-dy / 150), drag.start));
    } else if (drag.tool === "window") {
      const { width, height } = this.screen;
      const range = pane.window.width * 2;
      pane.setWindow(dragged(pane.window, dx / width, dy / height, range));
    } else {
      this.stretchLine(to);
    }
    drag.last = to;
  }

  private startLine(at: Point): void {
    const pane = this.pane();
    const point = this.onImage(at);
    pane.setLines([...pane.lines, { frame: pane.frame, from: point, to: point }]);
  }

  private stretchLine(to: Point): void {
    const pane = this.pane();
    const line = pane.lines.at(-1);
    if (line) pane.setLines([...pane.lines.slice(0, -1), { ...line, to: this.onImage(to) }]);
  }

  /** A click without a drag is no distance. */
  private endLine({ start, last }: Drag): void {
    const pane = this.pane();
    if (Math.hypot(last.x - start.x, last.y - start.y) < 3) pane.setLines(pane.lines.slice(0, -1));
  }

  private pinch(moved: number, from: Point, to: Point): void {
    const pane = this.pane();
    const other = [...this.touching].find(([id]) => id !== moved)?.[1];
    if (!other) return;
    const middle = (one: Point) => ({ x: (one.x + other.x) / 2, y: (one.y + other.y) / 2 });
    const apart = (one: Point) => Math.max(1, Math.hypot(one.x - other.x, one.y - other.y));
    const view = panned(pane.view, pane.layout, this.screen, middle(from), middle(to));
    const factor = apart(to) / apart(from);
    pane.look(zoomed(view, pane.layout, this.screen, factor, middle(to)));
  }

  private wheel(event: WheelEvent): void {
    event.preventDefault();
    const pane = this.pane();
    if (!pane.image) return;
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? NOTCH : 1;
    const turn = event.deltaY * lines;
    if (event.ctrlKey || pane.frames === 1) {
      const factor = Math.exp(-Math.max(-100, Math.min(100, turn)) / 300);
      pane.look(zoomed(pane.view, pane.layout, this.screen, factor, this.at(event)));
      return;
    }
    this.turned += turn;
    const notches = Math.trunc(this.turned / NOTCH);
    this.turned -= notches * NOTCH;
    if (notches) pane.goTo(pane.frame + Math.sign(notches) * Math.min(Math.abs(notches), 3));
  }
}
