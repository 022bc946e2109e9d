/**
 * DICOM elements as bytes, in the one encoding that a sealed header has: explicit VR little endian,
 * sequences and items with explicit lengths (docs/format.md, section 6, `header`). Values are never
 * decoded, so they come back as they were. What does not parse, or is too large, is Malformed.
 */
import { concat, latin1, utf8, view } from "../bytes.ts";
import { Malformed } from "../canonical.ts";

/** A VR and its value: bytes, or the items of a sequence. */
export interface Element {
  readonly vr: string;
  readonly value: Uint8Array | readonly DataSet[];
}
export type DataSet = Map<number, Element>;

export const PIXEL_DATA = 0x7fe00010;
const ITEM = 0xfffee000;
const TRAILING_PADDING = 0xfffcfffc;
const UNDEFINED = 0xffffffff;
const MOST_HEADER = 2 ** 24;
const [MOST_ITEMS, MOST_ELEMENTS, MOST_DEPTH] = [2 ** 17, 2 ** 20, 32];
const PREAMBLE = 132;
const LONG = new Set("OB OD OF OL OV OW SQ SV UC UN UR UT UV".split(" "));
const SHORT = new Set("AE AS CS DA DS DT IS LO LT PN SH ST TM UI AT FD FL SL SS UL US".split(" "));

/** Keywords of the standard that are read or written here: tag and VR. */
export const DICTIONARY = {
  SOPClassUID: [0x00080016, "UI"],
  SOPInstanceUID: [0x00080018, "UI"],
  MediaStorageSOPClassUID: [0x00020002, "UI"],
  MediaStorageSOPInstanceUID: [0x00020003, "UI"],
  TransferSyntaxUID: [0x00020010, "UI"],
  ImplementationClassUID: [0x00020012, "UI"],
  ImplementationVersionName: [0x00020013, "SH"],
  StudyInstanceUID: [0x0020000d, "UI"],
  SeriesInstanceUID: [0x0020000e, "UI"],
  FrameOfReferenceUID: [0x00200052, "UI"],
  ImagePositionPatient: [0x00200032, "DS"],
  PatientName: [0x00100010, "PN"],
  PatientID: [0x00100020, "LO"],
  PatientBirthDate: [0x00100030, "DA"],
  PatientSex: [0x00100040, "CS"],
  StudyDate: [0x00080020, "DA"],
  StudyTime: [0x00080030, "TM"],
  StudyID: [0x00200010, "SH"],
  AccessionNumber: [0x00080050, "SH"],
  ReferringPhysicianName: [0x00080090, "PN"],
  SeriesNumber: [0x00200011, "IS"],
  InstanceNumber: [0x00200013, "IS"],
  ImageType: [0x00080008, "CS"],
  FrameType: [0x00089007, "CS"],
  LossyImageCompression: [0x00282110, "CS"],
  LossyImageCompressionRatio: [0x00282112, "DS"],
  LossyImageCompressionMethod: [0x00282114, "CS"],
  CodeValue: [0x00080100, "SH"],
  CodingSchemeDesignator: [0x00080102, "SH"],
  CodeMeaning: [0x00080104, "LO"],
  DerivationCodeSequence: [0x00089215, "SQ"],
  ReferencedSOPClassUID: [0x00081150, "UI"],
  ReferencedSOPInstanceUID: [0x00081155, "UI"],
  SourceImageSequence: [0x00082112, "SQ"],
  ReferencedSeriesSequence: [0x00081115, "SQ"],
  SharedFunctionalGroupsSequence: [0x52009229, "SQ"],
  PerFrameFunctionalGroupsSequence: [0x52009230, "SQ"],
  ReferencedInstanceSequence: [0x0008114a, "SQ"],
  DerivationDescription: [0x00082111, "ST"],
  PlanarConfiguration: [0x00280006, "US"],
  Rows: [0x00280010, "US"],
  Columns: [0x00280011, "US"],
  SamplesPerPixel: [0x00280002, "US"],
  PhotometricInterpretation: [0x00280004, "CS"],
  BitsAllocated: [0x00280100, "US"],
  BitsStored: [0x00280101, "US"],
  HighBit: [0x00280102, "US"],
  PixelRepresentation: [0x00280103, "US"],
  NumberOfFrames: [0x00280008, "IS"],
  Modality: [0x00080060, "CS"],
  ConversionType: [0x00080064, "CS"],
  WindowCenter: [0x00281050, "DS"],
  WindowWidth: [0x00281051, "DS"],
  WindowCenterWidthExplanation: [0x00281055, "LO"],
  RescaleIntercept: [0x00281052, "DS"],
  RescaleSlope: [0x00281053, "DS"],
  RescaleType: [0x00281054, "LO"],
  ModalityLUTSequence: [0x00283000, "SQ"],
  FrameVOILUTSequence: [0x00289132, "SQ"],
  PixelValueTransformationSequence: [0x00289145, "SQ"],
} as const satisfies Record<string, readonly [number, string]>;
export type Keyword = keyof typeof DICTIONARY;

