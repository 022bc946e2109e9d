/** The worker's end of the calls of rpc.ts: holds the release and its open images. */
import { UsageError } from "../errors.ts";
import type { ImageEntry, OpenedImage, Release, RestoredFile } from "../release/types.ts";
import {
  toFailure,
  type Addresses,
  type Asked,
  type ImageFacts,
  type Methods,
  type OpenRequest,
  type ReleaseFacts,
  type Told,
  type Thread,
} from "./rpc.ts";

/** The engine, as far as the page needs it. */
export type OpenFunction = (request: OpenRequest) => Promise<Release>;
export type WarmFunction = (addresses: Addresses) => Promise<void>;

const RELEASE = [
  "place",
  "signer",
  "id",
  "version",
  "digest",
  "created",
  "count",
  "grants",
  "notes",
] as const satisfies readonly (keyof ReleaseFacts)[];
const IMAGE = [
  "id",
  "name",
  "kind",
  "frames",
  "height",
  "width",
  "channels",
  "spacing",
  "sampleType",
  "bitDepth",
  "photometric",
  "tiers",
  "region",
  "quality",
  "protection",
  "sparsity",
  "decoys",
  "model",
  "exact",
  "group",
  "hasTexture",
  "display",
] as const satisfies readonly (keyof ImageFacts)[];

/** Fields alone: an engine's object may hold functions and secrets, which must not travel. */
function picked<T extends object, K extends keyof T>(from: T, keys: readonly K[]): Pick<T, K> {
  return Object.fromEntries(keys.map((key) => [key, from[key]])) as unknown as Pick<T, K>;
}

interface Progress {
  readonly signal: AbortSignal;
  readonly onProgress: (share: number) => void;
}

type Done<M extends keyof Methods> = Promise<ReturnType<Methods[M]>>;
type Served = {
  [M in keyof Methods]: (progress: Progress, ...args: Parameters<Methods[M]>) => Done<M>;
};

/** Answers calls for as long as the thread lives. */
export function serve(thread: Thread, open: OpenFunction, warm: WarmFunction): void {
  new Server(thread, open, warm);
}

class Server {
  private release: Release | null = null;
  private readonly images = new Map<number, OpenedImage>();
  private readonly cursors = new Map<number, AsyncIterator<readonly ImageEntry[]>>();
  private readonly running = new Map<number, AbortController>();
  private numbers = 0;
  private notesTold = 0;

  constructor(
    private readonly thread: Thread,
    private readonly openRelease: OpenFunction,
    private readonly warm: WarmFunction,
  ) {
    thread.addEventListener("message", (event) => this.heard(event.data as Asked));
  }

  private heard(asked: Asked): void {
    if ("abort" in asked) return this.running.get(asked.abort)?.abort();
    void this.run(asked.call, asked.method, asked.args);
  }

  private async run(call: number, method: keyof Methods, args: readonly unknown[]): Promise<void> {
    const controller = new AbortController();
    this.running.set(call, controller);
    const onProgress = (share: number) => this.say({ progress: call, share });
    try {
      const served = this.methods[method] as (
        progress: Progress,
        ...args: readonly unknown[]
      ) => Promise<unknown>;
      const value = movable(await served({ signal: controller.signal, onProgress }, ...args));
      this.say({ done: call, value }, buffersOf(value));
    } catch (error) {
      this.say({ failed: call, failure: toFailure(error) });
    } finally {
      this.running.delete(call);
      this.tellNotes();
    }
  }

  /** Some are only known once an image is read, such as that a host serves no ranges. */
  private tellNotes(): void {
    const notes = this.release?.notes ?? [];
    if (notes.length === this.notesTold) return;
    this.notesTold = notes.length;
    this.say({ notes: [...notes] });
  }

  private say(told: Told, transfer: Transferable[] = []): void {
    this.thread.postMessage(told, transfer);
  }

  private readonly methods: Served = {
    warm: (_, addresses) => this.warm(addresses),
    open: async (_, request) => {
      const release = await this.openRelease(request);
      this.release = release;
      release.prepare().catch(() => undefined); // reading an image reports the failure
      const facts: ReleaseFacts = picked(release, RELEASE);
      return { ...facts, seen: release.remembered() };
    },
    page: async (_, cursor) => {
      const pages = this.cursors.get(cursor) ?? this.opened().pages()[Symbol.asyncIterator]();
      this.cursors.set(cursor, pages);
      const { value, done } = await pages.next();
      if (done) this.cursors.delete(cursor);
      return done ? null : (value as readonly ImageEntry[]);
    },
    image: async ({ signal }, id) => {
      const opened = await this.opened().open(id, signal);
      const image = ++this.numbers;
      this.images.set(image, opened);
      return { ...picked<ImageFacts, keyof ImageFacts>(opened, IMAGE), image };
    },
    read: (progress, image, tier, frames, texture) =>
      this.image(image).read(tier, { ...progress, texture, ...(frames ? { frames } : {}) }),
    files: (progress, image, tier) => this.image(image).files(tier, progress),
    close: (_, image) => Promise.resolve(void this.images.delete(image)),
  };

  private opened(): Release {
    if (!this.release) throw new UsageError("no release is open");
    return this.release;
  }

  private image(number: number): OpenedImage {
    const image = this.images.get(number);
    if (!image) throw new UsageError("the image is no longer open");
    return image;
  }
}

interface HasData {
  readonly data: {
    readonly buffer: ArrayBufferLike;
    readonly byteLength: number;
    slice(): unknown;
  };
}

const hasData = (value: unknown): value is HasData =>
  typeof value === "object" && value !== null && "data" in value && ArrayBuffer.isView(value.data);

/** A view of a larger buffer, such as WebAssembly's memory, is copied; all else is moved. */
function movable(value: unknown): unknown {
  if (!hasData(value) || value.data.byteLength === value.data.buffer.byteLength) return value;
  return { ...value, data: value.data.slice() };
}

function buffersOf(value: unknown): Transferable[] {
  if (hasData(value)) return [value.data.buffer as ArrayBuffer];
  if (!Array.isArray(value)) return [];
  const whole = (value as Partial<RestoredFile>[])
    .map((file) => file.bytes)
    .filter((bytes) => bytes instanceof Uint8Array)
    .filter((bytes) => bytes.byteLength === bytes.buffer.byteLength)
    .map((bytes) => bytes.buffer as ArrayBuffer);
  return [...new Set(whole)];
}
