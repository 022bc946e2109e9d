"""A code as two streams: the support, which is the key, and the values, which are public (docs/format.md, section 7).

Entries and levels are coded in one walk (`context.py`), each to its own stream, so that either is as short
as what is known by then allows: levels tell where further entries are. constriction's range coder does
the coding; a level is its exponent in unary, the bits below it, and its sign.

Where the public code lies in the open (level `sca`), the support is coded given it: an entry can only be
where the public code has one, and its level is known (`encode_support`). What that takes is what a holder
of the public code lacks, by this model: the size of the key and the ambiguity are one figure.
"""

from __future__ import annotations

from functools import cache, cached_property
from typing import Any

import constriction
import numpy as np

from primis.codes.atoms import Layout, split_means
from primis.codes.context import EXPONENTS, ContextModel, Head, Truth, entry_density, offsets, walk
from primis.errors import DamagedSection

_EVEN = 0.5
_UNSEEN = 4.0  # bits of an entry where its group has none, on top of the flag
_MAX_EXPONENT = 14  # of 32,767, the largest level


def encode_code(
    levels: np.ndarray, atoms: range, layout: Layout, model: ContextModel
) -> tuple[bytes, bytes]:
    """(support, values) of the entries of `atoms` in levels (LM, h, w); the atoms below count as known.

    Both are empty if there is no entry.
    """
    entries = int(np.count_nonzero(levels[atoms.start : atoms.stop]))
    if not entries:
        return b"", b""
    side = _Encoder(levels, layout, model, entry_density(entries, levels[0].size))
    walk(levels.copy(), atoms, layout, side, model.logarithm)
    return side.support.data(), side.values.data()


def decode_code(
    support: bytes,
    values: bytes,
    known: np.ndarray,
    atoms: range,
    entries: int,
    layout: Layout,
    model: ContextModel,
) -> np.ndarray:
    """Fill `atoms` into a copy of known (LM, h, w) int16, whose lower atoms are right.

    Raises DamagedSection if the streams do not hold `entries` entries.
    """
    levels = _start(known, atoms, entries, support + values)
    if entries:
        side = _Decoder(support, values, layout, model, entry_density(entries, levels[0].size))
        walk(levels, atoms, layout, side, model.logarithm)
        side.finish()
    return _checked(levels, atoms, entries)


def encode_support(
    levels: np.ndarray, public: np.ndarray, atoms: range, layout: Layout, model: ContextModel
) -> bytes:
    """The support of `atoms` in levels (LM, h, w), for those who have the public code Z_p of the same shape."""
    entries = int(np.count_nonzero(levels[atoms.start : atoms.stop]))
    if not entries:
        return b""
    side = _GivenPublicEncoder(
        levels, public, layout, model, entry_density(entries, levels[0].size)
    )
    walk(levels.copy(), atoms, layout, side, model.logarithm)
    return side.support.data()


def decode_support(
    support: bytes,
    public: np.ndarray,
    known: np.ndarray,
    atoms: range,
    entries: int,
    layout: Layout,
    model: ContextModel,
) -> np.ndarray:
    """Purify: the true levels of `atoms` among those of Z_p. Raises DamagedSection as `decode_code` does."""
    levels = _start(known, atoms, entries, support)
    if entries:
        side = _GivenPublicDecoder(
            support, public, layout, model, entry_density(entries, levels[0].size)
        )
        walk(levels, atoms, layout, side, model.logarithm)
        side.finish()
    return _checked(levels, atoms, entries)


def _start(known: np.ndarray, atoms: range, entries: int, streams: bytes) -> np.ndarray:
    """The lower atoms; raises DamagedSection if there cannot be so many entries, or streams of none."""
    levels = known.copy()
    levels[atoms.start : atoms.stop] = 0
    if entries > len(atoms) * levels[0].size or (streams and not entries):
        raise DamagedSection(
            f'section "index": {entries} entries in a record of {len(atoms)} x {levels[0].size}'
        )
    return levels


