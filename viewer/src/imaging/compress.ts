/** Compression of files that are kept, by the browser itself. */

/** data as zlib (`deflate`) or gzip. */
export async function compress(
  data: Uint8Array,
  format: "deflate" | "gzip",
): Promise<Uint8Array<ArrayBuffer>> {
  const stream = new Blob([data as Uint8Array<ArrayBuffer>]).stream();
  const packed = stream.pipeThrough(new CompressionStream(format));
  return new Uint8Array(await new Response(packed).arrayBuffer());
}
