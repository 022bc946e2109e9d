/** The engine as the page sees it: a release whose work is done in a worker. */
import { PrimisError } from "../errors.ts";
import type { ImageEntry, OpenedImage, ReadOptions, Release, Tier } from "../release/types.ts";
import { Caller, type Addresses, type Methods, type OpenRequest } from "./rpc.ts";

/** An image that is held open in the worker until it is closed. */
export interface ShownImage extends OpenedImage {
  close(): void;
}

export interface ShownRelease extends Omit<Release, "prepare"> {
  /** Calls a listener when there are other notes than before. */
  onNotes(listener: () => void): void;
  open(id: string, signal?: AbortSignal): Promise<ShownImage>;
}

export interface Engine {
  /** Loads ahead what opening will need, while a person looks for the key. */
  warm(addresses: Addresses): void;
  /** Opens a release; another one that was open is forgotten. */
  open(request: OpenRequest): Promise<ShownRelease>;
  /** Ends the worker, with all keys that it holds. */
  forget(): void;
}

/**
 * script: the worker's address. It is started from a blob, since only such a worker inherits the
 * page's content security policy: one that is loaded by its address has no policy but the one that
 * its host sends, and a static host sends none.
 */
export function workerEngine(script: URL): Engine {
  let ahead: Promise<Started> | null = null;
  let opened: Worker | null = null;
  let isForgotten = false;
  return {
    warm(addresses) {
      ahead ??= start(script);
      ahead.then(({ caller }) => caller.call("warm", [addresses])).catch(() => undefined);
    },
    async open(request) {
      opened?.terminate(); // and what it knew
      const starting = ahead ?? start(script);
      ahead = null;
      const { worker, caller } = await starting;
      if (isForgotten) {
        worker.terminate();
        throw new PrimisError("another release is opened");
      }
      opened = worker;
      return remoteRelease(caller, await caller.call("open", [request]));
    },
    forget() {
      isForgotten = true;
      opened?.terminate();
      ahead?.then(({ worker }) => worker.terminate()).catch(() => undefined);
    },
  };
}

interface Started {
  readonly worker: Worker;
  readonly caller: Caller;
}

async function start(script: URL): Promise<Started> {
  const worker = await workerFrom(script);
  const caller = new Caller(worker);
  worker.addEventListener("error", (event) => {
    event.preventDefault();
    caller.fail(new PrimisError("the decoder stopped, perhaps for lack of memory: reload"));
  });
  return { worker, caller };
}

async function workerFrom(script: URL): Promise<Worker> {
  const answer = await fetch(script);
  if (!answer.ok) throw new PrimisError(`"${script.pathname}" is missing beside the page`);
  const code = new Blob([await answer.text()], { type: "text/javascript" });
  const address = URL.createObjectURL(code);
  try {
    return new Worker(address, { type: "module" });
  } finally {
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  }
}

type OpenedFacts = ReturnType<Methods["open"]>;
type ShownFacts = ReturnType<Methods["image"]>;
let cursors = 0;

function remoteRelease(caller: Caller, { seen, ...facts }: OpenedFacts): ShownRelease {
  async function* pages(): AsyncIterable<readonly ImageEntry[]> {
    const cursor = ++cursors;
    for (;;) {
      const page = await caller.call("page", [cursor]);
      if (!page) return;
      yield page;
    }
  }
  let notes = facts.notes;
  return {
    ...facts,
    get notes() {
      return notes;
    },
    onNotes(listener) {
      caller.onNotes = (told) => {
        notes = told;
        listener();
      };
    },
    pages,
    async images() {
      const all: ImageEntry[] = [];
      for await (const page of pages()) all.push(...page);
      return all;
    },
    open: async (id, signal) => remoteImage(caller, await caller.call("image", [id], { signal })),
    remembered: () => seen,
  };
}

function remoteImage(caller: Caller, { image, ...facts }: ShownFacts): ShownImage {
  return {
    ...facts,
    read(tier: Tier, { frames, texture, onProgress, signal }: ReadOptions = {}) {
      const args = [image, tier, frames ?? null, texture ?? false] as const;
      return caller.call("read", [...args], { signal, onProgress });
    },
    files: (tier: Tier, { onProgress, signal }: ReadOptions = {}) =>
      caller.call("files", [image, tier], { signal, onProgress }),
    close: () => void caller.call("close", [image]),
  };
}
