"""A generative prior and the encoder: the likeliest image that explains the code.

    z = m + U w + e,   w ~ N(0, 1),   e ~ N(0, s²) per atom
    public entry = z, quantised, with probability r; else a decoy
    no public entry: |z| < t

The first line is a Gaussian prior on codes, from the attacker's images. EM finds r given w, then w
given r. The image is what the decoder makes of the posterior mean of z.
"""

from __future__ import annotations

import numpy as np

from primis.attacks.harness import Holds, ImageAttack, View, World

_ATOMS, _MODES, _ROUNDS, _IMAGES, _FEW = 48, 96, 8, 400, 30


class GenerativePrior(ImageAttack):
    """EM over which entries are true and where in the prior the image lies."""

    name = "generative prior with the decoder"
    holds = Holds.ENCODER

    def fit(self, world: World) -> None:
        cases = world.owned[:_IMAGES]
        few = np.mean(
            [np.abs(world.analyse(case.normal)) for case in cases[:_FEW]],
            axis=(0, 2, 3),
        )
        self._atoms = np.sort(np.argsort(-few)[:_ATOMS])
        flat = np.stack([world.analyse(case.normal)[self._atoms].ravel() for case in cases])
        self._mean = flat.mean(axis=0)
        centred = flat - self._mean
        _, values, modes = np.linalg.svd(centred, full_matrices=False)
        count = min(_MODES, len(cases) - 1)
        self._modes = (modes[:count] * (values[:count, None] / len(cases) ** 0.5)).astype(
            np.float32
        )
        rest = centred - (centred @ modes[:count].T) @ modes[:count]
        self._noise = np.maximum(rest.var(axis=0), 1e-8).astype(np.float32)
        self._step = float(np.median([case.threshold for case in world.owned]))

    def guess(self, world: World, view: View) -> np.ndarray:
        offset = world.architecture.offset
        value = (view.public + offset * np.sign(view.public))[self._atoms].ravel().astype(
            np.float32
        ) * self._step
        there = value != 0
        decoy = np.repeat(
            self._spread(view, world), value.size // len(self._atoms)
        )  # sd of public values, per atom
        entries, decoys = world.settings.sparsity, world.settings.decoys or 0
        share = entries / max(entries + decoys, 1e-9)
        noise = self._noise + self._step**2 / 12
        mean = self._mean.copy()
        for _ in range(_ROUNDS):
            own = share * _normal(value - mean, noise)
            true = np.where(there, own / (own + (1 - share) * _normal(value, decoy**2) + 1e-30), 0)
            weight = np.where(there, true / noise, 1 / (noise + self._step**2 / 3))
            target = np.where(there, value, np.clip(mean, -self._step, self._step))
            gram = (self._modes * weight) @ self._modes.T + np.eye(
                len(self._modes), dtype=np.float32
            )
            w = np.linalg.solve(gram, self._modes @ (weight * (target - self._mean)))
            mean = self._mean + w @ self._modes
        q = np.zeros(view.public.shape, np.float32)
        q[self._atoms] = (true * value + (1 - true) * mean).reshape(-1, *view.public.shape[1:])
        return world.synthesise(q, self._step)

    def _spread(self, view: View, world: World) -> np.ndarray:
        levels = np.abs(view.public[self._atoms].astype(np.float32))
        count = np.maximum((levels > 0).sum(axis=(1, 2)), 1)
        return np.maximum(np.sqrt((levels**2).sum(axis=(1, 2)) / count), 1) * self._step


def _normal(x: np.ndarray, variance: np.ndarray) -> np.ndarray:
    density: np.ndarray = np.exp(-0.5 * np.minimum(x**2 / variance, 200)) / np.sqrt(variance)
    return density
