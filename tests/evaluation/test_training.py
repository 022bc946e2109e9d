"""Training learns, repeats, stops and goes on, runs in several processes; the codec reads it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from primis.codec import Codec
from primis.codes.probabilities import ContextModel
from primis.codes.sparse import top_s, top_s_of_maps
from primis.datasets.files import split_files
from primis.datasets.frames import Frames
from primis.errors import ModelError, OutputError, UsageError
from primis.imaging.phantom import draw_phantom, phantom_dicom
from primis.metrics.fidelity import psnr
from primis.network.autoencoder import AutoEncoder
from primis.network.build import build
from primis.network.checkpoint import find_checkpoint, read_checkpoint
from primis.network.presets import PAPER, Preset
from primis.network.projection import LappedProjection, dct_atoms
from primis.network.sparsify import (
    dequantise,
    keep_top_s,
    quantise,
    restore_dc,
    top_s_threshold,
    transform_dc,
)
from primis.training.loop import train
from primis.training.recipe import Part, Recipe
from primis.training.run import train_checkpoint
from tests.conftest import TINY

SMALL = Preset("small", widths=(8, 8))
GROUPED = Preset("small paper", "grouped", code_maps=4, atoms_per_map=64, widths=(8, 8))
SHORT = Recipe(steps=12, batch=2, patch=64, epoch=4, transform_steps=8)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    for seed in range(4):
        (folder / f"{seed}.dcm").write_bytes(phantom_dicom(128, seed=seed))
    return folder


def run(data: Path, folder: Path, recipe: Recipe = SHORT, preset: Preset = SMALL, **options):
    files, held_out = split_files(data)
    frames, judged = Frames(files, least=recipe.patch), Frames(held_out, least=16)
    return train(frames, judged, recipe, preset, folder, accelerator="cpu", **options)[0]


def test_the_atoms_are_orthonormal_and_ordered_from_coarse_to_fine() -> None:
    atoms = dct_atoms(16).reshape(256, 256)
    assert np.allclose(atoms @ atoms.T, np.eye(256), atol=1e-12)
    assert np.allclose(atoms[0], 1 / 16)


@pytest.mark.parametrize("size", [(16, 16), (16, 48), (64, 80)])
def test_the_transform_is_undone_exactly_whatever_it_learned(size) -> None:
    torch.manual_seed(0)
    projection = LappedProjection(16)
    torch.nn.init.normal_(projection.turn)
    torch.nn.init.constant_(projection.slope, 0.2)
    projection.freeze()
    x = torch.randn(2, 1, *size)
    with torch.no_grad():
        z = projection(x)
        assert torch.allclose(projection.back(z), x, atol=1e-5)
        assert torch.allclose(restore_dc(transform_dc(z)), z, atol=1e-5)
        projection.slope.zero_()
        assert torch.allclose(projection(x).square().sum(), x.square().sum(), rtol=1e-4)


def test_the_untrained_network_is_the_plain_transform() -> None:
    model = AutoEncoder(SMALL)
    x, t = torch.randn(1, 1, 48, 64), torch.full((1, 1, 1, 1), 1e-4)
    with torch.no_grad():
        again = model.decode(
            dequantise(quantise(model.encode(x), t)) * t, t, torch.ones(1, 1, 1, 1)
        )
    assert torch.allclose(again, x, atol=1e-3)


def test_top_s_and_quantiser_agree_with_the_codec() -> None:
    z = torch.randn(1, 256, 6, 6)
    t = top_s_threshold(z, torch.tensor([4.0]))
    code = top_s(z.numpy(), 4 * 36)
    assert np.float32(code.threshold) == t.item()
    assert (quantise(z, t).numpy() == code.levels).all()
    maps = top_s_of_maps(z.numpy(), 4, 3)
    assert ((keep_top_s(z, 4, torch.tensor([3.0])) != 0).numpy() == (maps.levels != 0)).all()
    assert (np.count_nonzero(maps.levels.reshape(4, 64, 36), axis=1) == 3).all()


@pytest.mark.parametrize("preset", [SMALL, GROUPED])
def test_training_lowers_the_loss_and_draws_curves(data, tmp_path, preset) -> None:
    recipe = replace(SHORT, steps=24, epoch=8, sparsity=(4, 16), batch=4)
    run(data, tmp_path, recipe, preset)
    events = EventAccumulator(str(tmp_path)).Reload()
    judged = [event.value for event in events.Scalars("psnr")]
    assert len(judged) == 3
    assert judged[-1] > judged[0]
    assert "restored/0" in events.Tags()["images"]


def test_a_run_that_was_stopped_ends_as_one_that_was_not(data, tmp_path) -> None:
    class Stop(Callback):
        def on_train_batch_start(self, trainer, module, batch, number) -> None:
            if trainer.global_step == 6:
                raise KeyboardInterrupt

    whole = run(data, tmp_path / "whole").state_dict()
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "stopped", callbacks=[Stop()])
    resumed = run(data, tmp_path / "stopped").state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert whole["decoder.pixels.weight"].abs().max() > 0
    assert whole["projection.turn"].abs().max() > 0


class Planted:
    """Unpickled, it leaves a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("kind", ["pickle", "torch", "cut"])
