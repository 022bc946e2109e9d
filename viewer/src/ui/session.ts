/**
 * From the page's address to an open release: which release, which key, whose signature. Each stage
 * is what the page shows.
 */
import { BadKey, PrimisError, UnexpectedRelease, WrongSigner } from "../errors.ts";
import type { ImageEntry } from "../release/types.ts";
import { configFor, handedKey, readConfig, type Config } from "./config.ts";
import type { Engine, ShownRelease } from "./engine.ts";
import { diagnosed, explain, explainLink, type Explained } from "./explain.ts";
import {
  keyFrom,
  keyFromText,
  linkFrom,
  linkKey,
  type Key,
  type Link,
  type LockedKey,
  type Offered,
  type PlainKey,
} from "./key.ts";
import { browserMemory, recognise, seenAt, type Recognised } from "./known.ts";
import { Observable } from "./observable.ts";
import { confineTo } from "./policy.ts";
import { Previews } from "./previews.ts";
import { nameOf } from "./words.ts";
import { Workspace } from "./workspace.ts";

export type Stage =
  | { readonly at: "starting" }
  | { readonly at: "address"; readonly error: Explained | null }
  | { readonly at: "key"; readonly error: Explained | null; readonly locked: LockedKey | null }
  | { readonly at: "pin"; readonly error: Explained | null }
  | { readonly at: "opening" }
  | { readonly at: "doubt"; readonly error: Explained; readonly canAccept: boolean }
  | { readonly at: "failed"; readonly error: Explained }
  | { readonly at: "open" };

/** An open release with what is shown of it. */
export interface Opened {
  readonly release: ShownRelease;
  readonly recognised: Recognised;
  readonly previews: Previews;
  readonly workspace: Workspace;
}

export class Session extends Observable {
  stage: Stage = { at: "starting" };
  config: Config | null = null;
  opened: Opened | null = null;
  /** What the list shows: page by page. */
  entries: readonly ImageEntry[] = [];
  isListed = false;
  listError: Explained | null = null;
  /** What was tried last, so that it can be tried again. */
  tried: Key["kind"] = "identity";
  /** The key that opened the release, where a passkey can lock it: a file that nothing locks. */
  plain: PlainKey | null = null;
  private unaccepted: ShownRelease | null = null;

  /** link: what the fragment held, which is no longer in the address bar. */
  constructor(
    private readonly engine: Engine,
    private readonly page: URL,
    private readonly link: Link | null,
  ) {
    super();
  }

  async start(): Promise<void> {
    try {
      this.config = await readConfig(this.page);
    } catch (error) {
      return this.turnTo({ at: "failed", error: explain(error) });
    }
    if (!this.config) return this.turnTo({ at: "address", error: null });
    confineTo(this.config.release, document);
    this.engine.warm({ release: this.config.release, assets: this.assets });
    if (this.link?.asksPin) return this.turnTo({ at: "pin", error: null });
    if (this.link) return this.open(linkKey(this.link));
    if (this.config.key) return this.openHanded();
    this.askAgain();
  }

  private async openHanded(): Promise<void> {
    try {
      await this.offer(await keyFrom(await handedKey(this.page)));
    } catch (error) {
      this.refuse(error);
    }
  }

  private get assets(): string {
    return new URL("assets", this.page).href;
  }

  /** The address that was typed, checked; the page is loaded again with it. */
  addressFor(typed: string): URL | null {
    try {
      const { release } = configFor(typed, this.page);
      const next = new URL(this.page);
      next.hash = "";
      next.searchParams.set("release", release);
      return next;
    } catch (error) {
      this.turnTo({ at: "address", error: explain(error) });
      return null;
    }
  }

  /** A key from a file or a text: one that is locked has to be unlocked first. */
  async offer(offered: Offered): Promise<void> {
    if (offered.kind === "locked") {
      return this.turnTo({ at: "key", error: null, locked: offered });
    }
    await this.open({ kind: "identity", text: offered.text }, offered);
  }

  /** Opens with a key file that a passkey locks; the browser asks for the passkey. */
  async unlock(locked: LockedKey): Promise<void> {
    this.turnTo({ at: "opening" });
    try {
      const { unlockWithPasskey } = await import("../keys/passkey.ts");
      const key = await keyFromText(await unlockWithPasskey(locked.file));
      if (key.kind === "locked") throw new BadKey("what the passkey locks is itself locked");
      await this.open({ kind: "identity", text: key.text });
    } catch (error) {
      this.turnTo({ at: "key", error: explain(error), locked });
    }
  }

