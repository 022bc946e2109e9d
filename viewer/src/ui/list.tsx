/**
 * The images of a release. Only the rows in sight exist, so that ten thousand images cost what
 * twenty do; the previews of these rows are read once scrolling rests.
 */
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { ImageEntry } from "../release/types.ts";
import { filtered } from "./filter.ts";
import { Icon } from "./icons.tsx";
import { useObservable } from "./observable.ts";
import type { Preview, Previews } from "./previews.ts";
import type { Session } from "./session.ts";
import { counted, kindText, nameOf, shapeText, legible, splitPath, tierWords } from "./words.ts";

/** Of a row, in CSS pixels; the style sheet has the same. */
const ROW = 84;
/** Labels of an image that are shown. */
const MOST_LABELS = 100;
const BEYOND = 3;
const REST = 120;

interface ListProps {
  readonly session: Session;
  readonly onOpen: (entry: ImageEntry) => void;
}

export function ImageList({ session, onOpen }: ListProps) {
  const { previews, workspace } = session.opened!;
  useObservable(workspace);
  const [typed, setTyped] = useState("");
  const found = useMemo(() => filtered(session.entries, typed), [session.entries, typed]);
  const shownId = workspace.current?.entry.id ?? null;
  return (
    <section class="list" aria-label="Images of the release">
      <label class="search">
        <Icon name="search" />
        <span class="unseen">Filter by name, modality, size or label</span>
        <input
          type="search"
          placeholder="Filter by name, modality, label"
          value={typed}
          autocomplete="off"
          spellcheck={false}
          onInput={(event) => setTyped(event.currentTarget.value)}
        />
      </label>
      <p class="count" role="status">
        {countText(session, found.length, typed)}
      </p>
      {session.listError && (
        <p class="problem" role="alert">
          {session.listError.title}: {session.listError.message} {session.listError.hint}{" "}
          <button type="button" onClick={() => void session.list()}>
            Try again
          </button>
        </p>
      )}
      <Rows entries={found} previews={previews} shownId={shownId} onOpen={onOpen} />
    </section>
  );
}

function countText({ entries, isListed, opened }: Session, found: number, typed: string): string {
  if (!isListed) return `${counted(entries.length, "image")} so far`;
  if (typed.trim()) return `${found.toLocaleString("en")} of ${counted(entries.length, "image")}`;
  const count = opened!.release.count;
  const all = counted(entries.length, "image");
  return entries.length < count
    ? `${entries.length.toLocaleString("en")} of the release's ${counted(count, "image")}`
    : all;
}

interface RowsProps {
  readonly entries: readonly ImageEntry[];
  readonly previews: Previews;
  readonly shownId: string | null;
  readonly onOpen: (entry: ImageEntry) => void;
}