def test_what_was_planted_where_a_run_goes_on_is_not_run(data, tmp_path, kind) -> None:
    mark, folder = tmp_path / "mark", tmp_path / "m.training"
    folder.mkdir(mode=0o700)
    planted = {"state_dict": {}, "callbacks": Planted(mark)}
    if kind == "torch":
        torch.save(planted, folder / "last.ckpt")
    else:
        (folder / "last.ckpt").write_bytes(pickle.dumps(planted) if kind == "pickle" else b"PK\3\4")
    with pytest.raises(OutputError, match=r"last.ckpt.* is damaged, or not from"):
        run(data, folder)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["", "last.ckpt", "best.ckpt", "recipe.json"])
def test_a_run_goes_on_only_with_what_is_ours(data, tmp_path, name) -> None:
    folder, elsewhere = tmp_path / "m.training", tmp_path / "elsewhere"
    elsewhere.mkdir()
    if name:
        folder.mkdir()
    (folder / name if name else folder).symlink_to(elsewhere)
    with pytest.raises(OutputError, match="is a link"):
        train_checkpoint(data, tmp_path / "m", SHORT, SMALL, accelerator="cpu")
    assert not list(elsewhere.iterdir())


def test_a_preset_that_the_graphs_cannot_run_is_not_trained(data, tmp_path) -> None:
    with pytest.raises(UsageError, match="its widths are not two of at most 128"):
        train_checkpoint(data, tmp_path / "m", SHORT, replace(SMALL, widths=(8, 129)))
    assert not (tmp_path / "m.training").exists()


def test_half_precision_trains_the_trunk_and_leaves_the_transform_exact(data, tmp_path) -> None:
    network = run(data, tmp_path, precision="bf16-mixed")
    x = torch.randn(1, 1, 64, 64)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(network.projection.back(network.projection(x)), x, atol=1e-5)


def test_two_processes_train_together(data, tmp_path) -> None:
    command = [
        sys.executable,
        "-m",
        "primis.cli",
        "train",
        str(data),
        "-o",
        str(tmp_path / "two.safetensors"),
    ]
    options = [
        "--steps",
        "10",
        "--patch",
        "64",
        "--batch",
        "2",
        "--devices",
        "2",
        "--accelerator",
        "cpu",
    ]
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote") == 1
    assert read_checkpoint(tmp_path / "two.safetensors").training["steps"] == 10


@pytest.mark.parametrize("preset", [SMALL, GROUPED])
def test_a_trained_model_is_a_file_found_by_its_digest(data, tmp_path, preset) -> None:
    recipe = replace(SHORT, sparsity=(4, 16), transform_steps=0)
    out = tmp_path / "m.safetensors"
    digest = train_checkpoint(data, out, recipe, preset, accelerator="cpu").digest
    checkpoint = find_checkpoint(digest, (tmp_path / "m.safetensors",))
    assert checkpoint.training["files"] == 3
    codec, frame = Codec(checkpoint), draw_phantom(64, seed=1)[..., None]
    z, scale = codec.encode(frame)
    entries = 16 * z[0, 0].size
    code = codec.sparsify(z, entries)
    assert np.count_nonzero(code.levels) <= entries
    assert psnr(frame, codec.decode(code, scale, (64, 64), frame.dtype), 4095) > 5
    again = train_checkpoint(data, out, recipe, preset, accelerator="cpu")
    assert (again.digest, again.over) == (digest, False)
    with pytest.raises(UsageError, match="another recipe"):
        train_checkpoint(data, out, replace(recipe, seed=1), preset, accelerator="cpu")
    with pytest.raises(UsageError, match="at least 500"):
        train_checkpoint(data, tmp_path / "n.safetensors", Recipe(patch=500), accelerator="cpu")
    with pytest.raises(ModelError, match="is needed, but only these are here"):
        find_checkpoint("0" * 64)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> Path:
    """A small model to start with."""
    out = tmp_path_factory.mktemp("trained") / "start.safetensors"
    train_checkpoint(data, out, SHORT, SMALL, accelerator="cpu")
    return out


