/**
 * What a restored DICOM object says of itself: derived, lossy, of another UID (PS3.3,
 * C.7.6.1.1.5); the same as Python writes (src/primis/imaging/dicom_derived.py).
 */
import { concat, sha256, utf8, view } from "../bytes.ts";
import type { Photometric, Pixels, SampleType } from "../release/types.ts";
import {
  elementHead,
  encode,
  PIXEL_DATA,
  put,
  putBytes,
  putItems,
  rawValue,
  sequence,
  tagOf,
  text,
  values,
  type DataSet,
  type Keyword,
} from "./dicom_elements.ts";

const METHOD = "PRIMIS_1";
const SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7";
const IMPLEMENTATION = "2.25.210375412306219047311285427561325108841";
const EXPLICIT_LITTLE = "1.2.840.10008.1.2.1";
const MOST_ST = 1024;
const UID = /^[0-2](\.(0|[1-9][0-9]*))+$/;
const EMPTY = (
  "PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime StudyID " +
  "AccessionNumber ReferringPhysicianName SeriesNumber InstanceNumber"
).split(" ") as Keyword[];
/** Signatures, and what no longer holds of lossy pixels: least and largest values, a URL. */
const SIGNATURES = [0xfffafffa, 0x4ffe0001];
const STALE = [0x106, 0x107, 0x108, 0x109, 0x110, 0x111, 0x7fe0].map((e) => 0x00280000 + e);
/** Of palettes, which an image in RGB no longer has. */
const PALETTE = [0x1101, 0x1102, 0x1103, 0x1104, 0x1199, 0x1201, 0x1202, 0x1203, 0x1204]
  .concat([0x1221, 0x1222, 0x1223, 0x1224])
  .map((e) => 0x00280000 + e);

/** How a restored image differs from its source. seed: the same only for the same derivation of
 * the same source; group: likewise for all images of a release; frame: of a series. */
export interface Derivation {
  readonly text: string;
  readonly ratio: number;
  readonly seed: string;
  readonly group: string;
  readonly lossless: boolean;
  readonly frame: number;
}

/** What the pixels of an object are. */
export interface Described {
  readonly sampleType: SampleType;
  readonly bitDepth: number;
  readonly photometric: Photometric;
}

/** A UID under 2.25 that is the same for the same parts. */
export function derivedUid(...parts: readonly string[]): string {
  const digest = sha256(utf8(["primis", ...parts].join("\0")));
  return `2.25.${(view(digest).getBigUint64(0) << 64n) | view(digest).getBigUint64(8)}`;
}

/** What a restored file of the source has where no header of it is opened. */
export function secondaryCapture(): DataSet {
  const dataSet: DataSet = new Map();
  put(dataSet, "SOPClassUID", SECONDARY_CAPTURE);
  put(dataSet, "Modality", "OT");
  put(dataSet, "ConversionType", "WSD");
  for (const keyword of EMPTY) put(dataSet, keyword);
  return dataSet;
}

/** A derived, uncompressed object with the header of its source, which is changed. */
export function writeDicom(
  dataSet: DataSet,
  pixels: Pixels,
  described: Described,
  derivation: Derivation,
): Uint8Array {
  recordDerivation(dataSet, derivation);
  describePixels(dataSet, pixels, described);
  const data = littleEndian(pixels);
  const odd = new Uint8Array(data.length % 2);
  const head = elementHead(PIXEL_DATA, wide(described) ? "OW" : "OB", data.length + odd.length);
  const before = new Map([...dataSet].filter(([tag]) => tag < PIXEL_DATA));
  const after = new Map([...dataSet].filter(([tag]) => tag > PIXEL_DATA));
  return concat(preface(dataSet), encode(before), head, data, odd, encode(after));
}

function wide({ sampleType }: Described): boolean {
  return sampleType.endsWith("16");
}

function littleEndian({ data }: Pixels): Uint8Array {
  if (data.BYTES_PER_ELEMENT === 1)
    return new Uint8Array(data.buffer, data.byteOffset, data.length);
  const bytes = new Uint8Array(2 * data.length);
  const numbers = view(bytes);
  data.forEach((sample, k) => numbers.setUint16(2 * k, sample & 0xffff, true));
  return bytes;
}

