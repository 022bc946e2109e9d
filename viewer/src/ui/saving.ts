/** Saves files: one as it is, several as a zip archive that is not compressed again. */
import { zipSync, type Zippable } from "fflate";
import type { RestoredFile } from "../release/types.ts";
import { splitPath } from "./words.ts";

/** More than this is not put into one archive, since it would be in memory twice. */
const MOST_ZIPPED = 1 << 30;
/** A fixed date: the same files make the same archive. */
const DATE = new Date(1980, 0, 1, 12);

export function save(files: readonly RestoredFile[], name: string): void {
  const total = files.reduce((sum, { bytes }) => sum + bytes.length, 0);
  if (files.length === 1 || total > MOST_ZIPPED) {
    for (const file of files) hand(file.bytes, file.type, splitPath(file.name).base);
    return;
  }
  const archive = zipSync(archiveOf(files), { level: 0, mtime: DATE });
  hand(archive, "application/zip", `${splitPath(name).base}.zip`);
}

/**
 * Names that unpack below one folder, whatever the owner wrote, and none twice, in whatever case:
 * on many disks case does not tell names apart.
 */
export function archiveOf(files: readonly RestoredFile[]): Zippable {
  const archive = Object.create(null) as Zippable;
  const taken = new Set<string>();
  const counts = new Map<string, number>();
  for (const { name, bytes } of files) {
    const safe = safeName(name);
    const same = safe.toLowerCase();
    let [free, count] = [safe, counts.get(same) ?? 1];
    while (taken.has(free.toLowerCase())) free = numbered(safe, ++count);
    counts.set(same, count);
    taken.add(free.toLowerCase());
    archive[free] = bytes;
  }
  return archive;
}

export function safeName(name: string): string {
  const parts = name.replaceAll("\\", "/").split("/");
  const kept = parts.filter((part) => part && part !== "." && part !== "..");
  return kept.map((part) => part.replace(/[\p{Cc}<>:"|?*]/gu, "_")).join("/") || "image";
}

function numbered(name: string, count: number): string {
  const { folder, base } = splitPath(name);
  const dot = base.lastIndexOf(".");
  const cut = dot > 0 ? dot : base.length;
  return `${folder}${base.slice(0, cut)}-${count}${base.slice(cut)}`;
}

function hand(bytes: Uint8Array, type: string, name: string): void {
  const address = URL.createObjectURL(new Blob([bytes as Uint8Array<ArrayBuffer>], { type }));
  const link = document.createElement("a");
  link.href = address;
  link.download = safeName(name).replaceAll("/", "_");
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
