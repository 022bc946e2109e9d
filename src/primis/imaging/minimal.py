"""The header of an image without what is not needed to show it: for owners who keep the rest back.

Of DICOM there remain the elements that say how samples are shown and where they lie (PS3.3, C.7.6,
C.11), without UIDs, dates, texts, people, devices and private elements; of what else identifies,
nothing that the basic profile takes out (PS3.15, Table E.1-1). Of NIfTI the affine and all numbers
remain, and texts and extensions are emptied. Of other files EXIF goes. Names of files stay.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from primis.imaging.image import Image
from primis.imaging.kept import pack

if TYPE_CHECKING:
    from primis.imaging.dicom_elements import DataSet

_SHOWN = (
    "SOPClassUID",
    "Modality",
    "ImageType",
    "PresentationIntentType",
    "PresentationLUTShape",
    "VOILUTFunction",
    "PatientOrientation",
    "PatientPosition",
    "ViewPosition",
    "Laterality",
    "ImageLaterality",
    "FrameLaterality",
    "InstanceNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SliceLocation",
    "SliceThickness",
    "SpacingBetweenSlices",
    "ImagerPixelSpacing",
    "NominalScannedPixelSpacing",
    "EstimatedRadiographicMagnificationFactor",
    "TemporalPositionIdentifier",
    "NumberOfTemporalPositions",
    "EchoNumbers",
    "FrameTime",
    "FrameTimeVector",
    "FrameIncrementPointer",
    "CineRate",
    "RecommendedDisplayFrameRate",
    "Units",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "FrameContentSequence",
    "FrameAnatomySequence",
    "FrameType",
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "InStackPositionNumber",
    "TemporalPositionIndex",
)
_IMAGE_GROUP = 0x0028
"""Its elements say how pixels are laid out and shown, but for those that people write into."""

_WRITTEN = ("LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT", "UN", "UI", "AS", "DA", "DT", "TM")
"""VRs of texts, names, identifiers and dates, and of what is not known."""


def minimal(image: Image) -> Image:
    """The image with such a header. Raises UnreadableImage."""
    if not image.header:
        return image
    if image.kind == "dicom":
        return replace(image, header=_of_dicom(image.header))
    if image.kind in ("nifti", "nifti-gz"):
        from primis.imaging.nifti import without_texts  # nibabel is large

        return replace(image, header=without_texts(image.header))
    values = json.loads(image.header)
    values.pop("exif", None)
    if chunks := values.get("chunks"):
        chunks.pop("eXIf", None)
    return replace(image, header=pack(values))


def _of_dicom(header: bytes) -> bytes:
    from primis.imaging.dicom import read_header  # a large library, which no other kind needs
    from primis.imaging.dicom_derived import preface
    from primis.imaging.dicom_elements import encode

    kept = _kept(read_header(header))
    return preface(kept) + encode(kept)


def _kept(data_set: DataSet) -> DataSet:
    """In sequences too."""
    from primis.imaging.dicom_elements import Element

    kept: DataSet = {}
    for tag, element in data_set.items():
        if not _is_shown(tag, element.vr):
            continue
        value = element.value
        inner = [_kept(item) for item in value] if isinstance(value, list) else value
        kept[tag] = Element(element.vr, inner)
    return kept


@cache
def _is_shown(tag: int, vr: str) -> bool:
    from primis.imaging.dicom_elements import tag_of
    from primis.imaging.dicom_profile import is_of_profile

    named = tag in {tag_of(keyword) for keyword in _SHOWN}
    of_image = tag >> 16 == _IMAGE_GROUP and vr not in _WRITTEN
    return (named or of_image) and not is_of_profile(tag)
