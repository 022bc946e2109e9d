"""A code as two streams: the support, which is the key, and the values, which are public.

Entries and levels are coded in one scan (`scan.py`), each to its own stream, so that either is as
short as what is known by then allows: levels tell where further entries are. constriction's range
coder does the coding; a level is its exponent in unary, the bits below it, and its sign.

Where the public code lies in the open (level `sca`), the support is coded given it: an entry can
only be where the public code has one, and its level is known (`encode_support`). What that takes
is what a holder of the public code lacks, by this model: the size of the key and the ambiguity are
one number. docs/format.md, section 7, is the specification.
"""

from __future__ import annotations

from functools import cache, cached_property
from typing import Any

import constriction
import numpy as np

from primis.codes.layout import Layout
from primis.codes.probabilities import ContextModel
from primis.codes.scan import Decision, Head, Truth, entry_density, offsets, scan
from primis.errors import DamagedSection

_EVEN = 0.5
_UNSEEN = 4.0  # bits of an entry where its group has none, on top of the flag
_MAX_EXPONENT = 14  # of 32,767, the largest level
_STREAMS = 'section "supports" or "public"'


def encode_code(
    levels: np.ndarray, atoms: range, layout: Layout, model: ContextModel
) -> tuple[bytes, bytes]:
    """(support, values) of the entries of `atoms` in levels (LM, h, w).

    The atoms below count as known. Both are empty if there is no entry.
    """
    entries = int(np.count_nonzero(levels[atoms.start : atoms.stop]))
    if not entries:
        return b"", b""
    encoder = _Encoder(levels, layout, model, entry_density(entries, levels[0].size))
    scan(levels.copy(), atoms, layout, encoder, model.logarithm)
    return encoder.support.data(), encoder.values.data()


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
        density = entry_density(entries, levels[0].size)
        decoder = _Decoder(support, values, layout, model, density)
        scan(levels, atoms, layout, decoder, model.logarithm)
        decoder.finish()
    return _checked(levels, atoms, entries)


def encode_support(
    levels: np.ndarray, public: np.ndarray, atoms: range, layout: Layout, model: ContextModel
) -> bytes:
    """The support of `atoms` in levels (LM, h, w), for those who have the public code Z_p."""
    entries = int(np.count_nonzero(levels[atoms.start : atoms.stop]))
    if not entries:
        return b""
    density = entry_density(entries, levels[0].size)
    encoder = _GivenPublicEncoder(levels, public, layout, model, density)
    scan(levels.copy(), atoms, layout, encoder, model.logarithm)
    return encoder.support.data()


def decode_support(
    support: bytes,
    public: np.ndarray,
    known: np.ndarray,
    atoms: range,
    entries: int,
    layout: Layout,
    model: ContextModel,
) -> np.ndarray:
    """Purify: the true levels of `atoms` among those of Z_p.

    Raises DamagedSection as `decode_code` does.
    """
    levels = _start(known, atoms, entries, support)
    if entries:
        density = entry_density(entries, levels[0].size)
        decoder = _GivenPublicDecoder(support, public, layout, model, density)
        scan(levels, atoms, layout, decoder, model.logarithm)
        decoder.finish()
    return _checked(levels, atoms, entries)


def _start(known: np.ndarray, atoms: range, entries: int, streams: bytes) -> np.ndarray:
    """The lower atoms. Raises DamagedSection for entries without room, or streams without any."""
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


class _BitWriter:
    """Bits with their probabilities, on their way into a stream."""

    def __init__(self) -> None:
        self._bits: list[np.ndarray] = []
        self._probabilities: list[np.ndarray] = []

    def put(self, bits: np.ndarray, probabilities: np.ndarray | float) -> None:
        self._bits.append(bits.astype(np.int32))
        self._probabilities.append(_for_each(len(bits), probabilities))

    def data(self) -> bytes:
        encoder = constriction.stream.queue.RangeEncoder()
        if self._bits:
            probabilities = np.concatenate(self._probabilities)
            encoder.encode(np.concatenate(self._bits), _bernoulli(), probabilities)
        words: np.ndarray = encoder.get_compressed()
        return words.astype("<u4").tobytes()


class _BitReader:
    """Bits out of a stream."""

    def __init__(self, data: bytes) -> None:
        if len(data) % 4:
            raise DamagedSection(f"{_STREAMS}: a stream of {len(data)} bytes is malformed")
        words = np.frombuffer(data, "<u4").astype(np.uint32)
        self._decoder = constriction.stream.queue.RangeDecoder(words)

    def take(self, count: int, probabilities: np.ndarray | float) -> np.ndarray:
        try:
            bits = self._decoder.decode(_bernoulli(), _for_each(count, probabilities))
        except AssertionError:  # how constriction says that no encoder wrote this
            raise DamagedSection(f"{_STREAMS}: a stream is damaged") from None
        return bits.astype(bool)

    def finish(self) -> None:
        """Raises DamagedSection if bits are left that no scan would take."""
        if not self._decoder.maybe_exhausted():
            raise DamagedSection(f"{_STREAMS}: a stream goes on after its last entry")


