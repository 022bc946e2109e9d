/**
 * The codec in a worker, so that a page stays responsive: see remote.ts. It fetches nothing: what
 * it needs comes in messages.
 */
import type { Assets, Samples } from "../release/types.ts";
import { Codec } from "./codec.ts";
import type { Answer, Asked, Question, Task } from "./remote.ts";

const scope = globalThis as unknown as {
  onmessage: ((event: MessageEvent<Question>) => void) | null;
  postMessage(message: Answer | Asked, transfer?: Transferable[]): void;
};

const waiting = new Map<
  number,
  { resolve: (data: Uint8Array) => void; reject: (e: Error) => void }
>();
let asked = 0;

/** Asks the page for a file that ships with the viewer. */
function ask(file: Asked["file"], name = ""): Promise<Uint8Array> {
  const number = ++asked;
  return new Promise((resolve, reject) => {
    waiting.set(number, { resolve, reject });
    scope.postMessage({ kind: "asked", number, file, name });
  });
}

const assets: Assets = {
  kernel: () => ask("kernel"),
  runtime: () => ask("runtime"),
  graph: (architecture) => ask("graph", architecture),
  weights: (digest) => ask("weights", digest),
};
const codec = new Codec(assets);

scope.onmessage = ({ data: question }) => {
  if (question.kind === "file") {
    const asker = waiting.get(question.number);
    waiting.delete(question.number);
    if (question.data) asker?.resolve(question.data);
    else asker?.reject(new Error(question.why));
    return;
  }
  const { number, task } = question;
  run(number, task).then(
    (frames) => {
      const transfer = frames.map((frame: Samples) => frame.buffer as ArrayBuffer);
      scope.postMessage({ kind: "done", number, frames }, transfer);
    },
    (error: Error) => {
      scope.postMessage({ kind: "failed", number, name: error.name, why: error.message });
    },
  );
};

async function run(number: number, task: Task): Promise<Samples[]> {
  if (task.kind === "decode") {
    return codec.decode(task.job, (share) =>
      scope.postMessage({ kind: "progress", number, share }),
    );
  }
  await codec.prepare(task.model);
  return [];
}
