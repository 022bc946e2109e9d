"""Images of which every sample counts: masks, label maps, palettes of few colours.

Such an image is kept as numbers of its levels, in a fixed number of bits a sample.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from primis.imaging.image import wide

_FEW = 16
_TABLE = 256
_FLAT = 0.95
_ALONE = 0.15
_EDGE = 0.95
_LEAP = 0.5
_BAND = 1 << 20


def find_levels(pixels: np.ndarray) -> np.ndarray | None:
    """The levels of a mask or label map (frames, height, width, channels), sorted; None for others.

    Up to 16 levels or colours are few. More are labels where the image is made of patches and not
    of shades. Patches: nearly no pixel differs from all four neighbours; in a picture many do. Not
    of shades: neighbours that differ do so by many levels; in a smooth picture by one or two. Up to
    256 levels are labels as well where 95 of 100 neighbours are equal.
    """
    levels = levels_of(pixels)
    few = len(levels) <= _FEW or _few_colours(pixels)
    return levels if few or _made_of_patches(pixels, levels) else None


def levels_of(pixels: np.ndarray) -> np.ndarray:
    """All levels of an image, sorted."""
    least = int(np.iinfo(pixels.dtype).min)
    present = np.zeros(1 << 8 * pixels.dtype.itemsize, bool)
    for band in _bands(pixels):
        present[band.astype(np.int32) - least] = True
    return (np.flatnonzero(present) + least).astype(pixels.dtype)


def _few_colours(pixels: np.ndarray) -> bool:
    if pixels.shape[3] == 1:
        return False
    seen: set[int] = set()
    for band in _bands(pixels):
        colours = np.zeros(band.shape[:2], np.uint64)
        for channel in range(band.shape[2]):
            colours = colours << np.uint64(16) | band[..., channel].astype(np.uint16)
        rest = colours.ravel()
        while rest.size:
            seen.add(int(rest[0]))
            if len(seen) > _FEW:
                return False
            rest = rest[rest != rest[0]]
    return True


def _bands(pixels: np.ndarray) -> Iterator[np.ndarray]:
    """Bands of rows of each frame, about a million samples each."""
    rows = max(1, _BAND // max(pixels[0, 0].size, 1))
    for frame in pixels:
        for top in range(0, len(frame), rows):
            yield frame[top : top + rows]


def _made_of_patches(pixels: np.ndarray, levels: np.ndarray) -> bool:
    _, height, width, _ = pixels.shape
    if min(height, width) < 2:
        return False
    least = int(np.iinfo(pixels.dtype).min)
    rank = np.zeros(1 << 8 * pixels.dtype.itemsize, np.int32)
    rank[levels.astype(np.int32) - least] = np.arange(len(levels))
    counts, most = np.zeros(5, np.int64), pixels[..., 0].size
    for band in _bands(pixels):
        counts += _neighbours(rank[band.astype(np.int32) - least], len(levels) ** 0.5 / 4)
        _, unequal, _, _, alone = counts
        if unequal > 2 * (1 - _FLAT) * most and alone > _ALONE * most:
            return False  # whatever the rest is
    pairs, unequal, leaps, edge, alone = counts
    leaping = leaps >= _LEAP * unequal
    if unequal <= (1 - _FLAT) * pairs and (leaping or len(levels) <= _TABLE):
        return True
    return bool(leaping and alone <= _ALONE * edge and edge <= _EDGE * most)


def _neighbours(rank: np.ndarray, leap: float) -> np.ndarray:
    """Of a band (height, width, channels) of ranks: pairs of neighbours, those that differ, those
    that differ by more than `leap`; pixels that differ from a neighbour, and from all."""
    shape = rank.shape[:2]
    same, there = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    pairs = unequal = leaps = 0
    for step in (np.s_[1:], np.s_[:, 1:]):
        back = np.s_[:-1] if step == np.s_[1:] else np.s_[:, :-1]
        distance = np.abs(rank[step] - rank[back]).max(axis=2)
        equal = distance == 0
        for side in (step, back):
            same[side] += equal
            there[side] += 1
        pairs += distance.size
        unequal += distance.size - int(np.count_nonzero(equal))
        leaps += int(np.count_nonzero(distance > leap))
    edge, alone = np.count_nonzero(same < there), np.count_nonzero(same == 0)
    return np.array([pairs, unequal, leaps, edge, alone])


def bits_of(levels: np.ndarray) -> int:
    """Bits a sample, 1, 2, 4 or 8, that number so many levels; 16 for the samples themselves."""
    return next(bits for bits in (1, 2, 4, 8, 16) if len(levels) <= 2**bits)


def table_bytes(bits: int) -> int:
    """Bytes of the table of levels: at 16 bits a sample there is none."""
    return 2 * 2**bits if bits < 16 else 0


def pack_levels(pixels: np.ndarray, levels: np.ndarray, bits: int) -> bytes:
    """The table of 2^bits levels, 2 bytes each, big-endian, the last repeated; then the samples'
    numbers in it, first sample in the high bits. At 16 bits the samples, 2 bytes each."""
    if bits == 16:
        return pixels.astype(wide(pixels.dtype)).tobytes()
    table = np.pad(levels, (0, 2**bits - len(levels)), mode="edge")
    least = int(np.iinfo(pixels.dtype).min)
    number = np.zeros(1 << 8 * pixels.dtype.itemsize, np.uint8)
    number[levels.astype(np.int32) - least] = np.arange(len(levels))
    flat, count = pixels.reshape(-1), 8 // bits
    packed = np.zeros(-(-len(flat) // count), np.uint8)
    for at in range(0, len(packed), _BAND):
        numbers = number[flat[at * count : (at + _BAND) * count].astype(np.int32) - least]
        for place in range(count):
            part = numbers[place::count]
            packed[at : at + len(part)] |= part << np.uint8(8 - bits * (place + 1))
    return table.astype(wide(pixels.dtype)).tobytes() + packed.tobytes()


def unpack_levels(data: bytes, shape: tuple[int, ...], dtype: np.dtype, bits: int) -> np.ndarray:
    """Inverse of `pack_levels`. Raises ValueError for what that does not make of `dtype`."""
    size = int(np.prod(shape))
    if len(data) - table_bytes(bits) < -(-size * bits // 8):
        raise ValueError("fewer samples than the image has")
    table = np.frombuffer(data, wide(dtype), size if bits == 16 else 2**bits)
    limits = np.iinfo(dtype)
    if table.min() < limits.min or table.max() > limits.max:
        raise ValueError("a level outside the range of the samples")
    if bits == 16:
        return table.astype(dtype).reshape(shape)
    level = table.astype(dtype)
    steps = np.diff(table.astype(np.int32))
    if (steps < 0).any() or steps[np.count_nonzero(steps) :].any():
        raise ValueError("levels that do not ascend, the last one repeated to the end")
    packed = np.frombuffer(data, np.uint8, offset=table_bytes(bits))
    count = 8 // bits
    if (unused := 8 * len(packed) - bits * size) and packed[-1] & (2**unused - 1):
        raise ValueError("a last byte that is not filled with zeros")
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    out = np.empty(size, dtype)
    for at in range(0, -(-size // count), _BAND):
        numbers = (packed[at : at + _BAND, None] >> shifts) & np.uint8(2**bits - 1)
        part = out[at * count : (at + _BAND) * count]
        part[:] = level[numbers.reshape(-1)[: len(part)]]
    return out.reshape(shape)