def _checked(levels: np.ndarray, atoms: range, entries: int) -> np.ndarray:
    found = int(np.count_nonzero(levels[atoms.start : atoms.stop]))
    if found != entries:
        raise DamagedSection(
            f'section "supports": a stream decodes to {found} entries, expected {entries}'
        )
    return levels


class _Sink:
    """Bits with their probabilities, on their way into a stream."""

    def __init__(self) -> None:
        self._bits: list[np.ndarray] = []
        self._chances: list[np.ndarray] = []

    def put(self, bits: np.ndarray, chances: np.ndarray | float) -> None:
        self._bits.append(bits.astype(np.int32))
        self._chances.append(np.full(len(bits), chances) if isinstance(chances, float) else chances)

    def data(self) -> bytes:
        encoder = constriction.stream.queue.RangeEncoder()
        if self._bits:
            encoder.encode(np.concatenate(self._bits), _bernoulli(), np.concatenate(self._chances))
        words: np.ndarray = encoder.get_compressed()
        return words.astype("<u4").tobytes()


class _Source:
    """Bits out of a stream."""

    def __init__(self, data: bytes) -> None:
        if len(data) % 4:
            raise DamagedSection(
                f'section "supports" or "public": a stream of {len(data)} bytes is malformed'
            )
        self._decoder = constriction.stream.queue.RangeDecoder(
            np.frombuffer(data, "<u4").astype(np.uint32)
        )

    def take(self, count: int, chances: np.ndarray | float) -> np.ndarray:
        try:
            p = np.full(count, chances) if isinstance(chances, float) else chances
            return self._decoder.decode(_bernoulli(), p).astype(bool)
        except AssertionError:  # how constriction says that no encoder wrote this
            raise DamagedSection('section "supports" or "public": a stream is damaged') from None

    def finish(self) -> None:
        """Raises DamagedSection if bits are left that no walk would take."""
        if not self._decoder.maybe_exhausted():
            raise DamagedSection(
                'section "supports" or "public": a stream goes on after its last entry'
            )


class _Side:
    """What encoder and decoder share: probabilities, and a level as bits."""

    def __init__(self, layout: Layout, model: ContextModel, density: int) -> None:
        self._model, self._density = model, density
        self._places = {head: (number, offset) for head, number, offset in offsets(layout)}

    def _chances(self, head: Head, features: np.ndarray, atom: np.ndarray) -> np.ndarray:
        return self._model.chances(*self._places[head], features, atom, self._density)

    def _mantissa(self, exponent: np.ndarray) -> np.ndarray:
        return self._model.look_up(self._model.mantissa[exponent].astype(np.int64))


class _Encoder(_Side):
    def __init__(
        self, levels: np.ndarray, layout: Layout, model: ContextModel, density: int
    ) -> None:
        super().__init__(layout, model, density)
        self.support, self.values = _Sink(), _Sink()
        self._truth = Truth(levels, layout)

    def flags(self, head: Head, features: np.ndarray, where: np.ndarray) -> np.ndarray:
        flags: np.ndarray = self._truth.count(head, where) > 0
        self.support.put(flags, self._chances(head, features, np.zeros(len(where), np.intp)))
        return flags

    def entries(
        self, head: Head, features: np.ndarray, atom: np.ndarray, where: np.ndarray
    ) -> np.ndarray:
        found: np.ndarray = self._truth.levels(head, where) != 0
        self.support.put(found, self._chances(head, features, atom))
        return found

    def levels(
        self, head: Head, features: np.ndarray, atom: np.ndarray, where: np.ndarray
    ) -> np.ndarray:
        levels = self._truth.levels(head, where)
        size = np.abs(levels)
        left = np.arange(len(size))
        for exponent in range(_MAX_EXPONENT):
            more = size[left] >> (exponent + 1) > 0
            self.values.put(
                more, self._chances(at_exponent(head, exponent), features[:, left], atom[left])
            )
            left = left[more]
            if not len(left):
                break
        exponents = _exponents(size)
        for below in range(int(exponents.max(initial=0))):
            some = exponents > below
            bits = size[some] >> (exponents[some] - 1 - below) & 1
            self.values.put(bits, self._mantissa(exponents[some]) if below == 0 else _EVEN)
        self.values.put(levels < 0, _EVEN)
        return levels


