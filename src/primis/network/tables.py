"""The coder's tables (`codes/probabilities.py`), fitted to codes and rounded to whole numbers.

For each head a logistic regression with a small hidden layer, on what the coder's own scan sees.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from primis.codes.layout import Layout
from primis.codes.probabilities import (
    HIDDEN,
    HIDDEN_UNIT,
    LOGIT_UNIT,
    SCORE_LIMIT,
    TABLE_LIMIT,
    ContextModel,
)
from primis.codes.scan import (
    EXPONENTS,
    FEATURES,
    Decision,
    Head,
    Truth,
    entry_density,
    heads,
    offsets,
    scan,
)
from primis.errors import ModelError
from primis.metrics.progress import Progress, silent
from primis.network.architecture import Architecture

_FEATURE_UNIT = 8
_BATCH = 8192
_LEAST = 40
"""Decisions that a head must have seen to be fitted."""

_LEAST_STEPS = 10


class _Observer:
    """Scans with the truth in hand and writes down what each head saw, and what was there."""

    def __init__(self, layout: Layout) -> None:
        self.seen: dict[Head, list[tuple[np.ndarray, ...]]] = {}
        self.mantissa = np.zeros((EXPONENTS + 4, 2))
        self._layout = layout

    def observe(self, levels: np.ndarray, logarithm: np.ndarray) -> None:
        self._truth = Truth(levels, self._layout)
        for atoms in self._layout.split():
            entries = int(np.count_nonzero(levels[atoms.start : atoms.stop]))
            if entries:
                self._density = entry_density(entries, levels[0].size)
                scan(levels.copy(), atoms, self._layout, self, logarithm)

    def flags(self, head: Head, features: np.ndarray, where: np.ndarray) -> np.ndarray:
        return self._note(
            head, features, np.zeros(len(where), np.intp), self._truth.count(head, where) > 0
        )

    def entries(
        self, head: Head, features: np.ndarray, atom: np.ndarray, where: np.ndarray
    ) -> np.ndarray:
        return self._note(head, features, atom, self._truth.levels(head, where) != 0)

    def levels(
        self, head: Head, features: np.ndarray, atom: np.ndarray, where: np.ndarray
    ) -> np.ndarray:
        levels = self._truth.levels(head, where)
        size = np.abs(levels)
        for exponent in range(EXPONENTS):
            left = size >> exponent > 0
            self._note(
                head.at_exponent(exponent),
                features[:, left],
                atom[left],
                size[left] >> (exponent + 1) > 0,
            )
            bit = (size >> max(exponent - 1, 0)) & 1
            for value in (0, 1):
                self.mantissa[exponent, value] += np.count_nonzero(
                    (size >> exponent == 1) & (bit == value)
                )
        return levels

    def _note(
        self, head: Head, features: np.ndarray, atom: np.ndarray, bits: np.ndarray
    ) -> np.ndarray:
        density = np.full(len(bits), self._density, np.int16)
        self.seen.setdefault(head, []).append(
            (features.T.astype(np.uint8), atom.astype(np.int16), density, bits)
        )
        return bits


class _Pace:
    """How many steps each head's fit may take: `most`, or what fits in the time.

    heads: as many as will be fitted, in all rounds.
    """

    def __init__(self, most: int, seconds: float | None, heads: int) -> None:
        self._most, self._left = most, heads
        self._end = None if seconds is None else time.monotonic() + seconds
        self._step, self._pending = 0.0, 0.0

    def plan(self, heads: int, seconds: float) -> None:
        """A round of so many heads begins, whose preparation took so long.

        If another follows, its own will take about twice that.
        """
        self._pending = 2 * seconds if self._left > heads else 0.0

    def steps(self) -> int:
        """Of the next head."""
        if self._end is None:
            return self._most
        if not self._step:
            return min(self._most, _LEAST_STEPS)
        each = (self._end - self._pending - time.monotonic()) / max(self._left, 1)
        return max(_LEAST_STEPS, min(self._most, int(each / self._step)))

    def note(self, steps: int, seconds: float) -> None:
        """A head took so long; 0 steps where there was nothing to fit."""
        self._left -= 1
        if steps:
            new = seconds / steps
            self._step = new if not self._step else 0.8 * self._step + 0.2 * new


def fit_tables(
    architecture: Architecture,
    coefficients: Sequence[tuple[np.ndarray, float]],
    *,
    steps: int = 250,
    seed: int = 0,
    seconds: float | None = None,
    progress: Progress = silent,
) -> ContextModel:
    """Tables for codes of coefficients z (1, LM, h, w), each at its S_x.

    Fitted to what plain top-S keeps, and once more to what is kept when these tables name the cost,
    if that is something else. steps: of each head's fit; fewer where they would take longer than
    `seconds` together.
    """
    wanted = [(z, max(1, architecture.entries(z, sparsity))) for z, sparsity in coefficients]
    layout = architecture.layout
    plain = [architecture.plain_selection(z, entries).levels[0] for z, entries in wanted]
    pace = _Pace(steps, seconds, 2 * len(heads(layout)))
    tables = _fit_model(plain, layout, pace, seed, progress, "tables, first round")
    codes = []
    for number, (z, entries) in enumerate(wanted):
        progress("selection by these tables", number, len(wanted))
        codes.append(architecture.selection(z, entries, tables).levels[0])
    if all(np.array_equal(one, other) for one, other in zip(plain, codes, strict=True)):
        return tables
    return _fit_model(codes, layout, pace, seed, progress, "tables, second round")


def fit_context_model(
    codes: Sequence[np.ndarray], layout: Layout, *, steps: int = 250, seed: int = 0
) -> ContextModel:
    """Tables for codes like these, each levels (LM, h, w); they should span the S_x in use."""
    pace = _Pace(steps, None, len(heads(layout)))
    return _fit_model(codes, layout, pace, seed, silent, "")


def _fit_model(
    codes: Sequence[np.ndarray],
    layout: Layout,
    pace: _Pace,
    seed: int,
    progress: Progress,
    what: str,
) -> ContextModel:
    """1 what each head sees in these codes, 2 its table."""
    logarithm = np.floor(_FEATURE_UNIT * np.log2(1 + np.arange(8192))).astype(np.int32)
    slots = np.arange(-11 * 16, 11 * 16 + 1) / 16
    probability = np.clip(np.round(65536 / (1 + np.exp(-slots))), 1, 65535).astype(np.int32)
    # 1
    observer, since = _Observer(layout), time.monotonic()
    for number, levels in enumerate(codes):
        progress(f"{what}: codes", number, len(codes))
        observer.observe(levels, logarithm)
    # 2
    model = _empty(layout, observer, logarithm, probability)
    found = offsets(layout)
    pace.plan(len(found), time.monotonic() - since)
    for head, number, offset in found:
        progress(what, number, len(found))
        own = slice(offset, offset + head.atoms)
        parts = observer.seen.pop(head, [])
        since, steps = time.monotonic(), 0
        if sum(len(part[3]) for part in parts) >= _LEAST:
            whole = [torch.from_numpy(np.concatenate(x)) for x in zip(*parts, strict=True)]
            steps = pace.steps()
            fitted = _fit(whole, head.atoms, steps, seed + number)
            model.bias[own], model.linear[number] = fitted[:2]
            model.inner[number], model.outer[number] = fitted[2:]
        pace.note(steps, time.monotonic() - since)
    return model


def _empty(
    layout: Layout, observer: _Observer, logarithm: np.ndarray, probability: np.ndarray
) -> ContextModel:
    """Tables of heads that have seen too little: an entry is rare."""
    found = offsets(layout)
    last, _, start = found[-1]
    bias = np.zeros((start + last.atoms, 3), np.int32)
    for head, _, offset in found:
        rare = 3 if head.decision is not Decision.LEVEL else 1
        bias[offset : offset + head.atoms, 0] = -LOGIT_UNIT * rare
    odds = np.log((observer.mantissa[:, 1] + 1) / (observer.mantissa[:, 0] + 1))
    return ContextModel(
        bias,
        np.zeros((len(found), FEATURES, 2), np.int32),
        np.zeros((len(found), HIDDEN, FEATURES + 2), np.int32),
        np.zeros((len(found), HIDDEN), np.int32),
        np.round(LOGIT_UNIT * odds).astype(np.int32),
        logarithm,
        probability,
    )


def _fit(seen: list[Tensor], atoms: int, steps: int, seed: int) -> tuple[np.ndarray, ...]:
    """(bias, linear, inner, outer) of one head, as whole numbers."""
    features, atom, density, bits = seen
    random = torch.Generator().manual_seed(seed)
    start = torch.logit(bits.float().mean().clamp(1e-4, 1 - 1e-4))
    bias = torch.zeros(atoms, 3)
    bias[:, 0] = start
    linear, outer = torch.zeros(FEATURES, 2), torch.zeros(HIDDEN)
    inner = torch.randn(HIDDEN, FEATURES + 2, generator=random) * 0.1
    inner[:, -1] = 0
    weights = [w.requires_grad_() for w in (bias, linear, inner, outer)]
    optimiser = torch.optim.Adam(weights, lr=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.05, total_steps=steps)
    for _ in range(steps):
        some = torch.randint(len(bits), (min(_BATCH, len(bits)),), generator=random)
        x, a, r = (
            features[some].float() / _FEATURE_UNIT,
            atom[some].long(),
            density[some].float() / _FEATURE_UNIT,
        )
        hidden = torch.relu(x @ inner[:, :-2].T + r[:, None] * inner[:, -2] + inner[:, -1])
        score = bias[a, 0] + bias[a, 1] * r + bias[a, 2] * r * r
        score = score + x @ linear[:, 0] + (x > 0).float() @ linear[:, 1] + hidden @ outer
        loss = torch.nn.functional.binary_cross_entropy_with_logits(score, bits[some].float())
        loss = loss + 1e-5 * sum(torch.sum(w * w) for w in (linear, inner, outer))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return _whole(*(weight.detach() for weight in weights))


def _whole(bias: Tensor, linear: Tensor, inner: Tensor, outer: Tensor) -> tuple[np.ndarray, ...]:
    """In the units of the tables. The square of the density is divided by 64 when it is used."""
    per_density = torch.tensor([1, 1 / _FEATURE_UNIT, 1.0])
    per_feature = torch.tensor([1 / _FEATURE_UNIT, 1.0])
    per_input = torch.tensor([1 / _FEATURE_UNIT] * (FEATURES + 1) + [1.0])
    units = [
        bias * per_density * LOGIT_UNIT,
        linear * per_feature * LOGIT_UNIT,
        inner * per_input * HIDDEN_UNIT,
        outer * LOGIT_UNIT,
    ]
    whole = [np.round(unit.numpy()) for unit in units]
    if not all(np.isfinite(w).all() for w in whole):
        raise ModelError(
            "a table of the coder came out as no number: "
            "the codes it was fitted to are not fit for it"
        )
    limits = (SCORE_LIMIT, TABLE_LIMIT, TABLE_LIMIT, SCORE_LIMIT)
    pairs = zip(whole, limits, strict=True)
    return tuple(np.clip(w, -limit, limit).astype(np.int32) for w, limit in pairs)
