"""What a transform across the slices of a series would save, at equal PSNR.

    python benchmarks/between_slices.py SERIES ... [--sparsity S_x ...] [--most N]

A series is a folder of DICOM files, sorted by position along the normal of the slices, or a volume
in one file; `FOLDER@time` compares slices at one position from volume to volume instead. Today each
frame is coded alone: on its own range, with its own threshold, to its own budget. Here groups of 2,
4 and 8 neighbours share range, threshold and budget, and their coefficients are transformed across
the frames (orthonormal DCT, Haar, or `none`) before entries are selected; every frame of the
outcome goes through the coder as it is. `none` tells what is gained by the shared budget alone,
`best` what is gained where each group may have `dct` or `none`.

Bytes are those of supports and values. PSNR is that of `info`: over all frames, outside padding,
on the range of the series. Two references: budgets filled (`filled`), and S_x entries in each frame
(`entries`). For each variant S_x is changed until its PSNR is theirs.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
from common import machine, one_thread, save
from rich.progress import track

from primis.codec import Codec, Scale
from primis.codes.atoms import dct_matrix
from primis.codes.sparse import SparseCode
from primis.imaging.files import read
from primis.imaging.image import Image
from primis.imaging.padding import fill_padding, find_padding
from primis.metrics.fidelity import psnr_of_mse
from primis.study.versions import code_bits, code_of

_GROUPS = (2, 4, 8)
_START = (0.7, 1.0)
_TRIES, _NEAR = 4, 0.02
"""Parts of S_x that are measured first; how often it is changed until the error is met, and how
nearly, on a logarithmic scale."""

Sizes = dict[str, float]
"""Bytes by variant."""


class Slice(NamedTuple):
    """A frame (H, W, 1) with its padding filled, and where it is no padding (H, W)."""

    pixels: np.ndarray
    tissue: np.ndarray


Run = list[Slice]
"""Neighbours; no group reaches from one run to the next."""


class Point(NamedTuple):
    """Sum of squared errors in tissue, and bytes."""

    error: float
    size: float


@dataclass(frozen=True)
class Series:
    """name: of its folder or file; runs: its slices."""

    name: str
    runs: list[Run]

    @classmethod
    def read(cls, name: str, most: int | None) -> Series:
        """Of a place with `@time` or without; of the middle `most` frames of each run."""
        place, _, along = name.partition("@")
        path = Path(place)
        found = _dicom_runs(path, along) if path.is_dir() else [_slices(read(path)[0])]
        return cls(path.name.split(".")[0] + along * bool(along), [_middle(r, most) for r in found])

    @property
    def slices(self) -> Run:
        """All of them."""
        return [s for run in self.runs for s in run]

    def psnr(self, error: float) -> float:
        """Of a sum of squared errors."""
        inside = [s.pixels[s.tissue] for s in self.slices]
        width = max(int(x.max()) for x in inside) - min(int(x.min()) for x in inside)
        return psnr_of_mse(error / sum(x.size for x in inside), width)

    def groups(self, size: int) -> Iterator[Run]:
        """Neighbours, the last of a run fewer."""
        for run in self.runs:
            yield from (run[start : start + size] for start in range(0, len(run), size))


def _middle(run: Run, most: int | None) -> Run:
    first = 0 if most is None else max(0, (len(run) - most) // 2)
    return run[first : None if most is None else first + most]


def _slices(image: Image) -> Run:
    padding = find_padding(image)
    filled = fill_padding(image, padding).pixels
    masks = np.zeros(image.shape[:3], bool) if padding is None else padding.mask
    return [Slice(*both) for both in zip(filled, ~masks, strict=True)]


def _dicom_runs(folder: Path, along: str) -> list[Run]:
    """Volumes from foot to head, or with `time` what is at each position, by instance number."""
    placed = []
    for path in sorted(folder.rglob("*.dcm")):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        row, column = np.reshape(header.ImageOrientationPatient, (2, 3)).astype(float)
        at = float(np.dot(np.cross(row, column), np.array(header.ImagePositionPatient, float)))
        placed.append((round(at, 2), int(header.InstanceNumber), path))
    stacks = [list(stack) for _, stack in groupby(sorted(placed), key=lambda known: known[0])]
    runs = stacks if along == "time" else list(map(list, zip(*stacks, strict=True)))
    return [[_slices(read(path)[0])[0] for _, _, path in run] for run in runs]


def across(count: int, kind: str) -> np.ndarray:
    """Orthonormal (count, count): rows are what is coded, columns are frames."""
    if kind == "none":
        return np.eye(count)
    if kind == "dct":
        return np.asarray(dct_matrix(count), float)
    return _haar(count)


def _haar(count: int) -> np.ndarray:
    if count == 1:
        return np.eye(1)
    pairs, odd = divmod(count, 2)
    means, rest = np.zeros((pairs + odd, count)), np.zeros((pairs, count))
    for k in range(pairs):
        means[k, 2 * k : 2 * k + 2] = 0.5**0.5
        rest[k, 2 * k : 2 * k + 2] = 0.5**0.5, -(0.5**0.5)
    if odd:
        means[-1, -1] = 1
    return np.concatenate([_haar(len(means)) @ means, rest])


def coefficients(group: Run, scale: Scale, codec: Codec) -> np.ndarray:
    """z (frames, LM, h, w) of a group on one range."""
    stride, found = codec.preset.stride, []
    for pixels, _ in group:
        plane = (pixels[..., 0].astype(np.float32) - scale.centre) / scale.width
        pad = [(0, -side % stride) for side in plane.shape]
        found.append(codec.analyse(np.pad(plane, pad, mode="edge")[None].astype(np.float32))[0])
    return np.stack(found)


def range_of(group: Run) -> Scale:
    """From the least to the largest sample."""
    return Scale(min(int(s.pixels.min()) for s in group), max(int(s.pixels.max()) for s in group))


def error_of(source: Slice, frame: np.ndarray) -> float:
    """Sum of squared differences in tissue."""
    difference = source.pixels[..., 0].astype(float) - frame[..., 0]
    return float(np.sum(difference[source.tissue] ** 2))


def together(group: Run, matrix: np.ndarray, entries: int, codec: Codec) -> Point:
    """A group coded with so many entries in all."""
    scale = range_of(group)
    z = np.tensordot(matrix, coefficients(group, scale, codec), 1).astype(np.float32)
    code = codec.sparsify(z, entries)
    q = np.tensordot(matrix.T, code.coefficients, 1).astype(np.float32)
    decoded = (
        _decoded(q[k : k + 1], code.threshold, source, scale, codec)
        for k, source in enumerate(group)
    )
    error = sum(error_of(source, frame) for source, frame in zip(group, decoded, strict=True))
    return Point(error, sum(code_bits(code, codec)) / 8)


def _decoded(
    q: np.ndarray, threshold: float, source: Slice, scale: Scale, codec: Codec
) -> np.ndarray:
    """The frame, rounded and clipped to the slice's own range, which `info` has."""
    height, width = source.tissue.shape
    frame = codec.synthesise(q, threshold, (height, width))
    grey = np.round(frame.astype(float) * scale.width + scale.centre)
    return np.clip(grey, source.pixels.min(), source.pixels.max())


