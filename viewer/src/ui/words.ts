/** Numbers, sizes and names as the page writes them. */
import type { GrantInfo, ImageEntry, Listed, Quality, Tier } from "../release/types.ts";

/** `1 image`, `1,204 images`. */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}

/** A number with as many digits as it needs, with a true minus. */
export function figure(value: number, digits = 1): string {
  const text = Number.isInteger(value) ? `${value}` : value.toFixed(digits);
  return text.replace("-", "\u2212");
}

/** Centre and width of a window: `C 40 W 80`. */
export function windowText({ center, width }: { center: number; width: number }): string {
  const digits = width < 10 ? 2 : 0;
  return `C ${figure(center, digits)} W ${figure(width, digits)}`;
}

export function distanceText(length: { pixels: number; mm: number | null }): string {
  return length.mm === null ? `${figure(length.pixels)} px` : `${length.mm.toFixed(1)} mm`;
}

const UNITS = ["B", "KiB", "MiB", "GiB"] as const;

export function bytesText(bytes: number): string {
  let [size, unit] = [bytes, 0];
  while (size >= 1024 && unit < UNITS.length - 1) [size, unit] = [size / 1024, unit + 1];
  return `${unit ? size.toFixed(1) : size} ${UNITS[unit]}`;
}

/** The last part of a path, and the folder before it. */
export function splitPath(path: string): { readonly folder: string; readonly base: string } {
  const cut = path.lastIndexOf("/") + 1;
  return { folder: path.slice(0, cut), base: path.slice(cut) };
}

export const shortDigest = (digest: string): string => digest.slice(0, 12);

/** Eight groups of eight, so that a person can compare them. */
export function grouped(hex: string): string {
  return hex.replace(/(.{8})(?=.)/g, "$1 ");
}

const MOST_SHOWN = 300;
export const MOST_NOTE = 4000;

/**
 * A text of the release's owner as the page shows it: of bounded length, and without what shows as
 * nothing or turns the direction of text, so that `gpj.exe` does not look like `exe.jpg`.
 */
export function legible(text: string, most = MOST_SHOWN): string {
  return text.slice(0, most).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "");
}

export function nameOf(entry: ImageEntry): string {
  return legible(entry.listed?.name ?? entry.name ?? `image ${entry.id.slice(0, 12)}`);
}

/** `CT, 512 × 512, 40 frames`: what is known of an image before it is opened. */
export function shapeText(shape: Pick<Listed, "width" | "height" | "frames">): string {
  const size = `${shape.width} × ${shape.height}`;
  return shape.frames > 1 ? `${size}, ${counted(shape.frames, "frame")}` : size;
}

export function kindText(listed: Listed): string {
  return legible(listed.modality) || legible(listed.kind).toUpperCase().replaceAll("-", " ");
}

export function qualityText(quality: Quality | null, exact: boolean): string {
  if (exact) return "equal to the source, sample by sample";
  if (!quality) return "fidelity was not measured";
  const psnr = quality.psnr === null ? "equal to the source" : `PSNR ${quality.psnr.toFixed(1)} dB`;
  return `${psnr}, SSIM ${quality.ssim.toFixed(3)}`;
}

const SCOPES = { release: "the whole release", images: "" } as const;

/** What a grant opens: `tier diagnostic of 3 images and 1 region`. */
export function grantText(grant: GrantInfo): string {
  const parts = [
    grant.images ? counted(grant.images, "image") : "",
    grant.regions ? counted(grant.regions, "region") : "",
  ].filter(Boolean);
  return `tier ${grant.tier} of ${SCOPES[grant.scope] || parts.join(" and ") || "no image"}`;
}

export function expiryText(grant: GrantInfo): string {
  return grant.notAfter ? `until ${grant.notAfter}` : "without an expiry date";
}

export const tierWords: Readonly<Record<Tier, string>> = {
  preview: "Preview",
  diagnostic: "Diagnostic",
  original: "Original",
};
