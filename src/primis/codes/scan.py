"""The scan: in which order the entries of a code are visited, and what is known then (contexts).

The atoms go from coarse to fine in groups, and the positions of each group in four passes over a
lattice, so that a visit sees all of the coarser atoms and, from the second pass on, neighbours of
its own group. What it sees becomes integer features (`probabilities.py` turns them into
probabilities). Encoder, decoder, prices and the fit of the tables are all visitors of this one
scan, so they cannot disagree. docs/format.md, section 7, is the specification.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from functools import cache
from itertools import accumulate
from typing import NamedTuple, Protocol

import numpy as np

from primis.codes.layout import Layout
from primis.errors import DamagedSection

PASSES = ((0, 0), (1, 1), (0, 1), (1, 0))
"""Rows and columns at which the four passes over the positions start; each has a step of 2."""

FEATURES = 11
EXPONENTS = 12

_DENSITY_UNIT = 8
_LARGEST = 15.0


class Decision(Enum):
    """What is decided: whether an entry is there, whether a group has any, how large a level is."""

    ENTRY = "entry"
    FLAG = "flag"
    LEVEL = "level"


class Head(NamedTuple):
    """A kind of decision in a group, with probabilities of its own.

    dc: in the stack of the DC plane; first, atoms: the group, for a flag as one atom; number: the
    pass, or a level's exponent.
    """

    dc: bool
    decision: Decision
    first: int
    atoms: int
    number: int

    def at_exponent(self, exponent: int) -> Head:
        """The head that decides whether a level's exponent is over `exponent`."""
        return self._replace(number=min(exponent, EXPONENTS - 1))


def heads(layout: Layout) -> list[Head]:
    """All heads of a layout's coder, in the order in which the model's tables hold them."""
    stacks = [(True, layout.dc), (False, layout)]
    return [
        head for dc, stack in stacks for group in stack.groups for head in _heads(dc, stack, group)
    ]


def _heads(dc: bool, layout: Layout, group: range) -> list[Head]:
    first, atoms = group.start, len(group)
    found = [Head(dc, Decision.ENTRY, first, atoms, number) for number in range(len(PASSES))]
    found += [Head(dc, Decision.LEVEL, first, atoms, exponent) for exponent in range(EXPONENTS)]
    if layout.flagged(group):
        found += [Head(dc, Decision.FLAG, first, 1, number) for number in range(len(PASSES))]
    return found


@cache
def offsets(layout: Layout) -> tuple[tuple[Head, int, int], ...]:
    """(head, its number, where its atoms start in `bias`)."""
    wanted = heads(layout)
    starts = accumulate((head.atoms for head in wanted[:-1]), initial=0)
    return tuple(zip(wanted, range(len(wanted)), starts, strict=True))


def entry_density(entries: int, positions: int) -> int:
    """floor(8 log2(entries / positions)), exactly: log2 of the eighth power, of integers."""
    ratio = ((entries**_DENSITY_UNIT) << 512) // positions**_DENSITY_UNIT
    return ratio.bit_length() - 1 - 512


class Visitor(Protocol):
    """Who says what is at each visit: an encoder, a decoder, or who fits the model.

    features: (F, n) float32 logarithms. where: (n,) index into the flat levels (LM, h, w), or into
    the flat DC stack for a head with `dc`; of flags: the position.
    """

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


def scan(
    levels: np.ndarray, atoms: range, layout: Layout, visitor: Visitor, logarithm: np.ndarray
) -> None:
    """Visit all entries of `atoms` of levels (LM, h, w) in coding order.

    The visitor says what is there. levels is filled on the way; the atoms below `atoms` must be right.
    """
    if atoms.start == 0:
        stack = np.zeros_like(layout.split_dc(levels))
        flat = np.zeros((4, stack[:1].size), np.float32)
        _Scan(stack, layout.dc, visitor, logarithm, flat, dc=True).run(range(len(stack)))
        layout.join_dc(stack, levels)
        if np.count_nonzero(stack) != np.count_nonzero(layout.split_dc(levels)):
            raise DamagedSection('section "supports": a stream has entries outside its tile')
    gradients = layout.gradients(levels)
    _Scan(levels, layout, visitor, logarithm, gradients, dc=False).run(atoms)


@dataclass(frozen=True, eq=False)
class _Around:
    """A quantity (..., positions) summed over the 4 positions beside each, and the 4 corners."""

    edge: np.ndarray
    corner: np.ndarray


@dataclass(frozen=True, eq=False)
class _Seen:
    """What a pass over a group knows. total, about: sizes of all coarser atoms, here and around.

    own: (atoms, positions) sizes of the group itself, as far as they are known; beside: around it.
    """

    group: range
    number: int
    total: np.ndarray
    about: _Around
    own: np.ndarray
    beside: _Around


