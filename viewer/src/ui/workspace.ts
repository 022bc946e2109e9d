/** The images on the screen, one or two beside each other, and whether they move together. */
import type { ImageEntry } from "../release/types.ts";
import type { ShownRelease } from "./engine.ts";
import { Observable } from "./observable.ts";
import { Pane, type Explainer, type ShownTier } from "./pane.ts";

export class Workspace extends Observable {
  panes: readonly Pane[] = [];
  active = 0;
  linked = true;

  constructor(
    private readonly release: ShownRelease,
    private readonly explainer: Explainer,
  ) {
    super();
  }

  get current(): Pane | null {
    return this.panes[this.active] ?? null;
  }

  /** In the active pane, in place of what was there. */
  show(entry: ImageEntry): void {
    this.current?.close();
    const panes = [...this.panes];
    panes[this.active] = this.paneFor(entry);
    this.panes = panes;
    this.changed();
  }

  /** The same image beside itself, at its preview: another one can be chosen from the list. */
  split(): void {
    const current = this.current;
    if (!current || this.panes.length > 1) return;
    const tier = current.tier === "diagnostic" ? "preview" : "diagnostic";
    const beside = this.paneFor(current.entry, tier);
    beside.view = current.view;
    this.panes = [current, beside];
    this.active = 1;
    this.changed();
  }

  closePane(index: number): void {
    this.panes[index]?.close();
    this.panes = this.panes.filter((_, at) => at !== index);
    this.active = 0;
    this.changed();
  }

  closeAll(): void {
    for (const pane of this.panes) pane.close();
    this.panes = [];
    this.active = 0;
    this.changed();
  }

  activate(index: number): void {
    if (index === this.active) return;
    this.active = index;
    this.changed();
  }

  setLinked(linked: boolean): void {
    this.linked = linked;
    if (linked && this.current) this.follow(this.current);
    this.changed();
  }

  private paneFor(entry: ImageEntry, tier?: ShownTier): Pane {
    const pane = new Pane(this.release, entry, this.explainer, tier);
    pane.onMoved = (moved) => this.follow(moved);
    void pane.open();
    return pane;
  }

  private follow(moved: Pane): void {
    if (!this.linked) return;
    for (const pane of this.panes) {
      if (pane === moved || !pane.image) continue;
      const follow = pane.onMoved;
      pane.onMoved = () => {};
      if (pane.view !== moved.view) pane.look(moved.view);
      if (pane.frames > 1) pane.goTo(moved.frame - moved.range.first + pane.range.first);
      pane.onMoved = follow;
    }
  }
}
