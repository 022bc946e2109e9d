"""Which DICOM files are slices of one image, and in what order: one series, one geometry, a place
in the patient for each (PS3.3, C.7.6.2).

Slices are ordered along their normal, the cross product of the directions of rows and columns.
Where every place has the same number of slices, as in a series in time, each volume in turn is.
Distances that headers declare are not used: positions alone count.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from primis.errors import UnreadableImage
from primis.imaging.dicom_elements import DataSet, number, text, values
from primis.imaging.files import opened

_PLACE, _PIXELS = b"\x20\x00\x32\x00", b"\xe0\x7f\x10\x00"
"""The tags of Image Position and of pixels, in little endian."""

_START = 1 << 18
"""Bytes of a file that are read first: nearly always all of its header."""

_OF_SERIES = ("StudyInstanceUID", "SeriesInstanceUID")
_UIDS = (*_OF_SERIES, "SOPClassUID", "FrameOfReferenceUID")
_LAYOUT = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "PixelRepresentation")
_TIMES = ("TemporalPositionIdentifier", "EchoNumbers", "AcquisitionNumber", "InstanceNumber")
"""What orders slices at one place."""

_ONE_PLACE = 0.01
"""Millimetres: slices that are nearer to each other are at one place."""

_UNIT = 1e-3
"""By which the directions of rows and columns may differ from unit vectors at right angles."""

_GAP = 1.8
"""A distance of so many times the usual one is reported as a gap."""

_UNEVEN, _SHEARED = 0.01, math.radians(0.1)


@dataclass(frozen=True)
class Slice:
    """alike: what slices of one image have alike. number: of the series, "" where it has none.
    place: of the first pixel, in mm, towards left, posterior and head. row, column: directions in
    which their pixels follow each other. time: orders slices at one place."""

    alike: tuple[object, ...]
    number: str
    place: tuple[float, ...]
    row: tuple[float, ...]
    column: tuple[float, ...]
    time: tuple[int, ...]

    @property
    def normal(self) -> np.ndarray:
        """The direction in which slices are ordered."""
        return np.cross(self.row, self.column)


def slice_in(file: Path) -> Slice | None:
    """Of a file; None where it is no slice, says of no series that it is of it, or cannot be read.
    Most files are told by their first bytes."""
    from primis.imaging.dicom import MAX_HEADER, is_dicom, parse_header

    try:
        with opened(file) as stream:
            data = stream.read(_START)
            if (_PLACE not in data and _PIXELS in data) or not is_dicom(data):
                return None
            try:
                header = parse_header(data)
            except UnreadableImage:
                header = parse_header(data + stream.read(MAX_HEADER))
        named = all(text(header, keyword) for keyword in _OF_SERIES)
        return slice_of(header) if named else None
    except Exception:  # whatever it is, sharing the file says why
        return None


def slice_of(data_set: DataSet) -> Slice | None:
    """None where a data set is not of one frame that has a place in the patient."""
    place = _numbers(data_set, "ImagePositionPatient", 3)
    directions = _numbers(data_set, "ImageOrientationPatient", 6)
    if not place or not directions or (number(data_set, "NumberOfFrames") or 1) > 1:
        return None
    row, column = np.array(directions[:3]), np.array(directions[3:])
    unlike = (abs(row @ row - 1), abs(column @ column - 1), abs(row @ column))
    uids = tuple(text(data_set, keyword) for keyword in _UIDS)
    photometric = text(data_set, "PhotometricInterpretation")
    if max(unlike) > _UNIT or photometric == "PALETTE COLOR":
        return None
    layout = tuple(number(data_set, keyword) for keyword in _LAYOUT)
    spacing = tuple(round(s, 4) for s in _numbers(data_set, "PixelSpacing", 2))
    turned = tuple(round(d / _UNIT) for d in directions)
    return Slice(
        (*uids, photometric, layout, spacing, turned),
        text(data_set, "SeriesNumber"),
        place,
        directions[:3],
        directions[3:],
        tuple(number(data_set, keyword) or 0 for keyword in _TIMES),
    )


def _numbers(data_set: DataSet, keyword: str, count: int) -> tuple[float, ...]:
    """Nothing where there are not so many, all finite."""
    try:
        read = tuple(float(value) for value in values(data_set, keyword))
    except ValueError:
        return ()
    return read if len(read) == count and all(map(math.isfinite, read)) else ()


def in_order(slices: Sequence[Slice]) -> list[int]:
    """Their numbers, in the order of frames."""
    at = _by_place(slices)
    if len({len(there) for there in at.values()}) > 1:
        return [k for place in sorted(at) for k in at[place]]
    volumes = range(len(next(iter(at.values()))))
    return [at[place][volume] for volume in volumes for place in sorted(at)]


def along(slices: Sequence[Slice]) -> list[float]:
    """Distances along one normal, the first's, in mm: directions may differ in their last digits,
    which counts far from the origin."""
    return [float(np.dot(one.place, slices[0].normal)) for one in slices]


def _by_place(slices: Sequence[Slice]) -> dict[int, list[int]]:
    """Numbers of the slices at each place, ordered in time."""
    at_mm = along(slices)
    in_space = sorted(range(len(slices)), key=lambda k: at_mm[k])
    places = np.cumsum(np.diff([at_mm[k] for k in in_space[:1] + in_space]) > _ONE_PLACE)
    at: dict[int, list[int]] = defaultdict(list)
    for k, place in zip(in_space, places.tolist(), strict=True):
        at[place].append(k)
    return {place: sorted(there, key=lambda k: slices[k].time) for place, there in at.items()}


def remarks(slices: Sequence[Slice]) -> tuple[str, ...]:
    """What a person should know of where the slices of an image are, a line each."""
    at = _by_place(slices)
    counts = [len(there) for there in at.values()]
    said = []
    if len(set(counts)) > 1:
        most = max(counts)
        fewer = sum(count < most for count in counts)
        said.append(
            f"slices are missing, or lie twice at one place: {fewer} of {len(counts)} places have "
            f"fewer than {most} slices"
        )
    first = [slices[at[place][0]] for place in sorted(at)]
    return (*said, *_distances(first), *_shear(first))


def _distances(slices: Sequence[Slice]) -> list[str]:
    """Of slices in order."""
    if len(slices) < 3:
        return []
    steps = np.diff(along(slices))
    usual = float(np.sort(steps)[(len(steps) - 1) // 2])
    widest = int(np.argmax(steps))
    if steps[widest] > _GAP * usual:
        missing = round(float(sum(step / usual - 1 for step in steps if step > _GAP * usual)))
        return [
            f"slices are missing, about {max(missing, 1)}: after slice {widest + 1} of "
            f"{len(slices)} the next is {steps[widest]:.4g} mm away, the others {usual:.4g} mm"
        ]
    if np.ptp(steps) > _UNEVEN * usual + 2 * _ONE_PLACE:
        return [
            f"slices are not evenly spaced, {steps.min():.4g} to {steps.max():.4g} mm apart: their "
            "positions are kept"
        ]
    return []


def _shear(slices: Sequence[Slice]) -> list[str]:
    """Of slices in order."""
    if len(slices) < 2:
        return []
    first, last = slices[0], slices[-1]
    way = np.subtract(last.place, first.place)
    ahead = float(np.dot(way, first.normal))
    aside = float(np.linalg.norm(way - ahead * first.normal))
    angle = math.atan2(aside, ahead)
    if angle <= _SHEARED:
        return []
    return [f"slices are sheared by {math.degrees(angle):.1f} degrees, as by a tilted gantry"]
