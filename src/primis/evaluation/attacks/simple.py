"""The simplest attacks: no training, the public code and the stolen decoder.

An attack proposes a support; `judge` decodes it and scores it. The judge is generous: the attacker is
given the scale that it lacks, as the best affine fit to the original. What remains is structure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from primis.codec import Codec, Scale
from primis.codes.ambiguation import purify
from primis.codes.sparse import SparseCode
from primis.evaluation.fidelity import psnr

Attack = Callable[[np.ndarray, int], np.ndarray]
"""(public code (c, LM, h, w), how many entries are true) -> proposed support, bool."""


@dataclass(frozen=True)
class Verdict:
    """What an attack reached. psnr: of the best fit, in dB. picture: what the attacker sees, stretched
    to the mean and the spread of the original, in its grey levels."""

    name: str
    picture: np.ndarray
    psnr: float


def everything(public: np.ndarray, entries: int) -> np.ndarray:
    """Take the public code as it is."""
    return public != 0


def largest(public: np.ndarray, entries: int) -> np.ndarray:
    """Keep the largest magnitudes (the paper's adversary)."""
    magnitude = np.abs(public.astype(np.int32))
    bar = np.partition(magnitude, magnitude.size - entries, axis=None)[magnitude.size - entries]
    return magnitude >= max(int(bar), 1)


def smallest(public: np.ndarray, entries: int) -> np.ndarray:
    """Keep the smallest magnitudes: finds decoys that were drawn too large."""
    magnitude = np.where(public != 0, np.abs(public.astype(np.int32)), 1 << 20)
    return magnitude <= np.partition(magnitude, entries - 1, axis=None)[entries - 1]


def coarse_atoms(public: np.ndarray, entries: int) -> np.ndarray:
    """Keep the coarsest atoms, which true entries prefer."""
    order = np.broadcast_to(np.arange(public.shape[1])[None, :, None, None], public.shape)
    rank = np.where(public != 0, order, 1 << 20)
    return rank <= np.partition(rank, entries - 1, axis=None)[entries - 1]


SIMPLE: dict[str, Attack] = {
    "public code, decoded": everything,
    "largest values": largest,
    "smallest values": smallest,
    "coarsest atoms": coarse_atoms,
}


def judge(name: str, public: np.ndarray, original: np.ndarray, entries: int, codec: Codec, data_range: float) -> Verdict:
    """Run one attack on the public code of a frame and score it against the original (H, W, c)."""
    code = SparseCode(purify(public, SIMPLE[name](public, entries)), 1.0)
    peak = float(np.abs(code.levels).max()) or 1.0
    code = SparseCode(code.levels, 1 / peak)
    guess = codec.decode(code, Scale(-(1 << 15), (1 << 15) - 1), original.shape[:2], np.dtype(np.float64))
    spread = original.std() / max(float(guess.std()), 1e-12)
    picture = original.mean() + spread * (guess - guess.mean())
    return Verdict(name, picture, psnr(original, _best_fit(guess, original), data_range))


def floor(original: np.ndarray, data_range: float) -> Verdict:
    """No code at all: the one grey level nearest to the original, given to the attacker as well."""
    flat = np.full(original.shape, original.mean())
    return Verdict("no code: one grey level", flat, psnr(original, flat, data_range))


def _best_fit(guess: np.ndarray, original: np.ndarray) -> np.ndarray:
    """a + b guess with the least squared error; the attacker is not told more than these two numbers."""
    centred = guess - guess.mean()
    power = float(np.sum(centred**2))
    slope = float(np.sum(centred * (original - original.mean()))) / power if power else 0.0
    return original.mean() + slope * centred
