/** The area that an image is drawn in, the text over it, and the bar of its frames. */
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { Gestures } from "./gestures.ts";
import { pixelAt, scaleOf, type Size } from "./geometry.ts";
import { Icon } from "./icons.tsx";
import { lastDistance, press } from "./keyboard.ts";
import { useObservable } from "./observable.ts";
import type { Pane } from "./pane.ts";
import { samplesAt } from "./raster.ts";
import { Scene } from "./scene.ts";
import { figure, nameOf, legible, windowText } from "./words.ts";

interface StageProps {
  readonly pane: Pane;
  readonly onHelp: () => void;
  readonly onPlay: () => void;
}

export function Stage({ pane, onHelp, onPlay }: StageProps) {
  useObservable(pane);
  const stage = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const scene = useRef<Scene | null>(null);
  const [screen, setScreen] = useState<Size>({ width: 1, height: 1 });
  const shown = useRef(pane);
  shown.current = pane;

  useLayoutEffect(() => {
    const element = stage.current!;
    scene.current = new Scene(canvas.current!);
    const measure = () => setScreen({ width: element.clientWidth, height: element.clientHeight });
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    const gestures = new Gestures(element, () => shown.current);
    return () => {
      observer.disconnect();
      gestures.end();
    };
  }, []);

  useLayoutEffect(() => {
    const due = requestAnimationFrame(() => scene.current!.draw(pane, screen));
    return () => cancelAnimationFrame(due);
  });

  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "?") onHelp();
    else if (event.key === " ") onPlay();
    else if (!press(event, pane, screen)) return;
    event.preventDefault();
  };
  const name = nameOf(pane.entry);
  return (
    <div
      class={`stage tool-${pane.tool}`}
      ref={stage}
      role="application"
      aria-roledescription="image"
      aria-label={`${name}. Press question mark for keyboard shortcuts.`}
      tabIndex={0}
      onKeyDown={onKeyDown}
    >
      <canvas ref={canvas} />
      <Written pane={pane} screen={screen} />
      <Loading pane={pane} />
      <Said pane={pane} />
    </div>
  );
}

/** Over the image: window, zoom, frame, and the value at the pointer. */
function Written({ pane, screen }: { readonly pane: Pane; readonly screen: Size }) {
  if (!pane.image) return null;
  const { window, windowName } = pane;
  const zoom = Math.round(scaleOf(pane.view, pane.layout, screen) * 100);
  const preset = windowName ? `${windowName}: ` : "";
  return (
    <>
      <p class="written top-left">
        {pane.shown?.tier === "preview" && <strong>Preview</strong>}
        <span>
          {preset}
          {windowText(window)}
        </span>
        <span>
          {zoom} %{pane.isInverted !== pane.inverted ? " · MONOCHROME1" : ""}
          {pane.inverted ? " · inverted" : ""}
        </span>
      </p>
      <p class="written bottom-left">{valueText(pane)}</p>
    </>
  );
}

/** `x 12, y 34: −820 HU` at the pointer, or at the cursor. */
export function valueText(pane: Pane): string {
  const at = pane.cursor ?? pane.pointer;
  const shown = pane.shown;
  const pixel = at && pixelAt(at, pane.layout);
  if (!pixel || !shown) return "";
  const { frame } = shown;
  const column = Math.floor((pixel.x * frame.width) / pane.layout.width);
  const row = Math.floor((pixel.y * frame.height) / pane.layout.height);
  const { slope, intercept, units } = pane.rescale;
  const samples = samplesAt(frame, column, row);
  const values = samples.map((sample) => figure(sample * slope + intercept, 1));
  const region = pane.image!.region;
  const [x, y] = [pixel.x + (region?.x ?? 0), pixel.y + (region?.y ?? 0)];
  return `x ${x}, y ${y}: ${values.join(", ")}${units ? ` ${legible(units)}` : ""}`;
}

