"""One image of a corpus: where it lies, whose it is, what is known of it, its samples and mask."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import PIL.Image

from primis.errors import UsageError
from primis.imaging.files import read
from primis.imaging.padding import fill_padding, find_padding

_LUMA = np.array([0.299, 0.587, 0.114])
"""ITU-R BT.601."""


@dataclass(frozen=True)
class Sample:
    """An image of a corpus.

    name: its path from the corpus' root, with slashes; no other sample has it. patient: whose it
    is, as the corpus writes it. split: "train", "val" or "test" where the corpus says so. masks:
    files whose union is the lung. age: years. sex: "F" or "M". spacing_mm: between rows and between
    columns. Unknown is None.
    """

    file: Path
    name: str
    patient: str = field(repr=False)
    label: str | None = None
    split: str | None = None
    masks: tuple[Path, ...] = ()
    age: float | None = field(default=None, repr=False)
    sex: str | None = field(default=None, repr=False)
    spacing_mm: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class Grey:
    """A grey picture as its file has it: MONOCHROME1 is not turned over (imaging.image.display does
    that for people).

    pixels: (height, width), integers; padding is filled, as it is before an image is encoded.
    bit_depth: meaningful bits. spacing_mm: between rows and between columns. inside: (height,
    width), False where there was padding; None where there was none.
    """

    pixels: np.ndarray = field(repr=False)
    bit_depth: int
    photometric: str
    spacing_mm: tuple[float, float] | None
    inside: np.ndarray | None = field(default=None, repr=False)


def read_grey(sample: Sample) -> Grey:
    """The first frame in stored samples; of a coloured one its luma (BT.601), rounded. Opacity is
    dropped.

    Raises UnreadableImage.
    """
    image, _ = read(sample.file)
    padding = find_padding(image)
    frame = fill_padding(image, padding).pixels[0]  # (h, w, c)
    inside = None if padding is None else ~padding.mask[0]
    spacing = sample.spacing_mm or image.spacing_mm
    if frame.shape[2] < 3:
        photometric = "MONOCHROME2" if image.photometric == "LA" else image.photometric
        return Grey(frame[..., 0], image.bit_depth, photometric, spacing, inside)
    luma = np.round(frame[..., :3] @ _LUMA).astype(frame.dtype)
    return Grey(luma, image.bit_depth, "MONOCHROME2", spacing)


def read_mask(sample: Sample, shape: tuple[int, int]) -> np.ndarray:
    """(height, width) bool: the union of the sample's masks, each brought to `shape` by nearest
    neighbour.

    Inside is what is above half of a mask's own maximum, so that 0 / 1, 0 / 255 and lossy masks all
    read right. Raises UsageError where the sample has none, and UnreadableImage.
    """
    if not sample.masks:
        raise UsageError(f'image "{sample.name}" has no mask')
    union = np.zeros(shape, bool)
    for path in sample.masks:
        frame = read(path)[0].pixels[0]
        level = frame[..., : frame.shape[2] - (frame.shape[2] in (2, 4))].max(
            axis=2
        )  # colours, not opacity
        inside = (level > level.max() / 2).astype(np.uint8)
        union |= (
            np.asarray(
                PIL.Image.fromarray(inside).resize(shape[::-1], PIL.Image.Resampling.NEAREST)
            )
            > 0
        )
    return union