def _for_each(count: int, probabilities: np.ndarray | float) -> np.ndarray:
    one = isinstance(probabilities, float)
    return np.full(count, probabilities) if one else np.asarray(probabilities)


class _Visitor:
    """What encoders and decoders share: the model's probabilities."""

    def __init__(self, layout: Layout, model: ContextModel, density: int) -> None:
        self._model, self._density = model, density
        self._places = {head: (number, offset) for head, number, offset in offsets(layout)}

    def _probabilities(self, head: Head, features: np.ndarray, atom: np.ndarray) -> np.ndarray:
        number, offset = self._places[head]
        return self._model.probabilities(number, offset, features, atom, self._density)

    def _of_flags(self, head: Head, features: np.ndarray) -> np.ndarray:
        return self._probabilities(head, features, np.zeros(features.shape[1], np.intp))

    def _mantissa(self, exponent: np.ndarray) -> np.ndarray:
        return self._model.look_up(self._model.mantissa[exponent].astype(np.int64))


class _Encoder(_Visitor):
    def __init__(
        self, levels: np.ndarray, layout: Layout, model: ContextModel, density: int
    ) -> None:
        super().__init__(layout, model, density)
        self.support, self.values = _BitWriter(), _BitWriter()
        self._truth = Truth(levels, layout)

    def flags(self, head: Head, features: np.ndarray, where: np.ndarray) -> np.ndarray:
        flags: np.ndarray = self._truth.count(head, where) > 0
        self.support.put(flags, self._of_flags(head, features))
        return flags

    def entries(
        self, head: Head, features: np.ndarray, atom: np.ndarray, where: np.ndarray
    ) -> np.ndarray:
        found: np.ndarray = self._truth.levels(head, where) != 0
        self.support.put(found, self._probabilities(head, features, atom))
        return found

    def levels(
        self, head: Head, features: np.ndarray, atom: np.ndarray, where: np.ndarray
    ) -> np.ndarray:
        levels = self._truth.levels(head, where)
        size = np.abs(levels)
        left = np.arange(len(size))
        for exponent in range(_MAX_EXPONENT):
            more = size[left] >> (exponent + 1) > 0
            at = head.at_exponent(exponent)
            self.values.put(more, self._probabilities(at, features[:, left], atom[left]))
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


class Pricing(_Visitor):
    """Notes what each entry costs in bits more than a zero; a level costs its sign and being 1.

    prices: (LM, h, w); dc_prices: of the DC plane's stack.
    """

    def __init__(
        self, levels: np.ndarray, layout: Layout, model: ContextModel, density: int
    ) -> None:
        super().__init__(layout, model, density)
        self._truth, self._positions = Truth(levels, layout), levels[0].size
        self.prices = np.full(levels.shape, _UNSEEN, np.float32)
        self.dc_prices = np.full(layout.split_dc(levels).shape, _UNSEEN, np.float32)

    def flags(self, head: Head, features: np.ndarray, where: np.ndarray) -> np.ndarray:
        count = self._truth.count(head, where)
        p = self._of_flags(head, features)
        alone = np.where(count <= 1, np.log2((1 - p) / p), 0).astype(np.float32)
        self.prices.reshape(-1, self._positions)[self._truth.group(head), where] += alone
        flags: np.ndarray = count > 0
        return flags

    def entries(
        self, head: Head, features: np.ndarray, atom: np.ndarray, where: np.ndarray
    ) -> np.ndarray:
        p = self._probabilities(head, features, atom)
        self._of(head)[where] += np.log2((1 - p) / p) - _UNSEEN
        found: np.ndarray = self._truth.levels(head, where) != 0
        return found

    def levels(
        self, head: Head, features: np.ndarray, atom: np.ndarray, where: np.ndarray
    ) -> np.ndarray:
        self._of(head)[where] += 1 - np.log2(1 - self._probabilities(head, features, atom))
        return self._truth.levels(head, where)

    def _of(self, head: Head) -> np.ndarray:
        return (self.dc_prices if head.dc else self.prices).reshape(-1)


