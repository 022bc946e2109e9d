/** State that components watch: a model calls `changed`, and they are drawn again. */
import { useLayoutEffect, useReducer } from "preact/hooks";

export class Observable {
  private readonly listeners = new Set<() => void>();
  private due = false;
  /** Counts changes, so that one between drawing and subscribing is not missed. */
  changes = 0;

  subscribe(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  }

  /** Many changes in one turn redraw once. */
  changed(): void {
    this.changes++;
    if (this.due) return;
    this.due = true;
    queueMicrotask(() => {
      this.due = false;
      for (const listener of this.listeners) listener();
    });
  }
}

/** Draws the component again whenever the model changes. */
export function useObservable<T extends Observable>(model: T): T {
  const [, redraw] = useReducer((count: number, _: void) => count + 1, 0);
  const drawn = model.changes;
  useLayoutEffect(() => {
    if (model.changes !== drawn) redraw();
    return model.subscribe(() => redraw());
  }, [model]);
  return model;
}
