"""From the bytes of a DICOM file to its elements, whatever its encoding and its faults.

Nothing here believes a length: whatever the bytes, time and memory follow from how many they are.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from primis.imaging.dicom_elements import (
    PIXEL_DATA,
    SHORT_VRS,
    UNIT,
    VRS,
    DataSet,
    Element,
    name_of,
    swapped,
    vr_of,
)

MAX_ITEMS, MAX_ELEMENTS, MAX_DEPTH = 1 << 17, 1 << 20, 32
"""What one data set may have: hostile ones would fill the memory."""

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
UNDEFINED = 0xFFFFFFFF
_MAX_NOTES = 64
_CHUNK = 1 << 20


class Encoding(NamedTuple):
    """How a data set lies in its bytes."""

    implicit: bool
    big: bool


EXPLICIT_LITTLE, IMPLICIT_LITTLE = Encoding(False, False), Encoding(True, False)
EXPLICIT_BIG = Encoding(False, True)


class TooLarge(ValueError):
    """More items, elements or levels than a header may have."""


class _Malformed(ValueError):
    pass


class _Head(NamedTuple):
    tag: int
    vr: str
    length: int
    start: int


class Reader:
    """One file's bytes. After `data_set`, `pixels` holds the Pixel Data that lay at the top level
    (fragments where they are encapsulated) and `notes` what had to be left out."""

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.pixels: memoryview | list[memoryview] | None = None
        self.pixels_vr = ""
        self.broken = False
        self._notes: dict[str, None] = {}
        self._more = self._items = self._elements = 0
        self._compressed_inside = False

    @property
    def notes(self) -> tuple[str, ...]:
        """What had to be left out, one line each."""
        more = [f"{self._more} more elements are left out"] if self._more else []
        return (*self._notes, *more)

    def note(self, tag: int, why: str) -> None:
        """Name an element that cannot come back."""
        if len(self._notes) < _MAX_NOTES:
            self._notes[f"{name_of(tag)}: {why}"] = None
        else:
            self._more += 1

    def guess(self, at: int, declared: Encoding) -> Encoding:
        """The encoding in which most elements from here on make sense."""
        others = (EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG)
        return max(
            (declared, *others), key=lambda encoding: self.walk(at, len(self.data), encoding)
        )

    def walk(self, at: int, end: int, encoding: Encoding, most: int = 12) -> int:
        """How many elements in a row make sense in this encoding, at most `most`."""
        before = -1
        for count in range(most):
            if count and at == end:
                return most
            try:
                tag, _, length, start = self._head(at, end, encoding)
            except _Malformed:
                return count
            odd = not encoding.implicit and self._bytes(at + 4, 2) not in VRS and tag >> 16
            if tag >> 16 == 0xFFFE:
                return most if count else 0
            if tag <= before or odd:
                return count
            if tag == PIXEL_DATA or length == UNDEFINED:
                return most
            if start + length > end:
                return count
            before, at = tag, start + length
        return most

    def meta(self, at: int) -> tuple[DataSet, int]:
        """Group 0002, and where it ends."""
        declared = IMPLICIT_LITTLE if self._bytes(at + 4, 2) not in VRS else EXPLICIT_LITTLE
        meta: DataSet = {}
        while self._bytes(at, 2) == b"\x02\x00":
            head = self._head(at, len(self.data), declared)
            if head.start + head.length > len(self.data):
                raise _Malformed
            vr = head.vr or vr_of(head.tag)
            meta[head.tag] = Element(vr, self._bytes(head.start, head.length))
            at = head.start + head.length
            self._count()
        return meta, at

    def skip_zeros(self, at: int) -> int:
        """The first position from here on, in steps of two, at which not all is zero."""
        size = 64
        while chunk := self._bytes(at, size):
            zeros = len(chunk) - len(chunk.lstrip(b"\0"))
            if zeros < len(chunk):
                return at + zeros - zeros % 2
            at, size = at + len(chunk), min(2 * size, _CHUNK)
        return at

    def data_set(self, at: int, encoding: Encoding) -> DataSet:
        """All elements to the end of the data that a header can hold; Pixel Data apart."""
        out, _ = self._data_set(at, len(self.data), encoding, 0)
        return out

    def _data_set(self, at: int, end: int, encoding: Encoding, depth: int) -> tuple[DataSet, int]:
        if depth > MAX_DEPTH:
            raise TooLarge(f"has sequences nested deeper than {MAX_DEPTH} levels")
        out: DataSet = {}
        while end - at >= 8:
            if not self.data[at] and self._bytes(at, 8) == bytes(8):
                at = min(max(self.skip_zeros(at), at + 8), end)
                continue
            try:
                head = self._head(at, end, encoding)
                tag = head.tag
                if tag >> 16 == 0xFFFE:
                    if depth and tag in (_ITEM_END, _SEQUENCE_END):
                        return out, head.start if tag == _ITEM_END else at
                    at = head.start + (head.length if head.length != UNDEFINED else 0)
                    continue
                self._count()
                element, at = self._element(head, end, encoding, depth)
            except _Malformed:
                if depth:
                    raise
                self._cut_off(at, encoding)
                break
            if element is not None and self._belongs(tag):
                out[tag] = element
        return out, end

    def _count(self) -> None:
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            raise TooLarge(f"has more than {MAX_ELEMENTS} elements")

    def _cut_off(self, at: int, encoding: Encoding) -> None:
        tag, _ = self._item_head(at, encoding)
        if self.pixels is None or tag > PIXEL_DATA:  # else some bytes after the end
            self.broken = True
            self.note(tag, "cannot be parsed, left out with what follows it")

    def _belongs(self, tag: int) -> bool:
        """Group lengths are stale as soon as anything changes, and padding says nothing."""
        if tag >> 16 in (0, 2):
            if tag & 0xFFFF:
                self.note(tag, "does not belong into a data set, left out")
            return False
        return tag & 0xFFFF != 0 and tag != 0xFFFCFFFC

    def _element(
        self, head: _Head, end: int, encoding: Encoding, depth: int
    ) -> tuple[Element | None, int]:
        tag, vr, length, start = head
        vr = vr or vr_of(tag)
        stop = start + length
        if length == UNDEFINED:
            if vr in ("SQ", "UN") and tag != PIXEL_DATA:
                return self._sequence(tag, start, end, encoding, depth, undefined=True)
            return self._fragments(head, end, encoding, depth)
        if tag == PIXEL_DATA and not depth:
            self.pixels, self.pixels_vr = self.data[start : min(stop, end)], vr
            return None, min(stop, end)
        if stop > end:
            raise _Malformed
        if vr == "SQ":
            try:
                return self._sequence(tag, start, stop, encoding, depth, undefined=False)[0], stop
            except _Malformed:
                self.note(tag, "is no sequence of items, left out")
                return None, stop
        value = self._bytes(start, length)
        if encoding.big:
            value = swapped(value, UNIT.get(vr, 1))
        return Element(vr, value), stop

    def _sequence(
        self, tag: int, at: int, end: int, encoding: Encoding, depth: int, *, undefined: bool
    ) -> tuple[Element | None, int]:
        items: list[DataSet] = []
        while end - at >= 8:
            item, length = self._item_head(at, encoding)
            at += 8
            if item == _SEQUENCE_END:
                break
            if item != _ITEM:
                raise _Malformed
            self._items += 1
            if self._items > MAX_ITEMS:
                raise TooLarge(f"has more than {MAX_ITEMS} items in its sequences")
            stop = end if length == UNDEFINED else at + length
            if stop > end:
                raise _Malformed
            inner, after = self._data_set(at, stop, self._inside(at, stop, encoding), depth + 1)
            at = after if length == UNDEFINED else stop
            items.append(inner)
        else:
            if undefined and depth:
                raise _Malformed
        if self._compressed_inside:
            self._compressed_inside = False
            self.note(tag, "holds compressed pixels, left out")
            return None, at
        return Element("SQ", items), at

    def _inside(self, at: int, end: int, encoding: Encoding) -> Encoding:
        """Some writers leave explicit VR inside of sequences, or begin it there."""
        if encoding != EXPLICIT_LITTLE or self._bytes(at + 4, 2) in VRS:
            return encoding
        return IMPLICIT_LITTLE if self.walk(at, end, IMPLICIT_LITTLE, 2) == 2 else encoding

    def _fragments(self, head: _Head, end: int, encoding: Encoding, depth: int) -> tuple[None, int]:
        at, fragments = head.start, []
        while end - at >= 8:
            item, length = self._item_head(at, encoding)
            at += 8
            if item == _SEQUENCE_END:
                break
            if item != _ITEM:
                raise _Malformed
            fragments.append(self.data[at : min(at + length, end)])
            at = min(at + length, end)
            self._count()
        if depth:
            self._compressed_inside = True
        elif head.tag == PIXEL_DATA:
            self.pixels, self.pixels_vr = fragments, head.vr
        else:
            self.note(head.tag, "is of undefined length but no sequence, left out")
        return None, at

    def _item_head(self, at: int, encoding: Encoding) -> tuple[int, int]:
        group, element, length = struct.unpack_from("><"[not encoding.big] + "HHL", self.data, at)
        return group << 16 | element, length

    def _head(self, at: int, end: int, encoding: Encoding) -> _Head:
        if end - at < 8:
            raise _Malformed
        order = "><"[not encoding.big]
        group, element, length = struct.unpack_from(order + "HHL", self.data, at)
        tag = group << 16 | element
        if encoding.implicit or group == 0xFFFE:
            return _Head(tag, "", length, at + 8)
        raw = self._bytes(at + 4, 2)
        (short,) = struct.unpack_from(order + "H", self.data, at + 6)
        vr = VRS.get(raw, "")
        if vr in SHORT_VRS:
            return _Head(tag, vr, short, at + 8)
        long = _Head(tag, vr, UNDEFINED, at + 12)
        if end - at >= 12:
            long = long._replace(length=struct.unpack_from(order + "L", self.data, at + 8)[0])
        elif vr:
            raise _Malformed
        if vr:
            return long
        likely = [_Head(tag, "", short, at + 8), _Head(tag, "", length, at + 8)]
        if not short and end - at >= 12:
            likely.insert(0 if raw.isalpha() else 1, long)
        if raw != b"\0\0" and min(raw) < 0x20:  # no VR at all
            likely.reverse()
        return next((head for head in likely if self._fits(head, end, order)), likely[0])

    def _fits(self, head: _Head, end: int, order: str) -> bool:
        """Whether an element of this length is followed by the end or by one of a higher tag."""
        at = head.start + head.length
        if at >= end or head.length == UNDEFINED:
            return at == end
        if end - at < 8:
            return False
        group, element = struct.unpack_from(order + "HH", self.data, at)
        return bool((group << 16 | element) > head.tag or self._bytes(at, 8) == bytes(8))

    def _bytes(self, at: int, length: int) -> bytes:
        return bytes(self.data[at : at + length])
