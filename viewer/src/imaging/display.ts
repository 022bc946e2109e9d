/**
 * How a DICOM header says that its samples are shown: rescale and windows (PS3.3, C.11.1, C.11.2).
 * A header that cannot be read says nothing here; files that need it refuse it.
 */
import { Malformed } from "../canonical.ts";
import type { Display, Kind, WindowPreset } from "../release/types.ts";
import {
  rawValue,
  readHeaderFile,
  sequence,
  text,
  values,
  type DataSet,
  type Keyword,
} from "./dicom_elements.ts";
import { headersIn } from "./dicom_series.ts";

/** Windows of a header, and bytes of an element: whoever wrote the header may want a page to hang. */
const MOST_WINDOWS = 64;
const MOST_VALUE = 4096;
const GROUPS = ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"] as const;

/** Null for what is no DICOM. */
export function displayOf(kind: Kind, header: Uint8Array, frames: number): Display | null {
  if (!header.length || (kind !== "dicom" && kind !== "dicom-series")) return null;
  try {
    const dataSet =
      kind === "dicom" ? readHeaderFile(header) : headersIn(header, frames)[0]!.elements();
    return display(dataSet);
  } catch (error) {
    if (error instanceof Malformed) return null;
    throw error;
  }
}

function display(dataSet: DataSet): Display {
  const windowed = where(dataSet, "WindowCenter", "FrameVOILUTSequence");
  const scaled = where(dataSet, "RescaleSlope", "PixelValueTransformationSequence");
  const slope = numbers(scaled, "RescaleSlope")[0] ?? 1;
  const table = sequence(dataSet, "ModalityLUTSequence").length > 0;
  return {
    windows: table ? [] : windowsOf(windowed),
    slope: slope || 1,
    intercept: numbers(scaled, "RescaleIntercept")[0] ?? 0,
    units: isShort(scaled, "RescaleType") ? text(scaled, "RescaleType") : "",
  };
}

/** The data set itself, or the first item of a functional group that has the element. */
function where(dataSet: DataSet, keyword: Keyword, group: Keyword): DataSet {
  if (isShort(dataSet, keyword) && values(dataSet, keyword).length) return dataSet;
  for (const groups of GROUPS) {
    const found = sequence(sequence(dataSet, groups)[0] ?? new Map(), group)[0];
    if (found) return found;
  }
  return dataSet;
}

function windowsOf(dataSet: DataSet): WindowPreset[] {
  const widths = numbers(dataSet, "WindowWidth");
  const named = "WindowCenterWidthExplanation";
  const names = isShort(dataSet, named) ? values(dataSet, named) : [];
  const windows = numbers(dataSet, "WindowCenter").flatMap((center, k) => {
    const width = widths[k] ?? 0;
    return Number.isFinite(center) && width > 0 ? [{ center, width, name: names[k] ?? "" }] : [];
  });
  return windows.slice(0, MOST_WINDOWS);
}

function isShort(dataSet: DataSet, keyword: Keyword): boolean {
  return rawValue(dataSet, keyword).length <= MOST_VALUE;
}

function numbers(dataSet: DataSet, keyword: Keyword): number[] {
  if (!isShort(dataSet, keyword)) return [];
  return values(dataSet, keyword)
    .map((value) => (value ? Number(value) : NaN))
    .map((n) => {
      return Number.isFinite(n) ? n : NaN;
    });
}
