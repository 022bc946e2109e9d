"""Texture that was lost under the threshold, put back as noise: measured when an image is shared,
drawn when somebody measures texture (docs/format.md, section 6, Texture).

    when shared    image - decoded --DCT of 16 x 16--> its deviation, by frequency and by place
                   --> a few whole numbers, sealed in `info`
    when restored  signs from SHA-256, sizes from those numbers and from how much each block of the
                   decoded image varies --inverse DCT--> noise, added to what is decoded

The noise is independent of what was lost, so pixel by pixel an image becomes less like its source.
It is for measuring texture, never for reading images.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

import numpy as np

from primis.bundle.geometry import TEXTURE_BANDS, TEXTURE_REGION, Geometry
from primis.codec import Done, Scale, correlate, decorrelate, silent

BLOCK = 16
"""Pixels of a block's side, whatever the stride of the code."""

PUT_BACK = 0.9
"""How much of the deviation that was lost comes back. Not all: what is lost has more flat runs than
noise has. Of 0.8 to 1 any value restores the features of texture about as well."""

_REGION = TEXTURE_REGION // BLOCK
_ROWS = 64  # pixels that are worked on at a time
_FINE, _MOST_FINE = 8, 255  # steps of an octave of what stands once for a plane
_COARSE, _MOST_COARSE = 3, 15  # and of what stands for each band and region
_BAND_ONE, _REGION_ONE = 10, 9  # what stands for 1
_CONTRASTS = 16
_LIMITS = (9, 30, 72, 144)  # between bands, of u^2 + v^2
_MOST_WEIGHT = 4.0  # so that one bright edge does not take the noise of its region
_PURPOSE = b"primis/1 texture"


def _basis() -> np.ndarray:
    """The orthonormal DCT-II: a row for each frequency."""
    u, x = np.arange(BLOCK)[:, None], np.arange(BLOCK)[None]
    rows = np.sqrt(2 / BLOCK) * np.cos(np.pi * u * (2 * x + 1) / (2 * BLOCK))
    rows[0] = np.sqrt(1 / BLOCK)
    return rows


def _bands() -> np.ndarray:
    """(256,) The band of each coefficient, by rows; that of the block's mean is -1."""
    u, v = np.divmod(np.arange(BLOCK * BLOCK), BLOCK)
    bands = np.searchsorted(_LIMITS, u * u + v * v)
    bands[0] = -1
    return bands


_BASIS, _BAND = _basis(), _bands()
_MEMBERS = (_BAND[:, None] == np.arange(TEXTURE_BANDS)).astype(np.float64)
_SIZES = _MEMBERS.sum(axis=0)


@dataclass(frozen=True)
class PlaneTexture:
    """What one plane of a frame lost, in whole numbers, each a step on a scale of logarithms.

    deviation: of what was lost, beside the weights of blocks; 0 where nothing is to be put back.
    spread: how much the decoded plane varies. contrast: how much more a block lost that varies
    more. bands: deviation by frequency. regions: deviation by place, by rows.
    """

    deviation: int
    spread: int
    contrast: int
    bands: tuple[int, ...]
    regions: tuple[int, ...]

    def pack(self) -> bytes:
        """`Geometry.texture_bytes` bytes."""
        nibbles = [self.contrast, *self.bands, *self.regions, 0]
        pairs = zip(nibbles[::2], nibbles[1::2], strict=False)
        return bytes([self.deviation, self.spread, *(16 * high + low for high, low in pairs)])


FrameTexture = tuple[PlaneTexture, ...]
"""Of each plane of a frame: of each channel, and of colours as the codec decorrelates them."""


def no_texture(geometry: Geometry) -> FrameTexture:
    """Of a frame that nothing is put back to."""
    return unpack_texture(bytes(geometry.channels * geometry.texture_bytes), geometry)


def unpack_texture(data: bytes, geometry: Geometry) -> FrameTexture:
    """Of a frame, from what `PlaneTexture.pack` made of each plane. Raises ValueError for what no
    writer makes."""
    size = geometry.texture_bytes
    if len(data) != geometry.channels * size:
        raise ValueError("texture of other planes")
    parts = (data[at : at + size] for at in range(0, len(data), size))
    return tuple(_unpack_plane(part, geometry) for part in parts)


def _unpack_plane(data: bytes, geometry: Geometry) -> PlaneTexture:
    down, across = geometry.texture_regions
    contrast, *nibbles = [half for byte in data[2:] for half in divmod(byte, 16)]
    end = TEXTURE_BANDS + down * across
    bands, regions = nibbles[:TEXTURE_BANDS], nibbles[TEXTURE_BANDS:end]
    nothing = not any(data)
    if any(nibbles[end:]) or not (nothing or (data[0] and data[1])):
        raise ValueError("no texture")
    return PlaneTexture(data[0], data[1], contrast, tuple(bands), tuple(regions))


