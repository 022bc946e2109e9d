"""DICOM elements as bytes: values are never decoded, so they come back as they were.

Text in a wrong or missing character set, values of a wrong length and unknown VRs are kept this
way. What an implicit encoding leaves open is looked up; what is not known is UN (PS3.5, 6.2.2).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

PIXEL_DATA = 0x7FE00010
_ITEM = 0xFFFEE000
_PIXEL_REPRESENTATION = 0x00280103
LONG_VRS = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"))
_TEXT_VRS = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UI")
SHORT_VRS = frozenset((*_TEXT_VRS, "AT", "FD", "FL", "SL", "SS", "UL", "US"))
UNIT = {"US": 2, "SS": 2, "OW": 2, "AT": 2, "UL": 4, "SL": 4, "FL": 4, "OF": 4, "OL": 4}
UNIT |= dict.fromkeys(("FD", "OD", "OV", "SV", "UV"), 8)
"""Bytes that change places between byte orders."""
VRS = {vr.encode(): vr for vr in LONG_VRS | SHORT_VRS}


class Element(NamedTuple):
    """A VR and its value: bytes in little endian, or the items of a sequence."""

    vr: str
    value: bytes | list[dict[int, Element]]


DataSet = dict[int, Element]
Note = Callable[[int, str], None]
"""Takes the tag of something that cannot come back, and why."""


def name_of(tag: int) -> str:
    """The tag and keyword of an element, for people."""
    keyword = "private" if tag >> 16 & 1 else keyword_for_tag(tag) or "unknown"
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X}) {keyword}"


def vr_of(tag: int) -> str:
    """The VR that the dictionary gives, UN where it has none; "US or SS" is left open."""
    if tag >> 16 & 1:
        return "LO" if 0x10 <= tag & 0xFFFF <= 0xFF else "UN"
    try:
        vr = dictionary_VR(tag) if tag & 0xFFFF else "UL"
    except KeyError:
        return "UN"
    return "OW" if "OW" in vr else vr


def settle_signs(data_set: DataSet, *, signed: bool) -> None:
    """Give every element whose VR is US or SS the one that the samples have."""
    for tag, (vr, value) in data_set.items():
        if isinstance(value, list):
            for item in value:
                own = item.get(_PIXEL_REPRESENTATION)
                settle_signs(item, signed=own.value == b"\1\0" if own else signed)
        elif vr == "US or SS":
            data_set[tag] = Element("SS" if signed else "US", value)


def swapped(value: bytes, unit: int) -> bytes:
    """The other byte order; what is no whole unit stays."""
    if unit == 1:
        return value
    whole = len(value) - len(value) % unit
    out = bytearray(value)
    for k in range(unit):
        out[k:whole:unit] = value[unit - 1 - k : whole : unit]
    return bytes(out)


def encode(data_set: DataSet) -> bytes:
    """Explicit VR little endian, sequences and items with their lengths."""
    out = []
    for tag in sorted(data_set):
        vr, value = data_set[tag]
        if isinstance(value, list):
            value = b"".join(_item(encode(item)) for item in value)
        out.append(element_head(tag, vr, len(value)))
        out.append(value)
    return b"".join(out)


def _item(body: bytes) -> bytes:
    return struct.pack("<HHL", _ITEM >> 16, _ITEM & 0xFFFF, len(body)) + body


def size_of(element: Element) -> int:
    """The bytes that an element takes, or a few more."""
    if not isinstance(element.value, list):
        return 12 + len(element.value)
    return 12 + sum(8 + sum(map(size_of, item.values())) for item in element.value)


def element_head(tag: int, vr: str, length: int) -> bytes:
    """What stands before a value. A length that the VR cannot hold makes it UN (PS3.5, 6.2.2)."""
    if vr in SHORT_VRS and length <= 0xFFFF:
        return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), length)
    vr = vr if vr in LONG_VRS else "UN"
    return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr.encode(), 0, length)


def tag_of(keyword: str) -> int:
    """The tag of a keyword of the standard."""
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return tag


def raw_value(data_set: DataSet, keyword: str) -> bytes:
    """The bytes of an element; none where it is absent or a sequence."""
    element = data_set.get(tag_of(keyword))
    return element.value if element and isinstance(element.value, bytes) else b""


def values(data_set: DataSet, keyword: str) -> list[bytes]:
    """The values of a text element without their padding; none where it is absent or empty."""
    whole = raw_value(data_set, keyword).strip(b" \0")
    return [value.strip(b" \0") for value in whole.split(b"\\")] if whole else []


def text(data_set: DataSet, keyword: str) -> str:
    """The first value, where it is ASCII; else nothing."""
    first = values(data_set, keyword)[:1]
    return first[0].decode() if first and first[0].isascii() else ""


def number(data_set: DataSet, keyword: str) -> int | None:
    """The first value of a US, UL or IS element; None where there is none."""
    element = data_set.get(tag_of(keyword))
    if element is None or not isinstance(element.value, bytes):
        return None
    vr = element.vr if element.vr != "UN" else vr_of(tag_of(keyword))
    if vr in ("IS", "DS", "LO", "SH", "CS"):
        digits = text(data_set, keyword)
        whole = digits[: len(digits) - len(digits.lstrip("0123456789"))]
        return int(whole) if 0 < len(whole) < 12 else None
    length = 4 if vr in ("UL", "SL") else 2
    short = len(element.value) < length
    return None if short else int.from_bytes(element.value[:length], "little")


def sequence(data_set: DataSet, keyword: str) -> list[DataSet]:
    """The items of a sequence; none where it is absent."""
    element = data_set.get(tag_of(keyword))
    return element.value if element is not None and isinstance(element.value, list) else []


def put(data_set: DataSet, keyword: str, *new: str | bytes | int) -> None:
    """Set an element to these values, in the VR of the dictionary."""
    tag = tag_of(keyword)
    vr = vr_of(tag)
    if vr == "US":
        data_set[tag] = Element(vr, struct.pack(f"<{len(new)}H", *new))
        return
    parts = [str(part).encode() if isinstance(part, str | int) else part for part in new]
    value = b"\\".join(parts)
    data_set[tag] = Element(vr, value + (b"\0" if vr == "UI" else b" ") * (len(value) % 2))


def put_items(data_set: DataSet, keyword: str, *items: DataSet) -> None:
    """Set a sequence."""
    data_set[tag_of(keyword)] = Element("SQ", list(items))