class Pricing(_Side):
    """Walks like an encoder and notes what each entry costs in bits more than a zero; a level costs its sign
    and that it is 1. prices: (LM, h, w); mean_prices: (16, h/4, w/4)."""

    def __init__(
        self, levels: np.ndarray, layout: Layout, model: ContextModel, density: int
    ) -> None:
        super().__init__(layout, model, density)
        self._truth, self._positions = Truth(levels, layout), levels[0].size
        self.prices = np.full(levels.shape, _UNSEEN, np.float32)
        self.mean_prices = np.full(split_means(levels[0]).shape, _UNSEEN, np.float32)

    def flags(self, head: Head, features: np.ndarray, where: np.ndarray) -> np.ndarray:
        count = self._truth.count(head, where)
        p = self._chances(head, features, np.zeros(len(where), np.intp))
        alone = np.where(count <= 1, np.log2((1 - p) / p), 0).astype(np.float32)
        self.prices.reshape(-1, self._positions)[self._truth.group(head), where] += alone
        flags: np.ndarray = count > 0
        return flags

    def entries(
        self, head: Head, features: np.ndarray, atom: np.ndarray, where: np.ndarray
    ) -> np.ndarray:
        p = self._chances(head, features, atom)
        prices = (self.mean_prices if head[0] == "mean" else self.prices).reshape(-1)
        prices[where] += np.log2((1 - p) / p) - _UNSEEN
        found: np.ndarray = self._truth.levels(head, where) != 0
        return found

    def levels(
        self, head: Head, features: np.ndarray, atom: np.ndarray, where: np.ndarray
    ) -> np.ndarray:
        prices = (self.mean_prices if head[0].startswith("mean") else self.prices).reshape(-1)
        prices[where] += 1 - np.log2(1 - self._chances(head, features, atom))
        return self._truth.levels(head, where)


class _Decoder(_Side):
    def __init__(
        self, support: bytes, values: bytes, layout: Layout, model: ContextModel, density: int
    ) -> None:
        super().__init__(layout, model, density)
        self._support, self._values = _Source(support), _Source(values)

    def finish(self) -> None:
        """Raises DamagedSection if a stream is longer than what it holds."""
        self._support.finish()
        self._values.finish()

    def flags(self, head: Head, features: np.ndarray, where: np.ndarray) -> np.ndarray:
        return self._support.take(
            len(where), self._chances(head, features, np.zeros(len(where), np.intp))
        )

    def entries(
        self, head: Head, features: np.ndarray, atom: np.ndarray, where: np.ndarray
    ) -> np.ndarray:
        return self._support.take(len(where), self._chances(head, features, atom))

    def levels(
        self, head: Head, features: np.ndarray, atom: np.ndarray, where: np.ndarray
    ) -> np.ndarray:
        exponents = np.zeros(len(where), np.int64)
        left = np.arange(len(where))
        for exponent in range(_MAX_EXPONENT):
            more = self._chances(at_exponent(head, exponent), features[:, left], atom[left])
            left = left[self._values.take(len(left), more)]
            if not len(left):
                break
            exponents[left] += 1
        size = np.ones(len(where), np.int64)
        for below in range(int(exponents.max(initial=0))):
            some = exponents > below
            chances: np.ndarray | float = self._mantissa(exponents[some]) if below == 0 else _EVEN
            size[some] = 2 * size[some] + self._values.take(int(some.sum()), chances)
        return np.where(self._values.take(len(where), _EVEN), -size, size)