/** An empty preamble and the file meta information (PS3.10, 7.1). */
function preface(dataSet: DataSet): Uint8Array {
  const meta: DataSet = new Map([[0x00020001, { vr: "OB", value: Uint8Array.of(0, 1) }]]);
  put(meta, "MediaStorageSOPClassUID", text(dataSet, "SOPClassUID") || SECONDARY_CAPTURE);
  const instance = text(dataSet, "SOPInstanceUID") || derivedUid("missing");
  put(meta, "MediaStorageSOPInstanceUID", instance);
  put(meta, "TransferSyntaxUID", EXPLICIT_LITTLE);
  put(meta, "ImplementationClassUID", IMPLEMENTATION);
  put(meta, "ImplementationVersionName", METHOD);
  const body = encode(meta);
  const length = new Uint8Array(4);
  view(length).setUint32(0, body.length, true);
  const group = encode(new Map([[0x00020000, { vr: "UL", value: length }]]));
  return concat(new Uint8Array(128), utf8("DICM"), group, body);
}

function recordDerivation(dataSet: DataSet, derivation: Derivation): void {
  if (text(dataSet, "StudyInstanceUID")) {
    referToSource(dataSet);
    const series = text(dataSet, "SeriesInstanceUID");
    put(dataSet, "SeriesInstanceUID", derivedUid("series", series, derivation.group));
  } else {
    foundStudy(dataSet, derivation.seed);
  }
  const { seed, frame } = derivation;
  put(dataSet, "SOPInstanceUID", derivedUid("instance", frame ? `${seed} ${frame}` : seed));
  describe(dataSet, derivation.text);
  for (const tag of SIGNATURES) dataSet.delete(tag);
  if (!derivation.lossless) recordLoss(dataSet, derivation.ratio);
}

/** For what says nothing of where it belongs: a study and a series of its own. */
function foundStudy(dataSet: DataSet, seed: string): void {
  put(dataSet, "StudyInstanceUID", derivedUid("study", seed));
  put(dataSet, "SeriesInstanceUID", derivedUid("series", seed));
  if (values(dataSet, "ImagePositionPatient").length) {
    put(dataSet, "FrameOfReferenceUID", derivedUid("frame of reference", seed));
  }
  for (const keyword of EMPTY) if (!dataSet.has(tagOf(keyword))) put(dataSet, keyword);
}

function recordLoss(dataSet: DataSet, ratio: number): void {
  const rest = values(dataSet, "ImageType").slice(1);
  put(dataSet, "ImageType", "DERIVED", ...(rest.length ? rest : ["PRIMARY"]));
  for (const inner of frameTypes(dataSet)) {
    put(inner, "FrameType", "DERIVED", ...values(inner, "FrameType").slice(1));
  }
  const ratios = values(dataSet, "LossyImageCompressionRatio");
  const methods = values(dataSet, "LossyImageCompressionMethod");
  while (methods.length < ratios.length) methods.push("UNKNOWN");
  put(dataSet, "LossyImageCompression", "01");
  put(dataSet, "LossyImageCompressionRatio", ...ratios, fourDigits(ratio));
  put(dataSet, "LossyImageCompressionMethod", ...methods, METHOD);
  const code: DataSet = new Map();
  put(code, "CodeValue", "113040");
  put(code, "CodingSchemeDesignator", "DCM");
  put(code, "CodeMeaning", "Lossy Compression");
  const codes = sequence(dataSet, "DerivationCodeSequence");
  putItems(dataSet, "DerivationCodeSequence", ...codes, code);
  for (const tag of STALE) dataSet.delete(tag);
}

