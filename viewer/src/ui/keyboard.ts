/** Keyboard shortcuts while an image has the focus, and what a screen reader says about them. */
import { distance, mirrored, panned, turned, zoomed, type Point, type Size } from "./geometry.ts";
import type { Pane, Tool } from "./pane.ts";
import { distanceText } from "./words.ts";

/** For the help, in the order shown. */
export const KEYS: readonly (readonly [keys: string, what: string])[] = [
  ["← →", "previous, next frame"],
  ["Page Up, Page Down", "ten frames back, forward"],
  ["Home, End", "first, last frame"],
  ["Space", "play, pause"],
  ["↑ ↓", "brighter, darker"],
  ["[ ]", "more, less contrast"],
  ["1 to 9", "windows of the header"],
  ["A", "window from the image"],
  ["+ −", "zoom"],
  ["Shift + arrows", "pan"],
  ["0", "fit, with the first window"],
  ["I", "invert"],
  ["R, Shift + R", "rotate right, left"],
  ["H, V", "flip left to right, top to bottom"],
  ["W, P, Z, M", "tool: window, pan, zoom, measure"],
  ["C", "cursor: arrows move it, Shift ten pixels, Enter sets both ends of a distance"],
  ["Backspace", "remove the last distance"],
  ["?", "this list"],
];

const TOOLS: Readonly<Record<string, Tool>> = { w: "window", p: "pan", z: "zoom", m: "measure" };
const ARROWS: Readonly<Record<string, Point>> = {
  ArrowLeft: { x: -1, y: 0 },
  ArrowRight: { x: 1, y: 0 },
  ArrowUp: { x: 0, y: -1 },
  ArrowDown: { x: 0, y: 1 },
};

/** Does what a key stands for. False where it stands for nothing here. */
export function press(event: KeyboardEvent, pane: Pane, screen: Size): boolean {
  if (!pane.image || event.ctrlKey || event.altKey || event.metaKey) return false;
  const arrow = ARROWS[event.key];
  if (arrow) return pressArrow(arrow, event.shiftKey, pane, screen);
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const tool = TOOLS[key];
  if (tool) pane.update({ tool });
  else if (/^[1-9]$/.test(key)) pane.choosePreset(Number(key) - 1);
  else return pressOther(key, event.shiftKey, pane, screen);
  return true;
}

function pressArrow(arrow: Point, shift: boolean, pane: Pane, screen: Size): boolean {
  if (pane.cursor) moveCursor(pane, pane.cursor, arrow, shift ? 10 : 1);
  else if (shift) pane.look(pannedBy(pane, screen, arrow));
  else if (arrow.x) pane.goTo(pane.frame + arrow.x);
  else {
    const { center, width } = pane.window;
    pane.setWindow({ center: center + arrow.y * width * 0.03, width });
  }
  return true;
}

function pannedBy(pane: Pane, screen: Size, { x, y }: Point) {
  const step = Math.min(screen.width, screen.height) / 12;
  const middle = { x: screen.width / 2, y: screen.height / 2 };
  const to = { x: middle.x - x * step, y: middle.y - y * step };
  return panned(pane.view, pane.layout, screen, middle, to);
}

function pressOther(key: string, shift: boolean, pane: Pane, screen: Size): boolean {
  const { view, layout, window, range } = pane;
  const middle = { x: screen.width / 2, y: screen.height / 2 };
  const zoom = (factor: number) => pane.look(zoomed(view, layout, screen, factor, middle));
  const widen = (factor: number) =>
    pane.setWindow({ ...window, width: Math.max(1, window.width * factor) });
  const actions: Readonly<Record<string, () => void>> = {
    PageUp: () => pane.goTo(pane.frame - 10),
    PageDown: () => pane.goTo(pane.frame + 10),
    Home: () => pane.goTo(range.first),
    End: () => pane.goTo(range.last),
    "[": () => widen(1 / 1.06),
    "]": () => widen(1.06),
    "+": () => zoom(1.2),
    "=": () => zoom(1.2),
    "-": () => zoom(1 / 1.2),
    _: () => zoom(1 / 1.2),
    "0": () => pane.reset(),
    a: () => pane.chooseAuto(),
    i: () => pane.update({ inverted: !pane.inverted }),
    r: () => pane.look(turned(view, shift ? -1 : 1)),
    h: () => pane.look(mirrored(view, "across")),
    v: () => pane.look(mirrored(view, "down")),
    c: () => toggleCursor(pane),
    Enter: () => setEnd(pane),
    Backspace: () => pane.setLines(pane.lines.slice(0, -1)),
    Delete: () => pane.setLines(pane.lines.slice(0, -1)),
  };
  const action = actions[key];
  if (key === "Enter" && !pane.cursor) return false;
  action?.();
  return action !== undefined;
}

function toggleCursor(pane: Pane): void {
  const { width, height } = pane.layout;
  const middle = { x: Math.floor(width / 2) + 0.5, y: Math.floor(height / 2) + 0.5 };
  pane.update({ cursor: pane.cursor ? null : middle });
}

function moveCursor(pane: Pane, cursor: Point, { x, y }: Point, step: number): void {
  const within = (value: number, most: number) => Math.min(most - 0.5, Math.max(0.5, value));
  const { width, height } = pane.layout;
  const to = { x: within(cursor.x + x * step, width), y: within(cursor.y + y * step, height) };
  const line = pane.lines.at(-1);
  pane.update({ cursor: to });
  if (line && isOpen(pane)) pane.setLines([...pane.lines.slice(0, -1), { ...line, to }]);
}

const opened = new WeakSet<Pane>();
const isOpen = (pane: Pane): boolean => opened.has(pane) && pane.lines.length > 0;

/** The first press sets where a distance begins, the second where it ends. */
function setEnd(pane: Pane): void {
  const cursor = pane.cursor!;
  if (isOpen(pane)) return void opened.delete(pane);
  opened.add(pane);
  pane.setLines([...pane.lines, { frame: pane.frame, from: cursor, to: cursor }]);
}

/** What a screen reader says of the last distance. */
export function lastDistance(pane: Pane): string {
  const line = pane.lines.at(-1);
  if (!line || line.frame !== pane.frame) return "";
  return `distance ${distanceText(distance(line.from, line.to, pane.image!.spacing))}`;
}
