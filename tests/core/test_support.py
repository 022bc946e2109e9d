"""Supports without context: ranked and coded."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primis.codes.support import decode_plain, encode_plain, rank, unrank


@given(st.integers(1, 60), st.data())
def test_rank_and_unrank_are_inverse(size: int, data: st.DataObject) -> None:
    entries = data.draw(st.integers(0, size))
    number = data.draw(st.integers(0, comb(size, entries) - 1))
    support = unrank(number, size, entries)
    assert (int(support.sum()), rank(support)) == (entries, number)
    with pytest.raises(ValueError, match="outside"):
        unrank(comb(size, entries), size, entries)


@given(st.integers(0, 300), st.integers(0, 9))
def test_plain_round_trip(size: int, seed: int) -> None:
    support = np.random.default_rng(seed).random((1, size + 1)) < 0.3
    again = decode_plain(encode_plain(support), support.shape, int(support.sum()))
    assert (again == support).all()
