/**
 * The files of a DICOM series in what is sealed: a line of JSON with names and lengths, then the
 * parts end to end (docs/format.md, section 6). What does not add up is Malformed.
 */
import { textOf } from "../bytes.ts";
import { Malformed } from "../canonical.ts";
import { readElements, readHeaderFile, type DataSet } from "./dicom_elements.ts";

const MOST_HEADERS = 2 ** 30;
const FOR_EACH_NAME = 2 ** 14;
const MOST_NAMES = 2 ** 26;
const NEWLINE = 10;

export interface NamedPart {
  readonly name: string;
  readonly data: Uint8Array;
}

/** The parts of so many frames, and what came before them. Throws Malformed. */
export function unpackParts(
  packed: Uint8Array,
  frames: number,
): { parts: NamedPart[]; common: Uint8Array } {
  const end = packed.indexOf(NEWLINE);
  if (end < 0 || end > Math.min(FOR_EACH_NAME * (frames + 1), MOST_NAMES)) {
    throw new Malformed("the header is not of a series");
  }
  const rest = packed.subarray(end + 1);
  const { names, lengths, common } = told(packed.subarray(0, end));
  const total = lengths.reduce((sum, length) => sum + length, common);
  if (names.length !== frames || new Set(names).size !== frames || total !== rest.length) {
    throw new Malformed("the header is not of a series");
  }
  let at = common;
  const parts = names.map((name, k) => {
    at += lengths[k]!;
    return { name, data: rest.subarray(at - lengths[k]!, at) };
  });
  return { parts, common: rest.subarray(0, common) };
}

interface Told {
  readonly names: readonly string[];
  readonly lengths: readonly number[];
  readonly common: number;
}

function told(line: Uint8Array): Told {
  let body: any;
  try {
    body = JSON.parse(textOf(line));
  } catch {
    throw new Malformed("the header is not of a series");
  }
  const common: unknown = body?.common ?? 0;
  const files: unknown = body?.files;
  const whole = (n: unknown): n is number => Number.isSafeInteger(n) && (n as number) >= 0;
  const sound = (pair: unknown): pair is [string, number] =>
    Array.isArray(pair) && pair.length === 2 && typeof pair[0] === "string" && whole(pair[1]);
  if (!whole(common) || !Array.isArray(files) || !files.every(sound)) {
    throw new Malformed("the header is not of a series");
  }
  return { names: files.map(([name]) => name), lengths: files.map(([, n]) => n), common };
}

/** The name of each file, and its elements, made when they are asked for. Throws Malformed. */
export function headersIn(
  header: Uint8Array,
  frames: number,
): { name: string; elements: () => DataSet }[] {
  const { parts, common } = unpackParts(header, frames);
  const size = parts.reduce((sum, { data }) => sum + data.length + common.length, 0);
  if (size > MOST_HEADERS) throw new Malformed("the headers of a series are too large");
  return parts.map(({ name, data }) => ({
    name,
    elements: () => new Map([...readHeaderFile(common.slice()), ...readElements(data)]),
  }));
}
