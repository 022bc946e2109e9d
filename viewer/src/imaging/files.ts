/**
 * Files to keep of an image: those of its source's kind where the viewer writes that kind (PNG,
 * TIFF, DICOM and its series, NIfTI), else PNG without loss, or NumPy's file for samples that PNG does
 * not hold. At tier original the very file, byte for byte.
 */
import type { Header } from "../bundle/header.ts";
import { textOf } from "../bytes.ts";
import { Malformed } from "../canonical.ts";
import { samplesOf } from "../codec/job.ts";
import { DamagedSection, UsageError } from "../errors.ts";
import type { Kind, Pixels, RestoredFile, SampleType, Tier } from "../release/types.ts";
import type { Info } from "../sharing/info.ts";
import type { OpenedBundle } from "../sharing/opened.ts";
import type { SourceHeader } from "../sharing/source_header.ts";
import { secondaryCapture, writeDicom, type Derivation } from "./dicom_derived.ts";
import { readHeaderFile } from "./dicom_elements.ts";
import { headersIn, unpackParts } from "./dicom_series.ts";
import { writeNifti } from "./nifti.ts";
import { writeNpy } from "./npy.ts";
import { writeTiff } from "./tiff.ts";
import { isPngImage, writePng } from "./png.ts";

const TYPES: Readonly<Record<Kind, string>> = {
  png: "image/png",
  jpeg: "image/jpeg",
  webp: "image/webp",
  tiff: "image/tiff",
  dicom: "application/dicom",
  nifti: "application/x-nifti",
  "nifti-gz": "application/gzip",
  "dicom-series": "application/dicom",
};
const SUFFIX: Partial<Record<Kind, string>> = {
  png: ".png",
  dicom: ".dcm",
  "dicom-series": ".dcm",
  nifti: ".nii",
  "nifti-gz": ".nii.gz",
};
/** Kinds whose header is a JSON object. */
const RASTERS: ReadonlySet<Kind> = new Set<Kind>(["png", "jpeg", "webp", "tiff"]);
const TEXTURE =
  "with synthetic texture: noise like what was lost, for measuring texture, not for reading";

export interface Restoring {
  readonly tier: Tier;
  /** The release's id. */
  readonly release: string;
  /** Noise was added. */
  readonly texture: boolean;
  /** Numbers of the frames that the pixels are of; null for all. */
  readonly frames: readonly number[] | null;
}

/** The file, or of a series the files, of tier original. Throws DamagedSection. */
export function originalFiles(
  kind: Kind,
  name: string,
  data: Uint8Array,
  frames: number,
  wanted?: readonly number[],
): RestoredFile[] {
  const type = TYPES[kind];
  if (kind !== "dicom-series") return [{ name, type, bytes: data }];
  return fitting('section "original" holds no series', () => {
    const { parts } = unpackParts(data, frames);
    const chosen = wanted ? wanted.map((frame) => parts[frame]) : parts;
    return chosen.map((part) => {
      if (!part) throw new UsageError(`frames are not in a series of ${frames}`);
      return { name: part.name, type, bytes: part.data };
    });
  });
}

/** Files of what was decoded. source: null where it is not opened. Throws DamagedSection. */
export async function restoredFiles(
  bundle: OpenedBundle,
  info: Info,
  source: SourceHeader | null,
  pixels: Pixels,
  how: Restoring,
): Promise<RestoredFile[]> {
  const { kind } = info;
  const name = source?.name ?? `${bundle.header.id}${SUFFIX[kind] ?? ""}`;
  const type = TYPES[kind];
  const header = source?.source ?? new Uint8Array(0);
  const misfit = 'section "header" does not fit its image';
  if (kind === "dicom-series" && header.length) {
    return fitting(misfit, () => seriesFiles(bundle, info, header, pixels, how));
  }
  if (kind === "dicom" || kind === "dicom-series") {
    return fitting(misfit, () => {
      const dataSet = header.length ? readHeaderFile(header) : secondaryCapture();
      const derivation = derivationOf(bundle.header, how, pixels.data.BYTES_PER_ELEMENT, 0);
      return [{ name, type, bytes: writeDicom(dataSet, pixels, info, derivation) }];
    });
  }
  if ((kind === "nifti" || kind === "nifti-gz") && header.length) {
    try {
      const bytes = await writeNifti(header, pixels, kind === "nifti-gz");
      return [{ name, type, bytes }];
    } catch (error) {
      if (!(error instanceof Malformed)) throw error; // voxels of other kinds: as below
    }
  }
  const kept = RASTERS.has(kind) ? fitting(misfit, () => keptOf(header)) : {};
  if (kind === "tiff" && source) {
    const inverted = info.photometric === "MONOCHROME1";
    const bytes = await writeTiff(pixels, info.sampleType, kept, inverted);
    return [{ name, type, bytes }];
  }
  return plainFiles(name, kind, kept, pixels, info, how.texture ? TEXTURE : "");
}

