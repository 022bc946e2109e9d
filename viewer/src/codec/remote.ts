/**
 * A decoder that runs in a worker (worker.ts). Errors come back as what they were; a worker that
 * dies is a ModelError, and the next job gets a new one.
 */
import * as errors from "../errors.ts";
import type { Assets, Samples } from "../release/types.ts";
import type { Decoder, GroupJob } from "./job.ts";

/** What the page tells the worker: a job, or a file that it asked for. */
export type Question =
  | { readonly kind: "job"; readonly number: number; readonly job: GroupJob }
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
  readonly resolve: (frames: Samples[]) => void;
  readonly reject: (error: Error) => void;
  readonly onProgress: (share: number) => void;
}

export class WorkerCodec implements Decoder {
  private worker: Worker | null = null;
  private readonly jobs = new Map<number, Waiting>();
  private failure: Error | null = null;
  private next = 0;

  /** script: the address of the built worker. */
  constructor(
    private readonly script: string | URL,
    private readonly assets: Assets,
  ) {}

  /** See Decoder. */
  decode(job: GroupJob, onProgress: (share: number) => void = () => undefined): Promise<Samples[]> {
    const number = ++this.next;
    this.worker ??= this.start();
    const worker = this.worker;
    return new Promise((resolve, reject) => {
      this.jobs.set(number, { resolve, reject, onProgress });
      this.tell(worker, { kind: "job", number, job });
    });
  }

  /** Ends the worker; what it was doing fails. */
  close(): void {
    this.stop(new errors.ModelError("decoding was stopped"));
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
    for (const job of this.jobs.values()) job.reject(error);
    this.jobs.clear();
  }

  private hear(worker: Worker, answer: Answer | Asked): void {
    if (answer.kind === "asked") return void this.send(worker, answer);
    const job = this.jobs.get(answer.number);
    if (answer.kind === "progress") return job?.onProgress(answer.share);
    this.jobs.delete(answer.number);
    if (answer.kind === "done") job?.resolve(answer.frames);
    else job?.reject(this.failed(answer.name, answer.why));
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
