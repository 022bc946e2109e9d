/**
 * The tiles that are decoded for what is read: all of an image, or those that a region's grant
 * opens (docs/format.md, section 5, Regions).
 */
import type { Geometry, Stretch } from "../bundle/geometry.ts";
import { opened } from "../keys/seal.ts";
import type { Region, Tier } from "../release/types.ts";
import type { RecordName } from "./opened.ts";

/** Positions of the grid, and the pixels that they have, as far as the image goes. */
export interface Box {
  readonly rows: Stretch;
  readonly columns: Stretch;
  readonly height: number;
  readonly width: number;
}

/** Of all of an image (region: null), or of the tiles that a region touches. */
export function boxOf(geometry: Geometry, region: Region | null): Box {
  const { stride } = geometry;
  const rows = region
    ? side(geometry, region.y, region.height, geometry.rows)
    : { start: 0, stop: geometry.rows };
  const columns = region
    ? side(geometry, region.x, region.width, geometry.columns)
    : { start: 0, stop: geometry.columns };
  const height = Math.min(rows.stop * stride, geometry.height) - rows.start * stride;
  const width = Math.min(columns.stop * stride, geometry.width) - columns.start * stride;
  return { rows, columns, height, width };
}

/** Positions from the first to the last tile that pixels touch, of a side of `end` positions. */
function side({ tile, stride }: Geometry, start: number, length: number, end: number): Stretch {
  const first = Math.floor(Math.floor(start / stride) / tile);
  const last = Math.floor(Math.floor((start + length - 1) / stride) / tile);
  return { start: first * tile, stop: Math.min((last + 1) * tile, end) };
}

/** Records of a frame that a tier opens in a box, those of the lower tier first. */
export function recordsIn(box: Box, geometry: Geometry, frame: number, tier: Tier): RecordName[] {
  const count = geometry.tileCount;
  const tiles = Array.from({ length: count }, (_, tile) => tile).filter((tile) => {
    const { rows, columns } = geometry.tileAt(tile);
    return holds(box.rows, rows.start) && holds(box.columns, columns.start);
  });
  const coded = opened(tier).filter((t) => t !== "original");
  return coded.flatMap((t, k) =>
    tiles.map((tile) => ({ frame, tier: t, number: k * count + tile, tile })),
  );
}

function holds(side: Stretch, position: number): boolean {
  return side.start <= position && position < side.stop;
}