function Loading({ pane }: { readonly pane: Pane }) {
  if (pane.error) {
    const { title, message, hint } = pane.error;
    return (
      <div class="stage-error" role="alert">
        <strong>{title}</strong>
        {message && <p>{message}</p>}
        {hint && <p>{hint}</p>}
        <button type="button" onClick={() => void pane.retry()}>
          Try again
        </button>
      </div>
    );
  }
  if (pane.progress === null) return null;
  const what = pane.tier === "preview" ? "Preview" : "Diagnostic image";
  return (
    <div class="loading">
      <label>
        {what} is loading
        <progress max={1} value={pane.progress || undefined} />
      </label>
    </div>
  );
}

/** Tells a screen reader what changed, once it rests: a dragged window is not read out. */
function Said({ pane }: { readonly pane: Pane }) {
  const [said, setSaid] = useState("");
  const { frame, frames, range, window, windowName } = pane;
  const parts = [
    pane.progress === null && pane.shown ? `${pane.shown.tier} image is shown` : "",
    frames > 1 ? `frame ${frame - range.first + 1} of ${frames}` : "",
    `window ${windowName && `${windowName}, `}center ${figure(window.center, 0)}, width ${figure(window.width, 0)}`,
    pane.inverted ? "inverted" : "",
    pane.cursor ? valueText(pane) : "",
    lastDistance(pane),
  ];
  const text = parts.filter(Boolean).join(", ");
  useEffect(() => {
    const timer = setTimeout(() => setSaid(text), 600);
    return () => clearTimeout(timer);
  }, [text]);
  return (
    <p class="unseen" role="status">
      {said}
    </p>
  );
}

/** Which frame is shown, as a slider, and the cine. */
export function FrameBar({ pane, cine }: { readonly pane: Pane; readonly cine: Cine }) {
  useObservable(pane);
  if (pane.frames <= 1) return null;
  const { first, last } = pane.range;
  const label = cine.isPlaying ? "Pause" : "Play";
  return (
    <div class="frames" role="group" aria-label="Frames">
      <button type="button" class="tool" title={`${label} (Space)`} onClick={cine.toggle}>
        <Icon name={cine.isPlaying ? "pause" : "play"} />
        <span class="unseen">{label}</span>
      </button>
      <input
        type="range"
        aria-label="Frame"
        min={first}
        max={last}
        value={pane.frame}
        onInput={(event) => pane.goTo(event.currentTarget.valueAsNumber)}
        aria-valuetext={`${pane.frame - first + 1} of ${pane.frames}`}
      />
      <output>
        {pane.frame - first + 1} / {pane.frames}
      </output>
      <label class="rate">
        <span class="unseen">Frames a second</span>
        <select
          value={String(cine.rate)}
          onChange={(event) => cine.setRate(Number(event.currentTarget.value))}
        >
          {[2, 5, 10, 15, 20, 30].map((rate) => (
            <option key={rate} value={String(rate)}>
              {rate} / s
            </option>
          ))}
        </select>
      </label>
    </div>
  );
}

export interface Cine {
  readonly isPlaying: boolean;
  readonly rate: number;
  readonly toggle: () => void;
  readonly setRate: (rate: number) => void;
}

/** Frames that are read ahead while the cine runs. */
const AHEAD = 8;

export function useCine(pane: Pane): Cine {
  const [isPlaying, setPlaying] = useState(false);
  const [rate, setRate] = useState(10);
  useEffect(() => setPlaying(false), [pane]);
  useEffect(() => {
    if (!isPlaying) return undefined;
    const timer = setInterval(() => step(pane), 1000 / rate);
    return () => clearInterval(timer);
  }, [pane, isPlaying, rate]);
  return { isPlaying, rate, toggle: () => setPlaying((was) => !was && pane.frames > 1), setRate };
}

/** On to the next frame once it is there: a slow decoder plays more slowly and skips nothing. */
function step(pane: Pane): void {
  const { first, last } = pane.range;
  const after = (frame: number) => (frame >= last ? first : frame + 1);
  const next = after(pane.frame);
  let ahead = next;
  for (let count = 0; count < AHEAD && pane.isReady(ahead); count++) ahead = after(ahead);
  if (!pane.isReady(ahead)) void pane.prefetch(ahead);
  if (pane.isReady(next)) pane.goTo(next);
}
