"""The files of a DICOM series as one image, and back to as many files.

The header of such an image holds each file's name and elements; what all have alike it holds once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from primis.errors import UnreadableImage
from primis.imaging.dicom import parse_elements, read_header, write_dicom
from primis.imaging.dicom_derived import preface
from primis.imaging.dicom_elements import DataSet, encode, text
from primis.imaging.image import SERIES, Derivation, Image, NamedFile
from primis.imaging.series import remarks, slice_of

MAX_HEADERS = 1 << 30
"""Bytes that the headers of all files of a series take together, each with what all have alike."""

_FOR_EACH_NAME, _MAX_NAMES = 1 << 14, 1 << 26
"""Bytes of the line of names: for each, in all."""

_DAMAGED = "the header is not of a series"


def join(images: Sequence[Image], names: Sequence[str]) -> Image:
    """One image of single frames, in their order. names: of their files. Raises UnreadableImage
    where they differ in what one image has once."""
    first = images[0]
    for image, name in zip(images, names, strict=True):
        if _alike(image) != _alike(first):
            raise UnreadableImage(f'has frames that differ: "{names[0]}" and "{name}"')
    data_sets = [read_header(image.header) for image in images]
    slices = [slice_of(data_set) for data_set in data_sets]
    placed = [one for one in slices if one is not None]
    paddings = {image.padding_range for image in images}
    header = _pack(data_sets, names)
    return replace(
        first,
        pixels=np.concatenate([image.pixels for image in images]),
        bit_depth=max(image.bit_depth for image in images),
        kind=SERIES,
        header=header,
        padding_range=first.padding_range if len(paddings) == 1 else None,
        notes=(*_each_once(image.notes for image in images), *_again(data_sets), *remarks(placed)),
        identifying=_each_once(image.identifying for image in images),
    )


def _alike(image: Image) -> tuple[object, ...]:
    return image.shape, image.pixels.dtype, image.photometric, image.kind


def _again(data_sets: Sequence[DataSet]) -> list[str]:
    """What to say where a folder has copies of slices."""
    told = [text(data_set, "SOPInstanceUID") for data_set in data_sets]
    instances = [instance for instance in told if instance]
    copies = len(instances) - len(set(instances))
    return [f"{copies} of {len(told)} slices are copies of others"] if copies else []


def _each_once(texts: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(said for some in texts for said in some))


def _pack(data_sets: Sequence[DataSet], names: Sequence[str]) -> bytes:
    common = {
        tag: element
        for tag, element in data_sets[0].items()
        if all(other.get(tag) == element for other in data_sets)
    }
    own = [encode({t: e for t, e in one.items() if t not in common}) for one in data_sets]
    whole = preface(common) + encode(common)
    if (size := _size_of(len(whole), map(len, own))) > MAX_HEADERS:
        raise UnreadableImage(f"has headers of {size} bytes, expected at most {MAX_HEADERS}")
    return pack_files(map(NamedFile, names, own), common=len(whole), after=whole)


def pack_files(files: Iterable[NamedFile], *, after: bytes = b"", **facts: int) -> bytes:
    """A line of JSON with names and lengths, then `after`, then the files end to end."""
    files = list(files)
    line = json.dumps(facts | {"files": [[name, len(data)] for name, data in files]})
    return b"".join([line.encode(), b"\n", after, *(data for _, data in files)])


def _size_of(common: int, own: Iterable[int]) -> int:
    """Bytes of the headers of all files."""
    return sum(common + size for size in own)


def unpack_files(packed: bytes, frames: int) -> tuple[list[NamedFile], bytes]:
    """(files, what came before them). Raises ValueError unless there are so many, each of a name of
    its own."""
    line, newline, rest = packed.partition(b"\n")
    if not newline or len(line) > min(_FOR_EACH_NAME * (frames + 1), _MAX_NAMES):
        raise ValueError(_DAMAGED)
    try:
        told: Any = json.loads(line)
        names, lengths = zip(*told["files"], strict=True)
        at = told.get("common", 0)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError(_DAMAGED) from None
    sound = all(type(n) is str for n in names) and all(type(n) is int for n in (at, *lengths))
    if not sound or min(at, *lengths) < 0 or at + sum(lengths) != len(rest):
        raise ValueError(_DAMAGED)
    if len(names) != frames or len(set(names)) != frames:
        raise ValueError(_DAMAGED)
    files, before = [], rest[:at]
    for name, length in zip(names, lengths, strict=True):
        files.append(NamedFile(name, rest[at : at + length]))
        at += length
    return files, before


def headers_in(header: bytes, frames: int) -> Iterator[NamedFile]:
    """The name of each file, and its header as `read_header` takes it. Raises ValueError."""
    files, common = unpack_files(header, frames)
    if _size_of(len(common), (len(own) for _, own in files)) > MAX_HEADERS:
        raise ValueError(_DAMAGED)
    shared = read_header(common)
    for name, own in files:
        data_set = shared | parse_elements(own)
        yield NamedFile(name, preface(data_set) + encode(data_set))


def write_series(
    image: Image, derivation: Derivation, frames: int, numbers: Sequence[int]
) -> list[NamedFile]:
    """Files of an image as `join` makes it. frames: that the series has; numbers: of those that
    the image has. Raises ValueError where its header is none."""
    wanted = {number: k for k, number in enumerate(numbers)}
    written: dict[int, NamedFile] = {}
    for number, (name, header) in enumerate(headers_in(image.header, frames)):
        if number in wanted:
            data = _write(image, wanted[number], header, derivation, number)
            written[number] = NamedFile(name, data)
    return [written[number] for number in numbers]


def _write(image: Image, k: int, header: bytes, derivation: Derivation, number: int) -> bytes:
    alone = replace(image, pixels=image.pixels[k : k + 1], header=header, kind="dicom")
    return write_dicom(alone, replace(derivation, frame=number))
