"""One image to one bundle: the sharing phase (docs/format.md, section 6).

1  fill what is padding, stretch the window, encode frames; where    imaging/padding, stretch,
   they are alike, transform them along the frames; keep their       codec, likeness, groups
   top S_x entries
2  code supports and values, per record; keep as many entries as     filling, protection/
   fill the budget that the settings give
3  seal the supports; publish them and the masked values in a        protection/keyed
   random order (level sca: values in clear, among S_n decoys)       protection/sca
4  seal an index record for each                                     opened
5  measure, if wanted, what is decoded of that, and the texture      quality, texture,
   that is lost; seal info, header and, if wanted, the exact         sections/
   samples or the file
6  put it together                                                   bundle/container
"""

from __future__ import annotations

import secrets as system
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

import numpy as np

from primis.bundle.container import write_bundle
from primis.bundle.header import Header
from primis.bundle.index import IndexRecord
from primis.bundle.settings import Settings
from primis.codec import Codec, Done, Scale, silent, within
from primis.codes.ambiguation import Draw
from primis.imaging.image import Image
from primis.imaging.padding import filled_frames, find_padding
from primis.imaging.stretch import Stretch, find_stretch
from primis.keys.seal import Secret, TierSecrets
from primis.metrics.fidelity import EXACT, Quality
from primis.sharing.filling import fit_code
from primis.sharing.fit import header_for, settings_for
from primis.sharing.frames import each_frame, steps
from primis.sharing.groups import (
    GroupCode,
    along_frames,
    at_once,
    in_groups,
    range_of,
    require_group,
)
from primis.sharing.likeness import choose_group
from primis.sharing.opened import (
    places,
    record_secrets,
    seal_record,
    seal_support,
    seal_whole,
)
from primis.sharing.quality import Loss, Meter
from primis.sharing.sections.exact import pack_exact
from primis.sharing.sections.info import FrameScale, Info
from primis.sharing.sections.original import fit_original
from primis.sharing.sections.source_header import fit_header, pack_header
from primis.sharing.texture import FrameTexture, no_texture

_OF_TRANSFORM = 0.1
"""Share of the time that the network takes; the rest goes to selection and coder."""

_OF_SHARING = 0.45
"""Share of the time that is not spent on measuring."""


@dataclass(frozen=True)
class Shared:
    """A new bundle. kept: S_x that the image really got, after its code was made to fit; None where
    it is sealed exactly. quality: None where it was not measured."""

    header: Header
    data: bytes = field(repr=False)
    kept: float | None
    quality: Quality | None = field(default=None, repr=False)


