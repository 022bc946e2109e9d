"""Versions of an image: the original, restored at some S_x, and through other codecs.

A version is named by a text; "original" is always there. Restoring leaves sharing out: code and
image are those that tier diagnostic gives where a bundle has room for the whole code. Bits per
pixel are those of the coded supports and values, before anything is sealed; of another codec those
of its file, without a container's boxes.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

from primis.atomic import own_folder, write_new
from primis.bundle.settings import Settings
from primis.codec import Codec, Scale, silent
from primis.codes.coder import encode_code
from primis.codes.sparse import SparseCode
from primis.errors import InputError, UsageError
from primis.metrics.part import as_file, from_file
from primis.network.presets import DEFAULT
from primis.sharing.filling import fit_code
from primis.sharing.fit import header_for
from primis.sharing.texture import add_texture, measure_texture

ORIGINAL = "original"
"""The version that all others are compared with."""

LOSSLESS = "lossless"
_OURS = "primis"
_CACHE = 2
"""Counts up whenever what a version holds changes, so that older files are not taken for it."""

_ID_BYTES = 16  # of a bundle's id; here the image's digest stands for it

_NEAR = 0.002
_STEPS = 24


@dataclass(frozen=True)
class Version:
    """name: what it is called everywhere. through: "original", "primis", "lossless" or a key of
    CODECS.

    preset, sparsity: whose code restores it, at which S_x; of another codec those whose bits it may
    take. S_x of a preset that keeps as many at each position is per code map, as in the paper.
    texture: whether noise like the texture that was lost is added.
    """

    name: str
    through: str = _OURS
    preset: str | None = None
    sparsity: float | None = None
    texture: bool = False

    @property
    def group(self) -> str:
        """What it belongs to in tables and figures: versions of a group differ by S_x alone."""
        group = f"preset {self.preset}" if self.through == _OURS else self.through
        return f"{group}, with texture" if self.texture else group


@dataclass(frozen=True, eq=False)
class Coded:
    """A version of an image, as it is kept. bits: per pixel."""

    pixels: np.ndarray
    bits: float

    def fits(self, original: np.ndarray) -> bool:
        """Whether it can be a version of that image."""
        like = self.pixels.shape, self.pixels.dtype
        return like == (original.shape, original.dtype)


@dataclass(frozen=True)
class _OtherCodec:
    """encode(samples, quality, bits per sample); quality between worst and best, bisected on a
    scale that suits it.
    """

    encode: Callable[[np.ndarray, float, int], bytes]
    decode: Callable[[bytes], np.ndarray]
    worst: float
    best: float
    geometric: bool = False

    def between(self, worse: float, better: float) -> float:
        return float(np.sqrt(worse * better)) if self.geometric else (worse + better) / 2


def _encode_jpeg_2000(samples: np.ndarray, decibels: float, depth: int) -> bytes:
    level: Any = decibels  # a fraction will do, whatever its type hints say
    return bytes(
        imagecodecs.jpeg2k_encode(
            samples, level=level, codecformat="j2k", bitspersample=depth, numthreads=1
        )
    )


def _encode_jpeg_xl(samples: np.ndarray, distance: float, depth: int) -> bytes:
    return bytes(
        imagecodecs.jpegxl_encode(
            samples, distance=distance, effort=7, bitspersample=depth, numthreads=1
        )
    )


CODECS: Mapping[str, _OtherCodec] = {
    "JPEG 2000": _OtherCodec(_encode_jpeg_2000, imagecodecs.jpeg2k_decode, worst=5, best=120),
    "JPEG XL": _OtherCodec(
        _encode_jpeg_xl, imagecodecs.jpegxl_decode, worst=25, best=0.02, geometric=True
    ),
}


def version_list(
    sparsities: Sequence[float],
    presets: Sequence[str] = (DEFAULT.name,),
    baselines: Iterable[str] = (),
    *,
    texture: bool = False,
) -> list[Version]:
    """The original; each preset at each S_x; each baseline at the bits of the first preset.
    baselines: of CODECS, or "lossless". texture: each preset at each S_x with texture put back too.

    Raises UsageError where a baseline is unknown, or there is nothing to compare with.
    """
    if not sparsities or not presets:
        raise UsageError("versions need at least one S_x and one preset")
    ours = [
        Version(
            f"S_x = {s:g}" if preset == DEFAULT.name else f"preset {preset}, S_x = {s:g}",
            _OURS,
            preset,
            s,
        )
        for preset in presets
        for s in sparsities
    ]
    others = []
    for name in baselines:
        if name == LOSSLESS:
            others.append(Version(LOSSLESS, LOSSLESS))
        elif name in CODECS:
            same_bits = ours[: len(sparsities)]
            others += [
                Version(f"{name} at the bits of {v.name}", name, v.preset, v.sparsity)
                for v in same_bits
            ]
        else:
            raise UsageError(
                f'codec "{name}" is unknown, expected one of {", ".join((*CODECS, LOSSLESS))}'
            )
    textured = [replace(v, name=f"{v.name}, with texture", texture=True) for v in ours]
    return [Version(ORIGINAL, ORIGINAL), *ours, *(textured if texture else []), *others]


class Versions:
    """Makes versions of images, once each where there is a folder to keep them in.

    It holds patients' images.
    """

    def __init__(
        self, cache: Path | None, codecs: Mapping[str, Codec], versions: Sequence[Version]
    ) -> None:
        """codecs: by name of preset. Raises UsageError where a version's is missing."""
        for version in versions:
            if version.preset is not None and version.preset not in codecs:
                raise UsageError(
                    f'version "{version.name}" needs a model of preset "{version.preset}"'
                )
        self.list = tuple(versions)
        self._cache, self._codecs = cache, dict(codecs)
        self._last: dict[str, tuple[str, np.ndarray, Scale]] = {}
        self._bits: dict[tuple[str, Version], float] = {}

    def get(
        self, sample_key: str, pixels: np.ndarray, bit_depth: int, version: Version
    ) -> tuple[np.ndarray, float]:
        """(restored pixels (H, W), of the same type; bits per pixel).

        sample_key: what an error calls the image.
        """
        if version.through == ORIGINAL:
            return pixels, float(bit_depth)
        digest = _digest(pixels, bit_depth)
        path = self._path(digest, version)
        coded = from_file(path, Coded) if path is not None else None
        if coded is None or not coded.fits(pixels):
            coded = Coded(*self._make(sample_key, pixels, bit_depth, version, digest))
            if path is not None:
                write_new(path, as_file(coded), 0o600)
        self._bits[digest, version] = coded.bits
        return coded.pixels, coded.bits

    def _path(self, digest: str, version: Version) -> Path | None:
        if self._cache is None:
            return None
        own_folder(self._cache)
        model = self._codecs[version.preset].checkpoint.digest if version.preset else ""
        of = f"{_CACHE} {digest} {version.name} {version.through} {version.sparsity} {model}"
        return self._cache / f"{hashlib.sha256(of.encode()).hexdigest()}.npz"

    def _make(
        self, sample_key: str, pixels: np.ndarray, bit_depth: int, version: Version, digest: str
    ) -> tuple[np.ndarray, float]:
        if version.through == _OURS:
            return self._restore(pixels, version, digest)
        try:
            if version.through == LOSSLESS:
                return _lossless(pixels, bit_depth)
            budget = (
                self._bits_of_ours(sample_key, pixels, bit_depth, version, digest) * pixels.size
            )
            return _at_bits(CODECS[version.through], pixels, bit_depth, budget)
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f'image "{sample_key}" cannot be coded as "{version.through}": {error}'
            ) from None

    def _restore(
        self, pixels: np.ndarray, version: Version, digest: str
    ) -> tuple[np.ndarray, float]:
        assert version.preset is not None and version.sparsity is not None
        codec = self._codecs[version.preset]
        z, scale = self._encoded(pixels, version.preset, digest)
        code = code_of(z, pixels.shape, codec, version.sparsity)
        out = codec.decode(code, scale, (pixels.shape[0], pixels.shape[1]), pixels.dtype)
        if version.texture:
            lost = measure_texture(pixels[..., None], out, scale)
            add_texture(out, lost, scale, bytes.fromhex(digest)[:_ID_BYTES])
        return out[..., 0], sum(code_bits(code, codec)) / pixels.size

    def _encoded(self, pixels: np.ndarray, preset: str, digest: str) -> tuple[np.ndarray, Scale]:
        """z and scale; those of the last image are kept, since one S_x after the other is asked
        for.
        """
        last = self._last.get(preset)
        if last is None or last[0] != digest:
            last = self._last[preset] = (digest, *self._codecs[preset].encode(pixels[..., None]))
        return last[1], last[2]

    def _bits_of_ours(
        self, sample_key: str, pixels: np.ndarray, bit_depth: int, version: Version, digest: str
    ) -> float:
        (ours,) = (
            v
            for v in self.list
            if (v.through, v.preset, v.sparsity) == (_OURS, version.preset, version.sparsity)
            and not v.texture
        )
        known = self._bits.get((digest, ours))
        return self.get(sample_key, pixels, bit_depth, ours)[1] if known is None else known


