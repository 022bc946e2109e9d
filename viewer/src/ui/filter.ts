/** Which images of a list match what was typed: each word must occur somewhere in an image. */
import type { ImageEntry } from "../release/types.ts";

const texts = new WeakMap<ImageEntry, string>();

export function filtered(entries: readonly ImageEntry[], typed: string): readonly ImageEntry[] {
  const words = typed.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return entries;
  return entries.filter((entry) => words.every((word) => textOf(entry).includes(word)));
}

function textOf(entry: ImageEntry): string {
  let text = texts.get(entry);
  if (text === undefined) texts.set(entry, (text = writtenOut(entry).toLowerCase()));
  return text;
}

function writtenOut({ id, name, tier, listed }: ImageEntry): string {
  const parts = [id, name ?? "", tier];
  if (listed) {
    const { kind, modality, study, series, width, height } = listed;
    parts.push(listed.name, kind, modality, study, series, `${width}x${height}`);
    if (listed.frames > 1) parts.push("series frames");
    for (const [column, value] of Object.entries(listed.labels)) parts.push(`${column}=${value}`);
  }
  return parts.join("\n");
}
