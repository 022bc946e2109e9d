"""A reader for MONAI: `LoadImage` takes names of images in a release where it takes paths.

    LoadImaged("image", reader=ReleaseReader("release", "partner.key"), ensure_channel_first=True)

It needs MONAI (`pip install 'primis[monai]'`).
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import PurePath
from typing import Any

import numpy as np
from monai.data.image_reader import ImageReader

from primis.api.places import Identities, Place
from primis.api.release import OpenRelease, own_release
from primis.errors import UsageError
from primis.imaging.affine import affine_of
from primis.imaging.image import Image
from primis.keys.tier import Tier

Names = str | PathLike[str] | Sequence[str | PathLike[str]]


class ReleaseReader(ImageReader):
    """Reads images of a release by name or id, in each process for itself.

    release, identity, signer, models, and what a pickle holds: as of `primis.Dataset`. tier:
    preview or diagnostic.

    Axes are those of MONAI's other readers: columns, rows, and frames where there are several, then
    channels where there are several. The affine is that of the file's header: of NIfTI, of DICOM
    that has a place in the patient, and of a series with the mean step from slice to slice. Where
    there is none, as at tier preview, it has the spacing alone. Grey levels are as stored.
    """

    def __init__(
        self,
        release: OpenRelease | Place,
        identity: Identities | None = None,
        *,
        tier: Tier | str = Tier.DIAGNOSTIC,
        signer: str | None = None,
        models: Sequence[Place] = (),
    ) -> None:
        super().__init__()
        self._own, self._tier = own_release(release, identity, signer, models), Tier(tier)
        if self._tier == Tier.ORIGINAL:
            raise UsageError('tier "original" is files, expected "preview" or "diagnostic"')

    def verify_suffix(self, filename: Names) -> bool:
        """Whether all of them are images of the release."""
        release = self._own.get()
        try:
            return all([release[name] for name in _each(filename)])
        except KeyError:
            return False

    def read(self, data: Names, **kwargs: Any) -> list[Image]:
        """The images. Raises KeyError, and what `ReleaseImage.read` raises."""
        release = self._own.get()
        return [release[name].read(self._tier) for name in _each(data)]

    def get_data(self, img: Sequence[Image]) -> tuple[np.ndarray, dict[str, Any]]:
        """Array and metadata; several images are channels of one."""
        arrays = [_array(image) for image in img]
        if len({array.shape for array in arrays}) > 1:
            raise UsageError("images of several sizes cannot be channels of one")
        alone = len(arrays) == 1 and arrays[0].shape[-1] == 1
        array = arrays[0][..., 0] if alone else np.concatenate(arrays, axis=-1)
        first = arrays[0].shape[:-1]
        row, column = img[0].spacing_mm or (1.0, 1.0)
        affine = affine_of(img[0])
        return array, {
            "affine": np.diag([column, row, 1.0, 1.0]) if affine is None else affine,
            "spatial_shape": np.array(first),
            "original_channel_dim": float("nan") if alone else -1,
            "spacing_mm_known": img[0].spacing_mm is not None,
            "photometric": img[0].photometric,
        }


def _each(names: Names) -> list[str]:
    given = [names] if isinstance(names, str | PathLike) else names
    return [PurePath(name).as_posix() for name in given]


def _array(image: Image) -> np.ndarray:
    """(frames, H, W, C) -> (W, H[, frames], C)."""
    array = image.pixels.transpose(2, 1, 0, 3)
    return array[:, :, 0] if array.shape[2] == 1 else array
