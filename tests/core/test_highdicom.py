"""What highdicom writes (functional groups of explicit length): slides, enhanced CT and MR."""

from __future__ import annotations

import io
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    VLWholeSlideMicroscopyImageStorage,
)

from primis.imaging.dicom import read_dicom
from tests.core.test_dicom import DERIVED, needs_dciodvfy, new_errors, restored

SIDE = 32
COLOUR = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
GREY = np.random.default_rng(1).integers(0, 4096, (SIDE, SIDE)).astype(np.uint16)


def saved(data_set: pydicom.Dataset) -> bytes:
    out = io.BytesIO()
    pydicom.dcmwrite(out, data_set, enforce_file_format=True)
    return out.getvalue()


def own_uids() -> dict[str, object]:
    return {
        "series_instance_uid": highdicom.UID(),
        "sop_instance_uid": highdicom.UID(),
        "series_number": 1,
        "instance_number": 1,
    }


def enhanced(modality: str, syntax: str) -> bytes:
    """Three slices, converted as highdicom does it from single-frame files."""
    slices = []
    for number in range(3):
        one = pydicom.dcmread(get_testdata_file(f"{modality}_small.dcm"))
        one.SOPInstanceUID = highdicom.UID()
        one.InstanceNumber = number + 1
        one.ImagePositionPatient = [0, 0, 5 * number]
        one.PixelData = np.roll(one.pixel_array, number, axis=0).tobytes()
        slices.append(one)
    name = f"LegacyConvertedEnhanced{modality}Image"
    convert = getattr(highdicom.legacy, name)
    return saved(convert(legacy_datasets=slices, transfer_syntax_uid=syntax, **own_uids()))


def slide(*, sparse: bool) -> bytes:
    """Four tiles of a whole slide, with highdicom's functional groups and specimen."""
    shared = pydicom.Dataset()
    shared.PixelMeasuresSequence = highdicom.PixelMeasuresSequence((0.001, 0.001), 0.01)
    specimen = highdicom.SpecimenDescription("specimen", highdicom.UID())
    path = pydicom.Dataset()
    path.OpticalPathIdentifier = "1"
    image = pydicom.Dataset()
    image.file_meta = pydicom.dataset.FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID = VLWholeSlideMicroscopyImageStorage
    image.SOPInstanceUID, image.StudyInstanceUID = highdicom.UID(), highdicom.UID()
    image.SeriesInstanceUID, image.FrameOfReferenceUID = highdicom.UID(), highdicom.UID()
    image.Modality = "SM"
    image.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    image.Rows = image.Columns = SIDE
    image.TotalPixelMatrixRows = image.TotalPixelMatrixColumns = 2 * SIDE
    image.NumberOfFrames = 4
    image.SamplesPerPixel, image.PhotometricInterpretation = 3, "RGB"
    image.PlanarConfiguration = image.PixelRepresentation = 0
    image.BitsAllocated, image.BitsStored, image.HighBit = 8, 8, 7
    image.DimensionOrganizationType = "TILED_SPARSE" if sparse else "TILED_FULL"
    image.SharedFunctionalGroupsSequence = [shared]
    image.SpecimenDescriptionSequence, image.OpticalPathSequence = [specimen], [path]
    image.ContainerIdentifier = "container"
    if sparse:
        image.PerFrameFunctionalGroupsSequence = [placed(k) for k in range(4)]
    image.PixelData = np.stack([np.roll(COLOUR, k, axis=0) for k in range(4)]).tobytes()
    return saved(image)


def placed(number: int) -> pydicom.Dataset:
    row, column = divmod(number, 2)
    corner = (1 + SIDE * column, 1 + SIDE * row)
    frame = pydicom.Dataset()
    frame.PlanePositionSlideSequence = highdicom.PlanePositionSequence("SLIDE", (0, 0, 0), corner)
    return frame


def capture(pixels: np.ndarray, photometric: str, syntax: str) -> bytes:
    image = highdicom.sc.SCImage(
        pixel_array=pixels,
        photometric_interpretation=photometric,
        bits_allocated=8 * pixels.itemsize,
        coordinate_system="PATIENT",
        patient_orientation=("L", "P"),
        study_instance_uid=highdicom.UID(),
        manufacturer="none",
        transfer_syntax_uid=syntax,
        **own_uids(),
    )
    return saved(image)


MADE = {
    "enhanced CT": lambda: enhanced("CT", ExplicitVRLittleEndian),
    "enhanced MR": lambda: enhanced("MR", ImplicitVRLittleEndian),
    "slide, full": lambda: slide(sparse=False),
    "slide, sparse": lambda: slide(sparse=True),
    "colour, JPEG 2000": lambda: capture(COLOUR, "YBR_RCT", JPEG2000Lossless),
    "colour, RLE": lambda: capture(COLOUR, "RGB", RLELossless),
    "grey, JPEG-LS": lambda: capture(GREY, "MONOCHROME2", JPEGLSLossless),
}


@pytest.mark.parametrize("name", MADE)
def test_pixels_are_those_that_highdicom_wrote(name: str) -> None:
    data = MADE[name]()
    right = pydicom.dcmread(io.BytesIO(data)).pixel_array
    image = read_dicom(data)
    assert (image.pixels.reshape(right.shape) == right).all()
    assert image.notes == ()
    again = restored(data)
    assert (again.pixel_array == right).all()
    assert len(again.SourceImageSequence) == 1


@needs_dciodvfy
@pytest.mark.parametrize("name", MADE)
def test_restored_it_has_no_error_that_it_had_not(name: str, tmp_path: Path) -> None:
    assert not new_errors(MADE[name](), tmp_path)


def test_an_enhanced_object_lists_its_source_by_series() -> None:
    """PS3.3, C.12.2: each instance referred to, once, under the series that it had."""
    data = enhanced("CT", ExplicitVRLittleEndian)
    source, again = pydicom.dcmread(io.BytesIO(data)), restored(data)
    own = [
        series
        for series in again.ReferencedSeriesSequence
        if series.SeriesInstanceUID == source.SeriesInstanceUID
    ]
    (reference,) = own[0].ReferencedInstanceSequence
    assert len(own) == 1
    assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert DERIVED.text in again.DerivationDescription
