"""The coder does what docs/format.md says: a second reader, written from the text, decodes it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from primis.codes.ambiguation import ambiguate
from primis.codes.coder import encode_code, encode_support
from primis.codes.layout import Layout, LearnedLayout
from primis.codes.probabilities import SCORE_LIMIT, TABLE_LIMIT, ContextModel
from primis.codes.support import encode_plain
from primis.network.checkpoint import read_checkpoint, shipped
from tests.core.test_coder import CHECKPOINT, LEARNED, learned_model, random_code
from tests.spec_coder import Bits, Damaged, Spec, plain_support

DEFAULT = read_checkpoint(shipped())
CASES = {
    "tiny": (CHECKPOINT.tables, CHECKPOINT.layout, (5, 4)),
    "default": (DEFAULT.tables, DEFAULT.layout, (2, 5)),
    "learned": (None, LEARNED, (5, 5)),
}


def read(
    levels: np.ndarray, public: np.ndarray | None, layout: Layout, tables: ContextModel
) -> np.ndarray:
    """What the second reader makes of the streams of a code; given the public code if there is."""
    known = np.zeros_like(levels)
    for atoms in layout.split():
        if public is None:
            support, values = encode_code(levels, atoms, layout, tables)
        else:
            support, values = encode_support(levels, public, atoms, layout, tables), b""
        entries = int(np.count_nonzero(levels[atoms.start : atoms.stop]))
        if not entries:
            continue
        spec = Spec(
            tables,
            layout.code_maps,
            layout.atoms_per_map,
            isinstance(layout, LearnedLayout),
            *levels.shape[1:],
            entries,
            atoms,
            Bits(support),
            Bits(values) if public is None else None,
            public,
        )
        known = spec.decode(known)
    return known


@pytest.mark.parametrize("protection", ["keyed", "sca"])
@pytest.mark.parametrize("name", CASES)
def test_the_text_decodes_what_the_code_encodes(name: str, protection: str) -> None:
    tables, layout, shape = CASES[name]
    levels = random_code(layout.atoms, shape, 0.04, 5)
    public = ambiguate(levels[None], 6 * levels[0].size)[0] if protection == "sca" else None
    assert (read(levels, public, layout, tables or learned_model()) == levels).all()


def test_the_text_decodes_two_hundred_random_codes() -> None:
    rng, model = np.random.default_rng(0), learned_model()
    for seed in range(200):
        shape = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
        layout, tables = (LEARNED, model) if seed % 20 else (CHECKPOINT.layout, CHECKPOINT.tables)
        levels = random_code(layout.atoms, shape, rng.random() ** 6, seed)
        public = ambiguate(levels[None], 3 * levels[0].size // 2)[0] if seed % 3 else None
        assert (read(levels, public, layout, tables) == levels).all()


EXTREMES = {
    "bias": (-SCORE_LIMIT, SCORE_LIMIT),
    "linear": (-TABLE_LIMIT, TABLE_LIMIT),
    "present": (-TABLE_LIMIT, TABLE_LIMIT),
    "inner": (-TABLE_LIMIT, TABLE_LIMIT),
    "outer": (-SCORE_LIMIT, SCORE_LIMIT),
    "mantissa": (-SCORE_LIMIT, SCORE_LIMIT),
    "signs": (-TABLE_LIMIT, TABLE_LIMIT),
    "logarithm": (0, 128),
    "probability": (1, 65535),
}


def extreme_tables(model: ContextModel, seed: int) -> ContextModel:
    """Some tables at either end of what is allowed, number by number or whole, or in between."""
    rng, tables = np.random.default_rng(seed), {}
    for name, (low, high) in EXTREMES.items():
        shape = getattr(model, name).shape
        kinds = (
            rng.integers(low, high + 1, shape),
            rng.choice([low, high], shape),
            np.full(shape, rng.choice([low, high])),
        )
        if rng.random() < 0.7:
            tables[name] = kinds[rng.integers(3)].astype(np.int32)
    if "logarithm" in tables:
        tables["logarithm"][0] = 0
    return replace(model, **tables)


@pytest.mark.parametrize("seed", range(24))
def test_the_text_decodes_what_is_coded_with_extreme_tables(seed: int) -> None:
    layout, base = (
        (CHECKPOINT.layout, CHECKPOINT.tables) if seed % 3 else (LEARNED, learned_model())
    )
    tables = extreme_tables(base, seed)
    assert tables.fits(layout)
    levels = random_code(layout.atoms, (2, 1 + seed % 5), 0.02, seed)
    public = ambiguate(levels[None], 3 * levels[0].size)[0] if seed % 4 == 3 else None
    assert (read(levels, public, layout, tables) == levels).all()


def test_the_text_reads_a_support_without_context() -> None:
    support = np.random.default_rng(1).random(300) < 0.1
    stream = encode_plain(support)
    assert plain_support(stream, 300, int(support.sum())) == support.tolist()
    with pytest.raises(Damaged):
        plain_support(stream + b"1", 300, int(support.sum()))
