"""The support Z_s: which entries of a code are not zero. Ranked, unranked and coded in few bits.

The coder walks the atoms from coarse to fine in groups, and the positions of each group in four passes
over a lattice, so that a pass sees all of the coarser atoms and, from the second pass on, neighbours of
its own. What it sees becomes integer features; an integer logistic model turns them into a probability
of 16 bits; constriction's range coder does the rest. There is no floating-point arithmetic whose
rounding could differ between machines: the few float products are of small integers, and exact.
docs/format.md, section 6, is the specification.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from math import comb
from typing import Any

import constriction
import numpy as np

from primis.codes.atoms import atom_frequencies
from primis.errors import DamagedSection

PASSES = ((0, 0), (1, 1), (0, 1), (1, 0))
"""Rows and columns at which the four passes over the positions start; each has a step of 2."""

_GROUPS = (0, 1, 4, 10, 16, 24, 34, 48, 68, 96, 136, 188, 256)
FEATURES = 8
LOGIT_UNIT = 1 << 10
"""The weights and the score are logits in units of 1/1024."""

_WITH_CONTEXT, _PLAIN = b"\0", b"\1"
_MAX_LOGIT = 11 * LOGIT_UNIT
_DENSITY_UNIT = 8


@dataclass(frozen=True, eq=False)
class SupportModel:
    """The integer tables of the support coder; they ship with the weights.

    bias: (4, LM) logit of an entry before any context, per pass.
    density: (LM, 2) change of it per 1/8 of log2(entries per position), and of its square / 64.
    weights: (groups, 4, FEATURES, 2) logit per unit of a feature's logarithm, and if it is above zero.
    logarithm: floor(8 log2(1 + x)) for the features' values x.
    probability: 16-bit probability of a one for logits -11 .. 11 in steps of 1/16.
    """

    bias: np.ndarray
    density: np.ndarray
    weights: np.ndarray
    logarithm: np.ndarray
    probability: np.ndarray

    def fits(self, atoms: int) -> bool:
        """Whether these are tables of integers, of the right shapes, for so many atoms."""
        shapes = ((len(PASSES), atoms), (atoms, 2), (len(groups(atoms)), len(PASSES), FEATURES, 2))
        tables = (self.bias, self.density, self.weights, self.logarithm, self.probability)
        sound = all(t.dtype == np.int32 for t in tables) and len(self.logarithm) > 0
        sound = sound and all(t.shape == shape for t, shape in zip(tables, shapes, strict=False))
        wanted = 2 * _MAX_LOGIT // 64 + 1
        return sound and self.probability.shape == (wanted,) and bool(((self.probability > 0) & (self.probability < 65536)).all())

    def probabilities(self, score: np.ndarray) -> np.ndarray:
        """Logits -> probabilities as float64, each a whole number of 65536ths."""
        index = (np.clip(score, -_MAX_LOGIT, _MAX_LOGIT) + _MAX_LOGIT) >> 6
        return self.probability[index] / 65536.0


def groups(atoms: int) -> list[range]:
    """The groups of atoms that are coded together."""
    bounds = [b for b in _GROUPS if b < atoms] + [atoms]
    return [range(low, high) for low, high in pairwise(bounds)]


def code_ranges(atoms: int, first: int) -> tuple[range, range]:
    """The atoms that tier `preview` opens (the first code map) and those that `diagnostic` adds.

    Raises ValueError unless the border between them is one of the coder's.
    """
    if not any(group.start == first for group in groups(atoms)):
        raise ValueError(f"a first code map of {first} atoms cuts a group of the support coder")
    return range(first), range(first, atoms)


def entry_density(entries: int, positions: int) -> int:
    """floor(8 log2(entries / positions)), exactly: log2 of the eighth power, of integers."""
    ratio = ((entries**_DENSITY_UNIT) << 512) // positions**_DENSITY_UNIT
    return ratio.bit_length() - 1 - 512


def encode_support(support: np.ndarray, atoms: range, model: SupportModel) -> bytes:
    """Code the entries of `atoms` in support (LM, h, w) of bool; the atoms below count as known.

    The first byte says how: with context, or without where that is shorter (noise has no context).
    """
    part = support[atoms.start : atoms.stop]
    if not part.any():
        return b""
    with_context = _WITH_CONTEXT + _encode_context(support, atoms, model)
    share = part.mean()
    without = part.size * -(share * np.log2(share) + (1 - share) * np.log2(max(1 - share, 1e-12))) / 8
    if len(with_context) < without:  # about what a code without context would need
        return with_context
    return min(with_context, _PLAIN + encode_plain(part), key=len)


def _encode_context(support: np.ndarray, atoms: range, model: SupportModel) -> bytes:
    entries = int(support[atoms.start : atoms.stop].sum())
    bits: list[np.ndarray] = []
    chances: list[np.ndarray] = []
    known = support.copy()
    known[atoms.start :] = False

    def step(where: tuple[slice, slice, slice], p: np.ndarray) -> np.ndarray:
        bits.append(support[where].ravel().astype(np.int32))
        chances.append(p.ravel())
        return support[where]

    walk(known, atoms, entries, model, step)
    encoder = constriction.stream.queue.RangeEncoder()
    family = constriction.stream.model.Bernoulli(perfect=False)
    encoder.encode(np.concatenate(bits), family, np.concatenate(chances))
    words: np.ndarray = encoder.get_compressed()
    return words.astype("<u4").tobytes()


def decode_support(data: bytes, known: np.ndarray, atoms: range, entries: int, model: SupportModel) -> np.ndarray:
    """Fill `atoms` into a copy of known (LM, h, w), whose lower atoms are right.

    Raises DamagedSection if the stream does not hold `entries` entries.
    """
    support = known.copy()
    support[atoms.start :] = False
    if entries == 0:
        return support
    how, words = data[:1], data[1:]
    if len(words) % 4 or how not in (_WITH_CONTEXT, _PLAIN):
        raise DamagedSection(f'section "supports": a stream of {len(data)} bytes is malformed')
    if how == _PLAIN:
        part = support[atoms.start : atoms.stop]
        part[:] = decode_plain(words, part.shape, entries)
        return support
    decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(words, "<u4").astype(np.uint32))
    family = constriction.stream.model.Bernoulli(perfect=False)

    def step(where: tuple[slice, slice, slice], p: np.ndarray) -> np.ndarray:
        return _decode(decoder, family, p.ravel()).reshape(p.shape)

    walk(support, atoms, entries, model, step)
    found = int(support[atoms.start : atoms.stop].sum())
    if found != entries:
        raise DamagedSection(f'section "supports": a stream decodes to {found} entries, expected {entries}')
    return support


Step = Callable[[tuple[slice, slice, slice], np.ndarray], np.ndarray]


def walk(known: np.ndarray, atoms: range, entries: int, model: SupportModel, step: Step) -> None:
    """Visit all entries of `atoms` in coding order; `step` gets probabilities and returns the bits.

    known (LM, h, w) of bool is filled as the walk goes. Both directions of the coder, and the fit of
    its model, are this one walk, so they cannot disagree.
    """
    rate = entry_density(entries, known.shape[1] * known.shape[2])
    for number, where, features in visits(known, atoms, model.logarithm):
        group, turn = divmod(number, len(PASSES))
        some = features > 0
        w = model.weights[group, turn].astype(np.int64)
        score = np.tensordot(w[:, 0], features, 1) + np.tensordot(w[:, 1], some.astype(np.int64), 1)
        own = where[0]
        level = model.bias[turn, own] + model.density[own, 0] * rate + ((model.density[own, 1] * rate * rate) >> 6)
        known[where] = step(where, model.probabilities(score + level[:, None, None]))


def visits(known: np.ndarray, atoms: range, logarithm: np.ndarray):  # type: ignore[no-untyped-def]
    """Yield (4 x group + pass, where, features (FEATURES, atoms, h', w')) in coding order.

    The caller must have filled known[where] before it asks for the next.
    """
    for group, own in enumerate(groups(known.shape[0])):
        if own.start < atoms.start or own.stop > atoms.stop:
            continue
        coarse, near, nearby = _coarse_features(known, own)
        total = coarse.sum(axis=0)  # (h, w): entries below this group
        around = _neighbours(total)[0]
        for turn, (top, left) in enumerate(PASSES):
            where = (slice(own.start, own.stop), slice(top, None, 2), slice(left, None, 2))
            if 0 in known[where].shape:
                continue
            at = where[1:]
            mine = known[own.start : own.stop].astype(np.float32)
            edge, corner = _neighbours(mine)
            mixed = np.tensordot(_kernel(known.shape[0])[own.start : own.stop, own.start : own.stop], edge, 1)
            own_shape = mine[(slice(None), *at)].shape
            raw = (
                near[(slice(None), *at)],
                nearby[(slice(None), *at)],
                np.broadcast_to(total[at], own_shape),
                np.broadcast_to(around[at], own_shape),
                edge[(slice(None), *at)],
                corner[(slice(None), *at)],
                mixed[(slice(None), *at)],
                np.broadcast_to((edge + corner).sum(axis=0)[at], own_shape),
            )
            values = np.stack(raw).astype(np.int64)
            yield len(PASSES) * group + turn, where, logarithm[np.minimum(values, len(logarithm) - 1)]


def _coarse_features(known: np.ndarray, own: range) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Entries of coarser atoms; those near in frequency in the same block, and in the blocks around."""
    coarse = known[: own.start].astype(np.float32)
    kernel = _kernel(known.shape[0])[own.start : own.stop, : own.start]
    near = np.tensordot(kernel, coarse, 1)
    edge, _ = _neighbours(coarse)
    return coarse, near, np.tensordot(kernel, edge, 1)