class _GivenPublic(_Side):
    """Shared by both directions where Z_p is known: who asks about an entry first sees whether Z_p has one.

    p becomes p / (p + (1 - p) d), with d the chance that an empty entry of the atom carries a decoy: half
    the public entries of the atom, over its positions. Flags are not coded; their chance multiplies.
    """

    def __init__(
        self, public: np.ndarray, layout: Layout, model: ContextModel, density: int
    ) -> None:
        super().__init__(layout, model, density)
        self._shown = {
            "": public.reshape(-1),
            "mean": split_means(public[0]).reshape(-1) if layout.means else public.reshape(-1),
        }
        self._positions = public[0].size
        self._flag = np.ones(self._positions)

    def flags(self, head: Head, features: np.ndarray, where: np.ndarray) -> np.ndarray:
        self._flag[where] = self._chances(head, features, np.zeros(len(where), np.intp))
        return np.ones(len(where), bool)

    def entries(
        self, head: Head, features: np.ndarray, atom: np.ndarray, where: np.ndarray
    ) -> np.ndarray:
        shown = self._shown["mean" if head[0] == "mean" else ""]
        found = shown[where] != 0
        chances = self._chances(head, features[:, found], atom[found])
        if (head[1], head[2]) in self._flagged:
            chances = chances * self._flag[where[found] % self._positions]
        width = len(shown) // 16 if head[0] == "mean" else self._positions
        rows = where[found] // width
        decoys = np.count_nonzero(shown.reshape(-1, width), axis=1)[rows] / (2.0 * width)
        odds = chances / (chances + (1 - chances) * decoys)
        true = self._code(head, where[found], np.clip(np.floor(odds * 65536), 1, 65535) / 65536)
        found[found] = true
        return found

    def levels(
        self, head: Head, features: np.ndarray, atom: np.ndarray, where: np.ndarray
    ) -> np.ndarray:
        return self._shown["mean" if head[0].startswith("mean") else ""][where].astype(np.int64)

    def _code(self, head: Head, where: np.ndarray, chances: np.ndarray) -> np.ndarray:
        """Code whether the entries at `where` are true."""
        raise NotImplementedError

    @cached_property
    def _flagged(self) -> set[tuple[int, int]]:
        sizes = {head[1]: head[2] for head in self._places if head[0] == "entry"}
        return {(head[1], sizes[head[1]]) for head in self._places if head[0] == "flag"}


class _GivenPublicEncoder(_GivenPublic):
    def __init__(
        self,
        levels: np.ndarray,
        public: np.ndarray,
        layout: Layout,
        model: ContextModel,
        density: int,
    ) -> None:
        super().__init__(public, layout, model, density)
        self.support = _Sink()
        self._truth = Truth(levels, layout)

    def _code(self, head: Head, where: np.ndarray, chances: np.ndarray) -> np.ndarray:
        true: np.ndarray = self._truth.levels(head, where) != 0
        self.support.put(true, chances)
        return true


class _GivenPublicDecoder(_GivenPublic):
    def __init__(
        self, support: bytes, public: np.ndarray, layout: Layout, model: ContextModel, density: int
    ) -> None:
        super().__init__(public, layout, model, density)
        self._support = _Source(support)

    def finish(self) -> None:
        """Raises DamagedSection if the stream is longer than what it holds."""
        self._support.finish()

    def _code(self, head: Head, where: np.ndarray, chances: np.ndarray) -> np.ndarray:
        return self._support.take(len(where), chances)


@cache
def _bernoulli() -> Any:
    return constriction.stream.model.Bernoulli(perfect=False)


def at_exponent(head: Head, exponent: int) -> Head:
    """The head that decides whether a level's exponent is over `exponent`."""
    return (*head[:3], min(exponent, EXPONENTS - 1))


def _exponents(size: np.ndarray) -> np.ndarray:
    """floor(log2 size), exactly, for 1 .. 2^15."""
    return np.frexp(size.astype(np.float64))[1].astype(np.int64) - 1