  refuse(error: unknown): void {
    this.turnTo({ at: "key", error: explain(error), locked: null });
  }

  askAgain(): void {
    this.turnTo({ at: "key", error: null, locked: null });
  }

  openWithPin(pin: string): Promise<void> {
    return this.open(linkKey(this.link!, pin));
  }

  /** plain: the key where nothing locks it. */
  async open(key: Key, plain: PlainKey | null = null): Promise<void> {
    const before = this.stage;
    this.tried = key.kind;
    this.plain = plain;
    this.turnTo({ at: "opening" });
    const { release, place, signer } = this.config!;
    const { assets } = this;
    const known = seenAt(browserMemory(), place);
    try {
      const request = { release, key, assets, signer, known };
      this.recognise(await this.engine.open(request), false);
    } catch (error) {
      const explained = this.linkError(before, error) ?? (await diagnosed(error, this.config!));
      if (error instanceof WrongSigner) this.doubt(explained, null);
      else this.turnBack(before, key, explained);
    }
  }

  private linkError(before: Stage, error: unknown): Explained | null {
    const byLink = this.link && (before.at === "pin" || before.at === "starting");
    return byLink ? explainLink(error, this.link.asksPin) : null;
  }

  private turnBack(before: Stage, key: Key, error: Explained): void {
    if (before.at === "pin") return this.turnTo({ at: "pin", error });
    const by = "passphrase";
    const locked = key.kind === "sealed" ? ({ kind: "locked", file: key.file, by } as const) : null;
    this.turnTo({ at: "key", error, locked });
  }

  /** Opens although signer or state differ from what was seen before, and remembers them. */
  accept(): void {
    if (this.unaccepted) this.recognise(this.unaccepted, true);
  }

  private recognise(release: ShownRelease, anew: boolean): void {
    const { place, signer: demanded } = this.config!;
    const today = new Date().toISOString().slice(0, 10);
    const question = { place, found: release.remembered(), demanded, anew, today };
    try {
      this.show(release, recognise(browserMemory(), question));
    } catch (error) {
      if (!(error instanceof PrimisError)) throw error;
      this.doubt(explain(error), error instanceof UnexpectedRelease ? release : null);
    }
  }

  /** release: what can be accepted all the same. */
  private doubt(error: Explained, release: ShownRelease | null): void {
    this.unaccepted = release;
    this.turnTo({ at: "doubt", error, canAccept: release !== null });
  }

  private show(release: ShownRelease, recognised: Recognised): void {
    const explainer = (error: unknown) => diagnosed(error, this.config!);
    const workspace = new Workspace(release, explainer);
    this.opened = { release, recognised, previews: new Previews(release), workspace };
    this.unaccepted = null;
    release.onNotes(() => this.changed());
    this.turnTo({ at: "open" });
    void this.list();
  }

  /** Reads the list to its end; what is there is shown meanwhile. */
  async list(): Promise<void> {
    this.listError = null;
    const entries: ImageEntry[] = [];
    try {
      for await (const page of this.opened!.release.pages()) {
        for (const entry of page) entries.push(entry);
        this.entries = entries.slice();
        this.changed();
      }
      this.entries = byName(entries);
      this.isListed = true;
    } catch (error) {
      this.listError = await diagnosed(error, this.config!);
    }
    this.changed();
  }

  private turnTo(stage: Stage): void {
    this.stage = stage;
    this.changed();
  }
}

/** In the order of their names, `2.dcm` before `10.dcm`: a release lists its images in none. */
function byName(entries: readonly ImageEntry[]): readonly ImageEntry[] {
  const { compare } = new Intl.Collator(undefined, { numeric: true });
  const named = entries.map((entry) => [nameOf(entry), entry] as const);
  return named.sort(([one], [other]) => compare(one, other)).map(([, entry]) => entry);
}

/** Takes the secret of a link out of the address bar, so that no history or screenshot has it. */
export function takeLink(page: Window): Link | null {
  const link = linkFrom(page.location.hash);
  if (page.location.hash.startsWith("#open=")) {
    const { pathname, search } = page.location;
    page.history.replaceState(null, "", pathname + search);
  }
  return link;
}
