/** A release in a folder, or in memory, as a Place; what it is asked for is counted. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { NotThere, StoreError } from "../src/errors.ts";
import type { Place, Span } from "../src/release/types.ts";

export class Folder implements Place {
  requests = 0;
  bytes = 0;

  /** ranged: whether it serves ranges; changed: files that are others than they are there. */
  constructor(
    readonly name: string,
    private readonly ranged = true,
    private readonly changed: ReadonlyMap<string, Uint8Array> = new Map(),
  ) {}

  read(key: string, most: number): Promise<Uint8Array> {
    const data = this.file(key);
    if (data.length > most) throw new StoreError(key, `it has more than ${most} bytes`);
    this.count(data.length);
    return Promise.resolve(data);
  }

  ranges(key: string, spans: readonly Span[]): Promise<Uint8Array[] | null> {
    if (!this.ranged) return Promise.resolve(null);
    const data = this.file(key);
    return Promise.resolve(
      spans.map(({ start, end }) => {
        this.count(end - start);
        return data.slice(start, end);
      }),
    );
  }

  private file(key: string): Uint8Array {
    const changed = this.changed.get(key);
    if (changed) return changed;
    const path = join(this.name, key);
    if (!existsSync(path)) throw new NotThere(key, "there is no such file");
    return new Uint8Array(readFileSync(path));
  }

  private count(bytes: number): void {
    this.requests++;
    this.bytes += bytes;
  }
}