class _Scan:
    """One scan over a stack of levels (A, h, w)."""

    def __init__(
        self,
        levels: np.ndarray,
        layout: Layout,
        visitor: Visitor,
        logarithm: np.ndarray,
        gradients: np.ndarray,
        *,
        dc: bool,
    ) -> None:
        positions = np.arange(math.prod(levels.shape[1:]))
        self._planes, self._shape = levels.reshape(len(levels), len(positions)), levels.shape[1:]
        self._layout, self._visitor, self._dc = layout, visitor, dc
        self._logarithm, self._gradients = logarithm.astype(np.float32), gradients
        self._size = np.zeros(self._planes.shape, np.float32)  # |level|, at most 15
        self._edge, self._corner = np.zeros_like(self._size), np.zeros_like(self._size)
        grid = positions.reshape(self._shape)
        self._passes = [grid[top::2, left::2].ravel() for top, left in PASSES]

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
            around = self._around(self._size[own])
            self._edge[own], self._corner[own] = around.edge, around.corner

    def _visit(self, group: range) -> None:
        coarser = slice(0, group.start)
        total = self._size[coarser].sum(axis=0)
        about = _Around(self._edge[coarser].sum(axis=0), self._corner[coarser].sum(axis=0))
        for number, positions in enumerate(self._passes):
            levels = self._planes[group.start : group.stop]
            own = np.minimum(np.abs(levels), _LARGEST).astype(np.float32)
            seen = _Seen(group, number, total, about, own, self._around(own))
            there = positions
            if self._layout.flagged(group) and len(there):
                head = Head(self._dc, Decision.FLAG, group.start, 1, number)
                features = self._flag_features(seen, there)
                there = there[self._visitor.flags(head, features, there)]
            if len(there):
                self._visit_entries(seen, there)

    def _visit_entries(self, seen: _Seen, positions: np.ndarray) -> None:
        """Entries of a group at some positions, then their levels."""
        first, atoms = seen.group.start, len(seen.group)
        features = self._features(seen, positions).reshape(FEATURES, -1)  # (F, atoms x positions)
        atom = np.repeat(np.arange(atoms), len(positions))
        where = (first + atom) * self._planes.shape[1] + np.tile(positions, atoms)
        head = Head(self._dc, Decision.ENTRY, first, atoms, seen.number)
        found = self._visitor.entries(head, features, atom, where)
        if found.any():
            head = Head(self._dc, Decision.LEVEL, first, atoms, 0)
            levels = self._visitor.levels(head, features[:, found], atom[found], where[found])
            self._planes.reshape(-1)[where[found]] = levels

    def _features(self, seen: _Seen, positions: np.ndarray) -> np.ndarray:
        """(F, atoms, positions), of entries."""
        own, coarser = slice(seen.group.start, seen.group.stop), slice(0, seen.group.start)
        near = self._layout.nearness[own, coarser]
        edge, corner = seen.beside.edge[:, positions], seen.beside.corner[:, positions]
        direction = self._layout.direction[:, own].T
        planes = (self._size, self._edge, self._corner)
        parts = [near @ plane[coarser][:, positions] for plane in planes]
        parts += [
            seen.total[positions],
            seen.about.edge[positions] + seen.about.corner[positions],
            16 * edge,
            16 * corner,
            self._layout.nearness[own, own] @ edge,
            (edge + corner).sum(axis=0),
            direction @ self._gradients[:2, positions] // 16,
            direction @ self._gradients[2:, positions] // 16,
        ]
        return self._logs(parts, edge.shape)

    def _flag_features(self, seen: _Seen, positions: np.ndarray) -> np.ndarray:
        """(F, positions): sums of all that is known, of the group before, of this group around."""
        before = next(g for g in self._layout.groups if g.stop == seen.group.start)
        last = slice(before.start, before.stop)
        planes = (self._size, self._edge, self._corner)
        about = seen.about
        parts = [known[positions] for known in (seen.total, about.edge, about.corner)]
        parts += [plane[last].sum(axis=0)[positions] for plane in planes]
        parts += [
            seen.beside.edge.sum(axis=0)[positions],
            seen.beside.corner.sum(axis=0)[positions],
            seen.own.sum(axis=0)[self._two_away(positions)].sum(axis=0),
            self._gradients[:2, positions].max(axis=0),
            self._gradients[2:, positions].max(axis=0),
        ]
        return self._logs(parts, positions.shape)

    def _two_away(self, positions: np.ndarray) -> np.ndarray:
        """(2, n): positions two to the left and two above, or the same where there is none."""
        columns = self._shape[1]
        left = np.where(positions % columns >= 2, positions - 2, positions)
        above = np.where(positions >= 2 * columns, positions - 2 * columns, positions)
        return np.stack([left, above])

    def _logs(self, parts: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
        values = np.empty((FEATURES, *shape), np.intp)
        for value, part in zip(values, parts, strict=True):
            value[...] = part
        return self._logarithm[np.minimum(values, len(self._logarithm) - 1)]

    def _around(self, planes: np.ndarray) -> _Around:
        """Nothing lies outside."""
        x = np.pad(planes.reshape(-1, *self._shape), ((0, 0), (1, 1), (1, 1)))
        rows = x[:, :-2] + x[:, 2:]
        corner = rows[..., :-2] + rows[..., 2:]
        edge = rows[..., 1:-1] + x[:, 1:-1, :-2] + x[:, 1:-1, 2:]
        return _Around(edge.reshape(planes.shape), corner.reshape(planes.shape))


class Truth:
    """A code whose entries are known, as a visitor asks for them; see `Visitor` for `where`."""

    def __init__(self, levels: np.ndarray, layout: Layout) -> None:
        self._levels, self._positions = levels.reshape(-1), levels[0].size
        self._dc = layout.split_dc(levels).reshape(-1)
        self._sizes = {group.start: len(group) for group in layout.groups}

    def group(self, head: Head) -> slice:
        """The atoms of a head's group."""
        return slice(head.first, head.first + self._sizes[head.first])

    def count(self, head: Head, where: np.ndarray) -> np.ndarray:
        """How many entries the head's group has at each of the positions: int (n,)."""
        planes = self._levels.reshape(-1, self._positions)
        return np.count_nonzero(planes[self.group(head)][:, where], axis=0)

    def levels(self, head: Head, where: np.ndarray) -> np.ndarray:
        """Levels at these places: int64 (n,)."""
        return (self._dc if head.dc else self._levels)[where].astype(np.int64)
