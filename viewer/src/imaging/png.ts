/**
 * PNG, 8 or 16 bits, without loss: grey, grey and opacity, RGB, RGB and opacity. Chunks that a
 * sealed header keeps of its source come back (docs/format.md, section 6, `header`).
 */
import { concat, fromBase64, utf8, view, words } from "../bytes.ts";
import type { Pixels } from "../release/types.ts";
import { compress } from "./compress.ts";

const SIGNATURE = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
const COLOUR_TYPE = [0, 4, 2, 6];
const LENGTHS: Readonly<Record<string, number | null>> = {
  gAMA: 4,
  cHRM: 32,
  sRGB: 1,
  cICP: 4,
  pHYs: 9,
  iCCP: null,
  eXIf: null,
};

/** Whether an image can be one: its samples are unsigned, its channels grey or colour. */
export function isPngImage({ data, channels }: Pixels): boolean {
  return (data instanceof Uint8Array || data instanceof Uint16Array) && channels <= 4;
}

/**
 * One frame as a file. chunks: name -> content in base64, of which those that fit are kept.
 * comment: for whoever looks into the file.
 */
export async function writePng(
  pixels: Pixels,
  frame: number,
  chunks: Readonly<Record<string, unknown>> = {},
  comment = "",
): Promise<Uint8Array> {
  const { height, width, channels, data } = pixels;
  const depth = 8 * data.BYTES_PER_ELEMENT;
  const kind = Uint8Array.of(depth, COLOUR_TYPE[channels - 1]!, 0, 0, 0);
  const lines = await compress(linesOf(pixels, frame), "deflate");
  return concat(
    SIGNATURE,
    chunk("IHDR", concat(words(width, height), kind)),
    ...keptOf(chunks, channels),
    ...(comment ? [chunk("tEXt", utf8(`Comment\0${comment}`))] : []),
    chunk("IDAT", lines),
    chunk("IEND", new Uint8Array(0)),
  );
}

/** Lines of samples, each as the difference from the line above. */
function linesOf({ data, height, width, channels }: Pixels, frame: number): Uint8Array {
  const size = data.BYTES_PER_ELEMENT;
  const line = width * channels * size;
  const plain = new Uint8Array(height * line);
  const first = frame * height * width * channels;
  for (let k = 0; k < height * width * channels; k++) {
    const sample = data[first + k]!;
    if (size === 1) plain[k] = sample;
    else view(plain).setUint16(2 * k, sample);
  }
  const lines = new Uint8Array(height * (line + 1));
  for (let y = 0; y < height; y++) {
    const at = y * (line + 1);
    lines[at] = 2; // filter Up
    for (let x = 0; x < line; x++) {
      lines[at + 1 + x] = plain[y * line + x]! - (y ? plain[(y - 1) * line + x]! : 0);
    }
  }
  return lines;
}

function keptOf(chunks: Readonly<Record<string, unknown>>, channels: number): Uint8Array[] {
  return Object.entries(chunks).flatMap(([name, content]) => {
    const length = name === "sBIT" ? channels : LENGTHS[name];
    if (length === undefined || typeof content !== "string") return [];
    try {
      const data = fromBase64(content);
      return data.length && (length === null || data.length === length) ? [chunk(name, data)] : [];
    } catch {
      return [];
    }
  });
}

function chunk(name: string, data: Uint8Array): Uint8Array {
  const body = concat(utf8(name), data);
  return concat(words(data.length), body, words(crc32(body)));
}

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c;
});

function crc32(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of data) crc = CRC[(crc ^ byte) & 255]! ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}
