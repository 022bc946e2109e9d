/**
 * An instance of the coder's kernel and its memory, which is taken from below and given back with
 * the instance. `kernel.wasm` is the very file that Python runs.
 */

const PAGE = 1 << 16;
const ALIGNMENT = 16;
/** Bytes of memory that an instance keeps; one that needed more is not used again. */
const MOST_KEPT = 1 << 26;

interface Exports {
  readonly memory: WebAssembly.Memory;
  readonly __heap_base: WebAssembly.Global;
  readonly run: (job: number) => number;
  readonly flat: (coder: number, bits: number, count: number, probability: number) => number;
}

export class Memory {
  private readonly exports: Exports;
  private free: number;

  constructor(module: WebAssembly.Module) {
    this.exports = new WebAssembly.Instance(module, {}).exports as unknown as Exports;
    this.free = Number(this.exports.__heap_base.value);
  }

  /** Where the next bytes are taken from; set back to give them up again. */
  get top(): number {
    return this.free;
  }
  set top(at: number) {
    this.free = at;
  }

  /** Whether it has grown beyond what is kept. */
  get isLarge(): boolean {
    return this.exports.memory.buffer.byteLength > MOST_KEPT;
  }

  /** Where so many bytes are free. Throws RangeError where there are none. */
  take(size: number): number {
    const at = Math.ceil(this.free / ALIGNMENT) * ALIGNMENT;
    this.free = at + size;
    const missing = this.free - this.exports.memory.buffer.byteLength;
    if (missing > 0) this.exports.memory.grow(Math.ceil(missing / PAGE));
    return at;
  }

  /** Where a copy of an array is. */
  put(values: ArrayBufferView): number {
    const at = this.take(values.byteLength);
    const data = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    new Uint8Array(this.exports.memory.buffer).set(data, at);
    return at;
  }

  /** Where a structure of 32-bit words is. */
  words(...numbers: readonly number[]): number {
    return this.put(Int32Array.from(numbers, (number) => number | 0));
  }

  /** A copy of bytes. */
  bytes(at: number, size: number): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.exports.memory.buffer.slice(at, at + size));
  }

  /** Run a job: whether it went well. */
  run(job: number): boolean {
    return this.exports.run(job) !== 0;
  }

  /** Code bits alike: whether that went well. */
  flat(coder: number, bits: number, count: number, probability: number): boolean {
    return this.exports.flat(coder, bits, count, probability) !== 0;
  }
}
