"""Section `exact`: an image of few grey levels, sample by sample."""

from __future__ import annotations

import numpy as np

from primis.bundle.header import Header
from primis.errors import DamagedSection, InputError
from primis.imaging.image import Image
from primis.imaging.levels import bits_of, levels_of, pack_levels, unpack_levels


def pack_exact(image: Image, header: Header) -> bytes:
    """The samples as numbers of their levels. Raises InputError where there are more levels than
    the settings have bits for."""
    bits, levels = header.settings.exact_bits or 0, levels_of(image.pixels)
    if bits_of(levels) > bits:
        raise InputError(f"the image has too many grey levels for {bits} bits a sample")
    return pack_levels(image.pixels, levels, bits)


def unpack_exact(data: bytes, header: Header, dtype: np.dtype) -> np.ndarray:
    """The samples (frames, height, width, channels). Raises DamagedSection."""
    bits = header.settings.exact_bits or 1
    try:
        return unpack_levels(data, header.geometry.shape, dtype, bits)
    except ValueError:
        raise DamagedSection('section "exact" does not describe its image') from None
