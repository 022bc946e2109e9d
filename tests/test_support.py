"""The support coder: exact, and better than a code without context."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primis.codes.sparse import top_s
from primis.codes.support import (
    code_ranges,
    decode_plain,
    decode_support,
    encode_plain,
    encode_support,
    entry_density,
    rank,
    unrank,
)
from primis.errors import DamagedSection
from primis.imaging.phantom import draw_phantom
from primis.network.checkpoint import read_checkpoint
from tests.conftest import TINY

MODEL = read_checkpoint(TINY).support


@given(st.integers(1, 9), st.integers(1, 9), st.floats(0, 1), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_round_trip(height: int, width: int, share: float, seed: int) -> None:
    support = np.random.default_rng(seed).random((256, height, width)) < share**3
    known = np.zeros_like(support)
    for atoms in code_ranges(256, 4):
        data = encode_support(support, atoms, MODEL)
        entries = int(support[atoms.start : atoms.stop].sum())
        known = decode_support(data, known, atoms, entries, MODEL)
    assert (known == support).all()


def test_context_saves_bits_on_a_chest(codec) -> None:
    z, _ = codec.encode(draw_phantom(512, seed=9)[..., None])
    support = top_s(z, 4 * 32 * 32).support[0]
    size = sum(len(encode_support(support, atoms, MODEL)) for atoms in code_ranges(256, 4))
    assert size < len(encode_plain(support)) / 2


def test_a_damaged_stream_is_refused_or_decodes_to_as_many_entries() -> None:
    support = np.random.default_rng(0).random((256, 6, 6)) < 0.02
    atoms = range(4, 256)
    data = encode_support(support, atoms, MODEL)
    known = support.copy()
    entries = int(support[4:].sum())
    with pytest.raises(DamagedSection):
        decode_support(data[:-1], known, atoms, entries, MODEL)
    with pytest.raises(DamagedSection):
        decode_support(data, known, atoms, entries + 1, MODEL)


@given(st.integers(1, 60), st.data())
def test_rank_and_unrank_are_inverse(size: int, data: st.DataObject) -> None:
    entries = data.draw(st.integers(0, size))
    number = data.draw(st.integers(0, comb(size, entries) - 1))
    support = unrank(number, size, entries)
    assert (int(support.sum()), rank(support)) == (entries, number)
    with pytest.raises(ValueError, match="outside"):
        unrank(comb(size, entries), size, entries)


@given(st.integers(1, 1 << 20), st.integers(1, 1 << 20))
def test_density_is_the_floor_of_the_logarithm(entries: int, positions: int) -> None:
    exact = 8 * (np.log2(entries) - np.log2(positions))
    assert exact - 1 - 1e-6 < entry_density(entries, positions) < exact + 1e-6


@given(st.integers(0, 300), st.integers(0, 9))
def test_plain_round_trip(size: int, seed: int) -> None:
    support = np.random.default_rng(seed).random((1, size + 1)) < 0.3
    again = decode_plain(encode_plain(support), support.shape, int(support.sum()))
    assert (again == support).all()


def test_a_first_map_that_cuts_a_group_is_refused() -> None:
    with pytest.raises(ValueError, match="cuts"):
        code_ranges(256, 5)
