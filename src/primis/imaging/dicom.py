"""DICOM through pydicom and its decoder plug-ins.

Samples are taken as stored: rescale, window and MONOCHROME1's inversion stay in the header, which comes
back with the image. YBR and palette colour become RGB. A restored lossy image is a new object: new UIDs,
ImageType DERIVED, source and derivation, and the lossy-compression attributes (PS3.3, C.7.6.1.1.5).
"""

from __future__ import annotations

import hashlib
import io
import logging
import warnings
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.pixels import apply_color_lut
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from primis.errors import UnreadableImage
from primis.imaging.apart import decode_apart
from primis.imaging.image import Derivation, Image

_METHOD = "PRIMIS_1"
_PIXEL_TAGS = (0x7FE00010, 0x7FE00008, 0x7FE00009, 0x7FE00001, 0x7FE00002)
_STRAY_GROUP = 0xFFFE  # sequence delimiters that a broken writer left at the top level
_STALE = ("SmallestImagePixelValue", "LargestImagePixelValue", "SmallestPixelValueInSeries",
          "LargestPixelValueInSeries", "DigitalSignaturesSequence", "MACParametersSequence")  # fmt: skip
_PALETTE = ("RedPaletteColorLookupTable", "GreenPaletteColorLookupTable", "BluePaletteColorLookupTable")

_OVERLAYS = 0x60
_PREAMBLE, _META = 132, 0x0002
_LARGEST_SPACING = 1e6
"""Millimetres; what is more is no spacing."""
_PRIVATE_GROUP, _PRIVATE_CREATOR, _PADDING = 0x0029, "PRIMIS", 0x01  # in sealed headers only
_MAX_ST = 1024

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
            pixels_there, modality = any(tag in dataset for tag in _PIXEL_TAGS[:3]), _modality(dataset)
        except Exception:  # whatever its parser meets in a damaged file
            raise UnreadableImage("cannot be parsed as DICOM") from None
        if not pixels_there:
            raise UnreadableImage(f'is DICOM without pixels (modality "{modality}")')
        pixels, photometric = _pixels(dataset, data)
        try:
            bits = 8 * pixels.dtype.itemsize
            depth = bits if photometric == "RGB" else min(int(dataset.get("BitsStored", bits)), bits)
            header = _header(dataset, pixels)
            image = Image(pixels, depth, photometric, "dicom", _spacing(dataset), header)
            write_dicom(image, Derivation("", 1.0, "", ""))  # what could not be restored is not shared
        except Exception as error:  # of the same kind
            raise UnreadableImage(f"has a header that cannot be kept ({type(error).__name__})") from None
    return image


