"""Images of few grey levels: masks and label maps, of which every sample counts.

Such an image is kept as numbers of its levels, in a fixed number of bits a sample.
"""

from __future__ import annotations

import numpy as np

from primis.imaging.image import wide

_FEW = 16
_LABELS = 256
_EQUAL = 0.95


def find_levels(pixels: np.ndarray) -> np.ndarray | None:
    """The levels of a mask or label map (frames, height, width, channels), sorted; None for others.

    Up to 16 levels are few. Up to 256 are, if of neighbours in a row 95 of 100 are equal: label
    maps are made of patches, pictures are not.
    """
    levels = np.unique(pixels)
    if len(levels) <= _FEW:
        return levels
    if len(levels) > _LABELS or pixels.shape[2] < 2:
        return None
    equal = np.count_nonzero(pixels[:, :, 1:] == pixels[:, :, :-1])
    return levels if equal >= _EQUAL * pixels[:, :, 1:].size else None


def bits_of(levels: np.ndarray) -> int:
    """Bits a sample, 1, 2, 4 or 8, that number so many levels."""
    return next(bits for bits in (1, 2, 4, 8) if len(levels) <= 2**bits)


def pack_levels(pixels: np.ndarray, levels: np.ndarray, bits: int) -> bytes:
    """The table of 2^bits levels, 2 bytes each, big-endian, the last repeated; then the samples'
    numbers in it, first sample in the high bits."""
    table = np.pad(levels, (0, 2**bits - len(levels)), mode="edge")
    numbers = np.searchsorted(levels, pixels.ravel()).astype(np.uint8)
    count = 8 // bits
    packed = np.zeros(-(-len(numbers) // count), np.uint8)
    for place in range(count):
        part = numbers[place::count]
        packed[: len(part)] |= part << np.uint8(8 - bits * (place + 1))
    return table.astype(wide(pixels.dtype)).tobytes() + packed.tobytes()


def unpack_levels(data: bytes, shape: tuple[int, ...], dtype: np.dtype, bits: int) -> np.ndarray:
    """Inverse of `pack_levels`. Raises ValueError where a level does not fit `dtype`."""
    table = np.frombuffer(data, wide(dtype), 2**bits)
    limits = np.iinfo(dtype)
    if table.min() < limits.min or table.max() > limits.max:
        raise ValueError("a level outside the range of the samples")
    size = int(np.prod(shape))
    packed = np.frombuffer(data, np.uint8, offset=2 * 2**bits)
    count = 8 // bits
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    numbers = (packed[:, None] >> shifts) & np.uint8(2**bits - 1)
    if len(packed) * count < size:
        raise ValueError("fewer samples than the image has")
    return table.astype(dtype)[numbers.ravel()[:size]].reshape(shape)
