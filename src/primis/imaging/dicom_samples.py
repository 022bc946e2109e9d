"""What becomes of decoded samples: bits outside of them, overlays that lie there, palettes."""

from __future__ import annotations

import struct

import numpy as np

from primis.errors import UnreadableImage
from primis.imaging.dicom_elements import DataSet, Element, Note, tag_of, text
from primis.imaging.dicom_pixels import Layout

_COLOURS = ("Red", "Green", "Blue")
_TABLE = "PaletteColorLookupTable"
PALETTE = (
    *(tag_of(f"{colour}{_TABLE}Descriptor") for colour in (*_COLOURS, "Alpha")),
    *(tag_of(f"{colour}{_TABLE}Data") for colour in (*_COLOURS, "Alpha")),
    *(tag_of(f"Segmented{colour}{_TABLE}Data") for colour in (*_COLOURS, "Alpha")),
    tag_of("PaletteColorLookupTableUID"),
)
"""What an image in RGB no longer has."""
_EIGHT_BIT_COLOUR = ("1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.3.1")
"""Ultrasound, whose colours shall have 8 bits (PS3.3, C.8.5.6.1.11)."""
_OVERLAY_DATA, _OVERLAY_GROUPS = 0x3000, range(0x6000, 0x6100, 2)
_BITS_ALLOCATED, _BIT_POSITION, _FRAMES = 0x0100, 0x0102, 0x0015


def cut_overlays(
    data_set: DataSet, raw: np.ndarray, layout: Layout, note: Note, *, there: bool
) -> bool:
    """Turn overlays in unused bits of the samples into ones of their own. Whether there were any.

    there: whether those bits came through the decoder.
    """
    groups = sorted({tag >> 16 for tag in data_set} & set(_OVERLAY_GROUPS))
    embedded = [group for group in groups if group << 16 | _OVERLAY_DATA not in data_set]
    for group in embedded:
        plane = _plane(data_set, group << 16, raw, layout) if there else None
        if plane is None:
            note(group << 16 | _OVERLAY_DATA, "lay in bits of the pixels, left out")
            for tag in [tag for tag in data_set if tag >> 16 == group]:
                del data_set[tag]
            continue
        data_set[group << 16 | _BITS_ALLOCATED] = Element("US", b"\1\0")
        data_set[group << 16 | _BIT_POSITION] = Element("US", b"\0\0")
        data_set[group << 16 | _OVERLAY_DATA] = Element("OW", plane)
        if layout.frames > 1:
            frames = str(layout.frames).encode()
            data_set[group << 16 | _FRAMES] = Element("IS", frames + b" " * (len(frames) % 2))
    return bool(embedded)


def _plane(data_set: DataSet, base: int, raw: np.ndarray, layout: Layout) -> bytes | None:
    def told(part: int) -> int:
        element = data_set.get(base | part)
        value = element.value if element else b""
        return int.from_bytes(value[:2], "little") if isinstance(value, bytes) else 0

    position, fits = told(_BIT_POSITION), (told(0x10), told(0x11)) == (layout.rows, layout.columns)
    inside = layout.high + 1 - layout.stored <= position <= layout.high
    if not fits or inside or position >= layout.allocated or layout.samples > 1:
        return None
    bits = (raw.view(f"u{raw.dtype.itemsize}") >> position & 1).astype(np.uint8)
    plane = np.packbits(bits.ravel(), bitorder="little").tobytes()
    return plane + b"\0" * (len(plane) % 2)


def within_bits(
    raw: np.ndarray, layout: Layout, *, lossy: bool, padding: bytes
) -> tuple[np.ndarray, int, bool]:
    """(samples, their bits, whether bits outside of them were cut off that were not zero)."""
    stored, shift = layout.stored, layout.high + 1 - layout.stored
    low, high = limits(stored, signed=layout.signed)
    unsigned = raw.view(f"u{raw.dtype.itemsize}")
    used = int(np.bitwise_or.reduce(unsigned, axis=None))
    if shift and used & ((1 << shift) - 1) and not used >> stored:
        shift = 0  # so HighBit is wrong
    if not shift and low <= int(raw.min()) and int(raw.max()) <= high:
        return raw, stored, False
    if not shift and len(padding) == 2 and layout.allocated == 16:
        value = int.from_bytes(padding, "little", signed=layout.signed)
        if all(((f >= low) & (f <= high) | (f == value)).all() for f in raw):
            return raw, layout.allocated, False  # so BitsStored is wrong
    if lossy:  # a decoder that overshoots
        return np.clip(raw, low, high), stored, False
    out, cut = raw if raw.flags.writeable else raw.copy(), False
    sign = 1 << (stored - 1)
    for frame in out:
        bits = frame.view(f"u{frame.dtype.itemsize}")
        sample = (bits >> shift) & ((1 << stored) - 1)
        cut = cut or bool(((sample << shift) != bits).any())
        frame[:] = ((sample ^ sign) - sign).view(raw.dtype) if layout.signed else sample
    return out, stored, cut and not (layout.signed and not shift and not used >> stored)


