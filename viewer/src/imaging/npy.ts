/** NumPy's own file of an array, for samples that no other file here holds as they are. */
import { concat, utf8, view } from "../bytes.ts";
import type { Pixels, SampleType } from "../release/types.ts";

const TYPES = { uint8: "|u1", uint16: "<u2", int8: "|i1", int16: "<i2" } as const;

/** (frames, height, width, channels), little-endian. */
export function writeNpy(pixels: Pixels, type: SampleType): Uint8Array {
  const { data, frames, height, width, channels } = pixels;
  const shape = `(${[frames, height, width, channels].join(", ")})`;
  const told = `{'descr': '${TYPES[type]}', 'fortran_order': False, 'shape': ${shape}, }`;
  const line = told.padEnd(Math.ceil((told.length + 11) / 64) * 64 - 11) + "\n";
  const head = concat(Uint8Array.of(0x93), utf8("NUMPY"), Uint8Array.of(1, 0, 0, 0), utf8(line));
  view(head).setUint16(8, line.length, true);
  const bytes = new Uint8Array(data.length * data.BYTES_PER_ELEMENT);
  const numbers = view(bytes);
  data.forEach((sample, k) => {
    if (data.BYTES_PER_ELEMENT === 1) bytes[k] = sample;
    else numbers.setUint16(2 * k, sample & 0xffff, true);
  });
  return concat(head, bytes);
}