class _Decoder(_Visitor):
    def __init__(
        self, support: bytes, values: bytes, layout: Layout, model: ContextModel, density: int
    ) -> None:
        super().__init__(layout, model, density)
        self._support, self._values = _BitReader(support), _BitReader(values)

    def finish(self) -> None:
        """Raises DamagedSection if a stream is longer than what it holds."""
        self._support.finish()
        self._values.finish()

    def flags(self, head: Head, features: np.ndarray, where: np.ndarray) -> np.ndarray:
        return self._support.take(len(where), self._of_flags(head, features))

    def entries(
        self, head: Head, features: np.ndarray, atom: np.ndarray, where: np.ndarray
    ) -> np.ndarray:
        return self._support.take(len(where), self._probabilities(head, features, atom))

    def levels(
        self, head: Head, features: np.ndarray, atom: np.ndarray, where: np.ndarray
    ) -> np.ndarray:
        exponents = np.zeros(len(where), np.int64)
        left = np.arange(len(where))
        for exponent in range(_MAX_EXPONENT):
            at = head.at_exponent(exponent)
            more = self._probabilities(at, features[:, left], atom[left])
            left = left[self._values.take(len(left), more)]
            if not len(left):
                break
            exponents[left] += 1
        size = np.ones(len(where), np.int64)
        for below in range(int(exponents.max(initial=0))):
            some = exponents > below
            first = below == 0
            probabilities = self._mantissa(exponents[some]) if first else _EVEN
            size[some] = 2 * size[some] + self._values.take(int(some.sum()), probabilities)
        return np.where(self._values.take(len(where), _EVEN), -size, size)


class _GivenPublic(_Visitor):
    """Both directions where Z_p is known: an entry is coded only where Z_p has one.

    p becomes p / (p + (1 - p) d), with d the probability that an empty entry of the atom carries a
    decoy: half the public entries of the atom, over its positions. Flags are not coded; their
    probability multiplies.
    """

    def __init__(
        self, public: np.ndarray, layout: Layout, model: ContextModel, density: int
    ) -> None:
        super().__init__(layout, model, density)
        stack = layout.split_dc(public)
        self._public, self._dc = public.reshape(-1), stack.reshape(-1)
        self._positions, self._blocks = public[0].size, stack[:1].size
        self._flag = np.ones(self._positions)

    def flags(self, head: Head, features: np.ndarray, where: np.ndarray) -> np.ndarray:
        self._flag[where] = self._of_flags(head, features)
        return np.ones(len(where), bool)

    def entries(
        self, head: Head, features: np.ndarray, atom: np.ndarray, where: np.ndarray
    ) -> np.ndarray:
        public = self._of(head)
        found = public[where] != 0
        p = self._probabilities(head, features[:, found], atom[found])
        if (head.first, head.atoms) in self._flagged:
            p = p * self._flag[where[found] % self._positions]
        width = self._blocks if head.dc else self._positions
        rows = where[found] // width
        decoys = np.count_nonzero(public.reshape(-1, width), axis=1)[rows] / (2.0 * width)
        odds = p / (p + (1 - p) * decoys)
        true = self._code(head, where[found], np.clip(np.floor(odds * 65536), 1, 65535) / 65536)
        found[found] = true
        return found

    def levels(
        self, head: Head, features: np.ndarray, atom: np.ndarray, where: np.ndarray
    ) -> np.ndarray:
        return self._of(head)[where].astype(np.int64)

    def _of(self, head: Head) -> np.ndarray:
        return self._dc if head.dc else self._public

    def _code(self, head: Head, where: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        """Code whether the entries at `where` are true."""
        raise NotImplementedError

    @cached_property
    def _flagged(self) -> set[tuple[int, int]]:
        sizes = {head.first: head.atoms for head in self._places if _is_entry(head)}
        flags = (head for head in self._places if head.decision is Decision.FLAG)
        return {(head.first, sizes[head.first]) for head in flags}


def _is_entry(head: Head) -> bool:
    return head.decision is Decision.ENTRY and not head.dc


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
        self.support = _BitWriter()
        self._truth = Truth(levels, layout)

    def _code(self, head: Head, where: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        true: np.ndarray = self._truth.levels(head, where) != 0
        self.support.put(true, probabilities)
        return true


class _GivenPublicDecoder(_GivenPublic):
    def __init__(
        self, support: bytes, public: np.ndarray, layout: Layout, model: ContextModel, density: int
    ) -> None:
        super().__init__(public, layout, model, density)
        self._support = _BitReader(support)

    def finish(self) -> None:
        """Raises DamagedSection if the stream is longer than what it holds."""
        self._support.finish()

    def _code(self, head: Head, where: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        return self._support.take(len(where), probabilities)


@cache
def _bernoulli() -> Any:
    return constriction.stream.model.Bernoulli(perfect=False)


def _exponents(size: np.ndarray) -> np.ndarray:
    """floor(log2 size), exactly, for 1 .. 2^15."""
    return np.frexp(size.astype(np.float64))[1].astype(np.int64) - 1