/** As Python's format `.4g`. */
export function fourDigits(value: number): string {
  const [digits, exponent] = value.toExponential(3).split("e") as [string, string];
  const power = Number(exponent);
  const bare = (number: string): string => number.replace(/\.?0+$/, "");
  if (power >= -4 && power < 4) {
    const fixed = value.toFixed(3 - power);
    return fixed.includes(".") ? bare(fixed) : fixed;
  }
  const size = String(Math.abs(power)).padStart(2, "0");
  return `${digits.includes(".") ? bare(digits) : digits}e${power < 0 ? "-" : "+"}${size}`;
}

/** Where the source has UIDs by which it can be referred to. */
function referToSource(dataSet: DataSet): void {
  const sopClass = text(dataSet, "SOPClassUID") || SECONDARY_CAPTURE;
  const instance = text(dataSet, "SOPInstanceUID");
  if (![sopClass, instance].every((uid) => uid.length <= 64 && UID.test(uid))) return;
  const source: DataSet = new Map();
  put(source, "ReferencedSOPClassUID", sopClass);
  put(source, "ReferencedSOPInstanceUID", instance);
  const sources = sequence(dataSet, "SourceImageSequence");
  putItems(dataSet, "SourceImageSequence", ...sources, source);
  listReference(dataSet, source);
}

/** The source among the referenced instances, by its series (PS3.3, C.12.2). */
function listReference(dataSet: DataSet, source: DataSet): void {
  const series = text(dataSet, "SeriesInstanceUID");
  const listed = sequence(dataSet, "ReferencedSeriesSequence");
  const groups = sequence(dataSet, "SharedFunctionalGroupsSequence");
  if ((!listed.length && !groups.length) || !series) return;
  const found = listed.find((item) => text(item, "SeriesInstanceUID") === series);
  const item: DataSet = found ?? new Map();
  put(item, "SeriesInstanceUID", series);
  const instances = sequence(item, "ReferencedInstanceSequence");
  putItems(item, "ReferencedInstanceSequence", ...instances, source);
  putItems(dataSet, "ReferencedSeriesSequence", ...listed, ...(found ? [] : [item]));
}

function frameTypes(dataSet: DataSet): DataSet[] {
  const groups = [
    ...sequence(dataSet, "SharedFunctionalGroupsSequence"),
    ...sequence(dataSet, "PerFrameFunctionalGroupsSequence"),
  ];
  const inner = groups
    .flatMap((group) => [...group.values()])
    .flatMap(({ value }) => {
      return value instanceof Uint8Array ? [] : value;
    });
  return inner.filter((item) => item.has(tagOf("FrameType")));
}

/** Earlier descriptions, in whatever character set, and this one, as far as they fit. */
function describe(dataSet: DataSet, said: string): void {
  const raw = rawValue(dataSet, "DerivationDescription");
  let end = raw.length;
  while (end && (raw[end - 1] === 0 || raw[end - 1] === 0x20)) end--;
  const earlier = raw.subarray(0, end);
  const own = utf8(said);
  let whole = end ? concat(earlier, utf8("; "), own) : own;
  const ascii = earlier.every((byte) => byte < 128);
  if (whole.length > MOST_ST && !ascii) whole = own; // a character may not be cut in two
  putBytes(dataSet, "DerivationDescription", whole.subarray(-MOST_ST));
}

function describePixels(dataSet: DataSet, pixels: Pixels, described: Described): void {
  const { frames, height, width, channels } = pixels;
  dataSet.delete(tagOf("PlanarConfiguration"));
  if (channels === 3) {
    for (const tag of PALETTE) dataSet.delete(tag);
    put(dataSet, "PlanarConfiguration", 0);
  }
  put(dataSet, "Rows", height);
  put(dataSet, "Columns", width);
  put(dataSet, "SamplesPerPixel", channels);
  put(dataSet, "PhotometricInterpretation", described.photometric);
  put(dataSet, "BitsAllocated", wide(described) ? 16 : 8);
  put(dataSet, "BitsStored", described.bitDepth);
  put(dataSet, "HighBit", described.bitDepth - 1);
  put(dataSet, "PixelRepresentation", described.sampleType.startsWith("u") ? 0 : 1);
  if (frames > 1 || dataSet.has(tagOf("NumberOfFrames"))) put(dataSet, "NumberOfFrames", frames);
}
