"""The integer model of the coder: from what a scan has seen to a 16-bit probability.

For each head a logistic regression with a small hidden layer, in whole numbers. No rounding can
differ between machines: the products that run in floating point are of whole numbers, small enough
to be exact.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from primis.codes.layout import Layout
from primis.codes.scan import EXPONENTS, FEATURES, heads

HIDDEN = 8
LOGIT_UNIT = 1 << 10
"""Scores are logits in units of 1/1024."""
HIDDEN_UNIT = 1 << 12
TABLE_LIMIT = 8191
SCORE_LIMIT = 1 << 20
"""The largest weights that meet features, and of all others: every sum of products is under 2^53."""

_MAX_LOGIT = 11 * LOGIT_UNIT
_LARGEST_LOGARITHM = 128


@dataclass(frozen=True, eq=False)
class ContextModel:
    """The coder's tables, int32; they ship with the weights.

    N heads, F features, H hidden units.

    bias: (sum of the heads' atoms, 3) logit of a one; its change per 1/8 of log2(entries per
    position), and per square of that / 64.
    linear: (N, F, 2) logit per unit of a feature's logarithm, and if it is above zero.
    inner: (N, H, F + 2) hidden units from the features, the density and one.
    outer: (N, H) logit of each.
    mantissa: (EXPONENTS + 4,) logit of the bit under a level's highest, by exponent.
    logarithm: floor(8 log2(1 + x)) for x = 0, 1, ...
    probability: 16-bit probability of a one for logits -11 .. 11 in steps of 1/16.
    """

    bias: np.ndarray
    linear: np.ndarray
    inner: np.ndarray
    outer: np.ndarray
    mantissa: np.ndarray
    logarithm: np.ndarray
    probability: np.ndarray

    def fits(self, layout: Layout) -> bool:
        """Whether these are sound tables for a layout."""
        tables = [getattr(self, field.name) for field in fields(self)]
        sound = all(table.dtype == np.int32 for table in tables)
        return sound and self._has_shapes(layout) and self._is_within_limits()

    def _has_shapes(self, layout: Layout) -> bool:
        wanted = heads(layout)
        shapes = {
            "bias": (sum(head.atoms for head in wanted), 3),
            "linear": (len(wanted), FEATURES, 2),
            "inner": (len(wanted), HIDDEN, FEATURES + 2),
            "outer": (len(wanted), HIDDEN),
            "mantissa": (EXPONENTS + 4,),
            "probability": (2 * _MAX_LOGIT // 64 + 1,),
        }
        sound = all(getattr(self, name).shape == shape for name, shape in shapes.items())
        return sound and self.logarithm.ndim == 1 and 0 < len(self.logarithm) <= 1 << 16

    def _is_within_limits(self) -> bool:
        limits = {
            "linear": (-TABLE_LIMIT, TABLE_LIMIT),
            "inner": (-TABLE_LIMIT, TABLE_LIMIT),
            "outer": (-SCORE_LIMIT, SCORE_LIMIT),
            "bias": (-SCORE_LIMIT, SCORE_LIMIT),
            "mantissa": (-SCORE_LIMIT, SCORE_LIMIT),
            "logarithm": (0, _LARGEST_LOGARITHM),
            "probability": (1, 65535),
        }
        ranges = ((getattr(self, name), limit) for name, limit in limits.items())
        return all(low <= table.min() and table.max() <= high for table, (low, high) in ranges)

    def probabilities(
        self, number: int, offset: int, features: np.ndarray, atom: np.ndarray, density: int
    ) -> np.ndarray:
        """Of a one, float64, each a whole number of 65536ths.

        number, offset: the head, and where its atoms start in `bias`. features: (F, n), the
        logarithms that the scan gives; atom: (n,) within the head's group.
        """
        if not features.shape[1]:
            return np.zeros(0)
        linear, inner, outer = self._weights
        hidden = inner[number][:, :-2] @ features
        hidden += (inner[number][:, -2] * density + inner[number][:, -1])[:, None]
        score = linear[number, :, 0] @ features + linear[number, :, 1] @ (features > 0)
        of_hidden = np.floor(outer[number] @ np.maximum(hidden, 0) / HIDDEN_UNIT)
        bias = self.bias[offset + atom].astype(np.int64)
        whole = score.astype(np.int64) + of_hidden.astype(np.int64)
        whole += bias[:, 0] + bias[:, 1] * density + ((bias[:, 2] * density * density) >> 6)
        return self.look_up(whole)

    def look_up(self, score: np.ndarray) -> np.ndarray:
        """Logits -> probabilities."""
        clipped = np.minimum(np.maximum(score, -_MAX_LOGIT), _MAX_LOGIT)
        return self._probability[(clipped + _MAX_LOGIT) >> 6]

    @cached_property
    def _probability(self) -> np.ndarray:
        return self.probability / 65536.0

    @cached_property
    def _weights(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        floats = (table.astype(np.float64) for table in (self.linear, self.inner, self.outer))
        linear, inner, outer = floats
        return linear, inner, outer
