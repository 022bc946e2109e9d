"""Settings with what they leave to weights and image, and the header that follows from them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from primis.bundle.geometry import MAX_SAMPLES, MAX_SIDE, Geometry
from primis.bundle.header import Header
from primis.bundle.settings import MAX_TILE_ENTRIES, MIN_HEADER_BYTES, Protection, Settings
from primis.codec import Codec
from primis.codes.dc_plane import DC_BLOCK
from primis.codes.probabilities import ContextModel
from primis.errors import InputError, UsageError
from primis.imaging.image import SERIES, Image
from primis.imaging.levels import bits_of, find_levels

_DICOM_HEADER, _SLICE_HEADER, _OTHER_HEADER = 8192, 1024, 1024
_SCA_BITS = 2.75


def settings_for(
    image: Image, settings: Settings, model: ContextModel, *, with_original: bool
) -> Settings:
    """The settings with what they leave to the weights and the image: for the code what S_x entries
    take on average, by the model; 8192 bytes for the header of DICOM, 1024 more for each further
    slice of a series, and 1024 for the header of others; for the file itself as many bits as its
    samples take uncompressed; and for an image of few grey levels the bits that number them. Of the
    content only the last tells.
    """
    code_bits = settings.code_bits
    if code_bits is None:
        sca = settings.protection is Protection.SCA
        code_bits = _SCA_BITS if sca else model.bits_per_entry(settings.sparsity)
    header_bytes, bits, exact = settings.header_bytes, settings.original_bits, settings.exact_bits
    if header_bytes is None:
        header_bytes = _DICOM_HEADER if image.kind in ("dicom", SERIES) else _OTHER_HEADER
        header_bytes += _SLICE_HEADER * (image.shape[0] - 1) if image.kind == SERIES else 0
    if bits is None:
        bits = 8.0 * image.pixels.dtype.itemsize if with_original else 0.0
    if with_original != (bits > 0):
        expected = "more than 0 with the file itself" if with_original else "0 without it"
        raise UsageError(f"original_bits is {bits:g}, expected {expected}")
    if exact is None:
        levels = find_levels(image.pixels)
        exact = 0 if levels is None else bits_of(levels)
    return replace(
        settings,
        code_bits=code_bits,
        header_bytes=header_bytes,
        original_bits=bits,
        exact_bits=exact,
    )


def header_for(
    shape: tuple[int, int, int, int], settings: Settings, codec: Codec, bundle_id: str
) -> Header:
    """Of the bundle of an image (frames, height, width, channels). Raises InputError where it is
    too large, and where its tiles cannot be those of the settings."""
    frames, height, width, channels = shape
    if max(height, width) > MAX_SIDE or math.prod(shape) > MAX_SAMPLES:
        raise InputError(
            f"the image has {frames} x {height} x {width} x {channels} samples, "
            f"expected sides of at most {MAX_SIDE} and {MAX_SAMPLES} in all"
        )
    preset = codec.preset
    geometry = Geometry(
        atoms_per_map=preset.atoms_per_map,
        channels=channels,
        code_maps=preset.code_maps,
        frames=frames,
        height=height,
        stride=preset.stride,
        tile=tile_positions(settings.tile, codec),
        width=width,
    )
    return Header(bundle_id, geometry, settings, codec.checkpoint.digest)


def tile_positions(pixels: int, codec: Codec) -> int:
    """Of the side of a tile. Raises InputError where a model's tiles cannot be so large."""
    step = DC_BLOCK * codec.preset.stride
    most = math.isqrt(MAX_TILE_ENTRIES // codec.preset.atoms) // DC_BLOCK * step
    if pixels % step or not step <= pixels <= most:
        raise InputError(f'tile "{pixels}" cannot be, expected a multiple of {step} up to {most}')
    return pixels // codec.preset.stride


def header_budget(needs: Iterable[int]) -> int:
    """`header_bytes` for images whose headers need so many bytes: a power of two that holds all."""
    return max(MIN_HEADER_BYTES, power_of_two(max(needs, default=0)))


def power_of_two(number: int) -> int:
    """The least that is not less than a number, from 1 on."""
    return int(1 << max(number - 1, 0).bit_length())
