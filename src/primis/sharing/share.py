"""One image to one bundle: the sharing phase (docs/format.md, section 6).

1  fill what is padding, stretch the window, encode a frame, keep    imaging/padding, stretch,
   its top S_x entries                                               codec
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
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from primis.bundle.container import write_bundle
from primis.bundle.header import Header
from primis.bundle.index import IndexRecord
from primis.bundle.settings import Settings
from primis.codec import Codec, Done, silent, within
from primis.codes.ambiguation import Draw
from primis.codes.sparse import SparseCode
from primis.imaging.image import Image
from primis.imaging.padding import filled_frames, find_padding
from primis.imaging.stretch import Stretch, find_stretch
from primis.keys.seal import TierSecrets
from primis.metrics.fidelity import EXACT, Quality
from primis.sharing.filling import fit_code
from primis.sharing.fit import header_for, settings_for
from primis.sharing.frames import each_frame
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
    draw: Draw = system.token_bytes,
    done: Done = silent,
) -> Shared:
    """Encode, ambiguate, mask and seal one image.

    secrets: of the image, for all tiers. name: what the restored file is called; sealed. original:
    the file to give back byte for byte at tier original. bundle_id: 32 hex digits never used
    before. alone: for use without a release. measure: seal how near it is to what a recipient
    decodes, and what texture it loses. done: is told how far it is. Raises InputError where code,
    header or file do not fit the budgets of `settings_for` the image.
    """
    weights = codec.checkpoint.tables
    settings = settings_for(image, settings, weights, with_original=original is not None)
    header = header_for(image.shape, settings, codec, bundle_id)
    padding = None if settings.exact_bits else find_padding(image)
    stretch = None if settings.exact_bits else find_stretch(image, padding)
    meter = Meter(image, padding) if measure and not settings.exact_bits else None
    coding = _Coding(header, secrets, codec, draw, stretch, meter)
    filled, count = filled_frames(image, padding), image.shape[0]
    frames = list(each_frame(coding.share, filled, count, at_once=codec.threads, done=done))
    measured = None if meter is None else meter.quality([frame.loss for frame in frames])
    quality = EXACT if settings.exact_bits else measured
    plain = {
        "info": _info(image, frames, quality, stretch, header).pack(),
        "header": fit_header(pack_header(image, name, padding), header.plain_sizes["header"]),
    }
    if settings.exact_bits:
        plain["exact"] = pack_exact(image, header)
    if original is not None:
        plain["original"] = fit_original(original, header)
    parts = {section: seal_whole(section, data, header, secrets) for section, data in plain.items()}
    parts["index"] = b"".join(frame.index for frame in frames)
    parts["public"] = b"".join(frame.public for frame in frames)
    if "supports" in header.names:
        parts["supports"] = b"".join(frame.supports for frame in frames)
    kept = sum(frame.entries for frame in frames) / (len(frames) * header.geometry.positions)
    data = write_bundle(header, parts, alone=alone)
    return Shared(header, data, None if settings.exact_bits else kept, quality)


@dataclass(frozen=True)
class _Frame:
    """A frame's parts of the sections, its true entries, and what it loses."""

    index: bytes
    public: bytes
    supports: bytes
    scale: FrameScale
    entries: int
    texture: FrameTexture
    loss: Loss


class _Coding(NamedTuple):
    """What the frames of an image have in common."""

    header: Header
    secrets: TierSecrets
    codec: Codec
    draw: Draw
    stretch: Stretch | None
    meter: Meter | None

    def share(self, number: int, pixels: np.ndarray, done: Done) -> _Frame:
        """See `_share_frame`."""
        return _share_frame(pixels, number, self, done)


def _info(
    image: Image,
    frames: list[_Frame],
    quality: Quality | None,
    stretch: Stretch | None,
    header: Header,
) -> Info:
    textures = [] if header.settings.exact_bits else [frame.texture for frame in frames]
    return Info.of(image, [frame.scale for frame in frames], quality, textures, stretch)


def _share_frame(pixels: np.ndarray, number: int, coding: _Coding, done: Done) -> _Frame:
    header, secrets, codec, draw, stretch, meter = coding
    of_records = record_secrets(header, secrets, number)
    sharing = done if meter is None else within(done, 0, _OF_SHARING)
    coded = pixels if stretch is None else stretch.apply(pixels)
    z, scale = codec.encode(coded, within(sharing, 0, _OF_TRANSFORM))
    code, encoded = fit_code(z, header, codec, draw, within(sharing, _OF_TRANSFORM, 1))
    del z  # as large as the frame in single precision
    texture, loss = no_texture(header.geometry), Loss()
    if meter is not None:
        measuring, size = within(done, _OF_SHARING, 1), pixels.shape[:2]
        decoded = codec.decode(code, scale, size, coded.dtype, done=measuring)
        shown = decoded if stretch is None else stretch.undo(decoded, pixels.dtype)
        loss = meter.loss(number, pixels, shown)
        texture = meter.texture(number, coded, decoded, scale)
    sealed = [
        seal_support(stream, secret, header)
        for stream, secret in zip(encoded.supports, of_records, strict=True)
    ]
    published = encoded.publish(header, of_records, sealed, draw)
    laid = zip(published.runs, published.streams, published.digests, strict=True)
    index = [
        seal_record(IndexRecord(*run, entries, *stream, digest), secret, header)
        for entries, (run, stream, digest), secret in zip(
            _entries(code, header), laid, of_records, strict=True
        )
    ]
    return _Frame(
        b"".join(index),
        published.public,
        published.supports,
        FrameScale(int(pixels.min()), int(pixels.max()), code.threshold),
        int(np.count_nonzero(code.levels)),
        texture,
        loss,
    )


def _entries(code: SparseCode, header: Header) -> list[int]:
    """True entries of each record."""
    return [
        int(np.count_nonzero(code.levels[p.plane, p.atoms.start : p.atoms.stop, p.rows, p.columns]))
        for p in places(header)
    ]