def code_of(z: np.ndarray, shape: tuple[int, ...], codec: Codec, sparsity: float) -> SparseCode:
    """What `share` makes of coefficients z (1, LM, h, w) of an image (H, W) at S_x: as many entries
    as fill the budget.
    """
    if not codec.architecture.over_image:  # as many entries for every image
        return codec.sparsify(z, entries(codec, z, sparsity))
    settings = Settings(sparsity=nominal_sparsity(codec, sparsity))
    bits = codec.checkpoint.tables.bits_per_entry(settings.sparsity)
    whole = (1, shape[0], shape[1], 1)
    header = header_for(whole, replace(settings, code_bits=bits), codec, "0" * 32)
    return fit_code(z, header, codec, secrets.token_bytes, silent).code


def entries(codec: Codec, z: np.ndarray, sparsity: float) -> int:
    """How many entries of z (c, LM, h, w) S_x keeps; of a preset that works per position it counts
    in each code map.
    """
    return codec.architecture.entries(z, sparsity)


def nominal_sparsity(codec: Codec, sparsity: float) -> float:
    """S_x per position over all code maps, as bundles count it."""
    return codec.architecture.nominal_sparsity(sparsity)


def code_bits(code: SparseCode, codec: Codec) -> tuple[int, int]:
    """Bits of the key (the coded supports) and of the true values; whole planes at once."""
    layout, tables = codec.layout, codec.checkpoint.tables
    coded = [
        encode_code(plane, atoms, layout, tables)
        for plane in code.levels
        for atoms in layout.split()
    ]
    return 8 * sum(len(support) for support, _ in coded), 8 * sum(
        len(values) for _, values in coded
    )


