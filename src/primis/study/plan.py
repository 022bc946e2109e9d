"""What a study is asked for: sparsities, presets, networks, budgets."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch

from primis.attacks.harness import MINUTES, QUICK, Budget
from primis.attacks.learning import Learner, Recipe
from primis.network.presets import DEFAULT
from primis.study.names import MechanismName


@dataclass(frozen=True)
class Learners:
    """A network for a CPU, one for a GPU, and one that learns next to nothing, for quick runs."""

    small: Learner
    full: Learner
    quick: Learner

    @property
    def best(self) -> Learner:
        """The large one where there is a GPU."""
        return self.full if torch.cuda.is_available() else self.small


CLASSIFIERS = Learners(
    Learner("small", 128, Recipe(epochs=20, steps=280, batch=16, rate=3e-3, decay=0.1), (0, 1, 2)),
    Learner("densenet121", 224, Recipe(epochs=30, steps=10_000, batch=32, rate=1e-3), (0, 1, 2)),
    Learner("small", 48, Recipe(epochs=4, steps=40, batch=16, rate=1e-2), (0,)),
)
"""DenseNet-121 where there is a GPU, a small relative of it elsewhere."""

SEGMENTERS = Learners(
    Learner("small", 128, Recipe(epochs=16, steps=850, batch=8, rate=4e-3), (0, 1)),
    Learner("unet", 256, Recipe(epochs=60, steps=10_000, batch=16, rate=2e-3), (0, 1)),
    Learner("small", 48, Recipe(epochs=20, steps=60, batch=8, rate=1e-2), (0,)),
)
"""A large U-Net where there is a GPU, a small one elsewhere."""

_QUICK_IMAGES, _QUICK_OWNED, _QUICK_JUDGED, _QUICK_SLOW = 40, 12, 10, 2


@dataclass(frozen=True)
class Plan:
    """What to measure, and how thoroughly.

    sparsities: S_x. presets: whose images networks are tested on; they are trained on those of the
    first. most: images of a corpus, at most, evenly spread over each split. slow: images that
    preset `paper` restores for its row of Table 1, which takes seconds for each. mechanisms: which
    are attacked. owned, judged: images that attackers own and are judged on. quick: whether it is
    cut down to minutes.
    """

    sparsities: tuple[float, ...] = (4.0, 8.0, 16.0)
    presets: tuple[str, ...] = (DEFAULT.name,)
    seed: int = 0
    most: int | None = None
    slow: int = 30
    mechanisms: tuple[MechanismName, ...] = (MechanismName.KEYED, MechanismName.SCA)
    classifier: Learner = field(default_factory=lambda: CLASSIFIERS.best)
    segmenter: Learner = field(default_factory=lambda: SEGMENTERS.best)
    budget: Budget = MINUTES
    owned: int = 120
    judged: int = 40
    quick: bool = False

    def cut_down(self) -> Plan:
        """All of it on a few images, in minutes: every part runs, nothing is learned well."""
        return replace(
            self,
            most=min(self.most or _QUICK_IMAGES, _QUICK_IMAGES),
            slow=_QUICK_SLOW,
            classifier=CLASSIFIERS.quick,
            segmenter=SEGMENTERS.quick,
            budget=QUICK,
            owned=_QUICK_OWNED,
            judged=_QUICK_JUDGED,
            quick=True,
        )
