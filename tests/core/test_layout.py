"""The layout against random content and random damage."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primis.bundle.container import SAMPLES_PER_BYTE, profiles_of, read_bundle, write_bundle
from primis.bundle.geometry import Geometry
from primis.bundle.header import Header
from primis.bundle.settings import Settings
from primis.canonical import canonical
from primis.errors import BadBundle
from tests.conftest import VECTORS
from tests.fuzz_bundle import one_input

SEEDS = [p.read_bytes() for p in sorted(VECTORS.glob("*/*")) if p.is_file() and p.suffix != ".key"]

geometries = st.builds(
    Geometry,
    atoms_per_map=st.just(4),
    channels=st.integers(1, 16),
    code_maps=st.just(64),
    frames=st.integers(1, 3),
    height=st.integers(1, 300),
    stride=st.just(16),
    tile=st.integers(1, 10).map(lambda n: 4 * n),
    width=st.integers(1, 300),
)
milli = st.integers(1, 32_000).map(lambda n: n / 1000)
levels = st.sampled_from(["keyed", "sca"])
choices = st.builds(
    lambda protection, decoys, **chosen: Settings(
        protection=protection, decoys=decoys if protection == "sca" else 0, **chosen
    ),
    decoys=milli,
    protection=levels,
    sparsity=milli,
    code_bits=milli,
    header_bytes=st.integers(128, 1 << 14),
    original_bits=st.just(0.0) | milli,
    exact_bits=st.sampled_from([0, 1, 2, 4, 8, 16]),
)


@given(geometries, choices)
@settings(max_examples=60, deadline=None)
def test_reads_what_it_writes(geometry: Geometry, chosen: Settings) -> None:
    chosen = replace(chosen, tile=geometry.tile * geometry.stride)
    header = Header("0" * 32, geometry, chosen, "f" * 64)
    parts = {name: bytes(size) for name, size in header.fixed_sizes.items()}
    parts.setdefault("public", b"free")
    data = write_bundle(header, parts, alone=True)
    read, again = read_bundle(data, "x")
    assert (read.geometry, read.settings, again) == (geometry, chosen, parts)
    assert write_bundle(read, again, alone=True) == data
    listed = write_bundle(header, parts)
    assert read_bundle(listed, "x", profiles_of([header.profile])) == (read, parts)
    assert len(data) - len(listed) == len(header.profile.data)


@pytest.mark.parametrize(
    ("bits", "original"), [(0.0, None), (0.001, 1 + 1200 + 16), (0.3, 135 + 1200 + 16)]
)
def test_header_and_original_have_the_sizes_that_the_settings_give(
    bits: float, original: int | None
) -> None:
    geometry = Geometry(4, 3, 64, frames=2, height=30, stride=16, tile=8, width=20)
    header = Header(
        "0" * 32,
        geometry,
        Settings(sparsity=4.0, code_bits=6.0, header_bytes=300, original_bits=bits, exact_bits=0),
        "f" * 64,
    )
    assert (header.fixed_sizes["header"], header.fixed_sizes.get("original")) == (316, original)


def test_settings_that_are_left_to_the_kind_of_file_have_no_size() -> None:
    header = Header(
        "0" * 32,
        Geometry(4, 1, 64, 1, 30, 16, 8, 20),
        Settings(sparsity=4.0, protection="keyed", code_bits=6.0),
        "f" * 64,
    )
    with pytest.raises(ValueError, match="an image that is not known"):
        _ = header.fixed_sizes


@given(geometries)
def test_tiles_cover_the_grid_once(geometry: Geometry) -> None:
    covered = sum((y.stop - y.start) * (x.stop - x.start) for _, y, x in geometry.tiles)
    assert covered == geometry.positions


@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(max_size=6)), min_size=1, max_size=4),
)
@settings(max_examples=400, deadline=None)
def test_mutations_are_read_or_refused(seed: bytes, edits: list[tuple[int, bytes]]) -> None:
    data = bytearray(seed)
    for at, new in edits:
        start = at % (len(data) + 1)
        data[start : start + len(new)] = new or b""
    one_input(bytes(data))


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    one_input(data)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
)


@given(values)
def test_canonical_form_is_a_fixed_point(value: object) -> None:
    assert canonical(json.loads(canonical(value))) == canonical(value)


def test_a_bundle_that_claims_more_than_its_bytes_can_hold_is_refused() -> None:
    """Settings may leave nothing for the code of an image of gigabytes."""
    geometry = Geometry(4, 1, 64, frames=1, height=1 << 16, stride=16, tile=1024, width=1 << 16)
    chosen = Settings(
        sparsity=0.001,
        code_bits=0.0,
        header_bytes=256,
        original_bits=0.0,
        exact_bits=0,
    )
    header = Header("0" * 32, geometry, chosen, "f" * 64)
    parts = {name: bytes(size) for name, size in header.fixed_sizes.items()}
    assert SAMPLES_PER_BYTE * sum(len(part) for part in parts.values()) < 1 << 32
    with pytest.raises(BadBundle, match="claims 4294967296 samples"):
        write_bundle(header, parts)


@pytest.mark.parametrize(("tile", "maps"), [(1024, 64), (512, 64), (1024, 5), (128, 257)])
def test_a_tile_that_would_fill_the_memory_is_refused(tile: int, maps: int) -> None:
    """A reader holds a tile at once: at 2^24 places it takes some 300 MB."""
    geometry = Geometry(4, 1, maps, frames=1, height=1, stride=16, tile=tile, width=1)
    chosen = Settings(code_bits=8.0, header_bytes=128, original_bits=0.0, exact_bits=0)
    header = Header("0" * 32, geometry, chosen, "f" * 64)
    parts = {name: bytes(size) for name, size in header.fixed_sizes.items()}
    with pytest.raises(BadBundle, match="places in a tile"):
        read_bundle(write_bundle(header, parts, alone=True), "x")
