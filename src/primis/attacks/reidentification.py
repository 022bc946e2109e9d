"""Whose code is this? An attacker who has candidate images, or other codes, and the encoder.

Also the break of NeuraCrypt (Carlini et al. 2021): all candidates and all codes at hand, matched
one to one.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np

from primis.attacks.harness import Holds, LinkAttack, OwnImage, View, World

_SHIFT = 5
_SHIFTS = (-_SHIFT, 0, _SHIFT)
_ATOMS = 64
_LEAST_VARIANCE = 0.02


class Encoded(LinkAttack):
    """Encode each candidate as the owner would; the likeliest is the one whose entries the code
    has, with their signs, where other codes and other candidates do not have them.

    shifts: candidates are tried at these displacements too, in pixels, for images that were not
    cropped alike; a real attacker tries all of them, at a higher price, so the right one is among
    those tried.
    """

    name = "linkage: encode the candidates"
    holds = Holds.ENCODER

    def __init__(self, shifts: Sequence[int] = (0,)) -> None:
        self._shifts = list(product(shifts, shifts))

    def score(
        self, world: World, views: Sequence[View], candidates: Sequence[np.ndarray]
    ) -> np.ndarray:
        codes = _Standard(np.stack([_signs(view.public) for view in views]))
        rows = np.stack([codes(row) for row in codes.rows])
        encoded = _Standard(
            np.stack([_signs(_encode(world, candidate)) for candidate in candidates])
        )
        best = np.full((len(views), len(candidates)), -np.inf)
        for number, candidate in enumerate(candidates):
            world.report(self.name, number, len(candidates))
            for down, right in self._shifts:
                there = (down, right) == (0, 0)
                signs = (
                    encoded.rows[number]
                    if there
                    else _signs(_encode(world, moved(candidate, down, right)))
                )
                best[:, number] = np.maximum(best[:, number], rows @ encoded(signs))
        return best


class _Standard:
    """Rows of signs, each of length one, without what all have in common."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows
        self._mean = rows.mean(axis=0, dtype=np.float32)
        squares = np.zeros_like(self._mean)
        for row in rows:
            squares += (row - self._mean) ** 2
        self._scale = 1 / np.sqrt(squares / len(rows) + _LEAST_VARIANCE)

    def __call__(self, row: np.ndarray) -> np.ndarray:
        x = (row - self._mean) * self._scale
        unit: np.ndarray = x / max(float(np.linalg.norm(x)), 1e-9)
        return unit


def _signs(levels: np.ndarray) -> np.ndarray:
    return np.sign(levels).ravel().astype(np.int8)


class Matched(Encoded):
    """The same scores, then the best matching of all codes with all candidates."""

    name = "matching all codes with all images"
    source = "Carlini et al. 2021 (NeuraCrypt)"
    matches = True

    def score(
        self, world: World, views: Sequence[View], candidates: Sequence[np.ndarray]
    ) -> np.ndarray:
        from scipy.optimize import linear_sum_assignment

        rows, columns = linear_sum_assignment(
            super().score(world, views, candidates), maximize=True
        )
        chosen = np.zeros((len(views), len(candidates)))
        chosen[rows, columns] = 1
        return chosen


class SharedAgain(LinkAttack):
    """Two sharings of one image: the likeliest pair has the most bytes in common, at the same
    places.

    Finds a mask that is missing or used twice, whatever the image. Candidates are not images here
    but other sharings of them.
    """

    name = "linkage: bytes of another sharing"
    source = "Carlini et al. 2021 (InstaHide)"
    holds = Holds.ENCODER

    def __init__(self, others: Sequence[View]) -> None:
        self._others = others

    def score(
        self, world: World, views: Sequence[View], candidates: Sequence[np.ndarray]
    ) -> np.ndarray:
        parts = [[view.data for view in part] for part in (views, self._others[: len(candidates)])]
        least = min(
            len(data) for part in parts for data in part
        )  # an owner's bundle may have the file at its end
        rows, columns = (np.stack([data[:least] for data in part]) for part in parts)
        return np.stack([(row == columns).mean(axis=1) for row in rows])


def moved(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """The image moved by so many pixels: what leaves is lost, the border fills what opens."""
    h, w = image.shape
    return image[
        np.ix_(np.clip(np.arange(h) - down, 0, h - 1), np.clip(np.arange(w) - right, 0, w - 1))
    ]


def altered(kind: str, image: OwnImage, rng: np.random.Generator) -> np.ndarray:
    """A case's image as an attacker may have it, (H, W) in units of its range: plain or altered."""
    return ALTERATIONS[kind](image.normal, rng)


def _jpeg(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    from PIL import Image as Pillow

    out = io.BytesIO()
    Pillow.fromarray(np.round((image + 0.5) * 255).clip(0, 255).astype(np.uint8)).save(
        out, "JPEG", quality=50
    )
    return (np.asarray(Pillow.open(out), np.float32) / 255 - 0.5).astype(np.float32)


def _resized(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    from PIL import Image as Pillow

    whole = Pillow.fromarray(image)
    half = whole.resize((image.shape[1] // 2, image.shape[0] // 2), Pillow.Resampling.BOX)
    return np.asarray(
        half.resize((image.shape[1], image.shape[0]), Pillow.Resampling.BICUBIC), np.float32
    )


ALTERATIONS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "as it is": lambda image, rng: image,
    "JPEG, quality 50": _jpeg,
    "noise, sd 5 % of the range": lambda image, rng: (
        image + rng.normal(0, 0.05, image.shape)
    ).astype(np.float32),
    f"shifted by {_SHIFT} pixels": lambda image, rng: moved(image, _SHIFT, _SHIFT),
    "gamma 1.5": lambda image, rng: (np.clip(image + 0.5, 0, 1) ** 1.5 - 0.5).astype(np.float32),
    "halved and doubled in size": _resized,
}


def attack_for(kind: str) -> Encoded:
    """The linkage that suits an alteration: only a shift is worth trying displacements."""
    attack = Encoded(_SHIFTS if kind.startswith("shifted") else (0,))
    attack.name = f"linkage: the image {kind}"
    return attack


def patient_likeness(views: Sequence[View]) -> np.ndarray:
    """(n, n): how alike two public codes are in their coarser atoms."""
    standard = _Standard(np.stack([_signs(view.public[:_ATOMS]) for view in views]))
    rows = np.stack([standard(row) for row in standard.rows])
    likeness: np.ndarray = rows @ rows.T
    return likeness


def _encode(world: World, image: np.ndarray) -> np.ndarray:
    """Levels (LM, h, w) of an attacker's own image, plain top-S."""
    z = world.analyse(image)[None]
    entries = world.settings.sparsity * z.shape[2] * z.shape[3]
    return world.architecture.plain_selection(z, round(entries)).levels[0]
