"""The coder: exact for any code, and far shorter than one without context."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primis.codes.ambiguation import ambiguate
from primis.codes.coder import (
    decode_code,
    decode_support,
    encode_code,
    encode_support,
    entry_density,
    price_code,
)
from primis.codes.dc_plane import dc_matrix, join_dc, restore_dc, split_dc, transform_dc
from primis.codes.kernel import FILE, Kernel, Tile, _Mode, _work, kernel_of
from primis.codes.layout import FrequencyLayout, Layout, LearnedLayout
from primis.codes.probabilities import (
    FEATURES,
    HIDDEN,
    SCORE_LIMIT,
    SIGNED_LIMIT,
    TABLE_LIMIT,
    ContextModel,
    heads,
)
from primis.codes.selection import select
from primis.codes.sparse import LEVEL_LIMIT, top_s
from primis.codes.support import decode_plain, encode_plain
from primis.errors import DamagedSection
from primis.imaging.phantom import draw_phantom
from primis.network.checkpoint import read_checkpoint
from tests.build_kernel import build
from tests.conftest import TINY

CHECKPOINT = read_checkpoint(TINY)
MODEL, LAYOUT = CHECKPOINT.tables, CHECKPOINT.layout
LEARNED = LearnedLayout(2, 64)


def random_code(atoms: int, shape: tuple[int, int], share: float, seed: int) -> np.ndarray:
    """Levels (atoms, h, w): few and small, but for a few that are as large as levels get."""
    rng = np.random.default_rng(seed)
    levels = np.where(rng.random((atoms, *shape)) < share, rng.geometric(0.4, (atoms, *shape)), 0)
    levels[0] = np.abs(rng.normal(0, 500, shape))
    levels[-1, 0, 0] = LEVEL_LIMIT
    return (levels * rng.choice([-1, 1], levels.shape)).astype(np.int16)


def learned_model() -> ContextModel:
    """Tables for atoms without order; any that are sound do."""
    rng, n = np.random.default_rng(4), len(heads(LEARNED))
    slopes = sum(head.slopes for head in heads(LEARNED))
    weights = {
        "bias": rng.integers(-3000, 500, (sum(head.atoms for head in heads(LEARNED)), 3)),
        "linear": rng.integers(-100, 100, (slopes, FEATURES)),
        "present": rng.integers(-100, 100, (n, FEATURES)),
        "inner": rng.integers(-300, 300, (n, *MODEL.inner.shape[1:])),
        "outer": rng.integers(-300, 300, (n, *MODEL.outer.shape[1:])),
        "signs": rng.integers(-1500, 1500, (LEARNED.atoms, *MODEL.signs.shape[1:])),
    }
    weights["bias"][:, 1:] //= 100
    model = replace(MODEL, **{name: table.astype(np.int32) for name, table in weights.items()})
    assert model.fits(LEARNED)
    return model


@given(st.integers(1, 9), st.integers(1, 9), st.floats(0, 1), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_any_code_comes_back(height: int, width: int, share: float, seed: int) -> None:
    levels = random_code(256, (height, width), share**3, seed)
    known = np.zeros_like(levels)
    for atoms in LAYOUT.split():
        streams = encode_code(levels, atoms, LAYOUT, MODEL)
        entries = int(np.count_nonzero(levels[atoms.start : atoms.stop]))
        known = decode_code(*streams, known, atoms, entries, LAYOUT, MODEL)
    assert (known == levels).all()


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_the_support_comes_back_given_the_public_code(height: int, width: int, seed: int) -> None:
    levels = random_code(256, (height, width), 0.05, seed)
    public = ambiguate(levels[None], 8 * height * width)[0]
    known = np.zeros_like(levels)
    for atoms in LAYOUT.split():
        stream = encode_support(levels, public, atoms, LAYOUT, MODEL)
        entries = int(np.count_nonzero(levels[atoms.start : atoms.stop]))
        known = decode_support(stream, public, known, atoms, entries, LAYOUT, MODEL)
    assert (known == levels).all()


def test_atoms_without_order_are_coded_too() -> None:
    model = learned_model()
    levels, known = random_code(128, (5, 7), 0.05, 3), np.zeros((128, 5, 7), np.int16)
    for atoms in LEARNED.split():
        entries = int(np.count_nonzero(levels[atoms.start : atoms.stop]))
        known = decode_code(
            *encode_code(levels, atoms, LEARNED, model), known, atoms, entries, LEARNED, model
        )
    assert (known == levels).all()


def test_context_saves_bits_on_a_chest_and_the_public_code_saves_more(codec) -> None:
    z, _ = codec.encode(draw_phantom(512, seed=9)[..., None])
    levels = top_s(z, 4 * 32 * 32).levels[0]
    public = ambiguate(levels[None], 4 * 32 * 32)[0]
    alone = sum(len(encode_code(levels, atoms, LAYOUT, MODEL)[0]) for atoms in LAYOUT.split())
    given_public = sum(
        len(encode_support(levels, public, atoms, LAYOUT, MODEL)) for atoms in LAYOUT.split()
    )
    assert given_public < 0.8 * alone < 0.4 * len(encode_plain(levels != 0))


def test_the_selection_takes_fewer_bits_for_as_good_an_image(codec) -> None:
    z, _ = codec.encode(draw_phantom(512, seed=9)[..., None])
    codes = [top_s(z, 6 * 32 * 32), select(z, 6 * 32 * 32, LAYOUT, MODEL)]
    bits = [
        sum(len(encode_code(code.levels[0], atoms, LAYOUT, MODEL)[0]) for atoms in LAYOUT.split())
        for code in codes
    ]
    errors = [float(np.mean((code.coefficients - z) ** 2)) for code in codes]
    assert bits[1] < 0.97 * bits[0]
    assert errors[1] < 1.02 * errors[0]
    assert all(np.count_nonzero(code.levels) <= 6 * 32 * 32 for code in codes)


def test_a_damaged_stream_is_refused() -> None:
    levels = random_code(256, (6, 6), 0.02, 0)
    atoms, entries = range(4, 256), int(np.count_nonzero(levels[4:]))
    support, values = encode_code(levels, atoms, LAYOUT, MODEL)
    for bad in ((support[:-1], values), (support, values[1:]), (support[1:], values)):
        with pytest.raises(DamagedSection):
            decode_code(*bad, levels, atoms, entries, LAYOUT, MODEL)
    with pytest.raises(DamagedSection):
        decode_code(support, values, levels, atoms, entries + 1, LAYOUT, MODEL)
    rng = np.random.default_rng(1)
    for _ in range(20):  # whatever the bytes, a code or an error of ours
        with pytest.raises(DamagedSection):
            decode_code(rng.bytes(400), rng.bytes(400), levels, atoms, 40, LAYOUT, MODEL)


def test_what_no_encoder_writes_is_refused() -> None:
    levels = random_code(256, (5, 5), 0.05, 1)
    atoms, known = range(4), np.zeros_like(levels)
    entries = int(np.count_nonzero(levels[:4]))
    support, values = encode_code(levels, atoms, LAYOUT, MODEL)
    for streams, count, words in (
        ((support, values), 0, "0 entries"),
        ((support, values), 101, "101 entries"),
        ((support + bytes(range(40)), values), entries, "damaged"),
        ((support, values + bytes(range(40))), entries, "damaged"),
        ((support, values + b"\0"), entries, "damaged"),
    ):
        with pytest.raises(DamagedSection, match=words):
            decode_code(*streams, known, atoms, count, LAYOUT, MODEL)


@given(st.integers(1, 1 << 20), st.integers(1, 1 << 20))
def test_density_is_the_floor_of_the_logarithm(entries: int, positions: int) -> None:
    exact = 8 * (np.log2(entries) - np.log2(positions))
    assert exact - 1 - 1e-6 < entry_density(entries, positions) < exact + 1e-6


@given(st.integers(1, 13), st.integers(1, 13))
def test_the_dc_plane_is_split_joined_and_transformed(height: int, width: int) -> None:
    plane = np.random.default_rng(0).integers(1, 99, (height, width))
    assert (join_dc(split_dc(plane), plane.shape) == plane).all()
    assert np.allclose(dc_matrix(height) @ dc_matrix(height).T, np.eye(height), atol=1e-6)
    z = np.random.default_rng(1).normal(size=(height, width))
    assert np.allclose(transform_dc(z), dc_matrix(height) @ z @ dc_matrix(width).T, atol=1e-6)
    assert np.allclose(restore_dc(transform_dc(z)), z)


def test_no_sum_of_the_kernel_overflows() -> None:
    """A hidden unit fits 32 bits and their sum 64, whatever the tables that `fits` lets pass."""
    assert len(heads(LAYOUT)) == len(MODEL.inner)
    density = max(abs(entry_density(1, 1 << 20)), entry_density(1 << 13, 1))
    hidden = (FEATURES * 128 + density + 8) * TABLE_LIMIT
    assert hidden < 1 << 31
    assert HIDDEN * hidden * SCORE_LIMIT + density**2 * SCORE_LIMIT < 1 << 63
    assert 10 * SIGNED_LIMIT * TABLE_LIMIT * density < 1 << 31
    for name in ("linear", "present", "inner", "outer", "bias", "signs"):
        for bad in (np.iinfo(np.int32).min, SCORE_LIMIT + 1):
            table = getattr(MODEL, name).copy()
            table.reshape(-1)[0] = bad
            assert not replace(MODEL, **{name: table}).fits(LAYOUT)
    assert not ContextModel(*(getattr(MODEL, field.name) * 9999 for field in fields(MODEL))).fits(
        LAYOUT
    )
    assert not replace(MODEL, logarithm=np.maximum(MODEL.logarithm, 1)).fits(LAYOUT)


def test_a_first_map_that_cuts_a_group_is_refused() -> None:
    with pytest.raises(ValueError, match="cuts"):
        FrequencyLayout(51, 5).split()


def test_prices_add_up_to_what_the_streams_take(codec) -> None:
    z, _ = codec.encode(draw_phantom(512, seed=9)[..., None])
    levels = select(z, 6 * 32 * 32, LAYOUT, MODEL).levels[0]
    for atoms in LAYOUT.split():
        bits = price_code(levels, atoms, LAYOUT, MODEL).code
        streams = encode_code(levels, atoms, LAYOUT, MODEL)
        assert 8 * (len(b"".join(streams)) - 3) <= bits <= 8 * len(b"".join(streams)) + 1


def test_the_price_of_a_lonely_entry_is_higher(codec) -> None:
    z, _ = codec.encode(draw_phantom(512, seed=9)[..., None])
    levels = top_s(z, 4 * 32 * 32).levels[0]
    fine = LAYOUT.split()[1]
    bits = price_code(levels, fine, LAYOUT, MODEL).entries
    there = levels[fine.start : fine.stop] != 0
    assert np.median(bits[there]) < np.median(bits[~there]) - 2


@given(st.integers(1, 2000), st.floats(0, 1), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_a_support_comes_back_without_context(places: int, share: float, seed: int) -> None:
    support = np.random.default_rng(seed).random(places) < share**3
    data = encode_plain(support)
    assert (decode_plain(data, support.shape, int(support.sum())) == support).all()
    with pytest.raises(DamagedSection):
        decode_plain(data + b"1", support.shape, int(support.sum()))


def test_threads_have_kernels_of_their_own() -> None:
    levels = [random_code(256, (8, 8), 0.05, seed) for seed in range(8)]

    def streams(one: np.ndarray) -> tuple[bytes, bytes]:
        return encode_code(one, range(256), LAYOUT, MODEL)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(streams, levels)) == [streams(one) for one in levels]


def test_the_kernel_that_ships_is_the_one_that_its_source_gives(tmp_path) -> None:
    pytest.importorskip("ziglang")
    build(tmp_path / "kernel.wasm")
    assert (tmp_path / "kernel.wasm").read_bytes() == FILE.read_bytes()


def test_a_kernel_takes_few_addresses_and_a_large_one_is_not_kept() -> None:
    """A process may be allowed only so many addresses: wasmtime would reserve gigabytes."""
    before, kernels = _addresses(), [Kernel(MODEL, LAYOUT) for _ in range(8)]
    assert _addresses() - before < 8 * (1 << 26)
    del kernels
    levels = np.zeros((256, 320, 320), np.int16)
    levels[0, 0, 0] = 1
    large = kernel_of(MODEL, LAYOUT)
    streams = encode_code(levels, range(4), LAYOUT, MODEL)
    assert large.is_large
    assert kernel_of(MODEL, LAYOUT) is not large
    assert encode_code(levels, range(4), LAYOUT, MODEL) == streams
    small = kernel_of(MODEL, LAYOUT)
    encode_code(levels[:, :32, :32], range(4), LAYOUT, MODEL)
    assert kernel_of(MODEL, LAYOUT) is small


@pytest.mark.parametrize("shape", [(1, 1), (3, 9), (8, 8), (33, 5), (32, 32)])
@pytest.mark.parametrize(("model", "layout"), [(MODEL, LAYOUT), (learned_model(), LEARNED)])
def test_a_job_takes_no_more_memory_than_its_geometry_tells(
    shape: tuple[int, int], model: ContextModel, layout: Layout
) -> None:
    kernel, levels = Kernel(model, layout), random_code(layout.atoms, shape, 0.1, 1)
    for mode, public in ((_Mode.PRICE, None), (_Mode.ENCODE, levels)):
        tile = Tile(levels, range(layout.atoms), 0, public)
        job, _ = kernel._job(mode, tile)
        job.prices = kernel._take(levels.size * 4) if mode is _Mode.PRICE else 0
        _, done = kernel._call(job, tile)
        assert 0 < done.work - job.work <= _work(layout, *shape)


def test_a_tile_beyond_all_memory_is_an_error_for_people() -> None:
    """No bundle has one; wasmtime's own error would pass for a defect. The kernel works on."""
    kernel, levels = Kernel(MODEL, LAYOUT), np.zeros((256, 4, 4), np.int16)
    with pytest.raises(MemoryError):
        kernel._take(1 << 32)
    assert kernel.prices(Tile(levels, range(4), 0))[1] > 0


FORKS = """
import os, wasmtime
from primis.codes.kernel import FILE, _compiled
wasmtime.Module(wasmtime.Engine(), FILE.read_bytes())
child = os.fork()
if not child:
    _compiled()
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_makes_kernels_too() -> None:
    """Also where another library has compiled with wasmtime before."""
    command = [sys.executable, "-c", FORKS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "0\n"


def _addresses() -> int:
    """Bytes of addresses that this process has, as far as that is known."""
    if not (status := Path("/proc/self/statm")).exists():
        pytest.skip("needs /proc")
    return int(status.read_text().split()[0]) * mmap.PAGESIZE
