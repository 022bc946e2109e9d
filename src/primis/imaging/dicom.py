"""DICOM through pydicom and its decoder plug-ins.

Samples are taken as stored: rescale, window and MONOCHROME1's inversion stay in the header, which comes
back with the image. YBR and palette colour become RGB. A restored lossy image is a new object: new UIDs,
ImageType DERIVED, source and derivation, and the lossy-compression attributes (PS3.3, C.7.6.1.1.5).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import warnings
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_color_lut
from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from primis.errors import UnreadableImage
from primis.imaging.image import Derivation, Image

_METHOD = "PRIMIS_1"
_PIXEL_TAGS = (0x7FE00010, 0x7FE00008, 0x7FE00009, 0x7FE00001, 0x7FE00002)
_STRAY_GROUP = 0xFFFE  # sequence delimiters that a broken writer left at the top level
_STALE = ("SmallestImagePixelValue", "LargestImagePixelValue", "SmallestPixelValueInSeries",
          "LargestPixelValueInSeries", "DigitalSignaturesSequence", "MACParametersSequence")  # fmt: skip
_PALETTE = ("RedPaletteColorLookupTable", "GreenPaletteColorLookupTable", "BluePaletteColorLookupTable")

logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # its warnings quote header values


def is_dicom(data: bytes) -> bool:
    """Whether this is a DICOM file, with or without its preamble."""
    if data[128:132] == b"DICM":
        return True
    return data[:2] in (b"\x08\x00", b"\x02\x00") and data[3:4] == b"\x00"


def read_dicom(data: bytes) -> Image:
    """Raises UnreadableImage (without a file name: the caller adds it)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = pydicom.dcmread(io.BytesIO(data), force=data[128:132] != b"DICM")
        except (InvalidDicomError, OSError, ValueError, KeyError, EOFError, NotImplementedError):
            raise UnreadableImage("cannot be parsed as DICOM") from None
        if not any(tag in dataset for tag in _PIXEL_TAGS[:3]):
            raise UnreadableImage(f'is DICOM without pixels (modality "{_modality(dataset)}")')
        pixels, photometric = _pixels(dataset)
        depth = int(dataset.get("BitsStored", 8 * pixels.dtype.itemsize))
        header = _header(dataset)
    depth = min(depth, 8 * pixels.dtype.itemsize) if photometric != "RGB" else 8 * pixels.dtype.itemsize
    return Image(pixels, depth, photometric, "dicom", _spacing(dataset), header)


