"""The coder's tables (`codes/context.py`), fitted to codes and rounded to whole numbers.

For each head a logistic regression with a small hidden layer, on what the coder's own walk sees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from primis.codes.atoms import Layout
from primis.codes.choice import choose
from primis.codes.coder import at_exponent
from primis.codes.context import (
    EXPONENTS,
    FEATURES,
    HIDDEN,
    HIDDEN_UNIT,
    LOGIT_UNIT,
    SCORE_LIMIT,
    TABLE_LIMIT,
    ContextModel,
    Head,
    Truth,
    entry_density,
    offsets,
    walk,
)
from primis.codes.sparse import top_s, top_s_of_maps
from primis.errors import ModelError
from primis.network.build import as_network
from primis.network.checkpoint import layout_of
from primis.network.sparsify import transform_means

_FEATURE_UNIT = 8
_BATCH = 8192
_LEAST = 40


class _Observer:
    """Walks with the truth in hand and writes down what each head saw, and what was there."""

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
                walk(levels.copy(), atoms, self._layout, self, logarithm)

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
                at_exponent(head, exponent),
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


def fit_tables(
    network: nn.Module,
    images: Sequence[tuple[Tensor, float]],
    *,
    steps: int = 250,
    seed: int = 0,
    on_head: Callable[[int, int], None] | None = None,
) -> ContextModel:
    """Tables for a network's codes of images (1, H, W), each at its S_x: fitted to what top-S keeps, and once more to
    what is kept when these tables name the cost."""
    layout, found = layout_of(as_network(network).preset), []
    for x, sparsity in images:
        with torch.no_grad():
            z = as_network(network).encode(x[None])
        found.append(((transform_means(z) if layout.means else z).numpy(), sparsity))
    tables = fit_context_model(
        [_top_s(z, s, layout) for z, s in found], layout, steps=steps, seed=seed, on_head=on_head
    )
    if not layout.means:
        return tables
    codes = [choose(z, max(1, round(s * z[0, 0].size)), layout, tables).levels[0] for z, s in found]
    return fit_context_model(codes, layout, steps=steps, seed=seed, on_head=on_head)


def _top_s(z: np.ndarray, sparsity: float, layout: Layout) -> np.ndarray:
    if layout.means:
        return top_s(z, max(1, round(sparsity * z[0, 0].size))).levels[0]
    return top_s_of_maps(z, layout.code_maps, max(1, round(sparsity))).levels[0]


def fit_context_model(
    codes: Sequence[np.ndarray],
    layout: Layout,
    *,
    steps: int = 250,
    seed: int = 0,
    on_head: Callable[[int, int], None] | None = None,
) -> ContextModel:
    """Tables for codes like these, each levels (LM, h, w); they should span the S_x that will be used.

    on_head(done, all) is called after each head.
    """
    logarithm = np.floor(_FEATURE_UNIT * np.log2(1 + np.arange(8192))).astype(np.int32)
    slots = np.arange(-11 * 16, 11 * 16 + 1) / 16
    probability = np.clip(np.round(65536 / (1 + np.exp(-slots))), 1, 65535).astype(np.int32)
    observer = _Observer(layout)
    for levels in codes:
        observer.observe(levels, logarithm)
    heads = offsets(layout)
    bias = np.zeros((heads[-1][2] + heads[-1][0][2], 3), np.int32)
    linear = np.zeros((len(heads), FEATURES, 2), np.int32)
    inner = np.zeros((len(heads), HIDDEN, FEATURES + 2), np.int32)
    outer = np.zeros((len(heads), HIDDEN), np.int32)
    for head, number, offset in heads:
        parts = observer.seen.get(head, [])
        own = slice(offset, offset + head[2])
        if sum(len(part[3]) for part in parts) < _LEAST:
            bias[own, 0] = -LOGIT_UNIT * (3 if head[0] in ("entry", "flag", "mean") else 1)
        else:
            whole = [torch.from_numpy(np.concatenate(x)) for x in zip(*parts, strict=True)]
            bias[own], linear[number], inner[number], outer[number] = _fit(
                whole, head[2], steps, seed + number
            )
        if on_head is not None:
            on_head(number + 1, len(heads))
    odds = np.log((observer.mantissa[:, 1] + 1) / (observer.mantissa[:, 0] + 1))
    mantissa = np.round(LOGIT_UNIT * odds).astype(np.int32)
    return ContextModel(bias, linear, inner, outer, mantissa, logarithm, probability)


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
    per_density = torch.tensor(
        [1, 1 / _FEATURE_UNIT, 1.0]
    )  # the square is divided by 64 when it is used
    per_feature = torch.tensor([1 / _FEATURE_UNIT, 1.0])
    per_input = torch.tensor([1 / _FEATURE_UNIT] * (FEATURES + 1) + [1.0])
    units = [
        bias * per_density * LOGIT_UNIT,
        linear * per_feature * LOGIT_UNIT,
        inner * per_input * HIDDEN_UNIT,
        outer * LOGIT_UNIT,
    ]
    whole = [np.round(unit.detach().numpy()) for unit in units]
    if not all(np.isfinite(w).all() for w in whole):
        raise ModelError(
            "a table of the coder came out as no number: the codes it was fitted to are not fit for it"
        )
    limits = (SCORE_LIMIT, TABLE_LIMIT, TABLE_LIMIT, SCORE_LIMIT)
    return tuple(
        np.clip(w, -limit, limit).astype(np.int32) for w, limit in zip(whole, limits, strict=True)
    )