@cache
def _kernel(atoms: int) -> np.ndarray:
    """How near two atoms are in frequency: round(16 / distance²) up to a distance of 3; 16 to itself."""
    frequency = atom_frequencies(round(atoms**0.5)).astype(np.int64)
    distance = ((frequency[:, None] - frequency[None]) ** 2).sum(axis=2)
    kernel = np.where(distance <= 9, (32 + np.maximum(distance, 1)) // (2 * np.maximum(distance, 1)), 0)
    return kernel.astype(np.float32)


def _neighbours(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums over the 4 positions beside and the 4 at the corners; nothing lies outside. (..., h, w)."""
    padded = np.pad(x, [(0, 0)] * (x.ndim - 2) + [(1, 1), (1, 1)])
    rows = padded[..., :-2, :] + padded[..., 2:, :]
    corner = rows[..., :-2] + rows[..., 2:]
    edge = rows[..., 1:-1] + padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]
    return edge, corner


def encode_plain(support: np.ndarray) -> bytes:
    """Code a support of any shape without context, given how many entries it has."""
    encoder = constriction.stream.queue.RangeEncoder()
    family, p = _flat_model(support.size, int(support.sum()))
    encoder.encode(support.ravel().astype(np.int32), family, p)
    words: np.ndarray = encoder.get_compressed()
    return words.astype("<u4").tobytes()


def decode_plain(data: bytes, shape: tuple[int, ...], entries: int) -> np.ndarray:
    """Inverse of `encode_plain`. Raises DamagedSection if the stream holds another number of entries."""
    size = int(np.prod(shape))
    if len(data) % 4 or not 0 <= entries <= size:
        raise DamagedSection(f"a stream of {len(data)} bytes is malformed, expected {entries} of {size} entries")
    decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))
    support = _decode(decoder, *_flat_model(size, entries)).reshape(shape)
    if int(support.sum()) != entries:
        raise DamagedSection(f"a stream decodes to {support.sum()} entries, expected {entries}")
    return support


def _decode(decoder: Any, family: object, p: np.ndarray) -> np.ndarray:
    try:
        return decoder.decode(family, p).astype(bool)
    except AssertionError:  # how constriction says that no encoder wrote this
        raise DamagedSection("a stream of supports is damaged") from None


def _flat_model(size: int, entries: int) -> tuple[object, np.ndarray]:
    chance = min(max(1, (65536 * entries + size // 2) // size), 65535) / 65536
    return constriction.stream.model.Bernoulli(perfect=False), np.full(size, chance)


def rank(support: np.ndarray) -> int:
    """The number of a support among all with as many entries (combinatorial number system).

    support: 1-D of bool. The least number of bits any fixed-length key of this support can have is
    log2 of the binomial; `unrank` inverts.
    """
    return sum(comb(int(p), k) for k, p in enumerate(np.flatnonzero(support), start=1))


def unrank(number: int, size: int, entries: int) -> np.ndarray:
    """The support of `entries` among `size` with this rank, as 1-D bool."""
    if not 0 <= number < comb(size, entries):
        raise ValueError(f"rank {number} is outside 0..C({size}, {entries}) - 1")
    support = np.zeros(size, bool)
    position = size - 1
    for k in range(entries, 0, -1):
        while comb(position, k) > number:
            position -= 1
        support[position] = True
        number -= comb(position, k)
        position -= 1
    return support
