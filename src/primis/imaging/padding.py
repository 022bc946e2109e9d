"""Padding: samples that stand for no tissue, such as the corners around a round CT image.

Left in, padding ruins what is around it: its edge takes the entries of the code, and a value far
outside widens the range that the levels are measured in. So it is taken out and filled smoothly
before an image is encoded, kept exactly beside the code, and put back when the image is restored.
In colour a pixel is padding when all its channels are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from primis.imaging.image import Image, wide

_MOST_VALUES = 4
_TAIL = 0.005
_NEAR_GAP, _NEAR_SHARE = 1 / 8, 0.01
_FAR_GAP, _FAR_SHARE = 1.0, 0.0001
_CHUNK = 1 << 20


@dataclass(frozen=True, eq=False)
class Padding:
    """Where padding lies and what it is.

    mask: (frames, height, width), True where a pixel is padding. values: (pixels, channels) of the
    image's type, the padding in the mask's order, or the only pixel that it is made of. declared:
    the range of values that the file says are padding, to which no other sample may come back.
    """

    mask: np.ndarray = field(repr=False)
    values: np.ndarray = field(repr=False)
    declared: tuple[int, int] | None

    def of(self, frames: Sequence[int]) -> Padding:
        """The padding of some frames."""
        if list(frames) == list(range(len(self.mask))):
            return self
        ends = np.cumsum([np.count_nonzero(mask) for mask in self.mask])
        each = np.split(self.values, ends[:-1]) if len(self.values) > 1 else []
        values = np.concatenate([each[frame] for frame in frames]) if each else self.values
        return Padding(self.mask[list(frames)], values, self.declared)


def find_padding(image: Image) -> Padding | None:
    """What the file declares to be padding, and in each frame constant values far outside.

    Such a value lies beyond all other samples. Against their range, of which the half percent at
    either end does not count, it is away by all of it; or by an eighth, if the value reaches the
    border or other padding and covers a hundredth of the frame. There are at most four in a frame.
    """
    found: list[np.ndarray | None] = [
        _pixels_outside(frame, image.padding_range) for frame in image.pixels
    ]
    if all(mask is None for mask in found):
        return None
    mask = np.zeros(image.shape[:3], bool)
    for frame, inside in zip(mask, found, strict=True):
        if inside is not None:
            frame[:] = inside
    if mask.all():
        return None
    values = _values(image.pixels, mask)
    return Padding(mask, values, image.padding_range)


def _values(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The padding's pixels in the mask's order, or only the first, if all are like it."""
    parts = [frame[inside] for frame, inside in zip(pixels, mask, strict=True)]
    first = next(part for part in parts if len(part))[:1].copy()
    if all((part == first).all() for part in parts):
        return first
    return np.concatenate(parts)


def _pixels_outside(frame: np.ndarray, declared: tuple[int, int] | None) -> np.ndarray | None:
    """The mask (height, width) of the padding of a frame (height, width, channels)."""
    mask = None
    counts = _count(frame)
    if declared is not None:
        mask = _within(frame, declared)
        counts -= _count(frame[mask][None])
    for _ in range(_MOST_VALUES):
        inside = _constant_outside(frame, mask, counts)
        if inside is None:
            break
        counts -= _count(frame[inside][None])
        mask = inside if mask is None else mask | inside
    return None if mask is None or not mask.any() else mask


def _within(frame: np.ndarray, declared: tuple[int, int]) -> np.ndarray:
    """Where all channels lie in the declared range."""
    low, high = declared
    mask = np.ones(frame.shape[:2], bool)
    for channel in range(frame.shape[2]):
        mask &= (frame[..., channel] >= low) & (frame[..., channel] <= high)
    return mask


