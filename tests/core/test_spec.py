"""The coder does what docs/format.md says: a reader written from the text decodes its streams."""

from __future__ import annotations

import numpy as np
import pytest

from primis.codes.ambiguation import ambiguate
from primis.codes.coder import encode_code, encode_support
from primis.codes.layout import LearnedLayout
from primis.network.checkpoint import read_checkpoint, shipped
from tests.core.test_coder import CHECKPOINT, LEARNED, learned_model, random_code
from tests.spec_coder import Bits, Spec

DEFAULT = read_checkpoint(shipped())
CASES = {
    "tiny": (CHECKPOINT.tables, CHECKPOINT.layout, (5, 4)),
    "default": (DEFAULT.tables, DEFAULT.layout, (2, 5)),
    "learned": (None, LEARNED, (5, 5)),
}


@pytest.mark.parametrize("protection", ["keyed", "sca"])
@pytest.mark.parametrize("name", CASES)
def test_the_text_decodes_what_the_code_encodes(name: str, protection: str) -> None:
    tables, layout, shape = CASES[name]
    tables = tables or learned_model()
    levels = random_code(layout.atoms, shape, 0.04, 5)
    public = ambiguate(levels[None], 6 * levels[0].size)[0]
    known = np.zeros_like(levels)
    for atoms in layout.split():
        if protection == "keyed":
            support, values = encode_code(levels, atoms, layout, tables)
        else:
            support, values = encode_support(levels, public, atoms, layout, tables), b""
        entries = int(np.count_nonzero(levels[atoms.start : atoms.stop]))
        read = Spec(
            tables,
            layout.code_maps,
            layout.atoms_per_map,
            isinstance(layout, LearnedLayout),
            *shape,
            entries,
            atoms,
            Bits(support),
            Bits(values) if protection == "keyed" else None,
            public if protection == "sca" else None,
        )
        known = read.decode(known)
        assert (known[: atoms.stop] == levels[: atoms.stop]).all()