def alone(source: Slice, sparsity: float, codec: Codec, *, filled: bool) -> Point:
    """A slice as primis codes it today."""
    height, width = source.tissue.shape
    z, scale = codec.encode(source.pixels)
    code = _alone_code(z, (height, width), sparsity, codec, filled=filled)
    frame = codec.decode(code, scale, (height, width), source.pixels.dtype)
    return Point(error_of(source, frame), sum(code_bits(code, codec)) / 8)


def _alone_code(
    z: np.ndarray, shape: tuple[int, int], sparsity: float, codec: Codec, *, filled: bool
) -> SparseCode:
    if filled:
        return code_of(z, shape, codec, sparsity)
    return codec.sparsify(z, codec.architecture.entries(z, sparsity))


def total(points: Sequence[Point]) -> Point:
    """Of all groups."""
    return Point(*(float(sum(column)) for column in zip(*points, strict=True)))


class Variant:
    """Groups of a series, each with its transform, coded with ever other numbers of entries."""

    def __init__(self, groups: list[Run], kinds: list[str], sparsity: float, codec: Codec) -> None:
        self._groups, self._kinds, self._codec = groups, kinds, codec
        self._parts: list[list[Point]] = []
        self._logs: list[np.ndarray] = []  # error, size, S_x
        for factor in _START:
            self._measure(factor * sparsity)

    def size_at(self, error: float) -> float:
        """Bytes at a sum of squared errors, which is met as nearly as a few tries allow."""
        aim = np.log(error)
        for _ in range(_TRIES):
            if np.min(np.abs(np.array(self._logs)[:, 0] - aim)) < _NEAR:
                break
            self._measure(float(np.exp(self._at(aim)[1])))
        return float(np.exp(self._at(aim)[0]))

    def worth(self, error: float) -> float:
        """Bytes that a unit of error is worth, there."""
        return float(-self._slope[0] * np.exp(self._at(np.log(error))[0]) / error)

    def costs(self, error: float, worth: float) -> np.ndarray:
        """(groups,) Each group's bytes, and its errors at what they are worth."""
        number = int(np.argmin(np.abs(np.array(self._logs)[:, 0] - np.log(error))))
        return np.array([part.size + worth * part.error for part in self._parts[number]])

    def _measure(self, sparsity: float) -> None:
        parts, stride = [], self._codec.preset.stride
        for group, kind in zip(self._groups, self._kinds, strict=True):
            positions = math.prod(-(-side // stride) for side in group[0].tissue.shape)
            entries = max(1, round(sparsity * positions * len(group)))
            parts.append(together(group, across(len(group), kind), entries, self._codec))
        self._parts.append(parts)
        self._logs.append(np.log([*total(parts), sparsity]))

    def _at(self, aim: float) -> np.ndarray:
        """Logarithms of size and S_x at that of an error, from the measured point next to it."""
        logs = np.array(self._logs)
        nearest = logs[np.argmin(np.abs(logs[:, 0] - aim))]
        return nearest[1:] + self._slope * (aim - nearest[0])

    @property
    def _slope(self) -> np.ndarray:
        """Of the first two points, in logarithms over that of the error."""
        change = self._logs[1] - self._logs[0]
        return change[1:] / change[0]


def variants(series: Series, sparsity: float, codec: Codec, errors: list[float]) -> list[Sizes]:
    """Bytes of each variant at some errors. `best`: in each group `none` or `dct`, whichever costs
    less at the first of them."""
    found: dict[str, Variant] = {}
    for size in _GROUPS:
        groups = list(series.groups(size))
        made = {
            kind: Variant(groups, [kind] * len(groups), sparsity, codec)
            for kind in ("none", "haar", "dct")
        }
        wins = _cheaper(made["none"], made["dct"], errors[0])
        made["best"] = Variant(groups, ["dct" if w else "none" for w in wins], sparsity, codec)
        found |= {f"{kind} {size}": variant for kind, variant in made.items()}
    return [{name: variant.size_at(error) for name, variant in found.items()} for error in errors]


def _cheaper(none: Variant, dct: Variant, error: float) -> np.ndarray:
    """(groups,) Where `dct` costs less."""
    for variant in (none, dct):
        variant.size_at(error)
    worth = none.worth(error)
    return dct.costs(error, worth) < none.costs(error, worth)


def measured(series: Series, sparsity: float, codec: Codec) -> dict[str, Any]:
    """Today's PSNR and bytes a slice, and what the variants save of them, in percent."""
    today = {
        name: total([alone(s, sparsity, codec, filled=filled) for s in series.slices])
        for name, filled in (("filled", True), ("entries", False))
    }
    found = variants(series, sparsity, codec, [point.error for point in today.values()])
    rows = {}
    for (name, point), sizes in zip(today.items(), found, strict=True):
        saved = {kind: round(100 * (1 - size / point.size), 2) for kind, size in sizes.items()}
        each = {"psnr": series.psnr(point.error), "bytes": point.size / len(series.slices)}
        rows[name] = each | {"saved": saved}
    return {"slices": len(series.slices)} | rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("series", nargs="+")
    parser.add_argument("--sparsity", type=float, nargs="*", default=[4.0, 8.0])
    parser.add_argument("--most", type=int, help="frames of each run, from its middle")
    arguments = parser.parse_args()
    codec, result = one_thread(), {}
    for name in track(arguments.series, "series"):
        series = Series.read(name, arguments.most)
        rows = {f"{s:g}": measured(series, s, codec) for s in arguments.sparsity}
        result[series.name] = rows
        print(series.name, rows)
    print(save("between_slices", {"series": result, "machine": machine()}))


if __name__ == "__main__":
    main()