function seriesFiles(
  bundle: OpenedBundle,
  info: Info,
  header: Uint8Array,
  pixels: Pixels,
  how: Restoring,
): RestoredFile[] {
  const headers = headersIn(header, bundle.header.geometry.frames);
  const numbers = how.frames ?? headers.map((_, k) => k);
  const size = pixels.height * pixels.width * pixels.channels;
  return numbers.map((number, k) => {
    const { name, elements } = headers[number]!;
    const alone = { ...pixels, frames: 1, data: pixels.data.subarray(k * size, (k + 1) * size) };
    const derivation = derivationOf(bundle.header, how, pixels.data.BYTES_PER_ELEMENT, number);
    const bytes = writeDicom(elements(), alone, info, derivation);
    return { name, type: TYPES["dicom-series"], bytes };
  });
}

/** PNG without loss, a file for each frame, or NumPy's file. */
async function plainFiles(
  name: string,
  kind: Kind,
  kept: Kept,
  pixels: Pixels,
  info: Info,
  comment: string,
): Promise<RestoredFile[]> {
  if (!isPngImage(pixels)) {
    const bytes = writeNpy(pixels, info.sampleType);
    return [{ name: `${name}.npy`, type: "application/octet-stream", bytes }];
  }
  const isPng = kind === "png";
  const equal = isPng && kept["equal"] === true && pixels.channels === 1;
  const chunks = isPng && isObject(kept["chunks"]) ? kept["chunks"] : {};
  const written = equal ? threeEqual(pixels, info.sampleType) : pixels;
  const files: RestoredFile[] = [];
  for (let frame = 0; frame < pixels.frames; frame++) {
    const number = pixels.frames > 1 ? `-${String(frame + 1).padStart(4, "0")}` : "";
    const bytes = await writePng(written, frame, chunks, comment);
    const called = isPng && !number ? name : `${name}${number}.png`;
    files.push({ name: called, type: TYPES.png, bytes });
  }
  return files;
}

type Kept = Readonly<Record<string, unknown>>;

/**
 * What a header keeps of a raster; empty bytes are an object without fields. Values that do not fit
 * are ignored, as the format says. Throws Malformed.
 */
function keptOf(header: Uint8Array): Kept {
  if (!header.length) return {};
  try {
    const value: unknown = JSON.parse(textOf(header));
    if (isObject(value)) return value;
  } catch {
    // as below
  }
  throw new Malformed("the header is no JSON object");
}

function isObject(value: unknown): value is Kept {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Grey as three equal channels. */
function threeEqual(pixels: Pixels, type: SampleType): Pixels {
  const data = samplesOf(type, 3 * pixels.data.length);
  pixels.data.forEach((sample, k) => data.fill(sample, 3 * k, 3 * k + 3));
  return { ...pixels, channels: 3, data };
}

/** What a restored file records of its origin. frame: of a series, else 0. */
function derivationOf(
  header: Header,
  how: Restoring,
  sampleBytes: number,
  frame: number,
): Derivation {
  const { profile, geometry, sections } = header;
  const exact = how.tier === "diagnostic" && profile.settings.exactBits > 0;
  const counted = exact ? ["exact"] : ["info", "index", "public", "supports"];
  const bytes = [...sections].reduce((sum, [name, section]) => {
    return sum + (counted.includes(name) ? section.bytes : 0);
  }, 0);
  const sparsity = Number((profile.settings.sparsity / 1000).toPrecision(6));
  const lossy =
    `primis: S_x = ${sparsity} non-zeros per ${geometry.stride} x ${geometry.stride} block, ` +
    `tier ${how.tier}, model ${profile.model.slice(0, 12)}`;
  const text = exact ? "primis: exact samples" : lossy;
  const kind = how.texture ? `${how.tier} texture` : how.tier;
  return {
    text: how.texture ? `${text}, ${TEXTURE}` : text,
    ratio: (geometry.samples * sampleBytes) / bytes,
    seed: `${header.id} ${kind}`,
    group: `${how.release} ${kind}`,
    lossless: exact,
    frame,
  };
}

function fitting<T>(message: string, write: () => T): T {
  try {
    return write();
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    throw new DamagedSection(message);
  }
}
