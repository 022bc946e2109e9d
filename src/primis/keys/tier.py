"""What a grant opens, in order: each tier opens what the ones below it open."""

from __future__ import annotations

from enum import StrEnum


class Tier(StrEnum):
    """What a grant opens: preview < diagnostic < original. Each opens what those below it open."""

    PREVIEW = "preview"
    DIAGNOSTIC = "diagnostic"
    ORIGINAL = "original"

    @property
    def rank(self) -> int:
        """0 for the lowest."""
        return TIERS.index(self)

    @property
    def opened(self) -> tuple[Tier, ...]:
        """This tier and all below it, from the lowest."""
        return TIERS[: self.rank + 1]

    def __lt__(self, other: str) -> bool:
        return self.rank < Tier(other).rank

    def __le__(self, other: str) -> bool:
        return self.rank <= Tier(other).rank

    def __gt__(self, other: str) -> bool:
        return self.rank > Tier(other).rank

    def __ge__(self, other: str) -> bool:
        return self.rank >= Tier(other).rank


TIERS = tuple(Tier)
"""From the lowest to the highest."""

HIGHEST = TIERS[-1]
