"""One value for each part of a split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class PerSplit(Generic[T]):
    """Of training, validation and test images."""

    train: T
    val: T
    test: T

    @classmethod
    def of(cls, value: Callable[[str], U]) -> PerSplit[U]:
        """value: of the name of a part."""
        return PerSplit(value("train"), value("val"), value("test"))

    def each(self, value: Callable[[T], U]) -> PerSplit[U]:
        """value: of the value of a part."""
        return PerSplit(value(self.train), value(self.val), value(self.test))
