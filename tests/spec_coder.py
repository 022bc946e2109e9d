"""A second reader of docs/format.md, section 7: written from the text, slow, in whole numbers only.

`decode` does what `codes/coder.py` and `codes/context.py` do together, and shares nothing with them but the
range decoder and the tables. `tests/core/test_spec.py` holds one against the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import constriction
import numpy as np

BESIDE = ((-1, 0), (1, 0), (0, -1), (0, 1))
CORNERS = ((-1, -1), (-1, 1), (1, -1), (1, 1))
PASSES = ((0, 0), (1, 1), (0, 1), (1, 0))
STARTS = (1, 4, 10, 16, 24, 34, 48, 68, 96, 136, 188)
MEAN_STARTS = (0, 1, 3, 6)

Planes = list[list[list[int]]]
Relief = Callable[[int, int], tuple[int, int, int, int]]


class Bits:
    """A stream, bit by bit. chance: 65536ths of a one."""

    def __init__(self, data: bytes) -> None:
        self._decoder = constriction.stream.queue.RangeDecoder(
            np.frombuffer(data, "<u4").astype(np.uint32)
        )

    def take(self, chance: float) -> int:
        return int(
            self._decoder.decode(
                constriction.stream.model.Bernoulli(perfect=False), np.array([chance / 65536])
            )[0]
        )


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
class Spec:
    """What a reader knows of a record. L, M: as in the header; learned: the model's atoms have no order."""

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
    _heads: dict = field(default_factory=dict)

    def decode(self, known: np.ndarray) -> np.ndarray:
        """The levels (L M, h, w) of all atoms up to those of this record."""
        planes: Planes = known.astype(int).tolist()
        self._number_heads()
        if not self.learned and self.atoms.start == 0:
            self._decode_means(planes)
        relief: Relief = (lambda y, x: (0, 0, 0, 0)) if self.learned else self._relief(planes[0])
        names = None if self.learned else frequencies(round(math.sqrt(self.L * self.M)))
        self._walk("", planes, self.groups, names, relief, self.public)
        return np.array(planes)

    @property
    def groups(self) -> list[tuple[int, int]]:
        if self.learned:
            return borders(tuple(range(0, self.L * self.M, min(64, self.M))), self.L * self.M)
        return borders(STARTS, self.L * self.M)

    def _flagged(self, kind: str, group: tuple[int, int]) -> bool:
        return not kind and not self.learned and group[0] >= 24

    def _number_heads(self) -> None:
        stacks = [("mean", borders(MEAN_STARTS, 16))] * (not self.learned) + [("", self.groups)]
        place = 0
        for kind, groups in stacks:
            for group in groups:
                decisions = [("entry", t) for t in range(4)] + [("level", e) for e in range(12)]
                decisions += [("flag", t) for t in range(4)] * self._flagged(kind, group)
                for decision in decisions:
                    self._heads[kind, group, *decision] = (len(self._heads), place)
                    place += 1 if decision[0] == "flag" else group[1] - group[0]

    def _chance(self, head: tuple, atom: int, features: list[int]) -> int:
        t = self.tables
        number, place = self._heads[head]
        f = [int(t.logarithm[min(x, len(t.logarithm) - 1)]) for x in features]
        r = self._density()
        bias = [int(x) for x in t.bias[place + atom]]
        logit = bias[0] + bias[1] * r + (bias[2] * r * r) // 64
        logit += sum(
            int(t.linear[number, i, 0]) * f[i] + int(t.linear[number, i, 1]) * (f[i] > 0)
            for i in range(11)
        )
        hidden = 0
        for j in range(8):
            inner = [int(x) for x in t.inner[number, j]]
            unit = sum(inner[i] * f[i] for i in range(11)) + inner[11] * r + inner[12]
            hidden += int(t.outer[number, j]) * max(0, unit)
        return self._look_up(logit + hidden // 4096)

    def _look_up(self, logit: int) -> int:
        return int(
            self.tables.probability[(min(max(logit, -11 * 1024), 11 * 1024) + 11 * 1024) // 64]
        )

    def _density(self) -> int:
        ratio = Fraction(self.entries, self.height * self.width) ** 8
        guess = math.floor(math.log2(ratio))
        return next(r for r in (guess + 1, guess, guess - 1) if ratio >= Fraction(2) ** r)

    def _decode_means(self, planes: Planes) -> None:
        rows, columns = -(-self.height // 4), -(-self.width // 4)
        names = frequencies(4)
        stack = [[[0] * columns for _ in range(rows)] for _ in names]
        shown = None
        if self.public is not None:
            inside = lambda y, x: y < self.height and x < self.width  # noqa: E731
            shown = [
                [
                    [
                        int(self.public[0][4 * y + u][4 * x + v])
                        if inside(4 * y + u, 4 * x + v)
                        else 0
                        for x in range(columns)
                    ]
                    for y in range(rows)
                ]
                for u, v in names
            ]
        self._walk("mean", stack, borders(MEAN_STARTS, 16), names, lambda y, x: (0, 0, 0, 0), shown)
        for y in range(self.height):
            for x in range(self.width):
                planes[0][y][x] = stack[names.index((y % 4, x % 4))][y // 4][x // 4]

    def _relief(self, levels: list[list[int]]) -> Relief:
        down, across = (_second(side) for side in (self.height, self.width))
        rows, columns = range(self.height), range(self.width)
        means = [
            [
                sum(down[k][y] * levels[k][m] * across[m][x] for k in rows for m in columns) // 4096
                for x in columns
            ]
            for y in rows
        ]

        def at(y: int, x: int) -> int:
            return means[min(max(y, 0), self.height - 1)][min(max(x, 0), self.width - 1)]

        return lambda y, x: (
            abs(at(y - 1, x) - at(y + 1, x)),
            abs(at(y, x - 1) - at(y, x + 1)),
            abs(at(y - 1, x) + at(y + 1, x) - 2 * at(y, x)),
            abs(at(y, x - 1) + at(y, x + 1) - 2 * at(y, x)),
        )

    def _walk(
        self,
        kind: str,
        planes: Planes,
        groups: list,
        names: list | None,
        relief: Relief,
        shown: Any,
    ) -> None:
        height, width = len(planes[0]), len(planes[0][0])
        first = 0 if kind or self.learned else 1
        record = range(16) if kind else self.atoms

        def size(a: int, y: int, x: int) -> int:
            return min(abs(planes[a][y][x]), 15) if 0 <= y < height and 0 <= x < width else 0

        def around(a: int, y: int, x: int, where: tuple) -> int:
            return sum(size(a, y + dy, x + dx) for dy, dx in where)

        def near(a: int, b: int) -> int:
            if names is None:
                return 16 * (a == b)
            d = (names[a][0] - names[b][0]) ** 2 + (names[a][1] - names[b][1]) ** 2
            return 0 if d > 9 else (32 + max(d, 1)) // (2 * max(d, 1))

        def flag_features(
            group: tuple[int, int], before: tuple[int, int], y: int, x: int
        ) -> list[int]:
            below, own, last = range(first, group[0]), range(*group), range(*before)
            left, above = (y, x - 2 if x >= 2 else x), (y - 2 if y >= 2 else y, x)
            fall = relief(y, x)
            sums = [
                f(atoms)
                for atoms in (below, last)
                for f in (
                    lambda atoms: sum(size(a, y, x) for a in atoms),
                    lambda atoms: sum(around(a, y, x, BESIDE) for a in atoms),
                    lambda atoms: sum(around(a, y, x, CORNERS) for a in atoms),
                )
            ]
            sums += [sum(around(a, y, x, where) for a in own) for where in (BESIDE, CORNERS)]
            return [
                *sums,
                sum(size(a, *left) + size(a, *above) for a in own),
                max(fall[:2]),
                max(fall[2:]),
            ]

        def entry_features(group: tuple[int, int], a: int, y: int, x: int) -> list[int]:
            below, own = range(first, group[0]), range(*group)
            u, v = names[a] if names else (0, 0)
            down, across = 16 * u // max(u + v, 1), 16 * v // max(u + v, 1)
            fall = relief(y, x)
            return [
                sum(near(a, b) * size(b, y, x) for b in below),
                sum(near(a, b) * around(b, y, x, BESIDE) for b in below),
                sum(near(a, b) * around(b, y, x, CORNERS) for b in below),
                sum(size(b, y, x) for b in below),
                sum(around(b, y, x, BESIDE + CORNERS) for b in below),
                16 * around(a, y, x, BESIDE),
                16 * around(a, y, x, CORNERS),
                sum(near(a, b) * around(b, y, x, BESIDE) for b in own),
                sum(around(b, y, x, BESIDE + CORNERS) for b in own),
                (fall[0] * down + fall[1] * across) // 16,
                (fall[2] * down + fall[3] * across) // 16,
            ]

        for number, group in enumerate(groups):
            if group[0] not in record:
                continue
            for a in range(*group):
                planes[a] = [[0] * width for _ in range(height)]
            for turn, (top, left) in enumerate(PASSES):
                places = [(y, x) for y in range(top, height, 2) for x in range(left, width, 2)]
                flag_chance = {}
                if self._flagged(kind, group):
                    head = (kind, group, "flag", turn)
                    flag_chance = {
                        p: self._chance(head, 0, flag_features(group, groups[number - 1], *p))
                        for p in places
                    }
                    if shown is None:
                        places = [p for p in places if self.support.take(flag_chance[p])]
                features = {
                    (a, y, x): entry_features(group, a, y, x)
                    for a in range(*group)
                    for y, x in places
                }
                found = []
                for (a, y, x), seen in features.items():
                    chance: float = self._chance((kind, group, "entry", turn), a - group[0], seen)
                    if shown is not None:
                        if not shown[a][y][x]:
                            continue
                        p = chance / 65536 * (flag_chance[y, x] / 65536 if flag_chance else 1)
                        d = (
                            sum(level != 0 for row in shown[a] for level in row)
                            / 2
                            / (height * width)
                        )
                        chance = min(max(math.floor(p / (p + (1 - p) * d) * 65536), 1), 65535)
                    if self.support.take(chance):
                        found.append((a, y, x))
                if shown is not None:
                    levels = {(a, y, x): int(shown[a][y][x]) for a, y, x in found}
                else:
                    levels = self._levels(kind, group, found, features)
                for (a, y, x), level in levels.items():
                    planes[a][y][x] = level

    def _levels(self, kind: str, group: tuple[int, int], found: list, features: dict) -> dict:
        assert self.values is not None
        exponent, left = dict.fromkeys(found, 0), found
        for e in range(14):
            head = (kind, group, "level", min(e, 11))
            left = [
                p
                for p in left
                if self.values.take(self._chance(head, p[0] - group[0], features[p]))
            ]
            exponent.update(dict.fromkeys(left, e + 1))
        size = dict.fromkeys(found, 1)
        for below in range(max(exponent.values(), default=0)):
            for p in found:
                if exponent[p] > below:
                    chance = (
                        self._look_up(int(self.tables.mantissa[exponent[p]]))
                        if below == 0
                        else 1 << 15
                    )
                    size[p] = 2 * size[p] + self.values.take(chance)
        return {p: -size[p] if self.values.take(1 << 15) else size[p] for p in found}


def _second(side: int) -> list[list[int]]:
    """The block matrix of the second transform times 64, rounded."""
    matrix = [[0] * side for _ in range(side)]
    for start in range(0, side, 4):
        n = min(4, side - start)
        for k in range(n):
            for i in range(n):
                value = math.sqrt((1 if k == 0 else 2) / n) * math.cos(
                    math.pi * k * (2 * i + 1) / (2 * n)
                )
                matrix[start + k][start + i] = round(64 * value)
    return matrix
