"""Attacks without a network: public code, stolen decoder, and what the encoder lets one count."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from primis.attacks.harness import Holds, ImageAttack, SupportAttack, View, World

_LEVELS = 9  # sizes 1 .. 8, and all above together


class Everything(ImageAttack):
    """Take the public code as it is."""

    name = "public code, decoded"
    holds = Holds.DECODER

    def guess(self, world: World, view: View) -> np.ndarray:
        return world.decode(view.public)


class Largest(SupportAttack):
    """Keep the largest values: the paper's adversary."""

    name = "largest values"
    source = "Shiri et al. 2024, section 2.5"

    def score(self, world: World, view: View) -> np.ndarray:
        return np.abs(view.public.astype(np.float32))


class Smallest(SupportAttack):
    """Keep the smallest values: finds decoys that were drawn too large."""

    name = "smallest values"

    def score(self, world: World, view: View) -> np.ndarray:
        return -np.abs(view.public.astype(np.float32))


class CoarseAtoms(SupportAttack):
    """Keep the coarsest atoms, which true entries prefer."""

    name = "coarsest atoms"

    def score(self, world: World, view: View) -> np.ndarray:
        return np.broadcast_to(
            -np.arange(len(view.public), dtype=np.float32)[:, None, None], view.public.shape
        )


class Frequency(SupportAttack):
    """How often an atom at a position is true where it is public, in the attacker's own images."""

    name = "frequency of atoms"
    holds = Holds.ENCODER

    def fit(self, world: World) -> None:
        self._odds = prior_odds(world)

    def score(self, world: World, view: View) -> np.ndarray:
        return self._odds


class Likelihood(SupportAttack):
    """Naive Bayes for each entry: atom, position, size of its value, public entries around it."""

    name = "likelihood of each entry"
    holds = Holds.ENCODER

    def fit(self, world: World) -> None:
        self._odds = prior_odds(world)
        counts = np.ones((2, _LEVELS, len(self._odds)))
        around = np.ones((2, _LEVELS, len(self._odds)))
        for case in world.owned:
            view = world.again(case)
            size, near = _size(view.public), _around(view.public)
            for true, kept in enumerate(
                ((view.public != 0) & (case.levels == 0), case.levels != 0)
            ):
                atoms = np.nonzero(kept & (view.public != 0))[0]
                np.add.at(counts[true], (size[kept & (view.public != 0)], atoms), 1)
                np.add.at(around[true], (near[kept & (view.public != 0)], atoms), 1)
        self._of_size, self._of_around = (
            np.log(c[1] / c[1].sum(0)) - np.log(c[0] / c[0].sum(0)) for c in (counts, around)
        )

    def score(self, world: World, view: View) -> np.ndarray:
        atom = np.arange(len(view.public))[:, None, None]
        return (
            self._odds
            + self._of_size[_size(view.public), atom]
            + self._of_around[_around(view.public), atom]
        )


@lru_cache(maxsize=2)
def prior_odds(world: World) -> np.ndarray:
    """(LM, h, w) float32: log odds that a public entry is true, by atom and position."""
    true, public = np.zeros((2, world.atoms, *world.grid))
    for case in world.owned:
        view = world.again(case)
        there = view.public != 0
        public += there
        true += there & (case.levels != 0)
    atom = (true.sum((1, 2), keepdims=True) + 1) / (public.sum((1, 2), keepdims=True) + 2)
    share = (true + 8 * atom) / (public + 8)
    share = np.clip(share, 1e-4, 1 - 1e-4)
    return np.log(share / (1 - share)).astype(np.float32)


def _size(public: np.ndarray) -> np.ndarray:
    return np.clip(np.abs(public.astype(np.int32)), 1, _LEVELS) - 1


def _around(public: np.ndarray) -> np.ndarray:
    """How many of the 8 positions around have this atom too, 0 to 8."""
    there = np.pad(public != 0, ((0, 0), (1, 1), (1, 1))).astype(np.int64)
    h, w = public.shape[1:]
    total = sum(there[:, y : y + h, x : x + w] for y in range(3) for x in range(3))
    return total - there[:, 1 : 1 + h, 1 : 1 + w]


class Twice(SupportAttack):
    """The same image shared in two releases: what both have is true.

    The averaging that broke InstaHide, in its simplest form: other noise over the same content.
    """

    name = "the same image shared twice"
    source = "Carlini et al. 2021 (InstaHide)"
    holds = Holds.DECODER

    def __init__(self, seconds: Sequence[tuple[View, View]]) -> None:
        """seconds: each view with that of another sharing of the same image."""
        self._other = {id(view): other for view, other in seconds}

    def score(self, world: World, view: View) -> np.ndarray:
        other = self._other[id(view)].public
        return ((view.public == other) & (other != 0)).astype(np.float32)

    def guess(self, world: World, view: View) -> np.ndarray:
        return world.decode(np.where(self.score(world, view) > 0, view.public, 0))


SIMPLE: tuple[type[SupportAttack], ...] = (Largest, Smallest, CoarseAtoms)
COUNTED: tuple[type[SupportAttack], ...] = (Frequency, Likelihood)
