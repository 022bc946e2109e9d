"""A region of an image: the tiles that it touches, what opens them, and its pixels.

Whoever holds all of an image gets the very pixels that the whole has there: the tiles that the
network sees around a region are decoded too. A grant of a region opens the tiles that it touches,
in its frames and those that are coded together with them, and no others, so near a tile that stays
closed the region is decoded as if the image ended there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from primis.bundle.geometry import Geometry
from primis.bundle.header import Header
from primis.bundle.settings import Protection
from primis.codec import Codec, Done, silent
from primis.errors import DamagedSection, NoRegion, NotCovered, UsageError
from primis.imaging.files import render
from primis.imaging.image import (
    PER_BYTE_OF_BUNDLE,
    Image,
    NamedFile,
    pixel_limit,
    require_size,
)
from primis.imaging.padding import Padding, impose_padding
from primis.imaging.region import Region
from primis.keys.grant import RegionSecrets
from primis.keys.tier import Tier
from primis.network.architecture import ARCHITECTURES
from primis.sharing.frames import each_frame, steps
from primis.sharing.groups import Touched, touched
from primis.sharing.opened import OpenedBundle, Place, places
from primis.sharing.protection import LEVELS
from primis.sharing.protection.level import OpenedRecord, PublicCode
from primis.sharing.restore import (
    CodecFor,
    Frames,
    Restored,
    chosen_frames,
    codec_of,
    derivation_of,
    exact_image,
    group_code,
    is_exact,
    read_info,
    read_source_header,
    require_few_pixels,
    require_grouped,
)

REACH = max(kind.halo for kind in ARCHITECTURES.values())
"""Positions around a region that bear on its pixels."""


class Record(NamedTuple):
    """A record of a frame: its tier, its number among those of the frame, and where it lies."""

    tier: Tier
    number: int
    place: Place


@dataclass(frozen=True)
class Box:
    """The positions of the tiles that are decoded for a region: rows and columns of the grid."""

    rows: slice
    columns: slice

    @classmethod
    def around(cls, geometry: Geometry, region: Region, reach: int = 0) -> Box:
        """Of the tiles that a region touches, or that lie within reach of it."""
        h, w = geometry.grid
        rows = _side(geometry, region.y, region.height, h, reach)
        return cls(rows, _side(geometry, region.x, region.width, w, reach))

    def records(self, header: Header, tier: Tier) -> list[Record]:
        """Of a frame, those of these tiles that a tier opens, in order."""
        count = header.geometry.tile_count
        tiers = [t for t in (Tier.PREVIEW, Tier.DIAGNOSTIC) for _ in range(count)]
        records = map(Record, tiers, range(2 * count), places(header))
        return [r for r in records if r.tier <= tier and self._holds(r.place)]

    def size(self, geometry: Geometry) -> tuple[int, int]:
        """(height, width) in pixels, as far as the image goes."""
        bottom = min(self.rows.stop * geometry.stride, geometry.height)
        right = min(self.columns.stop * geometry.stride, geometry.width)
        return (
            bottom - self.rows.start * geometry.stride,
            right - self.columns.start * geometry.stride,
        )

    def _holds(self, place: Place) -> bool:
        rows = self.rows.start <= place.rows.start < self.rows.stop
        return rows and self.columns.start <= place.columns.start < self.columns.stop


def _side(geometry: Geometry, start: int, length: int, end: int, reach: int) -> slice:
    """Positions from the first to the last tile of a side of `end` positions."""
    tile, stride = geometry.tile, geometry.stride
    first = max(start // stride - reach, 0) // tile
    last = min((start + length - 1) // stride + reach, end - 1) // tile
    return slice(first * tile, min((last + 1) * tile, end))


class Chosen(NamedTuple):
    """What is read of an image. region: within it; frames: their numbers."""

    region: Region
    frames: range


def choose(bundle: OpenedBundle, region: Region | None, frames: Frames | None = None) -> Chosen:
    """What was asked for, by default all that is opened. frames: in place of those of the region.

    Raises NoRegion for what the image does not have, UsageError for frames that it does not have,
    and NotCovered for what is not opened.
    """
    shape = bundle.header.geometry.shape[:3]
    opened = None if bundle.region is None else bundle.region.region
    wanted = region or opened or Region(0, 0, shape[2], shape[1])
    if opened is not None and wanted.last is None:
        wanted = replace(wanted, first=opened.first, last=opened.last)
    wanted = wanted.within(*shape)
    numbers = range(wanted.first, _last(wanted) + 1)
    if frames is not None:
        numbers = chosen_frames(bundle.header, frames)
        wanted = replace(wanted, first=min(numbers), last=max(numbers))
    if opened is not None and not opened.holds(wanted):
        raise NotCovered(f'region "{wanted}" is not opened, the grant opens region "{opened}"')
    return Chosen(wanted, numbers)


def _last(region: Region) -> int:
    """The last frame of a region within an image."""
    return region.first if region.last is None else region.last


def decoded_box(bundle: OpenedBundle, region: Region) -> Box:
    """The tiles that are decoded for a region: all that bear on it, or those that are opened."""
    return Box.around(bundle.header.geometry, region, 0 if bundle.region else REACH)


def open_region(bundle: OpenedBundle, region: Region, tier: Tier) -> RegionSecrets:
    """What opens a region up to a tier, from a bundle that is opened whole.

    Raises NoRegion, DamagedSection, TierTooLow.
    """
    header = bundle.header
    _require_regions(header, tier)
    region, frames = choose(bundle, region)
    count = header.geometry.tile_count
    records = Box.around(header.geometry, region).records(header, Tier.PREVIEW)
    groups = touched(frames, bundle.group, header.geometry.frames)
    first = [frame * count for group in groups for frame in group.frames]
    numbers = sorted({start + record.number for start in first for record in records})
    tiles = {t: {n: bundle.tile_secret(t, n) for n in numbers} for t in tier.opened}
    info = read_info(bundle).of_frames(frames.start, frames.stop - 1)
    return RegionSecrets(region, info.pack(), tiles)


def opened_with(bundle: OpenedBundle, region: Region) -> Region:
    """What a grant of a region opens: whole tiles, and the frames that are coded together.

    Raises NoRegion.
    """
    geometry = bundle.header.geometry
    region, frames = choose(bundle, region)
    box, stride = Box.around(geometry, region), geometry.stride
    height, width = box.size(geometry)
    groups = touched(frames, bundle.group, geometry.frames)
    last = groups[-1].frames.stop - 1 if geometry.frames > 1 else None
    left, top = box.columns.start * stride, box.rows.start * stride
    return Region(left, top, width, height, groups[0].frames.start, last)


def _require_regions(header: Header, tier: Tier) -> None:
    """Raise NoRegion where no region of an image can be granted."""
    if tier == Tier.ORIGINAL:
        raise NoRegion(f'tier "{tier}" is the file itself, which has no regions')
    if header.settings.exact_bits:
        raise NoRegion(
            f'image "{header.id}" has no regions: it is sealed sample by sample, as one part'
        )
    if header.settings.protection is Protection.SCA:
        raise NoRegion(f'image "{header.id}" has no regions: at level sca its code is public')


def require_decoded(tier: Tier | None, *, texture: bool) -> None:
    """Raise UsageError where a region is asked for of what is no pixels, or with texture."""
    if tier == Tier.ORIGINAL:
        raise UsageError(
            f'a region was asked for at tier "{tier}", which is the file itself: expected '
            f'"{Tier.PREVIEW}" or "{Tier.DIAGNOSTIC}"'
        )
    if texture:
        raise UsageError("texture was asked for of a region, expected all of the image")


def read_region(
    bundle: OpenedBundle,
    tier: Tier,
    codec_for: CodecFor,
    region: Region | None = None,
    frames: Frames | None = None,
    done: Done = silent,
) -> tuple[Image, str | None]:
    """A region at tier preview or diagnostic, without the header of its file, and the name of the
    image; None where that is not opened.

    region: None for all that is opened; frames: in place of those of the region. Raises as `choose`
    does, and TooManyPixels beyond what is read at most.
    """
    chosen = choose(bundle, region, frames)
    whole = bundle.region is None and tier == Tier.DIAGNOSTIC
    if whole:  # what is sealed as one part is read as such
        require_few_pixels(bundle.header, sum(len(part) for part in bundle.parts.values()))
    image = _exact(bundle, chosen) if is_exact(bundle, tier) else None
    if image is None:
        image = _decode(bundle, tier, codec_of(bundle.header, codec_for), chosen, done)
    if not whole:
        return image, None
    source = read_source_header(bundle, image.pixels.dtype)
    padding = source.padding and _cropped(source.padding.of(chosen.frames), chosen.region)
    try:
        return impose_padding(image, padding), source.name
    except ValueError:
        raise DamagedSection('section "header": its padding does not fit its image') from None


def restore_region(
    bundle: OpenedBundle,
    tier: Tier,
    codec_for: CodecFor,
    region: Region | None,
    *,
    group: str,
    done: Done = silent,
) -> Restored:
    """A region as a file of the source's kind, without the source's header. group: as of
    `restore_image`. Raises as `read_region` does."""
    tier = min(tier, Tier.DIAGNOSTIC)
    chosen = choose(bundle, region).region
    image, name = read_region(bundle, tier, codec_for, chosen, done=done)
    origin = derivation_of(bundle, image, tier, group)
    said = f"region {chosen}"
    origin = replace(
        origin,
        text=f"{origin.text}, {said}",
        seed=f"{origin.seed} {said}",
        group=f"{origin.group} regions",
    )
    file = NamedFile(name, render(image, origin))
    return Restored((file,), name, tier, image.kind, image)


def _exact(bundle: OpenedBundle, chosen: Chosen) -> Image:
    image = exact_image(bundle, chosen.frames)
    rows, columns = _pixels(chosen.region)
    return replace(image, pixels=image.pixels[:, rows, columns])


def _pixels(region: Region, top: int = 0, left: int = 0) -> tuple[slice, slice]:
    """Rows and columns of a region in what begins at a pixel."""
    y, x = region.y - top, region.x - left
    return slice(y, y + region.height), slice(x, x + region.width)


def _cropped(padding: Padding, region: Region) -> Padding:
    """The padding of a region."""
    part = (slice(None), *_pixels(region))
    values = padding.values
    if len(values) > 1:
        inside = np.zeros(padding.mask.shape, bool)
        inside[part] = True
        values = values[inside[padding.mask]]
    return Padding(padding.mask[part], values, padding.declared)


def _decode(bundle: OpenedBundle, tier: Tier, codec: Codec, chosen: Chosen, done: Done) -> Image:
    """What the code holds of a region. Raises DamagedSection, NotCovered, TooManyPixels."""
    header, region, count = bundle.header, chosen.region, len(chosen.frames)
    geometry, box = header.geometry, decoded_box(bundle, region)
    size = box.size(geometry)
    groups = touched(chosen.frames, bundle.group, geometry.frames)
    decoded = sum(len(group.frames) for group in groups)
    _require_few(bundle, (decoded, *size, geometry.channels))
    require_grouped(bundle, codec)
    info, first = bundle.info, 0 if bundle.region is None else bundle.region.region.first
    records, public = box.records(header, tier), LEVELS[header.settings.protection].open(bundle)
    part = _pixels(region, box.rows.start * geometry.stride, box.columns.start * geometry.stride)
    pixels = np.empty((count, region.height, region.width, geometry.channels), info.dtype)
    opened = 1 if tier == Tier.PREVIEW else None

    def decode(_: int, group: Touched, done: Done) -> None:
        levels = [_purify(bundle, public, f, records, box, codec) for f in group.frames]
        code = group_code(levels, info, group.wanted[0][1] - first, codec)
        for step, (number, frame) in steps(group.wanted, done):
            at = frame - group.frames.start
            decoded = code.decode(at, codec, size, info.coded_dtype, opened, step)[part]
            pixels[number] = info.unstretched(decoded)

    for _ in each_frame(decode, groups, len(groups), at_once=codec.threads, done=done):
        pass
    return info.image(pixels)


def _require_few(bundle: OpenedBundle, shape: tuple[int, int, int, int]) -> None:
    """Raise TooManyPixels where more would be decoded than is read at most."""
    size = sum(len(part) for part in bundle.parts.values())
    require_size(shape, pixel_limit(None, size, PER_BYTE_OF_BUNDLE))


def _purify(
    bundle: OpenedBundle,
    public: PublicCode,
    frame: int,
    records: Sequence[Record],
    box: Box,
    codec: Codec,
) -> np.ndarray:
    """The true levels (c, LM, h, w) of a box in a frame."""
    geometry, top, left = bundle.header.geometry, box.rows.start, box.columns.start
    shape = box.rows.stop - top, box.columns.stop - left
    levels = np.zeros((geometry.channels, geometry.atoms, *shape), np.int16)
    for tier, number, place in records:
        tile = frame * geometry.tile_count + number % geometry.tile_count
        secret = bundle.tile_secret(tier, tile)
        record = bundle.record(frame, number, secret)
        rows = slice(place.rows.start - top, place.rows.stop - top)
        known = levels[place.plane][:, rows, place.columns.start - left : place.columns.stop - left]
        opened = OpenedRecord(secret, bundle.support(frame, record, secret), known, codec)
        known[:] = public.levels(frame, number, record, place, opened)
    return levels