def same(one: ContextModel, other: ContextModel) -> bool:
    """Whether all tables are."""
    return all((getattr(one, f.name) == getattr(other, f.name)).all() for f in fields(one))


def test_only_the_decoder_is_learned_at_other_widths(data, trained, tmp_path) -> None:
    out, wider = tmp_path / "wider.safetensors", replace(SMALL, widths=(16, 8))
    options = {"start": trained, "only": Part.DECODER, "accelerator": "cpu"}
    train_checkpoint(data, out, SHORT, wider, **options)
    before, after = read_checkpoint(trained), read_checkpoint(out)
    kept = {name for name in before.network if not name.startswith("decoder.")}
    assert kept and all((before.network[n] == after.network[n]).all() for n in kept)
    assert np.abs(after.network["decoder.pixels.weight"]).max() > 0
    assert after.preset == wider and same(after.tables, before.tables)
    assert after.training["start"] == before.digest


def test_only_the_tables_are_fitted(data, trained, tmp_path) -> None:
    out = tmp_path / "tables.safetensors"
    options = {"start": trained, "only": Part.TABLES, "accelerator": "cpu"}
    train_checkpoint(data, out, replace(SHORT, seed=1), SMALL, **options)
    before, after = read_checkpoint(trained), read_checkpoint(out)
    assert all((before.network[n] == after.network[n]).all() for n in before.network)
    assert not same(after.tables, before.tables)


@pytest.mark.parametrize("part", list(Part))
def test_what_is_not_learned_must_come_from_a_model_of_its_kind(
    data, trained, tmp_path, part
) -> None:
    out = tmp_path / "none.safetensors"
    for start, preset in ((None, SMALL), (trained, GROUPED)):
        with pytest.raises(UsageError, match=f'{part} alone needs a model of preset "'):
            train_checkpoint(data, out, SHORT, preset, start=start, only=part)


def test_a_table_says_what_is_trained_on(tmp_path) -> None:
    (tmp_path / "t.csv").write_text("\ufefffile,split\na.png,train\nb.png,val\nc.png,test\n")
    for name in "ab":
        (tmp_path / f"{name}.png").touch()
    assert split_files(tmp_path / "t.csv") == ([tmp_path / "a.png"], [tmp_path / "b.png"])
    (tmp_path / "bad.csv").write_text("name,split\n")
    (tmp_path / "gone.csv").write_text("file,split\nz.png,train\n")
    cases = {
        "bad.csv": "no row",
        "none.csv": "does not exist",
        "gone.csv": "1 file.s. that do not exist",
    }
    for table, words in cases.items():
        with pytest.raises(UsageError, match=words):
            split_files(tmp_path / table)


def test_the_paper_ties_encoder_and_decoder() -> None:
    projection = build(PAPER).projection
    z = torch.zeros(1, 1024, 1, 1)
    z[0, 300] = 1  # an atom of the second map comes back in the second plane only
    planes = projection.back(z)[0]
    assert [bool(plane.any()) for plane in planes] == [False, True, False, False]
    assert projection(planes[None])[0, 300, 0, 0].item() == pytest.approx(1, abs=1e-4)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    data = TINY.read_bytes()
    cases = {
        "empty": b"",
        "cut": data[: len(data) // 2],
        "pickle": b"\x80\x04" + data[2:],
        "head": data[:8] + b"x" * 200,
    }
    for name, bad in cases.items():
        (tmp_path / name).write_bytes(bad)
        with pytest.raises(ModelError, match="damaged"):
            read_checkpoint(tmp_path / name)
    with pytest.raises(ModelError, match="cannot be read"):
        read_checkpoint(tmp_path / "missing")
