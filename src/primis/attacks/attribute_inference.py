"""What a code tells of the patient without any image: a reader trained on labelled codes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from primis.attacks.harness import (
    AttributeAttack,
    Holds,
    JudgedCase,
    OwnedCase,
    OwnImage,
    View,
    World,
    code_planes,
)

_REGIONS = 4
_LEAST = 3
_OLD = 60


class Reader(AttributeAttack):
    """Of an open code sums over regions, reduced to a few; of a sealed one the single bits that
    differ most between labels; and a logistic regression with its strength chosen by folds."""

    holds = Holds.PAIRS

    def __init__(self, trait: str, positive: str) -> None:
        self.trait, self.positive = trait, positive
        self.name = f"{positive}, read from the code"

    def fit(self, world: World) -> None:
        cases, labels = self._known(world)
        features = [self._features(world, world.again(case)) for case in cases]
        self._model = _fit(features, labels, bits=not world.open_code)

    def score(self, world: World, view: View) -> float:
        return _score(self._model, self._features(world, view))

    def _known(self, world: World) -> tuple[list[OwnedCase], list[bool]]:
        """Training cases of which the trait is known, and whether each is positive."""
        cases = [case for case in world.owned if self.trait in case.traits]
        return cases, [case.traits[self.trait] == self.positive for case in cases]

    @staticmethod
    def _features(world: World, view: View) -> np.ndarray:
        return _sums(code_planes(view.public)) if world.open_code else world.bits(view)

    def ceiling(self, world: World, judged: Sequence[JudgedCase]) -> np.ndarray:
        """For the judge: scores by the same reader with the true codes, learned and read: (n,)."""
        cases, labels = self._known(world)
        model = _fit([_sums(code_planes(case.levels)) for case in cases], labels)
        return np.array([_score(model, _sums(code_planes(case.levels))) for case in judged])


class PictureReader(Reader):
    """The same from the image that another attack made of the code; that one must have learned from
    other cases than these readers do, or it knows them by heart."""

    def __init__(
        self, trait: str, positive: str, guess: Callable[[View], np.ndarray], of: str
    ) -> None:
        super().__init__(trait, positive)
        self._guess = guess
        self.name = f"{positive}, read from what the {of} sees"

    def fit(self, world: World) -> None:
        cases, labels = self._known(world)
        self._model = _fit([_small(self._guess(case.view)) for case in cases], labels)

    def score(self, world: World, view: View) -> float:
        return _score(self._model, _small(self._guess(view)))

    def ceiling(self, world: World, judged: Sequence[JudgedCase]) -> np.ndarray:
        """For the judge: scores by the same reader with the images, learned and read: (n,)."""
        cases, labels = self._known(world)
        model = _fit([_small(case.normal) for case in cases], labels)
        return np.array([_score(model, _small(case.normal)) for case in judged])


def _small(image: np.ndarray) -> np.ndarray:
    """Means of the image over about 32 x 32 parts, centred and at unit scale."""
    side = max(1, min(image.shape) // 32)
    h, w = (length // side * side for length in image.shape)
    small = image[:h, :w].reshape(h // side, side, w // side, side).mean(axis=(1, 3))
    found: np.ndarray = ((small - small.mean()) / max(float(small.std()), 1e-9)).ravel()
    return found


def traits_of(label: str | None, sex: str | None, age: float | None) -> dict[str, str]:
    """What is known, in words that stand for themselves. sex: "F" or "M"; age: years."""
    known = {"label": label or None, "sex": sex and f"sex {sex}"}
    known["age group"] = (
        None if age is None else f"{_OLD} years and over" if age >= _OLD else f"under {_OLD} years"
    )
    return {trait: value for trait, value in known.items() if value}


def positive_class(train: Sequence[OwnImage], test: Sequence[OwnImage], trait: str) -> str | None:
    """What a reader is trained to tell: the rarer of two values of a trait, the most frequent of
    more; None unless both sides of it are seen often enough in both parts."""
    values = [case.traits[trait] for case in train if trait in case.traits]
    found = sorted(set(values), key=lambda value: (values.count(value), value))
    if len(found) < 2:
        return None
    positive = found[0] if len(found) == 2 else found[-1]
    return positive if tells(train, trait, positive) and tells(test, trait, positive) else None


def tells(cases: Sequence[OwnImage], trait: str, positive: str) -> bool:
    """Whether there are some of this value, and some of others."""
    known = [case.traits[trait] == positive for case in cases if trait in case.traits]
    return _LEAST <= sum(known) <= len(known) - _LEAST


def _sums(planes: np.ndarray) -> np.ndarray:
    """Mean and mean size of each plane in each of 4 x 4 regions."""
    c, h, w = planes.shape
    rows, columns = (np.linspace(0, side, _REGIONS + 1).astype(int)[:-1] for side in (h, w))
    parts = []
    for part in (planes, np.abs(planes)):
        sums = np.add.reduceat(
            np.add.reduceat(part, np.unique(rows), axis=1), np.unique(columns), axis=2
        )
        parts.append(sums.reshape(c, -1))
    return np.concatenate(parts, axis=1).ravel().astype(np.float32)


def _fit(features: list[np.ndarray], labels: list[bool], *, bits: bool = False) -> Any:
    from sklearn.decomposition import PCA
    from sklearn.feature_selection import SelectKBest, f_classif
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    few = min(40, len(features) // 2)
    folds = max(2, min(5, sum(labels), len(labels) - sum(labels)))
    chosen = GridSearchCV(
        LogisticRegression(max_iter=500), {"C": np.logspace(-4, 1, 6)}, cv=folds, scoring="roc_auc"
    )
    with warnings.catch_warnings():  # pictures that are all alike, of an attacker who sees nothing
        warnings.simplefilter("ignore")
        reduce = (
            SelectKBest(f_classif, k=min(few, features[0].size))
            if bits
            else PCA(few, random_state=0)
        )
        return make_pipeline(StandardScaler(), reduce, chosen).fit(
            np.stack(features), np.array(labels)
        )


def _score(model: Any, features: np.ndarray) -> float:
    return float(model.decision_function(features[None])[0])
