"""Sparse coding with ambiguation (SCA): decoys on the complement of the support, paper Eq. (1)-(2).

    Z_p = Z + N,  supp(N) within the complement of supp(Z)          ambiguate
    Z   = Z_p on the support                                        purify

What hides is which entries are true; everything about the decoys is therefore drawn to look like
the true ones: how many fall on an atom follows how many true entries it has, their values are drawn
near the true values of the same atom, and where they lie follows how likely an entry is there,
given the true ones (`odds`, from the coder's model). How little that hides from an attacker who has
the encoder is measured (docs/evaluation.md); it is never called safe.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

import numpy as np

from primis.codes.sparse import LEVEL_LIMIT

_RARE, _STEPS = 4, 1 << 16

Draw = Callable[[int], bytes]
"""n -> n random bytes. `secrets.token_bytes` everywhere but in test vectors."""


def ambiguate(
    levels: np.ndarray,
    decoys: int,
    *,
    odds: np.ndarray | None = None,
    draw: Draw = secrets.token_bytes,
) -> np.ndarray:
    """Z_p = Z + N: levels with `decoys` more non-zeros, none of them on the support.

    levels: Z, integers (..., LM, h, w); leading axes are planes. decoys: S_n times the number of
    positions, from 0 to the number of zeros. odds: natural logarithm of how likely each place is to
    be chosen, beside others of its atom; by default all alike. draw: gives so many random bytes, by
    default the operating system's. Raises ValueError for another number of decoys.
    """
    flat = np.moveaxis(levels, -3, 0).reshape(levels.shape[-3], -1)  # (LM, positions)
    zeros = flat.shape[1] - np.count_nonzero(flat, axis=1)
    if not 0 <= decoys <= zeros.sum():
        raise ValueError(f"decoys is {decoys}, expected 0..{zeros.sum()}")
    likely = None if odds is None else np.moveaxis(odds, -3, 0).reshape(flat.shape)
    public = flat.copy()
    shares = share_out(decoys, np.count_nonzero(flat, axis=1), zeros)
    for atom in np.flatnonzero(shares):
        free = np.flatnonzero(flat[atom] == 0)
        count = int(shares[atom])
        weights = None if likely is None else likely[atom, free]
        chosen = free[_places(len(free), weights, count, draw)]
        values = _values_like(flat, int(atom))
        public[atom, chosen] = _near(values[_below(len(values), len(chosen), draw)], draw)
    shape = (levels.shape[-3], *levels.shape[:-3], *levels.shape[-2:])
    return np.moveaxis(public.reshape(shape), 0, -3)


def purify(public: np.ndarray, support: np.ndarray) -> np.ndarray:
    """Z: the public code on the support, zero elsewhere.

    public: Z_p, integers (..., LM, h, w). support: bool, of the same shape.
    """
    return np.where(support, public, public.dtype.type(0))


def share_out(total: int, weights: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Split `total` in proportion to weights, none above its limit; whole numbers that add up.

    weights, limits: (n,) of non-negative integers with total <= sum of limits. Deterministic.
    """
    shares = np.zeros(len(limits), np.int64)
    while (left := total - int(shares.sum())) > 0:
        open_ = limits > shares
        pull = np.where(open_, weights, 0).astype(np.float64)
        if not pull.any():
            pull = (limits - shares).astype(np.float64)
        ideal = left * pull / pull.sum()
        step = np.minimum(np.floor(ideal).astype(np.int64), limits - shares)
        if not step.any():
            step[np.argsort(-np.where(open_, ideal, -1), kind="stable")[:left]] = 1
            step = np.minimum(step, limits - shares)
        shares += step
    return shares


def order(n: int, draw: Draw) -> np.ndarray:
    """A uniformly random order of 0..n-1, from 64 random bits each."""
    return np.argsort(np.frombuffer(draw(8 * n), "<u8"), kind="stable")


def _places(n: int, odds: np.ndarray | None, k: int, draw: Draw) -> np.ndarray:
    return choose(n, k, draw) if odds is None else choose_likely(odds, k, draw)


def choose(n: int, k: int, draw: Draw) -> np.ndarray:
    """A uniformly random set of k of 0..n-1, sorted."""
    if 4 * k >= n:
        return np.sort(order(n, draw)[:k])
    chosen = np.empty(0, np.int64)
    while len(chosen) < k:  # the first k distinct ones of a uniform sequence
        sequence = np.concatenate([chosen, _below(n, k - len(chosen) + 8, draw)])
        _, first = np.unique(sequence, return_index=True)
        chosen = sequence[np.sort(first)][:k]
    return np.sort(chosen)


def choose_likely(odds: np.ndarray, k: int, draw: Draw) -> np.ndarray:
    """A random set of k of the places, drawn without return, with weights exp(odds).

    By the largest of odds + Gumbel noise, which comes to the same (Efraimidis and Spirakis, 2006).
    """
    uniform = (np.frombuffer(draw(8 * len(odds)), "<u8") >> np.uint64(11)).astype(np.float64) + 0.5
    key = odds - np.log(-np.log(uniform / 2.0**53))
    return np.sort(np.argpartition(-key, k - 1)[:k]) if k < len(odds) else np.arange(len(odds))


def _values_like(flat: np.ndarray, atom: int) -> np.ndarray:
    """The true values of this atom; where it has none, of the nearest atoms that have."""
    reach = 0
    while True:
        values = flat[max(0, atom - reach) : atom + reach + 1]
        values = values[values != 0]
        if len(values):
            return values
        if reach > len(flat):
            return np.array([-1, 1], flat.dtype)
        reach = 2 * reach + 1


def _near(values: np.ndarray, draw: Draw) -> np.ndarray:
    """Small values as they are, others moved by up to half an octave.

    A true value that stood alone in its atom would be recognised.
    """
    move = _below(_STEPS, len(values), draw) / _STEPS - 0.5
    size = np.abs(values.astype(np.float64))
    moved = np.rint(size * np.exp2(np.where(size < _RARE, 0.0, move)))
    return (np.sign(values) * np.minimum(moved, LEVEL_LIMIT)).astype(values.dtype)


def _below(limit: int, n: int, draw: Draw) -> np.ndarray:
    """n uniform integers in 0..limit-1, for limits far under 2^32 (bias below limit / 2^32)."""
    words = np.frombuffer(draw(8 * n), "<u8")
    return ((words >> np.uint64(32)) * np.uint64(limit) >> np.uint64(32)).astype(np.int64)
