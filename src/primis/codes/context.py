"""What the coder knows when it comes to an entry, and the integer model that makes a probability of it.

The coder walks the atoms from coarse to fine in groups, and the positions of each group in four passes
over a lattice, so that a visit sees all of the coarser atoms and, from the second pass on, neighbours of
its own. What it sees becomes integer features; per visit a tiny network of integers turns them into a
16-bit probability. Both directions of the coder, and the fit of its model, are this one walk, so they
cannot disagree. There is no arithmetic whose rounding could differ between machines: the products that
run in floating point are of whole numbers, small enough to be exact. docs/format.md, section 7, is the
specification.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache, cached_property
from itertools import accumulate
from typing import Protocol

import numpy as np

from primis.codes.atoms import MEAN_LAYOUT, Layout, join_means, mean_matrix, split_means
from primis.errors import DamagedSection

PASSES = ((0, 0), (1, 1), (0, 1), (1, 0))
"""Rows and columns at which the four passes over the positions start; each has a step of 2."""

FEATURES = 11
HIDDEN = 8
EXPONENTS = 12
LOGIT_UNIT = 1 << 10
"""Scores are logits in units of 1/1024."""
HIDDEN_UNIT = 1 << 12
TABLE_LIMIT = 8191
SCORE_LIMIT = 1 << 20
"""What weights that meet features, and all others, are at most, so that every sum of products stays under 2^53."""

_MAX_LOGIT = 11 * LOGIT_UNIT
_DENSITY_UNIT = 8
_LARGEST = 15.0
_DCT_UNIT = 64

Head = tuple[str, int, int, int]
"""(kind, first atom, atoms, pass or exponent); kind: `mean`, `entry`, `flag`, `mean level`, `level`."""


def heads(layout: Layout) -> list[Head]:
    """Every kind of decision of a layout's coder, in the order in which the model's tables hold them."""
    parts = [("", group) for group in layout.groups]
    if layout.means:
        parts = [("mean", group) for group in MEAN_LAYOUT.groups] + parts
    found: list[Head] = []
    for kind, group in parts:
        found += [(kind or "entry", group.start, len(group), turn) for turn in range(len(PASSES))]
        found += [
            (f"{kind} level".strip(), group.start, len(group), exponent)
            for exponent in range(EXPONENTS)
        ]
        if not kind and layout.flagged(group):
            found += [("flag", group.start, 1, turn) for turn in range(len(PASSES))]
    return found


@dataclass(frozen=True, eq=False)
class ContextModel:
    """The integer tables of the coder, int32; they ship with the weights. N heads, F features, H hidden units.

    bias: (sum of the heads' atoms, 3) logit of a one; its change per 1/8 of log2(entries per position), and
    per square of that / 64. linear: (N, F, 2) logit per unit of a feature's logarithm, and if it is above zero.
    inner: (N, H, F + 2) hidden units from the features, the density and one; outer: (N, H) logit of each.
    mantissa: (EXPONENTS + 4,) logit of the bit under a level's highest, by exponent.
    logarithm: floor(8 log2(1 + x)) for x = 0, 1, ...; probability: 16-bit probability of a one for logits
    -11 .. 11 in steps of 1/16.
    """

    bias: np.ndarray
    linear: np.ndarray
    inner: np.ndarray
    outer: np.ndarray
    mantissa: np.ndarray
    logarithm: np.ndarray
    probability: np.ndarray

    def fits(self, layout: Layout) -> bool:
        """Whether these are sound tables for a layout."""
        wanted = heads(layout)
        n = len(wanted)
        shapes = {
            "bias": (sum(head[2] for head in wanted), 3),
            "linear": (n, FEATURES, 2),
            "inner": (n, HIDDEN, FEATURES + 2),
            "outer": (n, HIDDEN),
            "mantissa": (EXPONENTS + 4,),
            "probability": (2 * _MAX_LOGIT // 64 + 1,),
        }
        tables = {f.name: getattr(self, f.name) for f in fields(self)}
        sound = (
            all(t.dtype == np.int32 for t in tables.values()) and 0 < len(self.logarithm) <= 1 << 16
        )
        sound = sound and all(tables[name].shape == shape for name, shape in shapes.items())
        limits = {
            "linear": TABLE_LIMIT,
            "inner": TABLE_LIMIT,
            "outer": SCORE_LIMIT,
            "bias": SCORE_LIMIT,
            "mantissa": SCORE_LIMIT,
        }
        sound = sound and all(
            -limit <= tables[name].min() and tables[name].max() <= limit
            for name, limit in limits.items()
        )
        sound = (
            sound
            and self.logarithm.ndim == 1
            and self.logarithm.min() >= 0
            and self.logarithm.max() <= 128
        )
        return sound and bool(((self.probability > 0) & (self.probability < 65536)).all())

    def chances(
        self, number: int, offset: int, features: np.ndarray, atom: np.ndarray, density: int
    ) -> np.ndarray:
        """Probabilities of a one, float64 and each a whole number of 65536ths.

        number, offset: the head, and where its atoms start in `bias`. features: (F, n); atom: (n,) within the head.
        """
        if not features.shape[1]:
            return np.zeros(0)
        linear, inner, outer = self._weights
        hidden = inner[number][:, :-2] @ features
        hidden += (inner[number][:, -2] * density + inner[number][:, -1])[:, None]
        score = linear[number, :, 0] @ features + linear[number, :, 1] @ (features > 0)
        bias = self.bias[offset + atom].astype(np.int64)
        score = score.astype(np.int64) + np.floor(
            outer[number] @ np.maximum(hidden, 0) / HIDDEN_UNIT
        ).astype(np.int64)
        score += bias[:, 0] + bias[:, 1] * density + ((bias[:, 2] * density * density) >> 6)
        return self.look_up(score)

    def look_up(self, score: np.ndarray) -> np.ndarray:
        """Logits -> probabilities."""
        return self._chance[
            (np.minimum(np.maximum(score, -_MAX_LOGIT), _MAX_LOGIT) + _MAX_LOGIT) >> 6
        ]

    @cached_property
    def _chance(self) -> np.ndarray:
        return self.probability / 65536.0

    @cached_property
    def _weights(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return (
            self.linear.astype(np.float64),
            self.inner.astype(np.float64),
            self.outer.astype(np.float64),
        )


def entry_density(entries: int, positions: int) -> int:
    """floor(8 log2(entries / positions)), exactly: log2 of the eighth power, of integers."""
    ratio = ((entries**_DENSITY_UNIT) << 512) // positions**_DENSITY_UNIT
    return ratio.bit_length() - 1 - 512


class Side(Protocol):
    """Who walks: an encoder, a decoder, or who fits the model. where: (atoms, positions) as index arrays."""

    def flags(self, head: Head, features: np.ndarray, where: np.ndarray) -> np.ndarray:
        """Which of the positions have entries of this group: bool (n,)."""

    def entries(
        self, head: Head, features: np.ndarray, atom: np.ndarray, where: np.ndarray
    ) -> np.ndarray:
        """Which are entries: bool (n,). atom: within the group."""

    def levels(
        self, head: Head, features: np.ndarray, atom: np.ndarray, where: np.ndarray
    ) -> np.ndarray:
        """Their levels, not zero: int (n,)."""


def walk(
    levels: np.ndarray, atoms: range, layout: Layout, side: Side, logarithm: np.ndarray
) -> None:
    """Visit all entries of `atoms` of levels (LM, h, w) in coding order; `side` says what they are.

    levels is filled as the walk goes; the atoms below `atoms` must be right.
    """
    planes = levels.reshape(len(levels), -1)
    shape = levels.shape[1:]
    if layout.means:
        if atoms.start == 0:
            cube = split_means(levels[0] * 0)
            _Walk(
                cube.reshape(len(cube), -1), cube.shape[1:], MEAN_LAYOUT, side, logarithm, "mean"
            ).run(range(len(cube)))
            levels[0] = join_means(cube, shape)
            if np.count_nonzero(cube) != np.count_nonzero(levels[0]):
                raise DamagedSection('section "supports": a stream has entries outside its tile')
        relief = _relief(levels[0])
    else:
        relief = np.zeros((4, planes.shape[1]), np.float32)
    _Walk(planes, shape, layout, side, logarithm, "", relief).run(atoms)


def _relief(means: np.ndarray) -> np.ndarray:
    """(4, positions): how much the means fall and bend, vertically and horizontally, in thresholds."""
    rows, columns = (
        np.round(mean_matrix(side) * _DCT_UNIT).astype(np.int64) for side in means.shape
    )
    plane = (rows.T @ means.astype(np.int64) @ columns) >> 12
    padded = np.pad(plane, 1, mode="edge")
    up, down, left, right = padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]
    parts = (up - down, left - right, up + down - 2 * plane, left + right - 2 * plane)
    return np.abs(np.stack(parts)).reshape(4, -1).astype(np.float32)


class _Walk:
    """One walk over a stack of planes (A, positions) of levels."""

    def __init__(
        self,
        planes: np.ndarray,
        shape: tuple[int, ...],
        layout: Layout,
        side: Side,
        logarithm: np.ndarray,
        kind: str,
        relief: np.ndarray | None = None,
    ) -> None:
        self._planes, self._shape, self._layout, self._side = planes, shape, layout, side
        self._logarithm, self._kind = logarithm.astype(np.float32), kind
        self._relief = np.zeros((4, planes.shape[1]), np.float32) if relief is None else relief
        self._size = np.zeros(planes.shape, np.float32)  # |level|, at most 15
        self._edge = np.zeros(
            planes.shape, np.float32
        )  # the same summed over the 4 positions beside
        self._corner = np.zeros(planes.shape, np.float32)
        number = np.arange(planes.shape[1]).reshape(shape)
        self._turns = [number[top::2, left::2].ravel() for top, left in PASSES]

    def run(self, atoms: range) -> None:
        """Visit the groups in `atoms`; what lies below them is known."""
        for group in self._layout.groups:
            if group.start >= atoms.stop:
                break
            own = slice(group.start, group.stop)
            if group.start >= atoms.start:
                self._planes[own] = 0
                self._visit(group)
            self._size[own] = np.minimum(np.abs(self._planes[own]), _LARGEST)
            self._edge[own], self._corner[own] = self._around(self._size[own])

    def _visit(self, group: range) -> None:
        total = self._size[: group.start].sum(axis=0)
        about = self._edge[: group.start].sum(axis=0), self._corner[: group.start].sum(axis=0)
        flagged = self._layout.flagged(group)
        for turn, positions in enumerate(self._turns):
            own = np.minimum(np.abs(self._planes[group.start : group.stop]), _LARGEST).astype(
                np.float32
            )
            beside = self._around(own) if turn else (np.zeros_like(own), np.zeros_like(own))
            if flagged and len(positions):
                features = self._flag_features(group, positions, total, about, own, beside)
                flags = self._side.flags(("flag", group.start, 1, turn), features, positions)
                positions = positions[flags]  # noqa: PLW2901
            if len(positions):
                self._visit_entries(group, turn, positions, total, about, beside)

    def _visit_entries(
        self,
        group: range,
        turn: int,
        positions: np.ndarray,
        total: np.ndarray,
        about: tuple[np.ndarray, np.ndarray],
        beside: tuple[np.ndarray, np.ndarray],
    ) -> None:
        """Entries of a group at some positions, then their levels."""
        features = self._features(group, positions, total, about, beside)  # (F, atoms, positions)
        flat = features.reshape(FEATURES, -1)
        atom = np.repeat(np.arange(len(group)), len(positions))
        where = (group.start + atom) * self._planes.shape[1] + np.tile(positions, len(group))
        found = self._side.entries(
            (self._kind or "entry", group.start, len(group), turn), flat, atom, where
        )
        if found.any():
            head = (f"{self._kind} level".strip(), group.start, len(group), 0)
            levels = self._side.levels(head, flat[:, found], atom[found], where[found])
            self._planes.reshape(-1)[where[found]] = levels

    def _features(
        self,
        group: range,
        positions: np.ndarray,
        total: np.ndarray,
        about: tuple[np.ndarray, np.ndarray],
        beside: tuple[np.ndarray, np.ndarray],
    ) -> np.ndarray:
        own, below = slice(group.start, group.stop), slice(0, group.start)
        near = self._layout.nearness[own, below]
        edge, corner = beside[0][:, positions], beside[1][:, positions]
        shape = edge.shape
        fall = self._layout.direction[:, own].T @ self._relief[:2, positions]
        bend = self._layout.direction[:, own].T @ self._relief[2:, positions]
        parts = [
            near @ planes[below][:, positions] for planes in (self._size, self._edge, self._corner)
        ]
        parts += [
            total[positions],
            about[0][positions] + about[1][positions],
            16 * edge,
            16 * corner,
        ]
        parts += [
            self._layout.nearness[own, own] @ edge,
            (edge + corner).sum(axis=0),
            fall // 16,
            bend // 16,
        ]
        return self._logs(parts, shape)

    def _flag_features(
        self,
        group: range,
        positions: np.ndarray,
        total: np.ndarray,
        about: tuple[np.ndarray, np.ndarray],
        own: np.ndarray,
        beside: tuple[np.ndarray, np.ndarray],
    ) -> np.ndarray:
        """(F, positions): sums of all that is known, of the group before, and of this group around."""
        before = next(g for g in self._layout.groups if g.stop == group.start)
        last = slice(before.start, before.stop)
        edge, corner = (side.sum(axis=0)[positions] for side in beside)
        parts = [total[positions], about[0][positions], about[1][positions]]
        parts += [
            planes[last].sum(axis=0)[positions] for planes in (self._size, self._edge, self._corner)
        ]
        parts += [edge, corner, own.sum(axis=0)[self._far(positions)].sum(axis=0)]
        parts += [self._relief[:2, positions].max(axis=0), self._relief[2:, positions].max(axis=0)]
        return self._logs(parts, positions.shape)

    def _far(self, positions: np.ndarray) -> np.ndarray:
        """(2, n): the positions two to the left and two above, or the same position where there is none."""
        columns = self._shape[1]
        left = np.where(positions % columns >= 2, positions - 2, positions)
        above = np.where(positions >= 2 * columns, positions - 2 * columns, positions)
        return np.stack([left, above])

    def _logs(self, parts: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
        values = np.empty((FEATURES, *shape), np.intp)
        for value, part in zip(values, parts, strict=True):
            value[...] = part
        return self._logarithm[np.minimum(values, len(self._logarithm) - 1)]

    def _around(self, planes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sums over the 4 positions beside and the 4 at the corners; nothing lies outside."""
        x = np.pad(planes.reshape(-1, *self._shape), ((0, 0), (1, 1), (1, 1)))
        rows = x[:, :-2] + x[:, 2:]
        corner = rows[..., :-2] + rows[..., 2:]
        edge = rows[..., 1:-1] + x[:, 1:-1, :-2] + x[:, 1:-1, 2:]
        return edge.reshape(planes.shape), corner.reshape(planes.shape)


@cache
def offsets(layout: Layout) -> tuple[tuple[Head, int, int], ...]:
    """(head, its number, where its atoms start in `bias`)."""
    wanted = heads(layout)
    starts = accumulate((head[2] for head in wanted), initial=0)
    return tuple(
        (head, number, start)
        for number, (head, start) in enumerate(zip(wanted, starts, strict=False))
    )


class Truth:
    """A code whose entries are known, as a walk asks for them. where: as in `Side`."""

    def __init__(self, levels: np.ndarray, layout: Layout) -> None:
        self._levels, self._positions = levels.reshape(-1), levels[0].size
        self._means = split_means(levels[0]).reshape(-1) if layout.means else self._levels
        self._sizes = {group.start: len(group) for group in layout.groups}

    def group(self, head: Head) -> slice:
        """The atoms of a head's group."""
        return slice(head[1], head[1] + self._sizes[head[1]])

    def count(self, head: Head, where: np.ndarray) -> np.ndarray:
        """How many entries the head's group has at each of the positions: int (n,)."""
        return np.count_nonzero(
            self._levels.reshape(-1, self._positions)[self.group(head)][:, where], axis=0
        )

    def levels(self, head: Head, where: np.ndarray) -> np.ndarray:
        """Levels at these places: int64 (n,)."""
        return (self._means if head[0].startswith("mean") else self._levels)[where].astype(np.int64)
