/**
 * Jobs to samples, on this thread: streams -> levels -> coefficients -> network -> grey levels
 * (docs/format.md, sections 6 and 7). Large frames are decoded in windows that overlap as far as
 * the network sees, so that the outcome is that of the whole.
 */
import { decodeRecord, readOpenTile } from "../codes/coder.ts";
import { Kernel } from "../codes/kernel.ts";
import { DamagedSection, ModelError } from "../errors.ts";
import type { Assets, Samples } from "../release/types.ts";
import { samplesOf, type Decoder, type FrameJob, type GroupJob, type RecordJob } from "./job.ts";
import { readModel, type Model } from "./model.ts";
import { Network, useRuntime } from "./network.ts";
import {
  clip,
  dctMatrix,
  restoreDc,
  roundHalfEven,
  stretched,
  turn,
  unstretched,
  windows,
  type Window,
} from "./planes.ts";
import { addTexture } from "./texture.ts";

/** A model with all that runs it. */
interface Loaded {
  readonly model: Model;
  readonly kernel: Kernel;
  readonly network: Network;
}

type Done = (share: number) => void;

export class Codec implements Decoder {
  private kernel: Promise<WebAssembly.Module> | null = null;
  private runtime: Promise<void> | null = null;
  private readonly models = new Map<string, Promise<Loaded>>();

  constructor(private readonly assets: Assets) {}

  /** See Decoder. Throws DamagedSection, ModelError. */
  async decode(
    job: GroupJob,
    onProgress: Done = () => undefined,
    signal?: AbortSignal,
  ): Promise<Samples[]> {
    const loaded = await this.load(job);
    const levels = await this.levels(job, (share) => onProgress(share / 2));
    const frames: Samples[] = [];
    for (const wanted of job.wanted) {
      const done = (share: number): void => {
        signal?.throwIfAborted();
        onProgress(0.5 + (frames.length + share) / job.wanted.length / 2);
      };
      frames.push(await decodeFrame(loaded, job, levels, wanted, done));
    }
    return frames;
  }

  /** See Decoder. Throws ModelError. */
  async prepare(model: string): Promise<void> {
    await this.loaded(model);
  }

  /** The true levels (c, LM, rows, columns) of each frame of a group. Throws DamagedSection. */
  async levels(job: GroupJob, onProgress: Done = () => undefined): Promise<Int16Array[]> {
    const { model, kernel } = await this.load(job);
    const module = await this.module();
    return job.records.map((records, frame) => {
      const size = job.channels * model.layout.atoms * job.rows * job.columns;
      const levels = new Int16Array(size);
      records.forEach((record, k) => {
        fillRecord(levels, record, job, model, kernel, module);
        onProgress((frame + (k + 1) / records.length) / job.records.length);
      });
      return levels;
    });
  }

  /** The model that decodes a job. Throws ModelError. */
  async model(digest: string): Promise<Model> {
    return (await this.loaded(digest)).model;
  }

  private async load(job: GroupJob): Promise<Loaded> {
    const loaded = await this.loaded(job.model);
    const { stride, codeMaps, atomsPerMap } = loaded.model;
    if (stride !== job.stride || codeMaps !== job.codeMaps || atomsPerMap !== job.atomsPerMap) {
      throw new ModelError(
        `model "${job.model.slice(0, 12)}" has stride, code maps and atoms ` +
          `${stride}, ${codeMaps}, ${atomsPerMap}, the bundle others`,
      );
    }
    if (job.records.length > 1 && !loaded.model.frequencies) {
      throw new DamagedSection('section "info": this model codes each frame alone');
    }
    return loaded;
  }

  private loaded(digest: string): Promise<Loaded> {
    const known = this.models.get(digest);
    if (known) return known;
    const loading = this.fresh(digest);
    this.models.set(digest, loading);
    loading.catch(() => this.models.delete(digest)); // the next one tries again
    return loading;
  }

  private async fresh(digest: string): Promise<Loaded> {
    const model = await readModel(await this.assets.weights(digest), digest);
    const graph = await this.assets.graph(model.architecture);
    this.runtime ??= this.assets.runtime().then(useRuntime);
    await this.runtime;
    const network = await Network.make(graph, model);
    const kernel = new Kernel(await this.module(), model.tables, model.layout, model.dc);
    return { model, kernel, network };
  }

  private module(): Promise<WebAssembly.Module> {
    this.kernel ??= this.assets
      .kernel()
      .then((data) => WebAssembly.compile(data as Uint8Array<ArrayBuffer>));
    return this.kernel;
  }
}

/** Decode a record into the levels of its frame. */
function fillRecord(
  levels: Int16Array,
  record: RecordJob,
  job: GroupJob,
  model: Model,
  kernel: Kernel,
  module: WebAssembly.Module,
): void {
  const atoms = model.layout.atoms;
  const { height, width } = record;
  const places = atoms * height * width;
  const open = record.open ? readOpenTile(module, record.open, places) : null;
  const each = (copy: (tile: number, frame: number) => void): void => {
    for (let row = 0; row < atoms * height; row++) {
      const [atom, y] = [Math.floor(row / height), row % height];
      const line = (record.plane * atoms + atom) * job.rows + record.row + y;
      copy(row * width, line * job.columns + record.column);
    }
  };
  const tile = new Int16Array(places);
  each((at, from) => tile.set(levels.subarray(from, from + width), at));
  const streams = { support: record.support, values: record.values, open };
  const known = { levels: tile, height, width };
  const found = decodeRecord(kernel, known, record.atoms, record.entries, streams);
  each((at, to) => levels.set(found.subarray(at, at + width), to));
}

