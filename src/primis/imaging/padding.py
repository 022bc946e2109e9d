"""Padding: samples that stand for no tissue, such as the corners around a round CT image.

Left in, padding ruins what is around it: its edge takes the entries of the code, and a value far
outside widens the range that the levels are measured in. So it is taken out and filled smoothly
before an image is encoded, kept exactly beside the code, and put back when the image is restored.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from primis.imaging.image import Image, wide

_LEAST_SHARE = 0.01
_LEAST_GAP = 1 / 8


@dataclass(frozen=True, eq=False)
class Padding:
    """Where padding lies and what it is.

    mask: (frames, height, width), True where a sample is padding. values: of the image's type, the
    padding's samples in the mask's order, or the only one that there is. declared: the range of
    values that the file says are padding, to which no other sample may come back.
    """

    mask: np.ndarray = field(repr=False)
    values: np.ndarray = field(repr=False)
    declared: tuple[int, int] | None


def find_padding(image: Image) -> Padding | None:
    """The padding of a grey image: what the file declares, and a constant surround far outside.

    A surround is one value that reaches the border, covers a hundredth of the image at least and
    lies beyond all other samples by an eighth of their range or more.
    """
    if image.shape[3] != 1:
        return None
    pixels = image.pixels[..., 0]
    declared = image.padding_range
    mask = np.zeros(pixels.shape, bool)
    if declared is not None:
        mask |= (pixels >= declared[0]) & (pixels <= declared[1])
    value = _surround(pixels, mask)
    if value is not None:
        mask |= pixels == value
    if not mask.any() or mask.all():
        return None
    values = pixels[mask]
    only = values[:1] if (values == values[0]).all() else values
    return Padding(mask, only.copy(), declared)


def _surround(pixels: np.ndarray, known: np.ndarray) -> int | None:
    """The value of a constant surround, among the samples that are not known to be padding."""
    rest = pixels[~known] if known.any() else pixels.ravel()
    if not rest.size:
        return None
    for value in (int(rest.min()), int(rest.max())):
        inside = pixels == value
        share = np.count_nonzero(inside) / pixels.size
        edges = (inside[:, 0], inside[:, -1], inside[:, :, 0], inside[:, :, -1])
        if share < _LEAST_SHARE or not any(edge.any() for edge in edges):
            continue
        others = rest[rest != value]
        if not others.size:
            continue
        low, high = int(others.min()), int(others.max())
        gap = low - value if value < low else value - high
        if gap > 1 and gap >= _LEAST_GAP * (high - low):
            return value
    return None


def fill_padding(image: Image, padding: Padding | None) -> Image:
    """The image with its padding filled smoothly from what lies around it."""
    if padding is None:
        return image
    pixels = image.pixels.copy()
    for frame, mask in zip(pixels[..., 0], padding.mask, strict=True):
        if mask.any() and not mask.all():
            frame[mask] = np.round(_fill(frame, mask)[mask]).astype(frame.dtype)
        elif mask.all():
            frame[:] = _middle(pixels[..., 0], padding.mask)
    return replace(image, pixels=pixels)


def impose_padding(image: Image, padding: Padding | None) -> Image:
    """The image with its padding as it was; no other sample has a value that is declared padding.

    Raises ValueError where the two do not fit.
    """
    if padding is None:
        return image
    if padding.mask.shape != image.shape[:3] or image.shape[3] != 1:
        raise ValueError("padding of another shape")
    pixels = image.pixels.copy()
    grey = pixels[..., 0]
    if padding.declared is not None:
        low, high = padding.declared
        stray = ~padding.mask & (grey >= low) & (grey <= high)
        largest = 2 ** (image.bit_depth - (grey.dtype.kind == "i")) - 1
        grey[stray] = high + 1 if high < largest else low - 1
    grey[padding.mask] = padding.values
    return replace(image, pixels=pixels)


def pack_padding(padding: Padding) -> tuple[dict[str, Any], bytes]:
    """What describes the padding for JSON, and its bytes: the mask, each row as its difference from
    the one above, 8 samples a byte from the high bit down; then the values, 2 bytes each."""
    mask = padding.mask.copy()
    mask[:, 1:] ^= padding.mask[:, :-1]
    bits = np.packbits(mask).tobytes()
    values = padding.values.astype(wide(padding.values.dtype)).tobytes()
    declared = None if padding.declared is None else list(padding.declared)
    return {"declared": declared, "values": len(padding.values)}, bits + values


def padding_bytes(described: Any, shape: tuple[int, int, int]) -> int:
    """How many bytes `pack_padding` described so. Raises ValueError where it describes none."""
    count = described["values"]
    size = int(np.prod(shape))
    if type(count) is not int or not 1 <= count <= size:
        raise ValueError("padding without values")
    return -(-size // 8) + 2 * count


def unpack_padding(
    described: Any, data: bytes, shape: tuple[int, int, int], dtype: np.dtype
) -> Padding:
    """Inverse of `pack_padding`. Raises ValueError where the parts do not fit."""
    size = int(np.prod(shape))
    bits = np.unpackbits(np.frombuffer(data, np.uint8, -(-size // 8)), count=size)
    mask = np.bitwise_xor.accumulate(bits.reshape(shape), axis=1).astype(bool)
    values = np.frombuffer(data, wide(dtype), described["values"], -(-size // 8))
    limits, declared = np.iinfo(dtype), described["declared"]
    if values.min() < limits.min or values.max() > limits.max:
        raise ValueError("padding outside the range of the samples")
    if len(values) not in (1, np.count_nonzero(mask)):
        raise ValueError("more or fewer values than padding")
    if declared is not None:
        low, high = declared
        if type(low) is not int or type(high) is not int or not low <= high:
            raise ValueError("a range that is none")
        declared = (low, high)
    return Padding(mask, values.astype(dtype), declared)


def _middle(pixels: np.ndarray, mask: np.ndarray) -> int:
    """The middle sample of those that are no padding."""
    return int(np.median(pixels[~mask]))


def _fill(frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(height, width) float32: under the mask averages of ever larger neighbourhoods."""
    known = (~mask).astype(np.float32)
    return _pull_push(frame.astype(np.float32) * known, known)


def _pull_push(weighted: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Values where weight is positive, and elsewhere those of the same picture at half the size."""
    present = weight > 0
    mean = np.divide(weighted, weight, out=np.zeros_like(weighted), where=present)
    if present.all():
        return mean
    coarse = _pull_push(_halve(mean * present), _halve(present.astype(np.float32)))
    return np.where(present, mean, _double(coarse, weight.shape))


def _halve(picture: np.ndarray) -> np.ndarray:
    """Sums over blocks of 2 x 2."""
    even = np.pad(picture, [(0, side % 2) for side in picture.shape])
    return even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]


def _double(picture: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Twice the size, linearly interpolated, cut to `shape`."""
    for axis, side in enumerate(shape):
        at = np.clip((np.arange(side) + 0.5) / 2 - 0.5, 0, picture.shape[axis] - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, picture.shape[axis] - 1)
        share = (at - low).astype(np.float32)
        share = share[:, None] if axis == 0 else share
        first, second = (np.take(picture, index, axis=axis) for index in (low, high))
        picture = first * (1 - share) + second * share
    return picture
