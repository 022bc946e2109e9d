/** Files that lie compressed beside the page, unpacked by the browser itself. */
import { concat } from "./bytes.ts";
import { Malformed } from "./canonical.ts";

/**
 * The contents of a gzip file, up to a limit. Other data is returned as it is: some hosts declare such
 * a file as compressed content, and the browser has unpacked it already. Throws Malformed over the
 * limit, and TypeError for a damaged file.
 */
export async function gunzip(data: Uint8Array, most: number): Promise<Uint8Array> {
  if (data[0] !== 0x1f || data[1] !== 0x8b) return data;
  const packed = new Blob([data as Uint8Array<ArrayBuffer>]).stream();
  const reader = packed.pipeThrough(new DecompressionStream("gzip")).getReader();
  const parts: Uint8Array[] = [];
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return concat(...parts);
    size += value.length;
    if (size > most) {
      await reader.cancel();
      throw new Malformed("more than was expected");
    }
    parts.push(value);
  }
}
