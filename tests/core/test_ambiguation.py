"""Eq. (1)-(2): decoys on the complement, as many as asked, and like the true entries."""

from __future__ import annotations

import secrets

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primis.codes.ambiguation import ambiguate, choose, choose_likely, purify, share_out
from primis.codes.selection import entry_odds
from primis.codes.sparse import top_s
from primis.network.checkpoint import read_checkpoint, shipped


def code(seed: int, entries: int, shape: tuple[int, ...] = (1, 256, 6, 5)) -> np.ndarray:
    z = np.random.default_rng(seed).laplace(size=shape).astype(np.float32)
    return top_s(z / (1 + np.arange(shape[1]))[None, :, None, None], entries).levels


@given(st.integers(0, 50), st.integers(0, 300), st.integers(0, 2000))
@settings(max_examples=40, deadline=None)
def test_purify_undoes_ambiguate(seed: int, entries: int, decoys: int) -> None:
    levels = code(seed, entries)
    public = ambiguate(levels, decoys)
    assert np.count_nonzero(public) == np.count_nonzero(levels) + decoys
    assert (purify(public, levels != 0) == levels).all()


def test_decoys_take_values_near_the_true_ones_of_their_atom_and_follow_its_use() -> None:
    levels = code(1, 600, (1, 256, 12, 12))
    levels[levels != 0] *= (
        np.random.default_rng(1).choice([1, 1, 1, 40], np.count_nonzero(levels)).astype(np.int16)
    )
    public = ambiguate(levels, 600)
    true, decoy = (
        np.count_nonzero(levels, axis=(0, 2, 3)),
        np.count_nonzero(public - levels, axis=(0, 2, 3)),
    )
    roomy = (true > 0) & (true < 72)
    assert np.corrcoef(true[roomy], decoy[roomy])[0, 1] > 0.95
    for atom in np.flatnonzero((true > 0) & (decoy > 0)):
        values = levels[0, atom][levels[0, atom] != 0].astype(float)
        for value in (public - levels)[0, atom][(public - levels)[0, atom] != 0].tolist():
            assert (
                value in values
                if abs(value) < 3
                else np.abs(np.log2(np.maximum(value / values, 1e-9))).min() < 0.75
            )


def test_a_value_that_is_there_once_need_not_be_true() -> None:
    levels = np.zeros((1, 1, 64, 64), np.int16)
    levels.flat[:300] = 100 + np.arange(300)
    public = ambiguate(levels, 300)
    values, counts = np.unique(public[public != 0], return_counts=True)
    alone = np.isin(public, values[counts == 1]) & (public != 0)
    assert 0.2 < (levels[alone] != 0).mean() < 0.9


def test_every_entry_can_be_filled_and_no_more() -> None:
    levels = code(2, 40)
    assert (
        np.count_nonzero(ambiguate(levels, levels.size - np.count_nonzero(levels))) == levels.size
    )
    with pytest.raises(ValueError, match="expected 0"):
        ambiguate(levels, levels.size)


def test_the_draw_decides_and_the_default_is_fresh() -> None:
    levels = code(3, 100)
    fixed = [
        ambiguate(levels, 100, draw=lambda n: bytes(i % 251 for i in range(n))) for _ in range(2)
    ]
    assert (fixed[0] == fixed[1]).all()
    assert (ambiguate(levels, 100) != ambiguate(levels, 100)).any()


@given(st.integers(1, 200), st.data())
def test_choose_gives_distinct_numbers(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    chosen = choose(n, k, secrets.token_bytes)
    assert len(set(chosen.tolist())) == k
    assert all(0 <= c < n for c in chosen)


def test_choose_is_uniform() -> None:
    import secrets

    counts = np.zeros(40)
    for _ in range(4000):
        counts[choose(40, 4, secrets.token_bytes)] += 1
    chi2 = float(((counts - 400) ** 2 / 400).sum())
    assert chi2 < 95  # 39 degrees of freedom: beyond it about once in a million


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=20), st.data()
)
def test_share_out_adds_up(pairs: list[tuple[int, int]], data: st.DataObject) -> None:
    weights, room = (np.array(x) for x in zip(*pairs, strict=True))
    total = data.draw(st.integers(0, int(room.sum())))
    shares = share_out(total, weights, room)
    assert shares.sum() == total
    assert (shares >= 0).all()
    assert (shares <= room).all()


def test_top_s_keeps_the_largest() -> None:
    z = np.random.default_rng(5).normal(size=(1, 256, 4, 4)).astype(np.float32)
    kept = top_s(z, 100)
    assert np.count_nonzero(kept.levels) == 100
    assert np.abs(z[kept.levels != 0]).min() >= np.abs(z[kept.levels == 0]).max()
    assert np.count_nonzero(top_s(np.zeros_like(z), 10).levels) == 0
    assert np.count_nonzero(top_s(np.ones_like(z), 10).levels) <= z.size


@given(st.integers(1, 200), st.data())
@settings(deadline=None)
def test_a_likely_choice_gives_distinct_numbers(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    chosen = choose_likely(np.linspace(-30, 30, n), k, secrets.token_bytes)
    assert len(set(chosen.tolist())) == k
    assert all(0 <= c < n for c in chosen)


def test_a_likely_choice_follows_the_odds() -> None:
    rng = np.random.default_rng(5)
    odds = np.log(np.array([1.0, 2.0, 3.0, 4.0]))
    first = (
        np.bincount([int(choose_likely(odds, 1, rng.bytes)[0]) for _ in range(8000)], minlength=4)
        / 8000
    )
    np.testing.assert_allclose(first, [0.1, 0.2, 0.3, 0.4], atol=0.02)


def test_decoys_lie_where_entries_are_likely_and_only_beside_the_truth() -> None:
    levels = code(4, 300)
    odds = np.zeros(levels.shape)
    odds[..., 3:] = 60  # the right half of the grid
    public = ambiguate(levels, 200, odds=odds)
    decoy = (public != 0) & (levels == 0)
    assert decoy.sum() == 200
    elsewhere = decoy[..., :3].any(axis=(0, 2, 3))
    assert public[0, elsewhere][..., 3:].all()  # only where an atom has no room left there
    assert (purify(public, levels != 0) == levels).all()


def test_the_odds_of_entries_are_higher_where_the_neighbours_have_them() -> None:
    checkpoint = read_checkpoint(shipped())
    levels = np.zeros((1, 256, 8, 8), np.int16)
    levels[0, 1:10, 2:6, 2:6] = 1
    levels[0, 5, 3, 3] = 0
    odds = entry_odds(levels, checkpoint.layout, checkpoint.tables)[0]
    assert odds.shape == (256, 8, 8)
    assert odds[5, 3, 3] > odds[5, 7, 7] + 1
