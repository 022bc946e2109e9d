/**
 * A decoder that runs in a worker (worker.ts). Errors come back as what they were; a worker that
 * dies is a ModelError, and the next job gets a new one.
 */
import * as errors from "../errors.ts";
import type { Assets, Samples } from "../release/types.ts";
import type { Decoder, GroupJob } from "./job.ts";

/** What is asked of the worker: samples, or that it loads what decodes them. */
export type Task =
  | { readonly kind: "decode"; readonly job: GroupJob }
  | { readonly kind: "prepare"; readonly model: string };
/** What the page tells the worker: a task, or a file that it asked for. */
export type Question =
  | { readonly kind: "task"; readonly number: number; readonly task: Task }
  | {
      readonly kind: "file";
      readonly number: number;
      readonly data: Uint8Array | null;
      readonly why: string;
    };
/** What the worker asks the page for. */
export interface Asked {
  readonly kind: "asked";
  readonly number: number;
  readonly file: keyof Assets;
  readonly name: string;
}
export type Answer =
  | { readonly kind: "progress"; readonly number: number; readonly share: number }
  | { readonly kind: "done"; readonly number: number; readonly frames: Samples[] }
  | {
      readonly kind: "failed";
      readonly number: number;
      readonly name: string;
      readonly why: string;
    };

interface Waiting {
  readonly number: number;
  readonly task: Task;
  readonly resolve: (frames: Samples[]) => void;
  readonly reject: (error: unknown) => void;
  readonly onProgress: (share: number) => void;
}

/** One task at a time; one that was given up before its turn is never begun. */
export class WorkerCodec implements Decoder {
  private worker: Worker | null = null;
  private readonly queue: Waiting[] = [];
  private running: Waiting | null = null;
  private failure: Error | null = null;
  private next = 0;

  /** script: the address of the built worker. */
  constructor(
    private readonly script: string | URL,
    private readonly assets: Assets,
  ) {}

  /** See Decoder. */
  decode(
    job: GroupJob,
    onProgress: (share: number) => void = () => undefined,
    signal?: AbortSignal,
  ): Promise<Samples[]> {
    return this.ask({ kind: "decode", job }, onProgress, signal);
  }

  /** See Decoder. */
  async prepare(model: string): Promise<void> {
    await this.ask({ kind: "prepare", model }, () => undefined);
  }

  /** Ends the worker; what it was doing fails. */
  close(): void {
    this.stop(new errors.ModelError("decoding was stopped"));
  }

  private ask(
    task: Task,
    onProgress: (share: number) => void,
    signal?: AbortSignal,
  ): Promise<Samples[]> {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const waiting = { number: ++this.next, task, resolve, reject, onProgress };
      this.queue.push(waiting);
      signal?.addEventListener("abort", () => this.giveUp(waiting, signal.reason), { once: true });
      this.begin();
    });
  }

  private giveUp(waiting: Waiting, reason: unknown): void {
    const at = this.queue.indexOf(waiting);
    if (at >= 0) this.queue.splice(at, 1);
    waiting.reject(reason); // what the worker has begun it ends, for nobody
  }

  private begin(): void {
    const first = this.running ? undefined : this.queue.shift();
    if (!first) return;
    this.running = first;
    this.worker ??= this.start();
    this.tell(this.worker, { kind: "task", number: first.number, task: first.task });
  }

  private start(): Worker {
    const worker = new Worker(this.script, { type: "module" });
    worker.onmessage = ({ data }: MessageEvent<Answer | Asked>) => this.hear(worker, data);
    worker.onerror = () => this.stop(new errors.ModelError("the decoder's worker came to an end"));
    return worker;
  }

  private stop(error: Error): void {
    this.worker?.terminate();
    this.worker = null;
    const all = [this.running, ...this.queue.splice(0)];
    this.running = null;
    for (const waiting of all) waiting?.reject(error);
  }

  private hear(worker: Worker, answer: Answer | Asked): void {
    if (answer.kind === "asked") return void this.send(worker, answer);
    const { running } = this;
    if (running?.number !== answer.number) return;
    if (answer.kind === "progress") return running.onProgress(answer.share);
    this.running = null;
    if (answer.kind === "done") running.resolve(answer.frames);
    else running.reject(this.failed(answer.name, answer.why));
    this.begin();
  }

  /** A file that ships with the viewer. */
  private async send(worker: Worker, { number, file, name }: Asked): Promise<void> {
    try {
      const data = await this.assets[file](name);
      this.tell(worker, { kind: "file", number, data, why: "" });
    } catch (error) {
      this.failure = error as Error;
      this.tell(worker, { kind: "file", number, data: null, why: (error as Error).message });
    }
  }

  private tell(worker: Worker, question: Question): void {
    worker.postMessage(question);
  }

  /** An error of the class that it was; one of a file that could not be had as it was. */
  private failed(name: string, why: string): Error {
    if (this.failure?.message === why) return this.failure;
    if (name === "DamagedSection") return new errors.DamagedSection(why);
    return new errors.ModelError(name === "ModelError" ? why : "the image cannot be decoded");
  }
}
