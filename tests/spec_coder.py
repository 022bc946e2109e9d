"""A second reader of docs/format.md, section 7: written from the text, slow, in whole numbers only.

`Spec.decode` does what `codes/kernel/` does, and shares nothing with it but the tables.
`tests/core/test_spec.py` holds one against the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

BESIDE = ((-1, 0), (1, 0), (0, -1), (0, 1))
CORNERS = ((-1, -1), (-1, 1), (1, -1), (1, 1))
PASSES = ((0, 0), (1, 1), (0, 1), (1, 0))
STARTS = (1, 4, 10, 16, 24, 34, 48, 68, 96, 136, 188)
DC_STARTS = (0, 1, 3, 6)
HALF = 1 << 15

Planes = list[list[list[int]]]
Slopes = Callable[[int, int], tuple[int, int, int, int]]
Head = tuple[str, tuple[int, int], str, int]


class Rows(NamedTuple):
    """number: of a head; bias, linear: its first rows there."""

    number: int
    bias: int
    linear: int


class Damaged(Exception):
    """A stream that no encoder has written."""


class Bits:
    """A stream, bit by bit."""

    def __init__(self, data: bytes) -> None:
        self._data, self._left = data, 0
        self._low, self._high = 0, 2**64 - 1

    def take(self, probability: int) -> int:
        """probability: of a one, in 65536ths."""
        width = self._high - self._low
        middle = self._low + width // 65536 * probability
        middle += width % 65536 * probability // 65536
        one = self._at() <= middle
        if one:
            self._high = middle
        else:
            self._low = middle + 1
        while self._low >> 56 == self._high >> 56:
            self._low = self._low << 8 & 2**64 - 1
            self._high = self._high << 8 & 2**64 - 1 | 255
            self._left += 1
        return int(one)

    def finish(self) -> None:
        """Raise Damaged unless an encoder would end like this."""
        for count in range(9):
            rest = 1 << 64 - 8 * count
            last = self._high // rest * rest if count else 0
            if last >= self._low:
                break
        written = self._data[: self._left] + last.to_bytes(8, "big")[:count]
        if self._data != written.rstrip(b"\0"):
            raise Damaged

    def _at(self) -> int:
        following = self._data[self._left : self._left + 8]
        return int.from_bytes(following.ljust(8, b"\0"), "big")


def frequencies(n: int) -> list[tuple[int, int]]:
    """(u, v) of n² atoms in their order."""
    return sorted(
        ((u, v) for u in range(n) for v in range(n)), key=lambda a: (a[0] ** 2 + a[1] ** 2, a[0])
    )


def borders(starts: tuple[int, ...], stop: int) -> list[tuple[int, int]]:
    """Groups from where they start."""
    inside = [s for s in starts if s < stop]
    return list(zip(inside, [*inside[1:], stop], strict=True))


@dataclass
class Stack:
    """Planes that are scanned together. kind: "dc" or "code"; names: frequencies, if any."""

    kind: str
    planes: Planes
    groups: list[tuple[int, int]]
    names: list[tuple[int, int]] | None
    slopes: Slopes
    public: Any

    @property
    def first(self) -> int:
        return self.groups[0][0]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.planes[0]), len(self.planes[0][0])

    def size(self, atom: int, y: int, x: int) -> int:
        height, width = self.shape
        inside = 0 <= y < height and 0 <= x < width
        return min(abs(self.planes[atom][y][x]), 15) if inside else 0

    def signed(self, atom: int, y: int, x: int, where: tuple) -> int:
        """Sum of what is known so far, each at most 2 in size."""
        height, width = self.shape
        places = [(y + dy, x + dx) for dy, dx in where]
        inside = [(i, j) for i, j in places if 0 <= i < height and 0 <= j < width]
        return sum(min(max(self.planes[atom][i][j], -2), 2) for i, j in inside)

    def around(self, atom: int, y: int, x: int, where: tuple) -> int:
        return sum(self.size(atom, y + dy, x + dx) for dy, dx in where)

    def near(self, a: int, b: int) -> int:
        if self.names is None:
            return 16 * (a == b)
        d = sum((p - q) ** 2 for p, q in zip(self.names[a], self.names[b], strict=True))
        return 0 if d > 9 else (32 + max(d, 1)) // (2 * max(d, 1))

    def by_nearness(self, atom: int, others: range, known: Callable[[int], int]) -> int:
        return sum(self.near(atom, b) * known(b) for b in others)

    def entry_features(self, group: tuple[int, int], atom: int, y: int, x: int) -> list[int]:
        coarser, own = range(self.first, group[0]), range(*group)
        u, v = self.names[atom] if self.names else (0, 0)
        down, across = 16 * u // max(u + v, 1), 16 * v // max(u + v, 1)
        slope = self.slopes(y, x)

        def here(b: int) -> int:
            return self.size(b, y, x)

        def beside(b: int) -> int:
            return self.around(b, y, x, BESIDE)

        def corners(b: int) -> int:
            return self.around(b, y, x, CORNERS)

        return [
            self.by_nearness(atom, coarser, here),
            self.by_nearness(atom, coarser, beside),
            self.by_nearness(atom, coarser, corners),
            sum(map(here, coarser)),
            sum(map(beside, coarser)) + sum(map(corners, coarser)),
            16 * beside(atom),
            16 * corners(atom),
            self.by_nearness(atom, own, beside),
            sum(map(beside, own)) + sum(map(corners, own)),
            (slope[0] * down + slope[1] * across) // 16,
            (slope[2] * down + slope[3] * across) // 16,
            16 * (self.size(atom, y, x - 2) + self.size(atom, y - 2, x)),
            self.by_nearness(atom, range(group[0], atom), here),
            sum(map(here, range(group[0], atom))),
        ]

    def flag_features(self, number: int, y: int, x: int) -> list[int]:
        group = self.groups[number]
        last = range(*self.groups[number - 1]) if number else range(0)
        slope, sums = self.slopes(y, x), []
        for atoms in (range(self.first, group[0]), last):
            sums.append(sum(self.size(a, y, x) for a in atoms))
            sums += [sum(self.around(a, y, x, w) for a in atoms) for w in (BESIDE, CORNERS)]
        sums += [sum(self.around(a, y, x, w) for a in range(*group)) for w in (BESIDE, CORNERS)]
        two = [self.size(a, y, x - 2) + self.size(a, y - 2, x) for a in range(*group)]
        return [*sums, sum(two), max(slope[:2]), max(slope[2:]), 0, 0, 0]


@dataclass
class Spec:
    """What a reader knows of a record.

    L, M: as in the header; learned: the model's atoms have no order.
    """

    tables: Any
    L: int
    M: int
    learned: bool
    height: int
    width: int
    entries: int
    atoms: range
    support: Bits
    values: Bits | None
    public: Any = None
    _heads: dict[Head, Rows] = field(default_factory=dict)

    def decode(self, known: np.ndarray) -> np.ndarray:
        """The levels (L M, h, w) of all atoms up to those of this record."""
        planes: Planes = known.astype(int).tolist()
        self._number_heads()
        if not self.learned and self.atoms.start == 0:
            self._decode_dc(planes)
        slopes = _flat if self.learned else self._slopes(planes[0])
        names = None if self.learned else frequencies(math.isqrt(self.L * self.M))
        public = None if self.public is None else self.public.tolist()
        stack = Stack("code", planes, self.groups, names, slopes, public)
        self._scan(stack, self.atoms)
        self.support.finish()
        if self.values is not None:
            self.values.finish()
        return np.array(planes)

    @property
    def groups(self) -> list[tuple[int, int]]:
        if self.learned:
            return borders(tuple(range(0, self.L * self.M, min(64, self.M))), self.L * self.M)
        return borders(STARTS, self.L * self.M)

    def _flagged(self, kind: str, group: tuple[int, int]) -> bool:
        return kind == "code" and not self.learned and group[0] >= 24

    def _number_heads(self) -> None:
        stacks = [] if self.learned else [("dc", borders(DC_STARTS, 16))]
        bias = linear = 0
        for kind, groups in [*stacks, ("code", self.groups)]:
            for group in groups:
                decisions = [("entry", t) for t in range(4)] + [("level", e) for e in range(12)]
                decisions += [("bit", b) for b in range(7)]
                decisions += [("flag", t) for t in range(4)] * self._flagged(kind, group)
                atoms = group[1] - group[0]
                for decision, number in decisions:
                    rows = Rows(len(self._heads), bias, linear)
                    self._heads[kind, group, decision, number] = rows
                    bias += 1 if decision == "flag" else atoms
                    linear += atoms if decision == "entry" else 1

    def _probability(self, head: Head, atom: int, features: list[int]) -> int:
        t = self.tables
        number, first, slopes = self._heads[head]
        f = [int(t.logarithm[min(x, 8191)]) for x in features]
        r = self._density()
        bias = [int(x) for x in t.bias[first + atom]]
        logit = bias[0] + bias[1] * r + bias[2] * r * r // 64
        linear = t.linear[slopes + (atom if head[2] == "entry" else 0)].tolist()
        for weight, present, x in zip(linear, t.present[number].tolist(), f, strict=True):
            logit += weight * x + present * (x > 0)
        hidden = 0
        for outer, inner in zip(t.outer[number].tolist(), t.inner[number].tolist(), strict=True):
            unit = sum(w * x for w, x in zip(inner, [*f, r, 8], strict=True))
            hidden += outer * max(0, unit)
        return self._look_up(logit + hidden // 4096)

    def _look_up(self, logit: int) -> int:
        clipped = min(max(logit, -11 * 1024), 11 * 1024)
        return int(self.tables.probability[(clipped + 11 * 1024) // 64])

    def _density(self) -> int:
        ratio = Fraction(self.entries, self.height * self.width) ** 8
        guess = math.floor(math.log2(ratio))
        return next(r for r in (guess + 1, guess, guess - 1) if ratio >= Fraction(2) ** r)

    def _decode_dc(self, planes: Planes) -> None:
        rows, columns = -(-self.height // 4), -(-self.width // 4)
        names = frequencies(4)
        blocks = [[[0] * columns for _ in range(rows)] for _ in names]
        public = None if self.public is None else self._blocks_of(self.public[0], rows, columns)
        stack = Stack("dc", blocks, borders(DC_STARTS, 16), names, _flat, public)
        self._scan(stack, range(16))
        for y in range(4 * rows):
            for x in range(4 * columns):
                level = blocks[names.index((y % 4, x % 4))][y // 4][x // 4]
                if y < self.height and x < self.width:
                    planes[0][y][x] = level
                elif level:
                    raise Damaged

    def _blocks_of(self, plane: Any, rows: int, columns: int) -> Planes:
        padded = np.zeros((4 * rows, 4 * columns), int)
        padded[: self.height, : self.width] = plane
        return [padded[u::4, v::4].tolist() for u, v in frequencies(4)]

    def _slopes(self, levels: list[list[int]]) -> Slopes:
        """Gradient and curvature of the DC plane."""
        down, across = (_second(side) for side in (self.height, self.width))
        means = np.array(down).T @ np.array(levels) @ np.array(across) // 4096

        def at(y: int, x: int) -> int:
            return int(means[min(max(y, 0), self.height - 1)][min(max(x, 0), self.width - 1)])

        return lambda y, x: (
            abs(at(y - 1, x) - at(y + 1, x)),
            abs(at(y, x - 1) - at(y, x + 1)),
            abs(at(y - 1, x) + at(y + 1, x) - 2 * at(y, x)),
            abs(at(y, x - 1) + at(y, x + 1) - 2 * at(y, x)),
        )

    def _scan(self, stack: Stack, record: range) -> None:
        height, width = stack.shape
        for number, group in enumerate(stack.groups):
            if group[0] not in record:
                continue
            for atom in range(*group):
                stack.planes[atom] = [[0] * width for _ in range(height)]
            for turn, (top, left) in enumerate(PASSES):
                for y in range(top, height, 2):
                    for x in range(left, width, 2):
                        self._visit(stack, number, turn, y, x)

    def _visit(self, stack: Stack, number: int, turn: int, y: int, x: int) -> None:
        group, flag = stack.groups[number], 65536
        if self._flagged(stack.kind, group):
            features = stack.flag_features(number, y, x)
            flag = self._probability((stack.kind, group, "flag", turn), 0, features)
            if stack.public is None and not self.support.take(flag):
                return
        for atom in range(*group):
            if stack.public is not None and not stack.public[atom][y][x]:
                continue
            head, features = (
                (stack.kind, group, "entry", turn),
                stack.entry_features(group, atom, y, x),
            )
            p = self._probability(head, atom - group[0], features)
            if stack.public is not None:
                if self.support.take(_given(p * flag // 65536, stack.public[atom])):
                    stack.planes[atom][y][x] = int(stack.public[atom][y][x])
            elif self.support.take(p):
                minus = self._minus(stack, atom, turn, y, x)
                level = self._level(stack.kind, group, atom, features, minus)
                stack.planes[atom][y][x] = level

    def _level(
        self, kind: str, group: tuple[int, int], atom: int, features: list[int], minus: int
    ) -> int:
        assert self.values is not None
        exponent, size = 0, 1
        while exponent < 14:
            head = (kind, group, "level", min(exponent, 11))
            if not self.values.take(self._probability(head, atom - group[0], features)):
                break
            exponent += 1
        for bit in range(exponent):
            if exponent <= 3 and bit < 2:
                number = 0 if exponent == 1 else 3 * exponent - 5 + bit * (1 + size % 2)
                p = self._probability((kind, group, "bit", number), atom - group[0], features)
            else:
                p = HALF if bit else self._look_up(int(self.tables.mantissa[exponent]))
            size = 2 * size + self.values.take(p)
        return -size if self.values.take(minus) else size

    def _minus(self, stack: Stack, atom: int, turn: int, y: int, x: int) -> int:
        """The probability that the sign is a minus."""
        if stack.kind == "dc":
            return HALF
        sums = [
            stack.signed(atom, y, x, ((0, -1), (0, 1))),
            stack.signed(atom, y, x, ((-1, 0), (1, 0))),
            stack.signed(atom, y, x, CORNERS),
            stack.signed(atom, y, x, ((0, -2),)),
            stack.signed(atom, y, x, ((-2, 0),)),
        ]
        weights = self.tables.signs[atom][turn].tolist()
        logit, change = (sum(w[k] * s for w, s in zip(weights, sums, strict=True)) for k in (0, 1))
        return self._look_up(logit + change * self._density() // 64)


def plain_support(data: bytes, places: int, entries: int) -> list[int]:
    """A support without context."""
    bits = Bits(data)
    p = min(max((65536 * entries + places // 2) // places, 1), 65535)
    found = [bits.take(p) for _ in range(places)]
    bits.finish()
    return found


def _given(p: int, public: Any) -> int:
    """The probability of an entry, given that the public code has one there."""
    levels = [level for row in public for level in row]
    yes = 2 * len(levels) * p
    given = 65536 * yes // (yes + (65536 - p) * sum(level != 0 for level in levels))
    return min(max(given, 1), 65535)


def _flat(y: int, x: int) -> tuple[int, int, int, int]:
    return (0, 0, 0, 0)


def _second(side: int) -> list[list[int]]:
    """The block matrix of the second transform times 64, rounded."""
    matrix = [[0] * side for _ in range(side)]
    for start in range(0, side, 4):
        n = min(4, side - start)
        for k in range(n):
            for i in range(n):
                angle = math.pi * k * (2 * i + 1) / (2 * n)
                scale = math.sqrt((1 if k == 0 else 2) / n)
                matrix[start + k][start + i] = round(64 * scale * math.cos(angle))
    return matrix