export function tagOf(keyword: Keyword): number {
  return DICTIONARY[keyword][0];
}

/** A sealed header's data set, from a whole DICOM file without pixels. Throws Malformed. */
export function readHeaderFile(header: Uint8Array): DataSet {
  if (header.length > MOST_HEADER + PREAMBLE + 1024) throw new Malformed("too large");
  if (latin1(header.subarray(128, PREAMBLE)) !== "DICM") throw new Malformed("no DICOM file");
  const reader = new Reader(header);
  const meta = reader.meta(PREAMBLE);
  if (text(meta, "TransferSyntaxUID") !== "1.2.840.10008.1.2.1") throw new Malformed("syntax");
  return reader.dataSet(reader.at, header.length, 0);
}

/** Elements without what comes before them in a file. Throws Malformed. */
export function readElements(data: Uint8Array): DataSet {
  if (data.length > MOST_HEADER) throw new Malformed("too large");
  return new Reader(data).dataSet(0, data.length, 0);
}

class Reader {
  at = 0;
  private items = 0;
  private elements = 0;
  private readonly numbers: DataView;

  constructor(private readonly data: Uint8Array) {
    this.numbers = view(data);
  }

  /** Group 0002, after which `at` is where it ends. */
  meta(start: number): DataSet {
    const found: DataSet = new Map();
    this.at = start;
    while (this.at + 8 <= this.data.length && this.numbers.getUint16(this.at, true) === 2) {
      const [tag, element] = this.element(this.data.length, 0);
      found.set(tag, element);
    }
    return found;
  }

  dataSet(start: number, end: number, depth: number): DataSet {
    if (depth > MOST_DEPTH) throw new Malformed("nested too deeply");
    const found: DataSet = new Map();
    this.at = start;
    while (this.at < end) {
      const [tag, element] = this.element(end, depth);
      const group = Math.floor(tag / 65536);
      const stale = group === 0 || group === 2 || tag % 65536 === 0 || tag === TRAILING_PADDING;
      if (!stale && (depth || tag !== PIXEL_DATA)) found.set(tag, element);
    }
    return found;
  }

  private element(end: number, depth: number): [number, Element] {
    if (++this.elements > MOST_ELEMENTS) throw new Malformed("too many elements");
    if (end - this.at < 8) throw new Malformed("cut off");
    const tag = this.tag();
    const vr = latin1(this.data.subarray(this.at + 4, this.at + 6));
    const long = LONG.has(vr);
    if ((!long && !SHORT.has(vr)) || (long && end - this.at < 12)) throw new Malformed("no VR");
    const length = long
      ? this.numbers.getUint32(this.at + 8, true)
      : this.numbers.getUint16(this.at + 6, true);
    const start = this.at + (long ? 12 : 8);
    if (length === UNDEFINED || start + length > end) throw new Malformed("cut off");
    const value =
      vr === "SQ"
        ? this.sequence(start, start + length, depth)
        : this.data.subarray(start, start + length);
    this.at = start + length;
    return [tag, { vr, value }];
  }

