"""PNG at the level of its chunks: what is kept beside the pixels, and a file without all else."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from primis.errors import UnreadableImage

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BODY = 33
"""Where the chunks after IHDR begin."""
_NEEDED = ("IHDR", "PLTE", "IDAT", "IEND")
_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # by colour type; a palette becomes RGB
_PALETTE = 3

_KEPT = {
    "gAMA": 4,
    "cHRM": 32,
    "sRGB": 1,
    "cICP": 4,
    "pHYs": 9,
    "iCCP": None,
    "eXIf": None,
    "sBIT": None,
}
"""Chunks that come back with the image, and their length where it is always the same."""
_TEXT = ("tEXt", "zTXt", "iTXt")


class Png(NamedTuple):
    """What a file says before its pixels. key: samples that are transparent, of grey or RGB."""

    height: int
    width: int
    depth: int
    channels: int
    palette: bool
    key: tuple[int, ...]
    transparency: bool
    kept: tuple[tuple[str, bytes], ...]
    texts: int
    frames: int


def scan(data: bytes) -> tuple[Png, bytes]:
    """What a file says, and the file without all that a decoder does not need.

    Raises UnreadableImage.
    """
    parts: list[bytes | memoryview] = [SIGNATURE]
    kept: dict[str, bytes] = {}
    texts, frames, transparency = 0, 1, b""
    header, seen = b"", set()
    for name, content, whole in _chunks(data):
        sound = zlib.crc32(whole[4:-4]) == int.from_bytes(whole[-4:], "big")
        if name in _NEEDED:
            if not sound:
                raise UnreadableImage(
                    f'cannot be decoded: the checksum of its chunk "{name}" is wrong'
                )
            header = header or bytes(content)
            seen.add(name)
            parts.append(whole)
        elif not sound:
            continue
        elif name == "tRNS":
            transparency = bytes(content)
            if header[9:10] == bytes([_PALETTE]):  # a key of grey or RGB is the reader's to apply
                parts.append(whole)
        elif name == "acTL" and len(content) == 8:
            frames = int.from_bytes(content[:4], "big")
        elif name in _KEPT and name not in kept:
            kept[name] = bytes(content)
        texts += name in _TEXT
    file = _describe(header, transparency, kept, texts, frames)
    if file.palette and "PLTE" not in seen:
        raise UnreadableImage("cannot be decoded: its palette is missing")
    return file, b"".join(parts)


def insert(data: bytes, chunks: list[tuple[str, bytes]], channels: int) -> bytes:
    """The file with these chunks, those that are allowed. Its own of the same names go."""
    sound = [(name, content) for name, content in chunks if _fits(name, content, channels)]
    parts = [data[:_BODY]]
    for name, content in sound:
        body = name.encode() + content
        parts.append(struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body)))
    return b"".join([*parts, data[_BODY:]])


def _fits(name: str, content: bytes, channels: int) -> bool:
    length = channels if name == "sBIT" else _KEPT.get(name)
    return name in _KEPT and (length is None or len(content) == length)


def _describe(
    header: bytes, transparency: bytes, kept: dict[str, bytes], texts: int, frames: int
) -> Png:
    try:
        width, height, depth, colour, *_ = struct.unpack(">IIBBBBB", header)
        channels = _CHANNELS[colour]
    except (struct.error, KeyError):
        raise UnreadableImage("cannot be decoded: its first chunk describes no image") from None
    palette, key = colour == _PALETTE, ()
    if transparency and not palette and len(transparency) == 2 * channels and channels in (1, 3):
        key = struct.unpack(f">{channels}H", transparency)
    transparent = bool(transparency) and (palette or bool(key))
    if transparent or (depth < 8 and not palette):
        kept.pop("sBIT", None)  # it speaks of samples that become others
    fitting = tuple(pair for pair in kept.items() if _fits(*pair, channels))
    whole = channels + transparent
    return Png(height, width, depth, whole, palette, key, transparent, fitting, texts, frames)


def _chunks(data: bytes) -> Iterator[tuple[str, memoryview, memoryview]]:
    """(name, content, whole chunk) up to IEND, which may be missing."""
    view, at = memoryview(data), len(SIGNATURE)
    while at < len(data):
        length = int.from_bytes(view[at : at + 4], "big")
        whole = view[at : at + 12 + length]
        if len(whole) != 12 + length:
            raise UnreadableImage("cannot be decoded: it is cut off")
        name = bytes(whole[4:8]).decode("latin-1")
        yield name, whole[8:-4], whole
        if name == "IEND":
            return
        at += len(whole)
