/**
 * Calls between the page and its worker: typed, with progress, and cancelled by an AbortSignal.
 * Errors keep their class; pixels and files are moved and not copied.
 */
import * as errors from "../errors.ts";
import type {
  ImageEntry,
  OpenedImage,
  Pixels,
  Release,
  RememberedRelease,
  RestoredFile,
  Tier,
} from "../release/types.ts";
import type { Key } from "./key.ts";

export interface Addresses {
  /** Absolute address of the release. */
  readonly release: string;
  /** Absolute address of the folder that holds kernel, weights, graphs and ONNX Runtime. */
  readonly assets: string;
}

export interface OpenRequest extends Addresses {
  readonly key: Key;
  /** The signer that is demanded. */
  readonly signer: string | null;
  /** What was seen at this place before. */
  readonly known: readonly RememberedRelease[];
}

/** What a release, or an image, is apart from its functions. */
export type ReleaseFacts = Omit<Release, "pages" | "images" | "open" | "prepare" | "remembered">;
export type ImageFacts = Omit<OpenedImage, "read" | "files">;

/** What the worker does. image: a number that stands for an image that it holds open. */
export interface Methods {
  /** Loads what decodes the release, before there is a key: the manifest is public. */
  warm(addresses: Addresses): void;
  open(request: OpenRequest): ReleaseFacts & { readonly seen: RememberedRelease };
  /** The next page of images, null after the last. cursor: a number that the caller chose. */
  page(cursor: number): readonly ImageEntry[] | null;
  image(id: string): ImageFacts & { readonly image: number };
  read(image: number, tier: Tier, frames: readonly number[] | null, texture: boolean): Pixels;
  files(image: number, tier: Tier): RestoredFile[];
  close(image: number): void;
}
export type Method = keyof Methods;

/** To the worker. */
export type Asked =
  | { readonly call: number; readonly method: Method; readonly args: readonly unknown[] }
  | { readonly abort: number };

/** From the worker. */
export type Told =
  | { readonly done: number; readonly value: unknown }
  | { readonly failed: number; readonly failure: Failure }
  | { readonly progress: number; readonly share: number }
  | { readonly notes: readonly string[] };

/** An error as plain data. kind: its class in errors.ts, or empty. */
export interface Failure {
  readonly kind: string;
  readonly message: string;
  readonly what: string;
  readonly why: string;
}

/** A thread to talk to: a Worker here, the page from within the worker. */
export interface Thread {
  postMessage(message: unknown, transfer: Transferable[]): void;
  addEventListener(type: "message", listener: (event: MessageEvent) => void): void;
}

type ErrorClass = new (...args: string[]) => Error;
const CLASSES = Object.entries(errors) as [string, ErrorClass][];

export function toFailure(error: unknown): Failure {
  const kind = CLASSES.find(([, one]) => error instanceof Error && error.constructor === one)?.[0];
  const [what, why] = error instanceof errors.StoreError ? [error.what, error.why] : ["", ""];
  const aborted = error instanceof DOMException && error.name === "AbortError";
  const message = error instanceof Error ? error.message : "unknown failure";
  return { kind: kind ?? (aborted ? "AbortError" : ""), message, what, why };
}

export function fromFailure({ kind, message, what, why }: Failure): Error {
  if (kind === "AbortError") return new DOMException(message, kind);
  const found = CLASSES.find(([name]) => name === kind)?.[1];
  if (!found) return new Error(message);
  return what || why ? new found(what, why) : new found(message);
}

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((share: number) => void) | undefined;
}

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly onProgress: ((share: number) => void) | undefined;
}

/** The page's end. */
export class Caller {
  /** Is told all notes on the release whenever there is a new one. */
  onNotes: (notes: readonly string[]) => void = () => {};
  private readonly waiting = new Map<number, Waiting>();
  private calls = 0;

  constructor(private readonly thread: Thread) {
    thread.addEventListener("message", (event) => this.heard(event.data as Told));
  }

  call<M extends Method>(
    method: M,
    args: Parameters<Methods[M]>,
    { signal, onProgress }: CallOptions = {},
  ): Promise<ReturnType<Methods[M]>> {
    if (signal?.aborted) return Promise.reject(new DOMException("not needed", "AbortError"));
    const call = ++this.calls;
    signal?.addEventListener("abort", () => this.abort(call), { once: true });
    return new Promise<unknown>((resolve, reject) => {
      this.waiting.set(call, { resolve, reject, onProgress });
      this.say({ call, method, args });
    }) as Promise<ReturnType<Methods[M]>>;
  }

  /** Fails all that is waited for: the worker is gone. */
  fail(error: Error): void {
    for (const { reject } of this.waiting.values()) reject(error);
    this.waiting.clear();
  }

  private abort(call: number): void {
    const waiting = this.waiting.get(call);
    if (!waiting) return;
    this.waiting.delete(call);
    this.say({ abort: call });
    waiting.reject(new DOMException("not needed", "AbortError"));
  }

  private say(message: Asked, transfer: Transferable[] = []): void {
    this.thread.postMessage(message, transfer);
  }

  private heard(told: Told): void {
    if ("notes" in told) return this.onNotes(told.notes);
    if ("progress" in told) return this.waiting.get(told.progress)?.onProgress?.(told.share);
    const call = "done" in told ? told.done : told.failed;
    const waiting = this.waiting.get(call);
    this.waiting.delete(call);
    if ("done" in told) waiting?.resolve(told.value);
    else waiting?.reject(fromFailure(told.failure));
  }
}
