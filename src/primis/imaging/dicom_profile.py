"""Which elements of a DICOM header may identify a patient: those that the Basic Application Level
Confidentiality Profile takes out, empties or replaces (PS3.15, Table E.1-1). Only names are told,
never values."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from pydicom.datadict import keyword_for_tag

from primis.imaging.dicom_elements import DataSet, Element, text
from primis.imaging.image import BURNED_IN

PRIVATE = "private elements"

_FILE = Path(__file__).with_name("basic_profile.txt")
_OVERLAY_PARTS = (0x3000, 0x4000)
_FIRST = ("PN", "LO", "SH")
"""VRs of names and numbers of people and places; dates and the rest follow, UIDs come last."""


def identifying(data_set: DataSet) -> tuple[str, ...]:
    """Keywords of the elements that have a value, in sequences too; none where the file says that
    the patient's identity was removed (PatientIdentityRemoved)."""
    burned = (BURNED_IN,) if text(data_set, BURNED_IN) == "YES" else ()
    if text(data_set, "PatientIdentityRemoved") == "YES":
        return burned
    found = dict(_found(data_set))
    ordered = sorted(found, key=lambda tag: (_rank(found[tag]), tag))
    named = (PRIVATE if tag >> 16 & 1 else keyword_for_tag(tag) or f"{tag:08X}" for tag in ordered)
    return tuple(dict.fromkeys([*named, *burned]))


def _rank(vr: str) -> int:
    if vr == "UI":
        return len(_FIRST) + 1
    return _FIRST.index(vr) if vr in _FIRST else len(_FIRST)


def _found(data_set: DataSet) -> Iterator[tuple[int, str]]:
    """(tag, VR) of each."""
    for tag, element in data_set.items():
        if _has_value(element) and is_of_profile(tag):
            yield tag, element.vr
        elif isinstance(element.value, list):
            for item in element.value:
                yield from _found(item)


def _has_value(element: Element) -> bool:
    value = element.value
    return bool(value.strip(b" \0") if isinstance(value, bytes) else any(value))


def is_of_profile(tag: int) -> bool:
    """Whether the profile takes an element out, empties or replaces it."""
    return tag in _profile() or _is_of_group(tag)


def _is_of_group(tag: int) -> bool:
    """Of those that the table names by their groups alone."""
    group, number = tag >> 16, tag & 0xFFFF
    if group & 1:
        return True
    return group >> 8 == 0x50 or (group >> 8 == 0x60 and number in _OVERLAY_PARTS)


@cache
def _profile() -> frozenset[int]:
    lines = (line for line in _FILE.read_text("ascii").splitlines() if line[0] != "#")
    return frozenset(
        int(group + number, 16)
        for group, _, numbers in (line.partition(":") for line in lines)
        for number in numbers.split()
    )