def write_dicom(image: Image, derivation: Derivation) -> bytes:
    """A derived, uncompressed (explicit VR little endian) object with the header of its source.

    Where `image.header` is empty (tier preview) it is a secondary capture with pixels only.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(io.BytesIO(image.header)) if image.header else _secondary_capture()
        _record_derivation(dataset, derivation, known_source=bool(image.header))
        _set_pixels(dataset, image)
        out = io.BytesIO()
        dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _pixels(dataset: Dataset) -> tuple[np.ndarray, str]:
    try:
        array = dataset.pixel_array
        photometric = str(dataset.PhotometricInterpretation)
        if photometric == "PALETTE COLOR":
            array = apply_color_lut(array, dataset)
    except MemoryError:
        raise UnreadableImage("does not fit in memory") from None
    except Exception as error:  # the plug-ins raise whatever they like
        syntax = (
            getattr(dataset.file_meta.get("TransferSyntaxUID"), "name", "unknown") if hasattr(dataset, "file_meta") else "unknown"
        )
        raise UnreadableImage(f'cannot be decoded (transfer syntax "{syntax}", {type(error).__name__})') from None
    frames = int(dataset.get("NumberOfFrames") or 1)
    colour = photometric not in ("MONOCHROME1", "MONOCHROME2")
    if colour and array.shape[-1] != 3:
        raise UnreadableImage(f'has photometric interpretation "{photometric}" and shape {array.shape}, expected 3 channels')
    if array.dtype.kind not in "iu" or array.dtype.itemsize > 2 or int(dataset.get("BitsStored", 16)) < 2:
        raise UnreadableImage(
            f'has samples of type "{array.dtype}", {dataset.get("BitsStored", "?")} bits stored, expected integers of 2 to 16'
        )
    shape = (frames, int(dataset.Rows), int(dataset.Columns), 3 if colour else 1)
    if array.size != int(np.prod(shape)):
        raise UnreadableImage(f"has {array.size} samples, expected {shape}")
    return array.reshape(shape), "RGB" if colour else photometric


def _header(dataset: Dataset) -> bytes:
    """The data set without its pixels, as a DICOM file of its own."""
    keep = {k: v for k, v in dataset.items() if k not in _PIXEL_TAGS and k.group != _STRAY_GROUP}
    rest = Dataset(keep)
    rest.file_meta = FileMetaDataset()
    rest.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    rest.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", SecondaryCaptureImageStorage)
    rest.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID") or _uid("missing")
    rest.set_original_encoding(*dataset.original_encoding, dataset.original_character_set)
    out = io.BytesIO()
    with contextlib.suppress(Exception):  # an undecodable text keeps its bytes
        rest.decode()  # so that values are written anew, whatever the source's byte order
    try:
        rest.save_as(out, enforce_file_format=True)
    except Exception as error:
        raise UnreadableImage(f"has a header that cannot be kept ({type(error).__name__})") from None
    return out.getvalue()


def _record_derivation(dataset: Dataset, derivation: Derivation, *, known_source: bool) -> None:
    if known_source:
        source = Dataset()
        source.ReferencedSOPClassUID = dataset.get("SOPClassUID", SecondaryCaptureImageStorage)
        source.ReferencedSOPInstanceUID = dataset.get("SOPInstanceUID") or dataset.file_meta.MediaStorageSOPInstanceUID
        dataset.SourceImageSequence = [source]
        series = str(dataset.get("SeriesInstanceUID", ""))
    else:
        series = ""
    dataset.SOPInstanceUID = _uid("instance", derivation.seed)
    dataset.SeriesInstanceUID = _uid("series", series, derivation.group)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    kinds = list(dataset.get("ImageType") or ["ORIGINAL", "PRIMARY"])
    dataset.ImageType = ["DERIVED", *(kinds[1:] or ["PRIMARY"])]
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionRatio = [*_several(dataset, "LossyImageCompressionRatio"), f"{derivation.ratio:.4g}"]
    dataset.LossyImageCompressionMethod = [*_several(dataset, "LossyImageCompressionMethod"), _METHOD]
    dataset.DerivationDescription = derivation.text
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "113040", "DCM", "Lossy Compression"
    dataset.DerivationCodeSequence = [code]
    for keyword in _STALE:
        if keyword in dataset:
            delattr(dataset, keyword)


def _set_pixels(dataset: Dataset, image: Image) -> None:
    frames, height, width, channels = image.shape
    depth = 8 * image.pixels.dtype.itemsize
    if channels == 3:
        for keyword in (*_PALETTE, *(f"{k}Descriptor" for k in _PALETTE), *(f"{k}Data" for k in _PALETTE)):
            if keyword in dataset:
                delattr(dataset, keyword)
        dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = height, width, channels
    dataset.PhotometricInterpretation = image.photometric
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = depth, image.bit_depth, image.bit_depth - 1
    dataset.PixelRepresentation = int(image.pixels.dtype.kind == "i")
    if frames > 1 or "NumberOfFrames" in dataset:
        dataset.NumberOfFrames = frames
    data = image.pixels.astype(image.pixels.dtype.newbyteorder("<")).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OW" if depth > 8 else "OB"


def _secondary_capture() -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.StudyInstanceUID = pydicom.uid.generate_uid(prefix=None)
    dataset.Modality, dataset.ConversionType = "OT", "WSD"
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
                    "StudyID", "AccessionNumber", "ReferringPhysicianName", "SeriesNumber", "InstanceNumber"):  # fmt: skip
        setattr(dataset, keyword, None)
    return dataset


def _uid(*parts: str) -> UID:
    """A UID under 2.25 (PS3.5, B.2) that is the same for the same parts."""
    digest = hashlib.sha256("\0".join(("primis", *parts)).encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")


def _several(dataset: Dataset, keyword: str) -> list[Any]:
    value = dataset.get(keyword)
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str | float | int) or not hasattr(value, "__iter__") else list(value)


def _spacing(dataset: Dataset) -> tuple[float, float] | None:
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        try:
            row, column = (float(x) for x in dataset[keyword].value)
        except (KeyError, TypeError, ValueError):
            continue
        if row > 0 and column > 0:
            return (row, column)
    return None


def _modality(dataset: Dataset) -> str:
    value = str(dataset.get("Modality", "unknown"))
    return value if value.isascii() and value.isalnum() and len(value) <= 16 else "unknown"
