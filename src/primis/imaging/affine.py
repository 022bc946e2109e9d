"""Where the voxels of an image lie in the patient, as far as its header says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from primis.imaging.image import SERIES, Image

if TYPE_CHECKING:
    from primis.imaging.series import Slice

_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""DICOM counts towards left and posterior, NIfTI towards right and anterior."""

_SAME_MM = 0.01


def affine_of(image: Image) -> np.ndarray | None:
    """(4, 4): takes (column, row, frame, 1) of an image with its whole header to millimetres
    towards right, anterior and superior. None where the header says too little.

    Of a series or volume in time it is that of each volume. Raises ValueError for a header that is
    none.
    """
    if not image.header:
        return None
    if image.kind in ("nifti", "nifti-gz"):
        from primis.imaging.nifti import affine_in  # nibabel is large

        return affine_in(image.header)
    if image.kind not in ("dicom", SERIES) or image.spacing_mm is None:
        return None
    slices = _slices(image)
    if not slices:
        return None
    (row, column), first = image.spacing_mm, slices[0]
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = np.array(first.row) * column, np.array(first.column) * row
    affine[:3, 2], affine[:3, 3] = _step(slices), first.place
    return _TO_RAS @ affine


def _slices(image: Image) -> list[Slice]:
    """Of each frame; none where one has no place."""
    from primis.imaging.dicom import read_header  # a large library
    from primis.imaging.dicom_series import headers_in
    from primis.imaging.series import slice_of

    headers = [image.header]
    if image.kind == SERIES:
        headers = [file.data for file in headers_in(image.header, image.shape[0])]
    slices = [slice_of(read_header(header)) for header in headers]
    placed = [one for one in slices if one is not None]
    return placed if len(placed) == len(slices) else []


def _step(slices: Sequence[Slice]) -> np.ndarray:
    """From one slice to the next, on average, in the first volume; of one alone a millimetre."""
    from primis.imaging.series import along

    first, at_mm = slices[0], along(slices)
    again = (k for k, at in enumerate(at_mm) if k and abs(at - at_mm[0]) < _SAME_MM)
    volume = next(again, len(slices))
    if volume == 1:
        return first.normal
    return (np.array(slices[volume - 1].place) - first.place) / (volume - 1)