function Rows({ entries, previews, shownId, onOpen }: RowsProps) {
  useObservable(previews);
  const box = useRef<HTMLDivElement>(null);
  const [scrolled, setScrolled] = useState({ top: 0, height: 600 });
  const [active, setActive] = useState(0);
  const first = Math.max(0, Math.floor(scrolled.top / ROW) - BEYOND);
  const last = Math.min(entries.length, Math.ceil((scrolled.top + scrolled.height) / ROW) + BEYOND);
  const current = Math.min(active, entries.length - 1);
  const isDrawn = current >= first && current < last;

  useLayoutEffect(() => {
    const measure = () => setScrolled(({ top }) => ({ top, height: box.current!.clientHeight }));
    const observer = new ResizeObserver(measure);
    observer.observe(box.current!);
    return () => observer.disconnect();
  }, []);

  useEffect(() => {
    if (box.current!.clientHeight === 0) return previews.want([]);
    const timer = setTimeout(() => previews.want(entries.slice(first, last)), REST);
    return () => clearTimeout(timer);
  }, [entries, first, last, scrolled.height]);

  const moveTo = (index: number) => {
    const next = Math.min(entries.length - 1, Math.max(0, index));
    const element = box.current!;
    setActive(next);
    const [top, bottom] = [next * ROW, (next + 1) * ROW];
    if (top < element.scrollTop) element.scrollTop = top;
    else if (bottom > element.scrollTop + element.clientHeight) {
      element.scrollTop = bottom - element.clientHeight;
    }
  };

  const onKeyDown = (event: KeyboardEvent) => {
    const page = Math.max(1, Math.floor(scrolled.height / ROW) - 1);
    const steps: Record<string, number> = {
      ArrowUp: -1,
      ArrowDown: 1,
      PageUp: -page,
      PageDown: page,
    };
    const step = steps[event.key];
    const entry = entries[current];
    if (step !== undefined) moveTo(current + step);
    else if (event.key === "Home") moveTo(0);
    else if (event.key === "End") moveTo(entries.length - 1);
    else if ((event.key === "Enter" || event.key === " ") && entry) onOpen(entry);
    else return;
    event.preventDefault();
  };

  const rows = entries.slice(first, last).map((entry, offset) => {
    const index = first + offset;
    return (
      <Row
        key={entry.id}
        entry={entry}
        preview={previews.get(entry.id)}
        index={index}
        count={entries.length}
        isActive={index === current}
        isShown={entry.id === shownId}
        onOpen={() => {
          setActive(index);
          onOpen(entry);
        }}
      />
    );
  });
  return (
    <div
      class="rows"
      ref={box}
      role="listbox"
      aria-label="Images"
      tabIndex={0}
      aria-activedescendant={isDrawn ? `row-${current}` : undefined}
      onKeyDown={onKeyDown}
      onScroll={(event) =>
        setScrolled({
          top: event.currentTarget.scrollTop,
          height: event.currentTarget.clientHeight,
        })
      }
    >
      <div class="rows-all" role="presentation" style={{ height: `${entries.length * ROW}px` }}>
        {rows}
      </div>
    </div>
  );
}

interface RowProps {
  readonly entry: ImageEntry;
  readonly preview: Preview | undefined;
  readonly index: number;
  readonly count: number;
  readonly isActive: boolean;
  readonly isShown: boolean;
  readonly onOpen: () => void;
}

function Row({ entry, preview, index, count, isActive, isShown, onOpen }: RowProps) {
  const { listed } = entry;
  const { folder, base } = splitPath(preview?.name ? legible(preview.name) : nameOf(entry));
  const shape = listed ?? (preview && !preview.failed ? preview : null);
  const facts = [
    listed ? kindText(listed) : "",
    shape ? shapeText(shape) : "",
    entry.tier === "preview" ? tierWords.preview : "",
    entry.region ? "region" : "",
  ];
  const labels = Object.entries(listed?.labels ?? {})
    .slice(0, MOST_LABELS)
    .map(([column, value]) => [legible(column), legible(value)] as const);
  const kind = isActive ? "row active" : "row";
  return (
    <div
      id={`row-${index}`}
      class={kind}
      role="option"
      aria-selected={isShown}
      aria-posinset={index + 1}
      aria-setsize={count}
      style={{ transform: `translateY(${index * ROW}px)` }}
      onClick={onOpen}
    >
      <Thumbnail preview={preview} />
      <div class="row-text">
        <span class="row-name">
          {folder && <span class="folder">{folder}</span>}
          {base}
        </span>
        <span class="facts">{facts.filter(Boolean).join(" · ")}</span>
        {labels.length > 0 && (
          <span class="labels">
            {labels.map(([column, value]) => (
              <span class="label" key={column} title={`${column}: ${value}`}>
                <span class="unseen">{column}: </span>
                {value}
              </span>
            ))}
          </span>
        )}
      </div>
    </div>
  );
}

function Thumbnail({ preview }: { readonly preview: Preview | undefined }) {
  const place = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    place.current!.replaceChildren(...(preview?.picture ? [preview.picture] : []));
  }, [preview]);
  const state = !preview ? "waiting" : preview.failed ? "failed" : "";
  return <div class={`thumbnail ${state}`} ref={place} aria-hidden="true" />;
}