def _at_bits(
    other: _OtherCodec, pixels: np.ndarray, bit_depth: int, budget: float
) -> tuple[np.ndarray, float]:
    """The best quality that takes at most `budget` bits, by bisection; where even the worst takes
    more, that.
    """
    samples, offset, depth = _unsigned(pixels, bit_depth)
    worse, better = other.worst, other.best
    best = other.encode(samples, worse, depth)
    for _ in range(_STEPS):
        if (1 - _NEAR) * budget <= 8 * len(best):
            break
        quality = other.between(worse, better)
        data = other.encode(samples, quality, depth)
        if 8 * len(data) <= budget:
            worse, best = quality, max(best, data, key=len)
        else:
            better = quality
    return _signed(other.decode(best), offset, pixels), 8 * len(best) / pixels.size


def _lossless(pixels: np.ndarray, bit_depth: int) -> tuple[np.ndarray, float]:
    """Through lossless JPEG XL."""
    samples, offset, depth = _unsigned(pixels, bit_depth)
    data = imagecodecs.jpegxl_encode(
        samples, lossless=True, effort=7, bitspersample=depth, numthreads=1
    )
    out = _signed(imagecodecs.jpegxl_decode(data), offset, pixels)
    if not np.array_equal(out, pixels):
        raise ValueError("lossless JPEG XL gave other pixels")
    return out, 8 * len(data) / pixels.size


def _unsigned(pixels: np.ndarray, bit_depth: int) -> tuple[np.ndarray, int, int]:
    """Samples as codecs take them, from zero; what was taken off; bits per sample."""
    offset = int(pixels.min()) if pixels.dtype.kind == "i" else 0
    samples = np.ascontiguousarray(pixels.astype(np.int64) - offset)
    depth = (
        max(bit_depth, int(samples.max()).bit_length())
        if pixels.dtype.kind == "u"
        else int(samples.max()).bit_length()
    )
    depth = max(depth, 8)
    return samples.astype(np.uint8 if depth == 8 else np.uint16), offset, depth


def _signed(samples: np.ndarray, offset: int, pixels: np.ndarray) -> np.ndarray:
    """Inverse of `_unsigned`; a lossy codec may go past the ends of the type."""
    ends = np.iinfo(pixels.dtype)
    return np.clip(
        samples.astype(np.int64).reshape(pixels.shape) + offset, ends.min, ends.max
    ).astype(pixels.dtype)


def _digest(pixels: np.ndarray, bit_depth: int) -> str:
    head = f"{pixels.dtype.str} {pixels.shape} {bit_depth} ".encode()
    return hashlib.sha256(head + np.ascontiguousarray(pixels).tobytes()).hexdigest()