def share_image(
    image: Image,
    settings: Settings,
    secrets: TierSecrets,
    codec: Codec,
    *,
    bundle_id: str,
    name: str,
    original: bytes | None = None,
    alone: bool = False,
    measure: bool = False,
    group: int | None = None,
    draw: Draw = system.token_bytes,
    done: Done = silent,
) -> Shared:
    """Encode, ambiguate, mask and seal one image.

    secrets: of the image, for all tiers. name: what the restored file is called; sealed. original:
    the file to give back byte for byte at tier original. bundle_id: 32 hex digits never used
    before. alone: for use without a release. measure: seal how near it is to what a recipient
    decodes, and what texture it loses. group: G, how many frames are coded together, by default as
    many as pays. done: is told how far it is. Raises InputError where code, header or file do not
    fit the budgets of `settings_for` the image, UsageError for a group that cannot be.
    """
    weights = codec.checkpoint.tables
    settings = settings_for(image, settings, weights, with_original=original is not None)
    header = header_for(image.shape, settings, codec, bundle_id)
    padding = None if settings.exact_bits else find_padding(image)
    stretch = None if settings.exact_bits else find_stretch(image, padding)
    meter = Meter(image, padding) if measure and not settings.exact_bits else None
    if group is None:
        group = choose_group(image, header, codec, padding, stretch)
    require_group(group, header, codec)
    coding = _Coding(header, secrets, codec, draw, stretch, meter, group)
    filled, count = in_groups(filled_frames(image, padding), group), -(-image.shape[0] // group)
    threads = at_once(group, header, codec)
    groups = list(each_frame(coding.share, filled, count, at_once=threads, done=done))
    frames = [frame for each in groups for frame in each.frames]
    measured = None if meter is None else meter.quality([frame.loss for frame in frames])
    quality = EXACT if settings.exact_bits else measured
    plain = {
        "info": _info(image, groups, quality, coding).pack(),
        "header": fit_header(pack_header(image, name, padding), header.plain_sizes["header"]),
    }
    if settings.exact_bits:
        plain["exact"] = pack_exact(image, header)
    if original is not None:
        plain["original"] = fit_original(original, header)
    parts = {section: seal_whole(section, data, header, secrets) for section, data in plain.items()}
    parts["index"] = b"".join(each.index for each in groups)
    parts["public"] = b"".join(each.public for each in groups)
    if "supports" in header.names:
        parts["supports"] = b"".join(each.supports for each in groups)
    kept = sum(frame.entries for frame in frames) / (len(frames) * header.geometry.positions)
    data = write_bundle(header, parts, alone=alone)
    return Shared(header, data, None if settings.exact_bits else kept, quality)


class _Frame(NamedTuple):
    """Of a frame its true entries, and what it loses."""

    entries: int
    texture: FrameTexture
    loss: Loss


@dataclass(frozen=True)
class _Group:
    """The parts of the sections that frames which are coded together have."""

    index: bytes
    public: bytes
    supports: bytes
    scale: FrameScale
    frames: list[_Frame]


class _Coding(NamedTuple):
    """What the groups of an image have in common. group: G."""

    header: Header
    secrets: TierSecrets
    codec: Codec
    draw: Draw
    stretch: Stretch | None
    meter: Meter | None
    group: int

    def share(self, number: int, pixels: Sequence[np.ndarray], done: Done) -> _Group:
        """See `_share_group`."""
        return _share_group(pixels, number * self.group, self, done)

    def secrets_of(self, frames: range) -> list[Secret]:
        """Of each record, frame by frame."""
        each = (record_secrets(self.header, self.secrets, frame) for frame in frames)
        return list(chain.from_iterable(each))


def _info(
    image: Image,
    groups: list[_Group],
    quality: Quality | None,
    coding: _Coding,
) -> Info:
    exact = coding.header.settings.exact_bits
    textures = [] if exact else [frame.texture for group in groups for frame in group.frames]
    scales = [group.scale for group in groups for _ in group.frames]
    return Info.of(image, scales, quality, textures, coding.stretch, coding.group)


def _share_group(pixels: Sequence[np.ndarray], first: int, coding: _Coding, done: Done) -> _Group:
    header, draw, stretch = coding.header, coding.draw, coding.stretch
    of_records = coding.secrets_of(range(first, first + len(pixels)))
    sharing = done if coding.meter is None else within(done, 0, _OF_SHARING)
    coded = pixels if stretch is None else [stretch.apply(frame) for frame in pixels]
    z, scale = _coefficients(coded, coding.codec, within(sharing, 0, _OF_TRANSFORM))
    fitted = fit_code(z, header, coding.codec, draw, within(sharing, _OF_TRANSFORM, 1))
    del z  # as large as the frames in single precision
    code, encoded = GroupCode(fitted.code, len(pixels), scale), fitted.encoded
    lost = _lost(pixels, coded, code, first, coding, within(done, _OF_SHARING, 1))
    sealed = [
        seal_support(stream, secret, header)
        for stream, secret in zip(encoded.supports, of_records, strict=True)
    ]
    published = encoded.publish(header, of_records, sealed, draw)
    laid = zip(published.runs, published.streams, published.digests, strict=True)
    entries = _entries(code, header)
    index = [
        seal_record(IndexRecord(*run, count, *stream, digest), secret, header)
        for count, (run, stream, digest), secret in zip(
            chain.from_iterable(entries), laid, of_records, strict=True
        )
    ]
    low, high = range_of(pixels)
    return _Group(
        b"".join(index),
        published.public,
        published.supports,
        FrameScale(low, high, fitted.code.threshold),
        [_Frame(sum(of_frame), *loss) for of_frame, loss in zip(entries, lost, strict=True)],
    )


def _coefficients(
    frames: Sequence[np.ndarray], codec: Codec, done: Done
) -> tuple[np.ndarray, Scale]:
    """z (n · c, LM, h, w) of frames that are coded together, and their range."""
    scale, z = Scale(*range_of(frames)), []
    for step, frame in steps(frames, done):
        z.append(codec.encode(frame, step, scale)[0])
    return along_frames(z), scale


def _lost(
    pixels: Sequence[np.ndarray],
    coded: Sequence[np.ndarray],
    code: GroupCode,
    first: int,
    coding: _Coding,
    done: Done,
) -> list[tuple[FrameTexture, Loss]]:
    """Texture and quality that each frame loses, if that is measured."""
    meter, stretch, lost = coding.meter, coding.stretch, []
    if meter is None:
        return [(no_texture(coding.header.geometry), Loss())] * len(pixels)
    both = list(enumerate(zip(pixels, coded, strict=True)))
    for step, (number, (source, levels)) in steps(both, done):
        size = source.shape[:2]
        decoded = code.decode(number, coding.codec, size, levels.dtype, done=step)
        shown = decoded if stretch is None else stretch.undo(decoded, source.dtype)
        loss = meter.loss(first + number, source, shown)
        lost.append((meter.texture(first + number, levels, decoded, code.scale), loss))
    return lost


def _entries(code: GroupCode, header: Header) -> list[list[int]]:
    """True entries of each record, frame by frame."""
    levels = code.code.levels
    frames = levels.reshape(code.count, -1, *levels.shape[1:])
    return [
        [
            int(np.count_nonzero(frame[p.plane, p.atoms.start : p.atoms.stop, p.rows, p.columns]))
            for p in places(header)
        ]
        for frame in frames
    ]
