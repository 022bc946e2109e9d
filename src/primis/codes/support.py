"""The support Z_s, which entries of a code are not zero, without context: ranked, unranked, coded.

How it is coded in the fewest bits, with context, is in `coder.py`.
"""

from __future__ import annotations

from math import comb

import numpy as np

from primis.codes.kernel import flat
from primis.errors import DamagedSection


def encode_plain(support: np.ndarray) -> bytes:
    """Code a support of any shape without context, given how many entries it has."""
    bits = support.ravel().astype(bool)
    return flat().encode(bits, _probability(bits.size, int(bits.sum())))


def decode_plain(data: bytes, shape: tuple[int, ...], entries: int) -> np.ndarray:
    """Inverse of `encode_plain`.

    Raises DamagedSection if the stream holds another number of entries.
    """
    size = int(np.prod(shape))
    if not 0 <= entries <= size:
        raise DamagedSection(f"a stream has {entries} of {size} entries")
    bits = flat().decode(data, size, _probability(size, entries))
    if bits is None:
        raise DamagedSection("a stream of supports is damaged")
    if int(bits.sum()) != entries:
        raise DamagedSection(f"a stream decodes to {bits.sum()} entries, expected {entries}")
    return bits.reshape(shape)


def _probability(size: int, entries: int) -> int:
    """Of an entry, in 65536ths."""
    return min(max(1, (65536 * entries + size // 2) // size), 65535)


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