/** One frame of a group, in samples. */
async function decodeFrame(
  { model, network }: Loaded,
  job: GroupJob,
  levels: readonly Int16Array[],
  wanted: FrameJob,
  done: Done,
): Promise<Samples> {
  const low = stretched(job.low, job.stretch);
  const high = stretched(job.high, job.stretch);
  const code = new FrameCode(model, job, levels, wanted.number);
  const opened = job.preview ? 1 / model.codeMaps : 1;
  const grey = new Int32Array(job.height * job.width * job.channels);
  const across = windows(job.columns, model.halo);
  const parts = windows(job.rows, model.halo).flatMap((down) =>
    across.map((x) => [down, x] as const),
  );
  for (const [k, [down, right]] of parts.entries()) {
    const planes: Float32Array[] = [];
    for (let plane = 0; plane < job.channels; plane++) {
      const q = code.window(plane, down, right);
      const [rows, columns] = [down.high - down.low, right.high - right.low];
      planes.push(await network.decode(q, rows, columns, job.threshold, opened));
    }
    fillGrey(grey, planes, job, model.stride, down, right, low, high);
    done((k + 1) / parts.length);
  }
  const { height, width, channels, stretch } = job;
  if (wanted.texture) {
    const { planes, seed, frame } = wanted.texture;
    addTexture({ grey, height, width, channels, low, high }, planes, seed, frame);
  }
  const samples = samplesOf(job.sampleType, grey.length);
  if (stretch) grey.forEach((level, at) => (samples[at] = unstretched(level, stretch)));
  else samples.set(grey);
  return samples;
}

/** What the code of a group stands for in one of its frames. */
class FrameCode {
  private readonly atoms: number;
  private readonly weights: Float32Array | null;
  private readonly step: number;
  private readonly offset: number;
  private readonly dc: Float32Array[];

  constructor(
    model: Model,
    private readonly job: GroupJob,
    private readonly levels: readonly Int16Array[],
    number: number,
  ) {
    this.atoms = model.layout.atoms;
    this.step = Math.fround(job.threshold);
    this.offset = Math.fround(model.offset);
    const n = levels.length;
    const matrix = dctMatrix(n);
    this.weights =
      n === 1 ? null : Float32Array.from({ length: n }, (_, k) => matrix[k * n + number]!);
    this.known = job.preview ? model.atomsPerMap : this.atoms;
    const size = job.rows * job.columns;
    this.dc = Array.from({ length: job.channels }, (_, plane) => {
      const found = new Float32Array(size);
      for (let at = 0; at < size; at++)
        found[at] = this.coefficient(plane * this.atoms * size + at);
      if (model.frequencies) restoreDc(found, job.rows, job.columns);
      return found;
    });
  }

  private readonly known: number;

  /** Coefficients (LM, rows, columns) of a window of a plane. */
  window(plane: number, down: Window, across: Window): Float32Array {
    const { rows, columns } = this.job;
    const [height, width] = [down.high - down.low, across.high - across.low];
    const q = new Float32Array(this.atoms * height * width);
    for (let row = 0; row < this.known * height; row++) {
      const [atom, y] = [Math.floor(row / height), (row % height) + down.low];
      const line = ((plane * this.atoms + atom) * rows + y) * columns + across.low;
      for (let x = 0; x < width; x++) q[row * width + x] = this.coefficient(line + x);
    }
    for (let y = 0; y < height; y++) {
      const line = (y + down.low) * columns;
      q.set(this.dc[plane]!.subarray(line + across.low, line + across.high), y * width);
    }
    return q;
  }

  private coefficient(at: number): number {
    if (!this.weights) return this.stands(this.levels[0]![at]!);
    let sum = Math.fround(this.weights[0]! * this.stands(this.levels[0]![at]!));
    for (let k = 1; k < this.weights.length; k++) {
      sum = Math.fround(sum + Math.fround(this.weights[k]! * this.stands(this.levels[k]![at]!)));
    }
    return sum;
  }

  private stands(level: number): number {
    if (level === 0) return 0;
    const beyond = Math.fround(level + (level > 0 ? this.offset : -this.offset));
    return Math.fround(beyond * this.step);
  }
}

/** The inner part of a window's planes as grey levels, where they belong. */
function fillGrey(
  grey: Int32Array,
  planes: readonly Float32Array[],
  job: GroupJob,
  stride: number,
  down: Window,
  across: Window,
  low: number,
  high: number,
): void {
  const { channels, width } = job;
  const side = (across.high - across.low) * stride;
  const bottom = Math.min(down.stop * stride, job.height);
  const right = Math.min(across.stop * stride, width);
  const range = Math.max(high - low, 1);
  const centre = (low + high) / 2;
  const pixel = new Float32Array(channels);
  for (let y = down.start * stride; y < bottom; y++) {
    for (let x = across.start * stride; x < right; x++) {
      const from = (y - down.low * stride) * side + x - across.low * stride;
      for (let c = 0; c < channels; c++) pixel[c] = planes[c]![from]!;
      if (channels >= 3) pixel.set(turn(pixel, true));
      const at = (y * width + x) * channels;
      if (channels === 1) {
        grey[at] = clip(roundHalfEven(planes[0]![from]! * range + centre), low, high);
        continue;
      }
      for (let c = 0; c < channels; c++) {
        grey[at + c] = clip(roundHalfEven(pixel[c]! * range + centre), low, high);
      }
    }
  }
}
