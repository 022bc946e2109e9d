"""Work in parts, for processes that know nothing of each other, such as those of a batch system."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from primis.errors import UsageError

MOST = 100_000

T = TypeVar("T")


class Shard(NamedTuple):
    """One of `of` parts of the work; number: from 1."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Of a text such as 3/8. Raises UsageError."""
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text, re.ASCII)
        number, of = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 1 <= number <= of <= MOST:
            raise UsageError(
                f'shard is "{text}", expected I/N with I from 1 to N, and N at most {MOST}'
            )
        return cls(number, of)


def listed(numbers: Iterable[int], of: int) -> str:
    """Shards for people, those in a row together: 1-3/8, 7/8."""
    rows: list[list[int]] = []
    for number in sorted(set(numbers)):
        if rows and rows[-1][-1] == number - 1:
            rows[-1][1:] = [number]
        else:
            rows.append([number])
    return ", ".join(f"{'-'.join(map(str, row))}/{of}" for row in rows)


def dealt(things: Sequence[T], order: Callable[[T], Any], shards: int) -> list[int]:
    """The number of each thing's shard; the sizes of shards differ by one at most. order: a key to
    sort by, which reveals nothing of the things."""
    numbers = [0] * len(things)
    for place, k in enumerate(sorted(range(len(things)), key=lambda k: order(things[k]))):
        numbers[k] = place % shards + 1
    return numbers
