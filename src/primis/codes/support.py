"""The support Z_s, which entries of a code are not zero, without context: ranked, unranked, coded.

How it is coded in the fewest bits, with context, is in `coder.py`.
"""

from __future__ import annotations

from math import comb

import constriction
import numpy as np

from primis.errors import DamagedSection


def encode_plain(support: np.ndarray) -> bytes:
    """Code a support of any shape without context, given how many entries it has."""
    encoder = constriction.stream.queue.RangeEncoder()
    family, p = _flat_model(support.size, int(support.sum()))
    encoder.encode(support.ravel().astype(np.int32), family, p)
    words: np.ndarray = encoder.get_compressed()
    return words.astype("<u4").tobytes()


def decode_plain(data: bytes, shape: tuple[int, ...], entries: int) -> np.ndarray:
    """Inverse of `encode_plain`.

    Raises DamagedSection if the stream holds another number of entries.
    """
    size = int(np.prod(shape))
    if len(data) % 4 or not 0 <= entries <= size:
        raise DamagedSection(
            f"a stream of {len(data)} bytes is malformed, expected {entries} of {size} entries"
        )
    decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))
    try:
        support: np.ndarray = (
            decoder.decode(*_flat_model(size, entries)).astype(bool).reshape(shape)
        )
    except AssertionError:  # how constriction says that no encoder wrote this
        raise DamagedSection("a stream of supports is damaged") from None
    if int(support.sum()) != entries:
        raise DamagedSection(f"a stream decodes to {support.sum()} entries, expected {entries}")
    return support


def _flat_model(size: int, entries: int) -> tuple[object, np.ndarray]:
    probability = min(max(1, (65536 * entries + size // 2) // size), 65535) / 65536
    return constriction.stream.model.Bernoulli(perfect=False), np.full(size, probability)


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
