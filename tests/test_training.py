"""Training learns, is reproducible, and its file is what the codec reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from primis.codes.sparse import top_s
from primis.errors import ModelError, UsageError
from primis.imaging.phantom import draw_phantom, phantom_dicom
from primis.network.autoencoder import AutoEncoder
from primis.network.checkpoint import find_checkpoint, read_checkpoint
from primis.network.presets import Preset
from primis.network.projection import dct_atoms
from primis.network.sparsify import quantise, top_s_threshold
from primis.training import Recipe, train, train_checkpoint
from tests.conftest import TINY

SMALL = Preset("small", width_16=8, width_8=8, blocks=1)
SHORT = Recipe(steps=12, batch=2, patch=64)


def test_the_atoms_are_orthonormal_and_ordered_from_coarse_to_fine() -> None:
    atoms = dct_atoms(16).reshape(256, 256)
    assert np.allclose(atoms @ atoms.T, np.eye(256), atol=1e-12)
    assert np.allclose(atoms[0], 1 / 16)


def test_the_untrained_network_is_the_plain_transform() -> None:
    model = AutoEncoder(SMALL)
    x = torch.randn(1, 1, 48, 64)
    z = model.encode(x)
    levels = torch.sign(z) * torch.floor(z.abs() / 1e-4)
    with torch.no_grad():
        again = model.decode(levels, torch.ones(1, 1, 1, 1)) * 1e-4
    assert torch.allclose(again, x, atol=1e-3)


def test_top_s_and_quantiser_agree_with_the_codec() -> None:
    z = torch.randn(1, 256, 6, 6)
    t = top_s_threshold(z, torch.tensor([4.0]))
    code = top_s(z.numpy(), 4 * 36)
    assert np.float32(code.threshold) == t.item()
    assert (quantise(z, t).numpy() == code.levels).all()


def test_training_is_reproducible_and_lowers_the_loss() -> None:
    images = [draw_phantom(128, seed=s) for s in range(3)]
    runs = []
    for _ in range(2):
        losses: list[float] = []
        model = train(images, SHORT, preset=SMALL, on_step=lambda step, loss, _, seen=losses: seen.append(loss))
        runs.append((losses, model.decoder.pixels.weight.numpy().copy()))
    assert runs[0][0] == pytest.approx(runs[1][0], rel=1e-4)
    assert np.allclose(runs[0][1], runs[1][1], atol=1e-6)
    assert np.abs(runs[0][1]).max() > 0


def test_a_trained_model_is_a_file_found_by_its_digest(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("primis.training.DEFAULT", SMALL)
    (tmp_path / "data").mkdir()
    for seed in range(2):
        (tmp_path / "data" / f"{seed}.dcm").write_bytes(phantom_dicom(128, seed=seed))
    digest = train_checkpoint(tmp_path / "data", tmp_path / "m.safetensors", SHORT)
    assert find_checkpoint(digest, (tmp_path / "m.safetensors",)).training["frames"] == 2
    with pytest.raises(ModelError, match="is needed, but only these are here"):
        find_checkpoint("0" * 64)
    with pytest.raises(UsageError, match="at least 500"):
        train_checkpoint(tmp_path / "data", tmp_path / "n.safetensors", Recipe(patch=500))


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    data = TINY.read_bytes()
    cases = {"empty": b"", "cut": data[: len(data) // 2], "pickle": b"\x80\x04" + data[2:], "head": data[:8] + b"x" * 200}
    for name, bad in cases.items():
        (tmp_path / name).write_bytes(bad)
        with pytest.raises(ModelError, match="damaged"):
            read_checkpoint(tmp_path / name)
    with pytest.raises(ModelError, match="cannot be read"):
        read_checkpoint(tmp_path / "missing")