def _count(frame: np.ndarray) -> np.ndarray:
    """(channels, values) How often each channel has each value, from the least of its type on."""
    least, size = int(np.iinfo(frame.dtype).min), 1 << 8 * frame.dtype.itemsize
    counts = np.zeros((frame.shape[2], size), np.int64)
    rows = max(1, _CHUNK // max(frame.shape[1], 1))
    for top in range(0, len(frame), rows):
        for channel in range(frame.shape[2]):
            band = frame[top : top + rows, :, channel].ravel()
            counts[channel] += np.bincount(band.astype(np.intp) - least, minlength=size)
    return counts


def _constant_outside(
    frame: np.ndarray, known: np.ndarray | None, counts: np.ndarray
) -> np.ndarray | None:
    """Where a value lies far outside, of the pixels that are not known to be padding."""
    least = int(np.iinfo(frame.dtype).min)
    for channel, count in enumerate(counts):
        for value, far in _candidates(count, frame[..., 0].size):
            inside = frame[..., channel] == value + least
            if known is not None:
                inside &= ~known
            if not far and not _reaches_border(inside, known):
                continue
            pixels = frame[inside]
            if (pixels == pixels[0]).all():
                return inside
    return None


def _candidates(count: np.ndarray, size: int) -> Iterator[tuple[int, bool]]:
    """(value, whether it is far) of the least and the largest, where either lies outside."""
    present = np.flatnonzero(count)
    if len(present) < 2:
        return
    for value, next_to_it in (present[[0, 1]], present[[-1, -2]]):
        others = np.cumsum(count) - count[value] * (np.arange(len(count)) >= value)
        total = others[-1]
        low = np.searchsorted(others, _TAIL * total, side="right")
        high = np.searchsorted(others, (1 - _TAIL) * total, side="left")
        gap, range_ = abs(int(value) - int(next_to_it)), int(high - low)
        share = count[value] / size
        far = gap >= _FAR_GAP * range_ and share >= _FAR_SHARE
        near = gap >= _NEAR_GAP * range_ and share >= _NEAR_SHARE
        if gap > 1 and (far or near):
            yield int(value), far


def _reaches_border(inside: np.ndarray, known: np.ndarray | None) -> bool:
    """Whether a part lies at the border, or beside what is known to be padding."""
    if any(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1])):
        return True
    if known is None:
        return False
    beside = (
        inside[1:] & known[:-1],
        inside[:-1] & known[1:],
        inside[:, 1:] & known[:, :-1],
        inside[:, :-1] & known[:, 1:],
    )
    return any(part.any() for part in beside)


def fill_padding(image: Image, padding: Padding | None) -> Image:
    """The image with its padding filled smoothly from what lies around it."""
    if padding is None:
        return image
    return replace(image, pixels=np.stack(list(filled_frames(image, padding))))


def filled_frames(
    image: Image, padding: Padding | None, numbers: Sequence[int] | None = None
) -> Iterator[np.ndarray]:
    """The same, frame by frame. numbers: of those that are wanted, None for all."""
    middle = None
    for k in range(len(image.pixels)) if numbers is None else numbers:
        frame = image.pixels[k]
        mask = None if padding is None else padding.mask[k]
        if padding is None or mask is None or not mask.any():
            yield frame
        elif not mask.all():
            yield _filled(frame, mask)
        else:
            middle = _middle(image.pixels, padding.mask) if middle is None else middle
            yield np.broadcast_to(middle, frame.shape).copy()


