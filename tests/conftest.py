"""A small model, small images and releases of them; real images where they lie beside us."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from primis.bundle.settings import Settings
from primis.codec import Codec
from primis.imaging.phantom import phantom_dicom
from primis.keys.identity import generate, read_signer
from primis.network.checkpoint import read_checkpoint

VECTORS = Path(__file__).parent / "vectors"
TINY = VECTORS / "tiny.safetensors"
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SETTINGS = Settings(sparsity=4.0)


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """No test outlives a power cut; waiting for each file to reach the disk takes minutes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def own_configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What commands remember stays out of the configuration of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture(scope="session")
def codec() -> Codec:
    return Codec(read_checkpoint(TINY))


@pytest.fixture(scope="session")
def real_data() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"needs the image collection in {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Key files of an owner, two recipients and a stranger."""
    folder = tmp_path_factory.mktemp("keys")
    paths = {name: folder / f"{name}.key" for name in ("owner", "alice", "bob", "stranger")}
    for path in paths.values():
        path.write_text(generate())
    return paths


@pytest.fixture(scope="session")
def signer(keys: dict[str, Path]):
    return read_signer(keys["owner"])


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small phantoms as DICOM."""
    folder = tmp_path_factory.mktemp("images")
    for seed in (1, 2):
        (folder / f"chest-{seed}.dcm").write_bytes(phantom_dicom(96, seed=seed))
    return folder


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes are named by their argument: compressed ones differ from process to process, and
    workers that collect different names refuse to start."""
    return argname if isinstance(val, bytes) else None