def measure_texture(
    frame: np.ndarray, decoded: np.ndarray, scale: Scale, outside: np.ndarray | None = None
) -> FrameTexture:
    """What a frame (H, W, c) lost, where `decoded` is restored in its place.

    outside: (H, W), True where a pixel is padding, which loses nothing; blocks of nothing else do
    not count.
    """
    inside = np.ones(frame.shape[:2], bool) if outside is None else ~outside
    parts = [_look(frame[r], decoded[r], inside[r]) for r in _bands_of_rows(len(frame))]
    lost, varied = (np.concatenate(each, axis=1) for each in zip(*parts, strict=True))
    counted = _blocks(_whole(inside[None]))[0].any(axis=(2, 3))
    planes = zip(lost, varied, strict=True)
    return tuple(_of_plane(energy, v, counted, scale) for energy, v in planes)


def add_texture(
    frame: np.ndarray,
    texture: FrameTexture,
    scale: Scale,
    seed: bytes,
    number: int = 0,
    done: Done = silent,
) -> None:
    """Put noise in a decoded frame (H, W, c), in place.

    seed: the same gives the same noise; number: of the frame.
    """
    if not any(plane.deviation for plane in texture):
        return
    parts = _bands_of_rows(len(frame))
    for rows in parts:
        planes = decorrelate(frame[rows].astype(np.float64))
        noise = np.zeros_like(planes)
        for index, (plane, its) in enumerate(zip(planes, texture, strict=True)):
            if its.deviation:
                start = seed + struct.pack(">2I", number, index)
                noise[index] = _noise(plane, its, scale, rows.start // BLOCK, start)
        grey = np.round(frame[rows] + correlate(noise))
        frame[rows] = np.clip(grey, scale.low, scale.high).astype(frame.dtype)
        done(rows.stop / len(frame))


def _noise(
    plane: np.ndarray, texture: PlaneTexture, scale: Scale, top: int, seed: bytes
) -> np.ndarray:
    """For some rows of a decoded plane (H, W), the first of which are of block `top`."""
    blocks = _blocks(_whole(plane[None]))[0]
    down, across = blocks.shape[:2]
    relative = _variation(blocks) / _fine(texture.spread, scale)
    weights = np.sqrt(_weights(relative, texture.contrast))
    regions = _coarse(np.array(texture.regions), _REGION_ONE)
    in_row = -(-across // _REGION)
    y, x = np.arange(top, top + down) // _REGION, np.arange(across) // _REGION
    sizes = _fine(texture.deviation, scale) * weights * regions[y[:, None] * in_row + x]
    spectrum = _MEMBERS @ _coarse(np.array(texture.bands), _BAND_ONE)
    coefficients = _signs(seed, top, down, across) * spectrum * sizes[..., None]
    noise = _BASIS.T @ coefficients.reshape(blocks.shape) @ _BASIS
    whole = noise.transpose(0, 2, 1, 3).reshape(down * BLOCK, across * BLOCK)
    return whole[: plane.shape[0], : plane.shape[1]]


def _signs(seed: bytes, top: int, down: int, across: int) -> np.ndarray:
    """(down, across, 256) of -1 and 1: the bits of a digest for each block."""
    start = hashlib.sha256(_PURPOSE + seed)
    digests = bytearray()
    for row in range(top, top + down):
        for column in range(across):
            digest = start.copy()
            digest.update(struct.pack(">2I", row, column))
            digests += digest.digest()
    bits = np.unpackbits(np.frombuffer(digests, np.uint8))
    return 1.0 - 2.0 * bits.reshape(down, across, BLOCK * BLOCK)


def _look(
    frame: np.ndarray, decoded: np.ndarray, inside: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(energy of what was lost, by plane, row, column of blocks, and band; variation of what is
    decoded, by plane, row and column)."""
    lost = decorrelate((frame.astype(np.float64) - decoded) * inside[..., None])
    coefficients = _BASIS @ _blocks(_whole(lost)) @ _BASIS.T
    energy = (coefficients**2).reshape(*coefficients.shape[:3], -1) @ _MEMBERS
    plain = decorrelate(decoded.astype(np.float64))
    return energy, _variation(_blocks(_whole(plain)))


def _of_plane(
    energy: np.ndarray, variation: np.ndarray, counted: np.ndarray, scale: Scale
) -> PlaneTexture:
    """energy: (rows, columns, bands); variation, counted: (rows, columns), of blocks."""
    energy = energy * counted[..., None]
    down, across = (-(-side // _REGION) for side in counted.shape)
    if not energy.any():
        return PlaneTexture(0, 0, 0, (0,) * TEXTURE_BANDS, (0,) * (down * across))
    lost = energy.sum(axis=2)
    spread = _to_fine(float(variation[counted].mean()), scale)
    relative = variation / _fine(spread, scale)
    contrast = _likeliest(lost, relative, counted)
    weights = _weights(relative, contrast) * counted
    deviation = _to_fine(float(np.sqrt(lost.sum() / (BLOCK**2 * weights.sum()))), scale)
    unit = _fine(deviation, scale) ** 2
    wanted = energy.sum(axis=(0, 1)) / (_SIZES * unit * weights.sum())
    bands = _to_coarse(np.sqrt(wanted), _BAND_ONE)
    drawn = unit * float(_SIZES @ _coarse(bands, _BAND_ONE) ** 2) * _by_region(weights)
    missing = _by_region(lost)
    ratios = np.divide(missing, drawn, out=np.zeros_like(missing), where=drawn > 0)
    regions = _to_coarse(PUT_BACK * np.sqrt(ratios), _REGION_ONE)
    numbers = tuple(bands.tolist()), tuple(regions.ravel().tolist())
    return PlaneTexture(deviation, spread, contrast, *numbers)


def _likeliest(lost: np.ndarray, relative: np.ndarray, counted: np.ndarray) -> int:
    """The contrast under which the energies of blocks (rows, columns) are likeliest, as those of
    normal noise whose deviation is each region's own."""
    counts = _by_region(counted.astype(np.float64))
    surprises = []
    for contrast in range(_CONTRASTS):
        weights = _weights(relative, contrast)
        each = _by_region(lost / weights) / np.maximum(counts, 1)
        known = np.log(np.maximum(each, np.finfo(np.float64).tiny))
        surprises.append(np.sum(counts * known) + np.sum(np.log(weights[counted])))
    return int(np.argmin(surprises))


def _weights(relative: np.ndarray, contrast: int) -> np.ndarray:
    """Of blocks: their part of the energy that is put back. relative: variation beside spread."""
    share = contrast / _CONTRASTS
    return np.minimum(1 - share + share * relative, _MOST_WEIGHT)


def _variation(blocks: np.ndarray) -> np.ndarray:
    """Root of the mean square of the differences between neighbours, of each block
    (..., 16, 16)."""
    down, across = np.diff(blocks, axis=-2), np.diff(blocks, axis=-1)
    return np.sqrt((np.mean(down**2, axis=(-2, -1)) + np.mean(across**2, axis=(-2, -1))) / 2)


def _by_region(blocks: np.ndarray) -> np.ndarray:
    """Sums over the regions of a plane (rows, columns) of blocks."""
    down, across = (np.arange(0, side, _REGION) for side in blocks.shape)
    return np.add.reduceat(np.add.reduceat(blocks, down, axis=0), across, axis=1)


def _bands_of_rows(height: int) -> list[slice]:
    return [slice(top, min(top + _ROWS, height)) for top in range(0, height, _ROWS)]


def _whole(planes: np.ndarray) -> np.ndarray:
    """Planes (c, H, W) with their border repeated to whole blocks."""
    down, across = (-side % BLOCK for side in planes.shape[1:])
    return np.pad(planes, [(0, 0), (0, down), (0, across)], mode="edge")


def _blocks(planes: np.ndarray) -> np.ndarray:
    """(c, H, W) -> (c, rows, columns, 16, 16)."""
    channels, height, width = planes.shape
    apart = planes.reshape(channels, height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    return apart.transpose(0, 1, 3, 2, 4)


def _fine(number: int, scale: Scale) -> float:
    """Grey levels that a number from 1 to 255 stands for."""
    return float(scale.width * 2 ** ((1 - number) / _FINE))


def _to_fine(grey: float, scale: Scale) -> int:
    """Inverse of `_fine`, to the nearest."""
    if not grey:
        return _MOST_FINE
    return int(np.clip(round(1 - _FINE * np.log2(grey / scale.width)), 1, _MOST_FINE))


def _coarse(numbers: np.ndarray, one: int) -> np.ndarray:
    """Factors that numbers from 0 to 15 stand for: 0, or around 1."""
    return np.where(numbers > 0, 2.0 ** ((numbers - one) / _COARSE), 0.0)


def _to_coarse(factors: np.ndarray, one: int) -> np.ndarray:
    """Inverse of `_coarse`, to the nearest."""
    steps = one + _COARSE * np.log2(np.maximum(factors, 2.0**-32))
    return np.clip(np.round(steps), 0, _MOST_COARSE).astype(int)