def _filled(frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    frame = frame.copy()
    for channel in range(frame.shape[2]):
        plane = frame[..., channel]
        plane[mask] = np.round(_fill(plane, mask)[mask]).astype(frame.dtype)
    return frame


def impose_padding(image: Image, padding: Padding | None) -> Image:
    """The image with its padding as it was; no other sample has a value that is declared padding.

    Raises ValueError where the two do not fit.
    """
    if padding is None:
        return image
    if padding.mask.shape != image.shape[:3] or padding.values.shape[1] != image.shape[3]:
        raise ValueError("padding of another shape")
    pixels, at = image.pixels.copy(), 0
    for frame, mask in zip(pixels, padding.mask, strict=True):
        move_strays(frame, mask, padding.declared, image.bit_depth)
        count = int(np.count_nonzero(mask))
        frame[mask] = padding.values[at : at + count] if len(padding.values) > 1 else padding.values
        at += count
    return replace(image, pixels=pixels)


def move_strays(
    frame: np.ndarray, mask: np.ndarray, declared: tuple[int, int] | None, bit_depth: int
) -> None:
    """Move what is no padding out of the declared range, in place.

    Raises ValueError where the range leaves no place.
    """
    if declared is None:
        return
    (low, high), limits = declared, np.iinfo(frame.dtype)
    stray = ~mask & _within(frame, declared)
    largest = 2 ** (bit_depth - (frame.dtype.kind == "i")) - 1
    beside = high + 1 if high < largest else low - 1
    if stray.any():
        if not limits.min <= beside <= limits.max:
            raise ValueError("a range that holds all values")
        frame[stray] = beside


def pack_padding(padding: Padding) -> tuple[dict[str, Any], bytes]:
    """What describes the padding for JSON, and its bytes: the mask as differences, from frame to
    frame where that leaves fewer, then from row to row, 8 pixels a byte from the high bit down;
    then the values, 2 bytes a sample."""
    rows, both = _differences(padding.mask), _differences(_between_frames(padding.mask))
    frames = int(np.count_nonzero(both) < np.count_nonzero(rows))
    bits = np.packbits(both if frames else rows).tobytes()
    values = padding.values.astype(wide(padding.values.dtype)).tobytes()
    declared = None if padding.declared is None else list(padding.declared)
    return {"declared": declared, "frames": frames, "values": len(padding.values)}, bits + values


def _differences(mask: np.ndarray) -> np.ndarray:
    """From row to row."""
    out = mask.copy()
    out[:, 1:] ^= mask[:, :-1]
    return out


def _between_frames(mask: np.ndarray) -> np.ndarray:
    out = mask.copy()
    out[1:] ^= mask[:-1]
    return out


def padding_bytes(described: Any, shape: tuple[int, int, int, int]) -> int:
    """How many bytes `pack_padding` described so, of an image (frames, height, width, channels).

    Raises ValueError where it describes none.
    """
    count, size = described["values"], int(np.prod(shape[:3]))
    if type(described["frames"]) is not int or described["frames"] not in (0, 1):
        raise ValueError("differences of another kind")
    if type(count) is not int or not 1 <= count <= size:
        raise ValueError("padding without values")
    return -(-size // 8) + 2 * count * shape[3]


def unpack_padding(
    described: Any, data: bytes, shape: tuple[int, int, int, int], dtype: np.dtype
) -> Padding:
    """Inverse of `pack_padding`. Raises ValueError where the parts do not fit."""
    size, channels = int(np.prod(shape[:3])), shape[3]
    mask = _unpack_mask(data, shape[:3])
    if described["frames"]:
        np.bitwise_xor.accumulate(mask, axis=0, out=mask)
    count = described["values"]
    values = np.frombuffer(data, wide(dtype), count * channels, -(-size // 8))
    limits, declared = np.iinfo(dtype), described["declared"]
    if values.min() < limits.min or values.max() > limits.max:
        raise ValueError("padding outside the range of the samples")
    if count not in (1, np.count_nonzero(mask)):
        raise ValueError("more or fewer values than padding")
    if declared is not None:
        low, high = declared
        if type(low) is not int or type(high) is not int or not low <= high:
            raise ValueError("a range that is none")
        declared = (low, high)
    return Padding(mask, values.astype(dtype).reshape(count, channels), declared)


def _unpack_mask(data: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    packed = np.frombuffer(data, np.uint8, -(-int(np.prod(shape)) // 8))
    mask = np.empty(shape, bool)
    size = mask[0].size
    for k, frame in enumerate(mask):
        first = k * size
        last = first + size
        bits = np.unpackbits(packed[first // 8 : -(-last // 8)])[first % 8 :][:size]
        np.bitwise_xor.accumulate(bits.reshape(shape[1:]), axis=0, out=frame.view(np.uint8))
    return mask


def _middle(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The middle sample of each channel of the pixels that are no padding."""
    counts = np.zeros_like(_count(pixels[0]))
    for frame, inside in zip(pixels, mask, strict=True):
        counts += _count(frame[~inside][None])
    least = int(np.iinfo(pixels.dtype).min)
    half = [np.searchsorted(np.cumsum(count), count.sum() / 2) + least for count in counts]
    return np.array(half, pixels.dtype)


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