def limits(bits: int, *, signed: bool) -> tuple[int, int]:
    """The least and largest sample of that many bits."""
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


def through_palette(
    indices: np.ndarray, data_set: DataSet, layout: Layout
) -> tuple[np.ndarray, int]:
    """(frames, rows, columns, 3) and its bits: 8, or 16 where the palette has more than 8."""
    tables, firsts = zip(
        *(_table(data_set, colour, signed=layout.signed) for colour in _COLOURS), strict=True
    )
    wide = max(int(table.max()) for table in tables) > 0xFF  # some say 16 bits and mean 8
    if wide and text(data_set, "SOPClassUID") in _EIGHT_BIT_COLOUR:
        repeated = all((table >> 8 == table & 0xFF).all() for table in tables)
        if repeated or not any((table & 0xFF).any() for table in tables):
            tables, wide = tuple(table >> 8 for table in tables), False
    out = np.empty((*indices.shape[:3], 3), np.uint16 if wide else np.uint8)
    for channel, (table, first) in enumerate(zip(tables, firsts, strict=True)):
        for frame, target in zip(indices, out, strict=True):
            places = np.clip(frame[..., 0].astype(np.int32) - first, 0, len(table) - 1)
            target[..., channel] = table[places]
    return out, 16 if wide else 8


def _table(data_set: DataSet, colour: str, *, signed: bool) -> tuple[np.ndarray, int]:
    """One colour's entries, and the index of the first."""
    keyword = f"{colour}{_TABLE}"
    whole, parts = (data_set.get(tag_of(f"{p}{keyword}Data")) for p in ("", "Segmented"))
    told, data = data_set.get(tag_of(f"{keyword}Descriptor")), whole or parts
    if told is None or data is None or not isinstance(told.value, bytes) or len(told.value) < 6:
        raise UnreadableImage(f"is palette colour without {keyword}Descriptor and its data")
    assert isinstance(data.value, bytes)
    entries, _, bits = struct.unpack("<3H", told.value[:6])
    first = int.from_bytes(told.value[2:4], "little", signed=signed)
    entries = entries or 1 << 16
    if bits not in (8, 16):
        raise UnreadableImage(f"has a palette of {bits} bits, expected 8 or 16")
    if whole is None:
        even = data.value[: len(data.value) & -(bits // 8)]
        table = _segments(np.frombuffer(even, f"<u{bits // 8}"), entries)
    elif len(data.value) < 2 * entries:
        table = np.frombuffer(data.value, np.uint8)[:entries]
    else:
        table = np.frombuffer(data.value[: 2 * entries], "<u2")
        if bits == 8 and not (table & 0xFF).any():
            table = table >> 8
    if not len(table):
        raise UnreadableImage(f"is palette colour with an empty {keyword}Data")
    return table.astype(np.uint16), first


def _segments(data: np.ndarray, entries: int) -> np.ndarray:
    """A segmented palette (PS3.3, C.7.9.2): runs, ramps, and segments that stand elsewhere."""
    out: list[int] = []
    at, unit = 0, data.dtype.itemsize

    def one(at: int) -> int:
        kind, length = int(data[at]), int(data[at + 1])
        if kind == 0:
            out.extend(int(v) for v in data[at + 2 : at + 2 + length])
            return at + 2 + length
        if kind != 1 or not out:
            raise UnreadableImage(
                f"has a segmented palette with segment type {kind}, expected 0 to 2"
            )
        start, stop = out[-1], int(data[at + 2])
        out.extend(int(v) for v in np.round(np.linspace(start, stop, length + 1))[1:])
        return at + 3

    while at + 1 < len(data) and len(out) < entries:
        if data[at] == 2:
            count, words = int(data[at + 1]), data[at + 2 : at + 2 + 4 // unit]
            place = int.from_bytes(words.tobytes(), "little") // unit
            for _ in range(min(count, entries)):
                if len(out) >= entries:
                    break
                place = one(place)
            at += 2 + 4 // unit
        else:
            at = one(at)
    return np.array(out[:entries], data.dtype)
