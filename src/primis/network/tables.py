"""The coder's tables (`codes/probabilities.py`), fitted to codes and rounded to whole numbers.

For each head a logistic regression with a small hidden layer, on what the coder's own scan meets.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from primis.codes.coder import density_of, encode_code
from primis.codes.kernel import Observed, Tile, kernel_of
from primis.codes.layout import Layout
from primis.codes.probabilities import (
    EXPONENTS,
    FEATURES,
    HIDDEN,
    HIDDEN_UNIT,
    LOGARITHMS,
    LOGIT_UNIT,
    MAX_LOGIT,
    MOST_RATE,
    PASSES,
    RATED,
    SCORE_LIMIT,
    SIGNED,
    TABLE_LIMIT,
    ContextModel,
    Decision,
    Head,
    heads,
    rows_of,
)
from primis.errors import InputError, ModelError
from primis.metrics.progress import Progress, silent
from primis.network.architecture import Architecture
from primis.network.sign_table import fit_signs

_FEATURE_UNIT = 8
_BATCH = 4096
_RATE = 0.03
_PRIOR = 1.0
"""Weight of the prior: few decisions of some heads are seen, and of some atoms."""

_STIFFNESS = (1.0, 4.0, 16.0)
"""Of an atom's bias, of its change with the density, and with the density's square."""

_SKETCH = 4
"""The first of two rounds takes a part of the steps of the second."""

_MARGIN = 1.5
"""Of the budget of a preset whose codes cannot be made to fit, over the most that was needed."""

_LEAST = 40
"""Decisions that a head must have seen to be fitted."""

_LEAST_STEPS = 10

_RARE = {Decision.ENTRY: 3, Decision.FLAG: 3, Decision.LEVEL: 1, Decision.BIT: 0}
"""Logit of a zero where too little was seen."""


class _Observations:
    """What each head saw in some codes, and what was there; gathered by the kernel."""

    def __init__(self, layout: Layout) -> None:
        self.mantissa = np.zeros((EXPONENTS + 4, 2))
        self._layout = layout
        self._kernel = kernel_of(_blank(layout), layout)
        self._seen: dict[int, list[_Seen]] = {}

    def add(self, levels: np.ndarray) -> None:
        """What coding levels (LM, h, w) decides."""
        for atoms in self._layout.split():
            record = levels[atoms.start : atoms.stop]
            if record.any():
                density = density_of(record)
                self._file(self._kernel.observe(Tile(levels, atoms, density)), density)
        self._count_mantissas(self._layout.split_dc(levels))
        self._count_mantissas(levels[1 if self._layout.has_dc else 0 :])

    def of(self, head: int) -> _Seen | None:
        """What this head saw, which is forgotten then; None if that is too little."""
        parts = self._seen.pop(head, [])
        if sum(len(part.bit) for part in parts) < _LEAST:
            return None
        return _Seen(*map(np.concatenate, zip(*parts, strict=True)))

    def _file(self, observed: Observed, density: int) -> None:
        order = np.argsort(observed.head, kind="stable")
        heads, starts = np.unique(observed.head[order], return_index=True)
        for head, rows in zip(heads, np.split(order, starts[1:]), strict=True):
            seen = _Seen(
                observed.features[rows],
                observed.atom[rows].astype(np.int16),
                np.full(len(rows), density, np.int16),
                observed.bit[rows],
            )
            self._seen.setdefault(int(head), []).append(seen)

    def _count_mantissas(self, levels: np.ndarray) -> None:
        size = np.abs(levels[levels != 0].astype(np.int64))
        exponent = np.frexp(size.astype(np.float64))[1] - 1
        bit = np.where(exponent > 0, size >> np.maximum(exponent - 1, 0) & 1, 0)
        np.add.at(self.mantissa, (exponent, bit), 1)


class _Seen(NamedTuple):
    """features: (n, F) uint8; atom, density: (n,) int16; bit: (n,) bool."""

    features: np.ndarray
    atom: np.ndarray
    density: np.ndarray
    bit: np.ndarray


class _Pace:
    """How many steps each head's fit may take: `most`, or what fits in the time.

    heads: as many as will be fitted, in all rounds.
    """

    def __init__(self, most: int, seconds: float | None, heads: int) -> None:
        self._all, self._most, self._left = most, most, heads
        self._end = None if seconds is None else time.monotonic() + seconds
        self._step, self._pending = 0.0, 0.0

    def plan(self, heads: int, seconds: float) -> None:
        """A round of so many heads begins, whose preparation took so long.

        If another follows, its own will take about twice that, and this one is a sketch.
        """
        self._most = self._all if self._left <= heads else -(-self._all // _SKETCH)
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
    first: ContextModel | None = None,
    steps: int = 250,
    seed: int = 0,
    seconds: float | None = None,
    progress: Progress = silent,
) -> ContextModel:
    """Tables for codes of coefficients z (1, LM, h, w), each at its S_x.

    Fitted to what is kept when the tables `first` name the cost. Without them to what plain top-S
    keeps, and once more to what is kept when these tables name it, if that is something else.
    steps: of each head's fit; fewer where they would take longer than `seconds` together.
    """
    wanted = [(z, max(1, architecture.entries(z, sparsity))) for z, sparsity in coefficients]
    layout = architecture.layout
    pace = _Pace(steps, seconds, (1 if first else 2) * len(heads(layout)))
    tables, plain = first, None
    if tables is None:
        plain = [architecture.plain_selection(z, entries).levels[0] for z, entries in wanted]
        tables = _fit_model(plain, layout, pace, seed, progress, "tables, first round")
    codes = []
    for number, (z, entries) in enumerate(wanted):
        progress("selection by these tables", number, len(wanted))
        codes.append(architecture.selection(z, entries, tables).levels[0])
    if plain and all(np.array_equal(one, other) for one, other in zip(plain, codes, strict=True)):
        return tables
    return _fit_model(codes, layout, pace, seed, progress, "tables, last round")


def find_rates(
    architecture: Architecture,
    tables: ContextModel,
    coefficients: Sequence[np.ndarray],
    progress: Progress = silent,
) -> ContextModel:
    """The tables with what an entry takes in codes of these coefficients, each (1, LM, h, w).

    On average where a code can be made to fit, for it will; else as much as the most needs.
    """
    rates = tables.rates.copy()
    for number, sparsity in enumerate(RATED):
        progress("rates", number, len(RATED))
        found = [_rate(architecture, tables, z, sparsity) for z in coefficients]
        bits = np.mean(found) if architecture.over_image else _MARGIN * max(found, default=0)
        rates[number] = np.clip(round(1000 * bits), 1, MOST_RATE)
    return replace(tables, rates=rates)


def _rate(
    architecture: Architecture, tables: ContextModel, z: np.ndarray, sparsity: float
) -> float:
    """Bits for an entry of one image, where that many are kept at each position."""
    entries = max(1, round(sparsity * z.shape[0] * z.shape[2] * z.shape[3]))
    try:
        levels = architecture.selection(z, entries, tables).levels[0]
    except InputError:  # fewer than the preset can keep
        return 0
    layout = architecture.layout
    streams = [encode_code(levels, atoms, layout, tables) for atoms in layout.split()]
    size = sum(len(stream) for pair in streams for stream in pair)
    return 8 * size / max(1, int(np.count_nonzero(levels)))


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
    # 1
    observations, since = _Observations(layout), time.monotonic()
    for number, levels in enumerate(codes):
        progress(f"{what}: codes", number, len(codes))
        observations.add(levels)
    # 2
    model = _blank(layout)
    odds = np.log((observations.mantissa[:, 1] + 1) / (observations.mantissa[:, 0] + 1))
    model.mantissa[:] = np.round(LOGIT_UNIT * odds)
    model.signs[:] = fit_signs(codes, layout)
    found = rows_of(layout)
    pace.plan(len(found), time.monotonic() - since)
    for head, number, bias, linear in found:
        progress(what, number, len(found))
        seen = observations.of(number)
        since, steps = time.monotonic(), 0
        if seen is not None:
            steps = pace.steps()
            fitted = _Fit(head, seed + number).to(seen, steps)
            model.bias[bias : bias + head.atoms] = fitted.bias
            model.linear[linear : linear + head.slopes] = fitted.linear
            model.present[number] = fitted.present
            model.inner[number], model.outer[number] = fitted.inner, fitted.outer
        pace.note(steps, time.monotonic() - since)
    return model


def _blank(layout: Layout) -> ContextModel:
    """Tables of heads that have seen too little: an entry is rare."""
    found = rows_of(layout)
    last = found[-1]
    bias = np.zeros((last.bias + last.head.atoms, 3), np.int32)
    for head, _, start, _ in found:
        bias[start : start + head.atoms, 0] = -LOGIT_UNIT * _RARE[head.decision]
    slots = np.arange(-MAX_LOGIT, MAX_LOGIT + 1, 64) / LOGIT_UNIT
    probability = np.clip(np.round(65536 / (1 + np.exp(-slots))), 1, 65535)
    logarithm = np.floor(_FEATURE_UNIT * np.log2(1 + np.arange(LOGARITHMS)))
    return ContextModel(
        bias,
        np.zeros((last.linear + last.head.slopes, FEATURES), np.int32),
        np.zeros((len(found), FEATURES), np.int32),
        np.zeros((len(found), HIDDEN, FEATURES + 2), np.int32),
        np.zeros((len(found), HIDDEN), np.int32),
        np.full(len(RATED), 8000, np.int32),
        np.zeros(EXPONENTS + 4, np.int32),
        np.zeros((layout.atoms, PASSES, len(SIGNED), 2), np.int32),
        logarithm.astype(np.int32),
        probability.astype(np.int32),
    )


class _Weights(NamedTuple):
    """Of one head, in the units of the tables; see `ContextModel`."""

    bias: np.ndarray
    linear: np.ndarray
    present: np.ndarray
    inner: np.ndarray
    outer: np.ndarray


class _Fit:
    """Of one head: what all its atoms share, and what sets each apart."""

    def __init__(self, head: Head, seed: int) -> None:
        self._random = torch.Generator().manual_seed(seed)
        self._bias, self._biases = torch.zeros(3), torch.zeros(head.atoms, 3)
        self._linear, self._slopes = torch.zeros(FEATURES), torch.zeros(head.slopes, FEATURES)
        self._present, self._outer = torch.zeros(FEATURES), torch.zeros(HIDDEN)
        self._inner = torch.randn(HIDDEN, FEATURES + 2, generator=self._random) * 0.1
        self._inner[:, -1] = 0
        self._has_slopes = head.slopes > 1

    def to(self, seen: _Seen, steps: int) -> _Weights:
        """The weights under which what was seen is likely."""
        features, atom, density, bits = (torch.from_numpy(x) for x in seen)
        self._bias[0] = torch.logit(bits.float().mean().clamp(1e-4, 1 - 1e-4))
        shared = [self._bias, self._linear, self._present, self._inner, self._outer]
        apart = [self._biases] + [self._slopes] * self._has_slopes
        weights = [w.requires_grad_() for w in shared + apart]
        optimiser = torch.optim.Adam(weights, lr=_RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=steps)
        for _ in range(steps):
            some = torch.randint(len(bits), (min(_BATCH, len(bits)),), generator=self._random)
            x = features[some].float() / _FEATURE_UNIT
            score = self._score(x, atom[some].long(), density[some].float() / _FEATURE_UNIT)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(score, bits[some].float())
            optimiser.zero_grad()
            (loss + self._penalty() / len(bits)).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        return self._whole()

    def _score(self, x: Tensor, atom: Tensor, density: Tensor) -> Tensor:
        r, inner = density[:, None], self._inner
        hidden = torch.relu(x @ inner[:, :-2].T + r * inner[:, -2] + inner[:, -1])
        bias = self._bias + self._biases[atom]
        score = (bias * torch.cat([torch.ones_like(r), r, r * r], dim=1)).sum(dim=1)
        if self._has_slopes:
            score = score + (x * self._slopes[atom]).sum(dim=1)
        return score + x @ self._linear + (x > 0).float() @ self._present + hidden @ self._outer

    def _penalty(self) -> Tensor:
        """Minus the logarithm of the prior: weights are normal."""
        free = (self._linear, self._present, self._inner, self._outer, self._slopes)
        apart = (self._biases * self._biases) @ torch.tensor(_STIFFNESS)
        return _PRIOR * (apart.sum() + torch.stack([torch.sum(w * w) for w in free]).sum())

    def _whole(self) -> _Weights:
        """In the units of the tables, where the density's square is divided by 64."""
        per_density = torch.tensor([1, 1 / _FEATURE_UNIT, 1.0])
        units = [
            (self._bias + self._biases) * per_density * LOGIT_UNIT,
            (self._linear + self._slopes) / _FEATURE_UNIT * LOGIT_UNIT,
            self._present * LOGIT_UNIT,
            self._inner / _FEATURE_UNIT * HIDDEN_UNIT,
            self._outer * LOGIT_UNIT,
        ]
        whole = [np.round(unit.detach().numpy()) for unit in units]
        if not all(np.isfinite(w).all() for w in whole):
            raise ModelError(
                "a table of the coder came out as no number: "
                "the codes it was fitted to are not fit for it"
            )
        limits = (SCORE_LIMIT, TABLE_LIMIT, TABLE_LIMIT, TABLE_LIMIT, SCORE_LIMIT)
        pairs = zip(whole, limits, strict=True)
        return _Weights(*(np.clip(w, -limit, limit).astype(np.int32) for w, limit in pairs))
