"""The questions of the paper, and which corpora can answer them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

from primis.datasets.corpus import Corpus


@dataclass(frozen=True)
class Task:
    """A question of the paper's, by its number.

    groups: the labels that make up each class; of two classes the second is the positive one. name:
    short, for files.
    """

    number: int
    name: str
    groups: tuple[tuple[str, ...], ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return tuple(" + ".join(group) for group in self.groups)

    @property
    def title(self) -> str:
        """For people."""
        return (
            " | ".join(self.classes)
            if len(self.groups) > 2
            else f"{self.classes[1]} against {self.classes[0]}"
        )


TASKS = (
    Task(1, "normal-bacterial-viral", (("normal",), ("bacterial",), ("viral",))),
    Task(2, "bacterial-viral", (("viral",), ("bacterial",))),
    Task(3, "covid-viral", (("viral",), ("covid",))),
    Task(4, "covid-pneumonia", (("viral", "bacterial"), ("covid",))),
    Task(5, "normal-both", (("normal",), ("viral", "bacterial"))),
    Task(6, "normal-viral", (("normal",), ("viral",))),
    Task(7, "normal-bacterial", (("normal",), ("bacterial",))),
    Task(8, "normal-covid", (("normal",), ("covid",))),
    Task(9, "normal-pneumonia", (("normal",), ("pneumonia",))),
)
"""The paper's eight, and a ninth for corpora that know pneumonia only as such."""


def labelled(corpora: Sequence[Corpus], groups: Sequence[Sequence[str]]) -> list[Corpus]:
    """The corpora that can tell some classes apart with the least besides.

    Those that have all classes; where none has, those of adults alone, or of children alone, that
    together have them; else all that have any. A group of labels is a class.
    """
    wanted = set(chain.from_iterable(groups))

    def covered(some: Sequence[Corpus]) -> bool:
        known = set(chain.from_iterable(corpus.classes for corpus in some))
        return all(known & set(group) for group in groups)

    having = [corpus for corpus in corpora if wanted & set(corpus.classes)]
    if whole := [c for c in having if covered([c])]:
        return whole
    alike: list[Callable[[Corpus], bool]] = [lambda c: c.adult is True, lambda c: c.adult is False]
    for fits in alike:
        if covered(some := [c for c in having if fits(c)]):
            return some
    return having if covered(having) else []