  private sequence(start: number, end: number, depth: number): DataSet[] {
    const found: DataSet[] = [];
    this.at = start;
    while (this.at < end) {
      if (++this.items > MOST_ITEMS) throw new Malformed("too many items");
      if (end - this.at < 8 || this.tag() !== ITEM) throw new Malformed("no item");
      const from = this.at + 8;
      const stop = from + this.numbers.getUint32(this.at + 4, true);
      if (stop > end) throw new Malformed("cut off");
      found.push(this.dataSet(from, stop, depth + 1));
      this.at = stop;
    }
    return found;
  }

  private tag(): number {
    const group = this.numbers.getUint16(this.at, true);
    return group * 65536 + this.numbers.getUint16(this.at + 2, true);
  }
}

/** Elements in bytes, by tag. */
export function encode(dataSet: DataSet): Uint8Array {
  const parts = [...dataSet]
    .sort(([a], [b]) => a - b)
    .flatMap(([tag, { vr, value }]) => {
      const body = value instanceof Uint8Array ? value : concat(...value.map(item));
      return [elementHead(tag, vr, body.length), body];
    });
  return concat(...parts);
}

function item(dataSet: DataSet): Uint8Array {
  const body = encode(dataSet);
  const head = new Uint8Array(8);
  putTag(view(head), ITEM);
  view(head).setUint32(4, body.length, true);
  return concat(head, body);
}

/** What stands before a value. A length that the VR cannot hold makes it UN (PS3.5, 6.2.2). */
export function elementHead(tag: number, vr: string, length: number): Uint8Array {
  const short = SHORT.has(vr) && length <= 0xffff;
  const head = new Uint8Array(short ? 8 : 12);
  putTag(view(head), tag);
  head.set(utf8(short || LONG.has(vr) ? vr : "UN"), 4);
  if (short) view(head).setUint16(6, length, true);
  else view(head).setUint32(8, length, true);
  return head;
}

function putTag(head: DataView, tag: number): void {
  head.setUint16(0, Math.floor(tag / 65536), true);
  head.setUint16(2, tag % 65536, true);
}

/** The bytes of an element; none where it is absent or a sequence. */
export function rawValue(dataSet: DataSet, keyword: Keyword): Uint8Array {
  const value = dataSet.get(tagOf(keyword))?.value;
  return value instanceof Uint8Array ? value : new Uint8Array(0);
}

/** The values of a text element without their padding, one character a byte. */
export function values(dataSet: DataSet, keyword: Keyword): string[] {
  const strip = (part: string): string => part.replace(/^[ \0]+|[ \0]+$/g, "");
  const whole = strip(latin1(rawValue(dataSet, keyword)));
  return whole ? whole.split("\\").map(strip) : [];
}

/** The first value, where it is ASCII; else nothing. */
export function text(dataSet: DataSet, keyword: Keyword): string {
  const first = values(dataSet, keyword)[0] ?? "";
  return /^[\0-\x7f]*$/.test(first) ? first : "";
}

/** The items of a sequence; none where it is absent. */
export function sequence(dataSet: DataSet, keyword: Keyword): readonly DataSet[] {
  const value = dataSet.get(tagOf(keyword))?.value;
  return value instanceof Uint8Array || !value ? [] : value;
}

/** Set an element to these values, one character a byte, in the VR of the dictionary. */
export function put(dataSet: DataSet, keyword: Keyword, ...parts: readonly (string | number)[]) {
  const [tag, vr] = DICTIONARY[keyword];
  if (vr === "US") {
    const numbers = new Uint8Array(2 * parts.length);
    parts.forEach((part, k) => view(numbers).setUint16(2 * k, Number(part), true));
    dataSet.set(tag, { vr, value: numbers });
    return;
  }
  const whole = parts.join("\\");
  putBytes(
    dataSet,
    keyword,
    Uint8Array.from(whole, (c) => c.charCodeAt(0)),
  );
}

export function putBytes(dataSet: DataSet, keyword: Keyword, value: Uint8Array): void {
  const [tag, vr] = DICTIONARY[keyword];
  const filler = Uint8Array.of(vr === "UI" ? 0 : 0x20);
  dataSet.set(tag, { vr, value: value.length % 2 ? concat(value, filler) : value });
}

/** Set a sequence. */
export function putItems(dataSet: DataSet, keyword: Keyword, ...items: readonly DataSet[]): void {
  dataSet.set(tagOf(keyword), { vr: "SQ", value: items });
}
