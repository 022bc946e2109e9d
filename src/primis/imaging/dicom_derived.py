"""What a restored image says of itself: derived, lossy, of another UID (PS3.3, C.7.6.1.1.5)."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from primis.imaging.dicom_elements import (
    DataSet,
    Element,
    encode,
    put,
    put_items,
    raw_value,
    sequence,
    tag_of,
    text,
    values,
)
from primis.imaging.dicom_samples import PALETTE
from primis.imaging.dicom_uids import derived_uid
from primis.imaging.image import Derivation, Image

PREAMBLE = bytes(128) + b"DICM"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
SIGNATURES = ("DigitalSignaturesSequence", "MACParametersSequence")
_METHOD = "PRIMIS_1"
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_IMPLEMENTATION = "2.25.210375412306219047311285427561325108841"
_STALE = (
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries",
    "SmallestImagePixelValueInPlane",
    "LargestImagePixelValueInPlane",
    "PixelDataProviderURL",
)
_MAX_ST = 1024
_UID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")
_EMPTY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "SeriesNumber",
    "InstanceNumber",
)


def preface(data_set: DataSet) -> bytes:
    """An empty preamble and the file meta information (PS3.10, 7.1)."""
    meta: DataSet = {0x00020001: Element("OB", b"\0\1")}
    put(meta, "MediaStorageSOPClassUID", text(data_set, "SOPClassUID") or _SECONDARY_CAPTURE)
    put(
        meta,
        "MediaStorageSOPInstanceUID",
        text(data_set, "SOPInstanceUID") or derived_uid("missing"),
    )
    put(meta, "TransferSyntaxUID", EXPLICIT_VR_LITTLE_ENDIAN)
    put(meta, "ImplementationClassUID", _IMPLEMENTATION)
    put(meta, "ImplementationVersionName", _METHOD)
    body = encode(meta)
    return PREAMBLE + encode({0x00020000: Element("UL", struct.pack("<L", len(body)))}) + body


def record_derivation(data_set: DataSet, derivation: Derivation) -> None:
    if text(data_set, "StudyInstanceUID"):
        _refer_to_source(data_set)
        series = text(data_set, "SeriesInstanceUID")
        put(data_set, "SeriesInstanceUID", derived_uid("series", series, derivation.group))
    else:
        _found_study(data_set, derivation.seed)
    put(data_set, "SOPInstanceUID", derived_uid("instance", derivation.instance))
    _describe(data_set, derivation.text)
    for keyword in SIGNATURES:
        data_set.pop(tag_of(keyword), None)
    if not derivation.lossless:
        _record_loss(data_set, derivation)


def _found_study(data_set: DataSet, seed: str) -> None:
    """For what says nothing of where it belongs: a study and a series of its own."""
    put(data_set, "StudyInstanceUID", derived_uid("study", seed))
    put(data_set, "SeriesInstanceUID", derived_uid("series", seed))
    if values(data_set, "ImagePositionPatient"):
        put(data_set, "FrameOfReferenceUID", derived_uid("frame of reference", seed))
    for keyword in _EMPTY:
        if tag_of(keyword) not in data_set:
            put(data_set, keyword)


def _record_loss(data_set: DataSet, derivation: Derivation) -> None:
    rest = values(data_set, "ImageType")[1:] or [b"PRIMARY"]
    put(data_set, "ImageType", "DERIVED", *rest)
    for inner in _frame_types(data_set):
        put(inner, "FrameType", "DERIVED", *values(inner, "FrameType")[1:])
    ratios = values(data_set, "LossyImageCompressionRatio")
    methods = values(data_set, "LossyImageCompressionMethod")
    methods += [b"UNKNOWN"] * (len(ratios) - len(methods))
    put(data_set, "LossyImageCompression", "01")
    put(data_set, "LossyImageCompressionRatio", *ratios, f"{derivation.ratio:.4g}")
    put(data_set, "LossyImageCompressionMethod", *methods, _METHOD)
    code: DataSet = {}
    put(code, "CodeValue", "113040")
    put(code, "CodingSchemeDesignator", "DCM")
    put(code, "CodeMeaning", "Lossy Compression")
    codes = sequence(data_set, "DerivationCodeSequence")
    put_items(data_set, "DerivationCodeSequence", *codes, code)
    for keyword in _STALE:
        data_set.pop(tag_of(keyword), None)


def _refer_to_source(data_set: DataSet) -> None:
    """Where the source has UIDs by which it can be referred to."""
    sop_class = text(data_set, "SOPClassUID") or _SECONDARY_CAPTURE
    instance = text(data_set, "SOPInstanceUID")
    if all(len(uid) <= 64 and _UID.fullmatch(uid) for uid in (sop_class, instance)):
        source: DataSet = {}
        put(source, "ReferencedSOPClassUID", sop_class)
        put(source, "ReferencedSOPInstanceUID", instance)
        sources = sequence(data_set, "SourceImageSequence")
        put_items(data_set, "SourceImageSequence", *sources, source)
        _list_reference(data_set, source)


def _list_reference(data_set: DataSet, source: DataSet) -> None:
    """The source among the referenced instances, by its series (PS3.3, C.12.2).

    Objects of functional groups have that module, and must list there what they refer to.
    """
    series = text(data_set, "SeriesInstanceUID")
    listed = sequence(data_set, "ReferencedSeriesSequence")
    if not (listed or sequence(data_set, "SharedFunctionalGroupsSequence")) or not series:
        return
    found = [item for item in listed if text(item, "SeriesInstanceUID") == series]
    item = found[0] if found else {}
    put(item, "SeriesInstanceUID", series)
    put_items(
        item, "ReferencedInstanceSequence", *sequence(item, "ReferencedInstanceSequence"), source
    )
    put_items(data_set, "ReferencedSeriesSequence", *listed, *([] if found else [item]))


def _frame_types(data_set: DataSet) -> Iterator[DataSet]:
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in sequence(data_set, keyword):
            for element in group.values():
                inner = element.value if isinstance(element.value, list) else []
                yield from (item for item in inner if tag_of("FrameType") in item)


def _describe(data_set: DataSet, new: str) -> None:
    """Earlier descriptions, in whatever character set, and this one, as far as they fit."""
    earlier, text = raw_value(data_set, "DerivationDescription").rstrip(b" \0"), new.encode()
    whole = earlier + b"; " + text if earlier else text
    if len(whole) > _MAX_ST and not earlier.isascii():
        whole = text  # a character may not be cut in two
    put(data_set, "DerivationDescription", whole[-_MAX_ST:])


def describe_pixels(data_set: DataSet, image: Image) -> None:
    frames, height, width, channels = image.shape
    data_set.pop(tag_of("PlanarConfiguration"), None)
    if channels == 3:
        for tag in PALETTE:
            data_set.pop(tag, None)
        put(data_set, "PlanarConfiguration", 0)
    put(data_set, "Rows", height)
    put(data_set, "Columns", width)
    put(data_set, "SamplesPerPixel", channels)
    put(data_set, "PhotometricInterpretation", image.photometric)
    put(data_set, "BitsAllocated", 8 * image.pixels.dtype.itemsize)
    put(data_set, "BitsStored", image.bit_depth)
    put(data_set, "HighBit", image.bit_depth - 1)
    put(data_set, "PixelRepresentation", int(image.pixels.dtype.kind == "i"))
    if frames > 1 or tag_of("NumberOfFrames") in data_set:
        put(data_set, "NumberOfFrames", frames)


def secondary_capture() -> DataSet:
    data_set: DataSet = {}
    put(data_set, "SOPClassUID", _SECONDARY_CAPTURE)
    put(data_set, "Modality", "OT")
    put(data_set, "ConversionType", "WSD")
    for keyword in _EMPTY:
        put(data_set, keyword)
    return data_set
