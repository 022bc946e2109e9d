/**
 * Names of files to keep, whatever the sealed names say: those come from whoever made the release.
 * The same rules as src/primis/jobs/names.py: a relative path of parts that no system and no
 * program treats specially, nothing hidden, nothing that looks like an option, nothing that a
 * double click runs. The ending is one of the file's own kind.
 */
import { utf8 } from "../bytes.ts";

const MOST_NAME = 200;
const MOST_DEPTH = 16;
/** What shows as nothing, turns the direction of text, or is no character. */
const UNSEEN = /[\p{C}\p{Zl}\p{Zp}]|(?! )\p{Zs}/gu;
const SPECIAL = /[\\:*?"<>|$`;&%!^']/g;
const DEVICE = /^(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])$/;
/** File IDs of DICOM media with a number in them, and UIDs. */
const MEDIA_NAME = /^((?=.*[0-9])[A-Z0-9_]{1,8}|[0-9]+(\.[0-9]+)*)$/;
const DICOM = "application/dicom";

/** By media type: endings that it has, the first of which it gets. */
const ENDINGS: Readonly<Record<string, readonly string[]>> = {
  "image/png": [".png"],
  "image/jpeg": [".jpg", ".jpeg", ".jpe", ".jfif"],
  "image/webp": [".webp"],
  "image/tiff": [".tif", ".tiff", ".btf", ".tf8"],
  [DICOM]: [".dcm", ".dicom", ".dic", ".ima"],
  "application/x-nifti": [".nii"],
  "application/gzip": [".nii.gz"],
  "application/octet-stream": [".npy"],
};
const ALL = Object.values(ENDINGS).flat();

/** A relative path for a file of a media type; `plain`, with an ending, where it is unusable. */
export function safeName(name: string, plain: string, type: string): string {
  const endings = ENDINGS[type] ?? [".bin"];
  const parts = name.split("/").map(safePart).filter(Boolean);
  const last = parts.pop();
  if (last === undefined || parts.length >= MOST_DEPTH) return plain + endings[0]!;
  const whole = [...parts, withEnding(last, endings, type === DICOM)];
  const fits = whole.every((part) => utf8(part).length <= MOST_NAME);
  return fits ? whole.join("/") : plain + endings[0]!;
}

function safePart(part: string): string {
  const seen = part.normalize("NFC").replace(UNSEEN, "").replace(SPECIAL, "_");
  const kept = seen
    .trim()
    .replace(/^[.\-~=+@ ]+/, "")
    .replace(/[. ]+$/, "");
  const stem = kept.split(".")[0]!.trim().toLowerCase();
  const free = DEVICE.test(stem) ? `_${kept}` : kept;
  return /\.(partial|old)$/i.test(free) ? `${free}_` : free;
}

function withEnding(name: string, endings: readonly string[], isDicom: boolean): string {
  const low = name.toLowerCase();
  const dot = name.lastIndexOf(".");
  const ending = low.endsWith(".nii.gz") ? ".nii.gz" : dot > 0 ? low.slice(dot) : "";
  if (endings.includes(ending) || (isDicom && MEDIA_NAME.test(name))) return name;
  const stem = ALL.includes(ending) ? name.slice(0, name.length - ending.length) : name;
  return stem + endings[0]!;
}
