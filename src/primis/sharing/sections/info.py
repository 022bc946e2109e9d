"""Section `info`: what a restored image needs besides its code."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field, replace

import numpy as np

from primis.bundle.header import Header
from primis.codec import Scale
from primis.errors import DamagedSection
from primis.imaging.image import KINDS, PHOTOMETRIC, Image
from primis.imaging.stretch import MOST_TIMES, STRETCHED, Stretch
from primis.metrics.fidelity import EXACT, Quality
from primis.sharing.groups import GROUPS, may_group
from primis.sharing.texture import FrameTexture, unpack_texture

_BASE = struct.Struct(">4B2QIh2i2B")
_FRAME = struct.Struct(">2id")
_DTYPES = tuple(np.dtype(name) for name in ("uint8", "uint16", "int8", "int16"))
_KINDS = tuple(KINDS)
_NO_STRETCH = (0, 0, 1)
_PER_MM = 10**9
_MAX_SPACING = 10**6 * _PER_MM
_NOT_MEASURED = (0, 0)
_EXACT = (2**32 - 1, 1000)
_LEAST_STEP, _LARGEST_STEP = 2.0**-126, 2.0**32
"""What a threshold lies between: the smallest normal number in single precision (where an image is
flat), and more than any range needs."""


@dataclass(frozen=True)
class FrameScale:
    """low, high: range of the grey levels of a group of frames, before padding, not stretched;
    threshold: t."""

    low: int
    high: int
    threshold: float


@dataclass(frozen=True)
class Info:
    """As in Image; frames: one scale for each; quality: None where it was not measured. textures:
    what each frame lost, empty where samples are exact. stretch: of grey levels before they are
    coded; None for none. group: G, how many frames are coded together."""

    kind: str
    dtype: np.dtype
    photometric: str
    bit_depth: int
    spacing_mm: tuple[float, float] | None
    frames: list[FrameScale] = field(repr=False)
    quality: Quality | None = field(default=None, repr=False)
    textures: list[FrameTexture] = field(default_factory=list, repr=False)
    stretch: Stretch | None = None
    group: int = 1

    @classmethod
    def of(
        cls,
        image: Image,
        frames: list[FrameScale],
        quality: Quality | None,
        textures: list[FrameTexture],
        stretch: Stretch | None,
        group: int,
    ) -> Info:
        """Of an image."""
        return cls(
            image.kind,
            image.pixels.dtype.newbyteorder("="),
            image.photometric,
            image.bit_depth,
            image.spacing_mm,
            frames,
            quality,
            textures,
            stretch,
            group,
        )

    def image(self, pixels: np.ndarray) -> Image:
        """The image, without the header of its source."""
        return Image(pixels, self.bit_depth, self.photometric, self.kind, self.spacing_mm)

    @property
    def coded_dtype(self) -> np.dtype:
        """Of grey levels as they are decoded."""
        return self.dtype if self.stretch is None else STRETCHED

    def scale(self, frame: int) -> Scale:
        """The range of grey levels of a frame as they are decoded."""
        ends = self.frames[frame].low, self.frames[frame].high
        return Scale(*(ends if self.stretch is None else map(self.stretch.level, ends)))

    def unstretched(self, decoded: np.ndarray) -> np.ndarray:
        """Samples of decoded grey levels."""
        return decoded if self.stretch is None else self.stretch.undo(decoded, self.dtype)

    def pack(self) -> bytes:
        """The section before it is sealed."""
        spacing = self.spacing_mm or (0, 0)
        base = _BASE.pack(
            _KINDS.index(self.kind),
            _DTYPES.index(self.dtype),
            PHOTOMETRIC.index(self.photometric),
            self.bit_depth,
            *(min(round(mm * _PER_MM), _MAX_SPACING) for mm in spacing),
            *_pack_quality(self.quality),
            *_pack_stretch(self.stretch),
            self.group,
        )
        scales = b"".join(_FRAME.pack(f.low, f.high, f.threshold) for f in self.frames)
        planes = (plane for texture in self.textures for plane in texture)
        return base + scales + b"".join(plane.pack() for plane in planes)

    @classmethod
    def unpack(cls, data: bytes, header: Header) -> Info:
        """Inverse of `pack`; raises DamagedSection where it describes no image."""
        try:
            return _unpack(data, header)
        except (ValueError, IndexError, struct.error):
            raise DamagedSection('section "info" does not describe an image') from None

    def of_frames(self, first: int, last: int) -> Info:
        """What some frames need besides their code: nothing of other frames, and neither quality
        nor texture, which tell of all the image."""
        return replace(self, frames=self.frames[first : last + 1], quality=None, textures=[])

    @classmethod
    def unpack_frames(cls, data: bytes, header: Header, first: int, last: int) -> Info:
        """Inverse of `pack` after `of_frames`. Raises DamagedSection."""
        try:
            info, rest = _unpack_frames(data, header, range(first, last + 1))
            if rest or info.quality is not None:
                raise ValueError("more than a region has")
        except (ValueError, IndexError, struct.error):
            raise DamagedSection("what a grant says of a region's frames is malformed") from None
        return info


def _pack_quality(quality: Quality | None) -> tuple[int, int]:
    """In thousandths."""
    if quality is None:
        return _NOT_MEASURED
    if quality.psnr is None:
        return _EXACT
    return max(1, round(1000 * quality.psnr)), round(1000 * quality.ssim)


def _unpack_quality(psnr: int, ssim: int, *, exact: bool) -> Quality | None:
    """Raises ValueError. exact: the image is one of few grey levels."""
    if (psnr, ssim) == _EXACT:
        return EXACT
    if exact or abs(ssim) > 1000 or psnr == _EXACT[0]:
        raise ValueError("no quality")
    if psnr == 0 and ssim != 0:
        raise ValueError("half a quality")
    return Quality(psnr / 1000, ssim / 1000) if psnr else None


def _pack_stretch(stretch: Stretch | None) -> tuple[int, int, int]:
    return _NO_STRETCH if stretch is None else (stretch.low, stretch.high, stretch.times)


def _unpack_stretch(packed: tuple[int, int, int], dtype: np.dtype) -> Stretch | None:
    """Raises ValueError."""
    if packed == _NO_STRETCH:
        return None
    low, high, times = packed
    limits = np.iinfo(dtype)
    if not 1 < times <= MOST_TIMES or not limits.min <= low < high <= limits.max:
        raise ValueError("no stretch")
    return Stretch(low, high, times)


def _unpack(data: bytes, header: Header) -> Info:
    exact = bool(header.settings.exact_bits)
    info, rest = _unpack_frames(data, header, range(header.geometry.frames))
    if info.stretch is not None and (exact or header.geometry.channels > 1):
        raise ValueError("a stretch of what has none")
    textures = _unpack_textures(rest, header)
    if info.quality in (None, EXACT) and any(rest):
        raise ValueError("texture of what was not measured")
    return replace(info, textures=textures)


def _unpack_frames(data: bytes, header: Header, numbers: range) -> tuple[Info, bytes]:
    """All but textures, and the bytes that hold these. Raises ValueError."""
    kind, dtype, photometric, depth, *other = _BASE.unpack_from(data)
    *spacing, psnr, ssim, first, last, times, group = other
    quality = _unpack_quality(psnr, ssim, exact=bool(header.settings.exact_bits))
    sample = _DTYPES[dtype]
    if not 1 <= depth <= 8 * sample.itemsize or any(s > _MAX_SPACING for s in spacing):
        raise ValueError("no image")
    if bool(spacing[0]) != bool(spacing[1]):
        raise ValueError("no spacing")
    if group not in GROUPS or (group > 1 and not may_group(header)):
        raise ValueError("no group")
    stretch = _unpack_stretch((first, last, times), sample)
    end = _BASE.size + _FRAME.size * len(numbers)
    frames = _unpack_scales(data[_BASE.size : end], sample, numbers, group)
    row, column = (s / _PER_MM for s in spacing)
    known = (row, column) if spacing[0] else None
    info = Info(
        _KINDS[kind],
        sample,
        PHOTOMETRIC[photometric],
        depth,
        known,
        frames,
        quality,
        stretch=stretch,
        group=group,
    )
    return info, data[end:]


def _unpack_scales(data: bytes, dtype: np.dtype, numbers: range, group: int) -> list[FrameScale]:
    """Of frames of these numbers; those of a group are the same. Raises ValueError."""
    limits = np.iinfo(dtype)
    frames = [FrameScale(*scale) for scale in _FRAME.iter_unpack(data)]
    if len(frames) != len(numbers):
        raise ValueError("other frames")
    for f in frames:
        sound = limits.min <= f.low <= f.high <= limits.max and math.isfinite(f.threshold)
        if not sound or not _LEAST_STEP <= f.threshold < _LARGEST_STEP:
            raise ValueError("no scale")
    for (number, before), f in zip(enumerate(frames, numbers.start + 1), frames[1:], strict=False):
        if number % group and f != before:
            raise ValueError("frames of a group with other scales")
    return frames


def _unpack_textures(data: bytes, header: Header) -> list[FrameTexture]:
    """Of each frame. Raises ValueError."""
    geometry = header.geometry
    count = 0 if header.settings.exact_bits else geometry.frames
    size = geometry.channels * geometry.texture_bytes
    if len(data) != count * size:
        raise ValueError("texture of other frames")
    return [unpack_texture(data[at : at + size], geometry) for at in range(0, len(data), size)]
