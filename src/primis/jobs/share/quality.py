"""The S_x of a release that a wanted PSNR takes: the smallest at which 95 % of its images reach it.

1  draw images at random, at most 64
2  find for each the least step of S_x at which it reaches the PSNR, by bisection; one that does at
   the step which the hardest so far need is done with one trial
3  take the step that the hardest of the easier 95 % needs

A trial shares the image as the release will and measures it, so budgets count as well.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from primis.bundle.settings import Settings
from primis.codec import Codec
from primis.datasets.files import Source
from primis.errors import InputError, UsageError
from primis.imaging.image import Image
from primis.jobs.share.source import Reading, read_source
from primis.keys.seal import Secret, image_secrets, release_secrets
from primis.keys.tier import HIGHEST
from primis.release.budgets import Budgets
from primis.sharing.share import share_image

REACHED_BY = 0.95
"""Part of the images that reach the PSNR."""

MOST_TRIED = 64
_PER_OCTAVE = 32
STEPS = tuple(round(0.5 * 2 ** (k / _PER_OCTAVE), 2) for k in range(6 * _PER_OCTAVE + 1))
"""Values of S_x that are tried, 0.5 to 32, about 2 % apart."""

_BEYOND = len(STEPS)


class Chosen(NamedTuple):
    """tried: how many of so many images were measured; where none could be, S_x stays as it was."""

    sparsity: float
    tried: int
    images: int


OnChosen = Callable[[Chosen], None]


class _Needed(NamedTuple):
    """step: at which an image reaches the PSNR, _BEYOND where at none; most: what it reaches at the
    last."""

    step: int
    most: float
    name: str


def with_sparsity(settings: Settings, sparsity: float) -> Settings:
    """Another S_x; S_n with it, where it is the default."""
    plain = Settings(sparsity=settings.sparsity, protection=settings.protection)
    if settings.decoys != plain.decoys:
        return replace(settings, sparsity=sparsity)
    return replace(settings, sparsity=sparsity, decoys=None)


@dataclass(frozen=True)
class Trials:
    """Of a release with these budgets. reading: how files are read."""

    budgets: Budgets
    codec: Codec
    reading: Reading

    def choose(
        self, sources: Sequence[Source], psnr: float, on_look: Callable[[int, int], None]
    ) -> Chosen:
        """Raises UsageError where too few reach the PSNR."""
        drawn = secrets.SystemRandom().sample(sources, min(len(sources), MOST_TRIED))
        spared = _spared(len(drawn))
        hardest: list[_Needed] = []  # of the spared and the one before them, ascending
        tried = 0
        for number, source in enumerate(drawn, start=1):
            on_look(number, len(drawn))
            full = len(hardest) > spared
            needed = self._needed(source, psnr, hardest[0].step if full else 0)
            if needed is not None:
                tried += 1
                hardest = sorted([*hardest, needed])[-spared - 1 :]
            if len(hardest) > spared and hardest[0].step == _BEYOND:
                break
        if not hardest:
            return Chosen(self.budgets.settings.sparsity, 0, len(sources))
        decisive = hardest[-_spared(tried) - 1]
        if decisive.step == _BEYOND:
            raise UsageError(
                f"too few images reach a PSNR of {psnr:g} dB: at S_x = {STEPS[-1]:g}, "
                f'the largest there is, "{decisive.name}" has {decisive.most:.1f} dB'
            )
        return Chosen(STEPS[decisive.step], tried, len(sources))

    def _needed(self, source: Source, psnr: float, floor: int) -> _Needed | None:
        """None for an image that cannot be shared: sharing it says why."""
        try:
            image, _ = read_source(source, self.reading)
            return self._least_step(image, source.name, psnr, floor)
        except Exception:
            return None

    def _least_step(self, image: Image, name: str, psnr: float, floor: int) -> _Needed:
        """The first at which the image reaches the PSNR, not below `floor`."""
        low, high = floor, len(STEPS) - 1
        if self._reaches(image, name, psnr, low):
            return _Needed(low, psnr, name)
        most = self._psnr(image, name, STEPS[high])
        if most < psnr:
            return _Needed(_BEYOND, most, name)
        while high - low > 1:
            middle = (low + high) // 2
            if self._reaches(image, name, psnr, middle):
                high = middle
            else:
                low = middle
        return _Needed(high, psnr, name)

    def _reaches(self, image: Image, name: str, psnr: float, step: int) -> bool:
        try:
            return self._psnr(image, name, STEPS[step]) >= psnr
        except InputError:  # the preset cannot keep so few entries
            return False

    def _psnr(self, image: Image, name: str, sparsity: float) -> float:
        """inf where no sample differs. Raises InputError."""
        settings = replace(with_sparsity(self.budgets.settings, sparsity), original_bits=0.0)
        bundle_id = secrets.token_hex(16)
        opened = image_secrets(release_secrets(Secret.new(), HIGHEST), bundle_id)
        shared = share_image(
            image, settings, opened, self.codec, bundle_id=bundle_id, name=name, measure=True
        )
        psnr = None if shared.quality is None else shared.quality.psnr
        return math.inf if psnr is None else psnr


def _spared(images: int) -> int:
    """How many of so many need not reach the PSNR."""
    return images - math.ceil(REACHED_BY * images - 1e-9)
