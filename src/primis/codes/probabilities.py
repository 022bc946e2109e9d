"""The integer model of the coder: tables that turn what a scan has seen into probabilities.

For each head, a kind of decision in a group of atoms, a logistic regression with a small hidden
layer, in whole numbers; the kernel (`kernel/model.h`) evaluates it. docs/format.md, section 7, is
the specification.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum
from functools import cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from primis.codes.layout import Layout

FEATURES, HIDDEN, EXPONENTS, LOGARITHMS = 14, 16, 12, 8192
"""What the kernel is compiled for; features are logarithms of sums up to 8191."""

BITS = 7
"""Bits of a level below its highest that contexts tell of: the next of exponents 1, 2 and 3, and of
2 and 3 the one after it, where that is 0 and where it is 1."""

LOGIT_UNIT = 1 << 10
"""Scores are logits in units of 1/1024."""
HIDDEN_UNIT = 1 << 12
TABLE_LIMIT = 8191
SCORE_LIMIT = 1 << 20
"""The largest weights that meet features, and of all others: no sum overflows."""

MAX_LOGIT = 11 * LOGIT_UNIT
RATED = (0.5, 1, 2, 4, 8, 16, 32)
"""Values of S_x at which the tables say what an entry takes."""

MOST_RATE = 64000
SIGNED = ("beside in the row", "beside in the column", "corners", "two left", "two above")
"""Sums of levels of the same atom that tell of a level's sign."""

SIGNED_LIMIT = 2
"""A level counts as at most this in them."""

PASSES = 4
_LARGEST_LOGARITHM = 128


class Decision(Enum):
    """What is decided: whether an entry is there, whether a group has any, whether a level has
    a larger exponent, and which bits are below its highest."""

    ENTRY = "entry"
    LEVEL = "level"
    BIT = "bit"
    FLAG = "flag"


class Head(NamedTuple):
    """A kind of decision in a group, with probabilities of its own.

    dc: in the stack of the DC plane; first, atoms: the group, for a flag as one atom; number: the
    pass, a level's exponent, or which of BITS.
    """

    dc: bool
    decision: Decision
    first: int
    atoms: int
    number: int

    @property
    def slopes(self) -> int:
        """Rows of linear weights: the atoms of an entry's head have one each."""
        return self.atoms if self.decision is Decision.ENTRY else 1


class Rows(NamedTuple):
    """A head, its number, and where its rows of `bias` and of `linear` start."""

    head: Head
    number: int
    bias: int
    linear: int


def heads(layout: Layout) -> list[Head]:
    """All heads of a layout's coder, in the order in which the model's tables hold them."""
    stacks = [(True, layout.dc), (False, layout)]
    return [
        head for dc, stack in stacks for group in stack.groups for head in _heads(dc, stack, group)
    ]


def _heads(dc: bool, layout: Layout, group: range) -> list[Head]:
    first, atoms = group.start, len(group)
    found = [Head(dc, Decision.ENTRY, first, atoms, number) for number in range(PASSES)]
    found += [Head(dc, Decision.LEVEL, first, atoms, exponent) for exponent in range(EXPONENTS)]
    found += [Head(dc, Decision.BIT, first, atoms, number) for number in range(BITS)]
    if layout.flagged(group):
        found += [Head(dc, Decision.FLAG, first, 1, number) for number in range(PASSES)]
    return found


@cache
def rows_of(layout: Layout) -> tuple[Rows, ...]:
    """Where each head's rows of the tables are."""
    wanted = heads(layout)
    biases = accumulate((head.atoms for head in wanted[:-1]), initial=0)
    slopes = accumulate((head.slopes for head in wanted[:-1]), initial=0)
    return tuple(map(Rows, wanted, range(len(wanted)), biases, slopes))


@dataclass(frozen=True, eq=False)
class ContextModel:
    """The coder's tables, int32; they ship with the weights.

    N heads, F features, H hidden units.

    bias: (sum of the heads' atoms, 3) logit of a one; its change per 1/8 of log2(entries per
    position), and per square of that / 64.
    linear: (sum of the heads' slopes, F) logit per unit of a feature's logarithm.
    present: (N, F) logit if a feature is above zero.
    inner: (N, H, F + 2) hidden units from the features, the density and 8, the logarithm of one.
    outer: (N, H) logit of each.
    rates: (7,) bits that an entry takes on average where S_x is 1/2, 1, 2, .. 32, in thousandths.
    mantissa: (EXPONENTS + 4,) logit of the bit under a level's highest, by exponent, where that is
    none of BITS.
    signs: (LM, 4, 5, 2) logit of a minus, by atom and pass, for each of SIGNED; its change per 8 of
    log2(entries per position).
    logarithm: floor(8 log2(1 + x)) for x = 0 .. 8191; the first is 0.
    probability: 16-bit probability of a one for logits -11 .. 11 in steps of 1/16.
    """

    bias: np.ndarray
    linear: np.ndarray
    present: np.ndarray
    inner: np.ndarray
    outer: np.ndarray
    rates: np.ndarray
    mantissa: np.ndarray
    signs: np.ndarray
    logarithm: np.ndarray
    probability: np.ndarray

    def bits_per_entry(self, sparsity: float) -> float:
        """What an entry takes on average at S_x per position, with its level."""
        at = np.log2(np.maximum(sparsity, RATED[0]))
        return round(float(np.interp(at, np.log2(RATED), self.rates)) / 1000, 3)

    def fits(self, layout: Layout) -> bool:
        """Whether these are sound tables for a layout."""
        tables = [getattr(self, field.name) for field in fields(self)]
        sound = all(table.dtype == np.int32 for table in tables)
        sound = sound and self._has_shapes(layout) and self._is_within_limits()
        return sound and self.logarithm[0] == 0  # features that a decision lacks are zero

    def _has_shapes(self, layout: Layout) -> bool:
        wanted = heads(layout)
        shapes = {
            "bias": (sum(head.atoms for head in wanted), 3),
            "linear": (sum(head.slopes for head in wanted), FEATURES),
            "present": (len(wanted), FEATURES),
            "inner": (len(wanted), HIDDEN, FEATURES + 2),
            "outer": (len(wanted), HIDDEN),
            "rates": (len(RATED),),
            "mantissa": (EXPONENTS + 4,),
            "signs": (layout.atoms, PASSES, len(SIGNED), 2),
            "logarithm": (LOGARITHMS,),
            "probability": (2 * MAX_LOGIT // 64 + 1,),
        }
        return all(getattr(self, name).shape == shape for name, shape in shapes.items())

    def _is_within_limits(self) -> bool:
        limits = {
            "linear": (-TABLE_LIMIT, TABLE_LIMIT),
            "present": (-TABLE_LIMIT, TABLE_LIMIT),
            "inner": (-TABLE_LIMIT, TABLE_LIMIT),
            "outer": (-SCORE_LIMIT, SCORE_LIMIT),
            "bias": (-SCORE_LIMIT, SCORE_LIMIT),
            "rates": (1, MOST_RATE),
            "mantissa": (-SCORE_LIMIT, SCORE_LIMIT),
            "signs": (-TABLE_LIMIT, TABLE_LIMIT),
            "logarithm": (0, _LARGEST_LOGARITHM),
            "probability": (1, 65535),
        }
        ranges = ((getattr(self, name), limit) for name, limit in limits.items())
        return all(low <= table.min() and table.max() <= high for table, (low, high) in ranges)