def write_dicom(image: Image, derivation: Derivation) -> bytes:
    """A derived, uncompressed (explicit VR little endian) object with the header of its source.

    Where `image.header` is empty (tier preview) it is a secondary capture with pixels only.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = _parsed(image.header) if image.header else _secondary_capture()
        image = _impose_padding(dataset, image)
        _record_derivation(dataset, derivation, known_source=bool(image.header))
        _set_pixels(dataset, image)
        out = io.BytesIO()
        dataset.save_as(out, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return out.getvalue()


def _parsed(header: bytes) -> Dataset:
    """A sealed header. Raises ValueError unless it is in explicit VR little endian: deflated, a small one may swell to fill
    the memory."""
    file = io.BytesIO(header)
    file.seek(_PREAMBLE)
    meta = read_dataset(file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, vr, length: tag.group != _META)
    if meta.get("TransferSyntaxUID") != ExplicitVRLittleEndian:
        raise ValueError("transfer syntax")
    return pydicom.dcmread(io.BytesIO(header))


def _pixels(dataset: Dataset, data: bytes) -> tuple[np.ndarray, str]:
    try:
        array = decode_apart(data) if _is_compressed(dataset) else dataset.pixel_array
        photometric = str(dataset.PhotometricInterpretation)
        if photometric == "PALETTE COLOR":
            array = apply_color_lut(array, dataset)
        frames, stored = int(dataset.get("NumberOfFrames") or 1), int(dataset.BitsStored)
        high = int(dataset.get("HighBit", stored - 1))
        shape = (frames, int(dataset.Rows), int(dataset.Columns))
    except MemoryError:
        raise UnreadableImage("does not fit in memory") from None
    except Exception as error:  # the plug-ins raise whatever they like
        syntax = dataset.file_meta.get("TransferSyntaxUID") if hasattr(dataset, "file_meta") else None
        why = str(error) if isinstance(error, UnreadableImage) else type(error).__name__
        raise UnreadableImage(f'cannot be decoded (transfer syntax "{getattr(syntax, "name", "unknown")}", {why})') from None
    colour = photometric not in ("MONOCHROME1", "MONOCHROME2")
    if colour and array.shape[-1] != 3:
        raise UnreadableImage(f"has colours in an array of shape {array.shape}, expected 3 channels")
    if array.dtype.kind not in "iu" or array.dtype.itemsize > 2 or stored < 2:
        raise UnreadableImage(f'has samples of type "{array.dtype}", {stored} bits stored, expected integers of 2 to 16')
    if high != stored - 1:
        raise UnreadableImage(f"has its {stored} bits up to bit {high}, expected up to bit {stored - 1}")
    whole = (*shape, 3 if colour else 1)
    if array.size != int(np.prod(whole)):
        raise UnreadableImage(f"has {array.size} samples, expected {whole}")
    return array.reshape(whole), "RGB" if colour else photometric


def _is_compressed(dataset: Dataset) -> bool:
    syntax = dataset.file_meta.TransferSyntaxUID
    return bool(syntax.is_compressed and syntax not in (RLELossless, DeflatedExplicitVRLittleEndian))


def _header(dataset: Dataset, pixels: np.ndarray) -> bytes:
    """The data set without its pixels, as a DICOM file of its own, and where its padding lies."""
    keep = {k: v for k, v in dataset.items() if k not in _PIXEL_TAGS and k.group != _STRAY_GROUP}
    rest = Dataset(keep)
    swap = not dataset.original_encoding[1]
    rest.set_original_encoding(*dataset.original_encoding, dataset.original_character_set)
    for element in rest.iterall():  # parses all, so that values are written anew in little endian
        if swap and element.VR == "OW" and isinstance(element.value, bytes):
            element.value = np.frombuffer(element.value, ">u2").astype("<u2").tobytes()
    for group in {element.tag.group for element in rest if element.tag.group >> 8 == _OVERLAYS}:
        if (group, 0x3000) not in rest:  # lay in unused bits of the pixels, which do not come back
            del rest[group * 0x10000 : (group + 1) * 0x10000]
    file = Dataset()
    file.update(rest)
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", SecondaryCaptureImageStorage)
    file.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID") or _uid("missing")
    padding = file.get("PixelPaddingValue")
    if isinstance(padding, int) and pixels.shape[3] == 1:
        last = file.get("PixelPaddingRangeLimit", padding)
        inside = (pixels >= min(padding, last)) & (pixels <= max(padding, last))
        block = file.private_block(_PRIVATE_GROUP, _PRIVATE_CREATOR, create=True)
        block.add_new(_PADDING, "OB", _even(zlib.compress(np.packbits(inside).tobytes(), 9)))
    out = io.BytesIO()
    file.save_as(out, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return out.getvalue()


def _impose_padding(dataset: Dataset, image: Image) -> Image:
    """Padding is exactly that again, and nothing else is. Takes the note of it out of the data set."""
    try:
        block = dataset.private_block(_PRIVATE_GROUP, _PRIVATE_CREATOR)
    except KeyError:
        return image
    size = image.pixels.size
    bits = zlib.decompressobj().decompress(block[_PADDING].value, -(-size // 8))
    inside = np.unpackbits(np.frombuffer(bits, np.uint8), count=size).astype(bool).reshape(image.shape)
    padding, last = int(dataset.PixelPaddingValue), int(dataset.get("PixelPaddingRangeLimit", dataset.PixelPaddingValue))
    low, high = min(padding, last), max(padding, last)
    pixels = image.pixels.copy()
    between = ~inside & (pixels >= low) & (pixels <= high)
    limit = 2 ** (image.bit_depth - (pixels.dtype.kind == "i")) - 1
    pixels[between] = high + 1 if high < limit else low - 1
    pixels[inside] = np.clip(pixels[inside], low, high) if low < high else padding
    del dataset[block.get_tag(_PADDING)]
    del dataset[_PRIVATE_GROUP, block.block_start >> 8]
    return replace(image, pixels=pixels)


def _even(data: bytes) -> bytes:
    return data + b"\0" * (len(data) % 2)


def _record_derivation(dataset: Dataset, derivation: Derivation, *, known_source: bool) -> None:
    sources = list(dataset.get("SourceImageSequence") or [])
    if known_source:
        source = Dataset()
        source.ReferencedSOPClassUID = dataset.get("SOPClassUID", SecondaryCaptureImageStorage)
        source.ReferencedSOPInstanceUID = dataset.get("SOPInstanceUID") or dataset.file_meta.MediaStorageSOPInstanceUID
        dataset.SourceImageSequence = [*sources, source]
        dataset.SeriesInstanceUID = _uid("series", str(dataset.get("SeriesInstanceUID", "")), derivation.group)
    else:
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = (_uid(level, derivation.seed) for level in ("study", "series"))
    dataset.SOPInstanceUID = _uid("instance", derivation.seed)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.ImageType = ["DERIVED", *(_several(dataset, "ImageType")[1:] or ["PRIMARY"])]
    for functional in (
        *(dataset.get("SharedFunctionalGroupsSequence") or []),
        *(dataset.get("PerFrameFunctionalGroupsSequence") or []),
    ):
        for item in functional.values():
            for inner in item.value if item.VR == "SQ" else []:
                if "FrameType" in inner:
                    inner.FrameType = ["DERIVED", *_several(inner, "FrameType")[1:]]
    ratios, methods = (_several(dataset, f"LossyImageCompression{x}") for x in ("Ratio", "Method"))
    methods += ["UNKNOWN"] * (len(ratios) - len(methods))
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionRatio = [*ratios, f"{derivation.ratio:.4g}"]
    dataset.LossyImageCompressionMethod = [*methods, _METHOD]
    earlier = str(dataset.get("DerivationDescription") or "")
    dataset.DerivationDescription = (f"{earlier}; {derivation.text}" if earlier else derivation.text)[-_MAX_ST:]
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "113040", "DCM", "Lossy Compression"
    dataset.DerivationCodeSequence = [*(dataset.get("DerivationCodeSequence") or []), code]
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
    dataset.PixelData = _even(data)
    dataset["PixelData"].VR = "OW" if depth > 8 else "OB"


def _secondary_capture() -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = SecondaryCaptureImageStorage
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
        if 0 < row < _LARGEST_SPACING and 0 < column < _LARGEST_SPACING:
            return (row, column)
    return None


def _modality(dataset: Dataset) -> str:
    value = str(dataset.get("Modality", "unknown"))
    return value if value.isascii() and value.isalnum() and len(value) <= 16 else "unknown"
