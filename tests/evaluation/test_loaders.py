"""Training libraries take a release as it is: data loaders of torch and MONAI, a reader, a file
system; and nothing that is decrypted reaches the disk."""

from __future__ import annotations

import os
import pickle
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import fsspec
import nibabel
import numpy as np
import pytest
from torch.utils.data import DataLoader

import primis
from primis.filesystem import PrimisFileSystem
from primis.imaging.files import parse
from primis.imaging.phantom import phantom_dicom
from primis.keys.identity import read_signer
from tests.conftest import TINY
from tests.core.test_series import lay_out, slice_file
from tests.documented import ROOT

COUNT = 5


@pytest.fixture(scope="module")
def made(keys, tmp_path_factory) -> Path:
    """A release of radiographs with labels, in folders."""
    folder = tmp_path_factory.mktemp("loaders")
    rows = ["file,label,patient"]
    for seed in range(COUNT):
        path = folder / "in" / f"p{seed}" / "chest.dcm"
        path.parent.mkdir(parents=True)
        path.write_bytes(phantom_dicom(64, seed=seed))
        rows.append(f"p{seed}/chest.dcm,{('normal', 'viral')[seed % 2]},p{seed}")
    (folder / "in" / "table.csv").write_text("\n".join(rows))
    primis.share(
        folder / "in",
        folder / "release",
        to=read_signer(keys["alice"]).recipient.text,
        owner=keys["owner"],
        model=TINY,
        measure=False,
        labels=folder / "in" / "table.csv",
    )
    return folder / "release"


@pytest.fixture
def release(made: Path, keys) -> primis.OpenRelease:
    return primis.open(made, keys["alice"], models=[TINY])


WORKERS = {"fork": 2, "spawn": 1}
"""Spawned ones import torch first, which takes long."""


@pytest.mark.parametrize("method", WORKERS)
def test_torch_loads_batches_with_workers(release, made, keys, method: str) -> None:
    dataset = primis.Dataset(made, keys["alice"], models=[TINY])
    assert dataset[0]["image"].any()  # a session of this process, which no worker may use
    loader = DataLoader(
        dataset, batch_size=2, num_workers=WORKERS[method], multiprocessing_context=method
    )
    batches = list(loader)
    assert [len(batch["image"]) for batch in batches] == [2, 2, 1]
    names = [name for batch in batches for name in batch["name"]]
    assert names == [f"p{seed}/chest.dcm" for seed in range(COUNT)]
    assert batches[0]["labels"] == {"label": ["normal", "viral"], "patient": ["p0", "p1"]}
    pixels = release[names[3]].read().pixels[0, ..., 0]
    assert (batches[1]["image"][1, 0].numpy() == pixels).all()


@pytest.mark.parametrize("method", WORKERS)
def test_monai_loads_batches_with_its_transforms(made, keys, method: str) -> None:
    from monai.data import DataLoader as MonaiLoader
    from monai.transforms import Compose, RandFlipd, ScaleIntensityd

    transform = Compose([ScaleIntensityd("image"), RandFlipd("image", prob=0.5)])
    dataset = primis.Dataset(made, keys["alice"], models=[TINY], transform=transform)
    loader = MonaiLoader(
        dataset, batch_size=COUNT, num_workers=WORKERS[method], multiprocessing_context=method
    )
    [batch] = loader
    assert batch["image"].shape == (COUNT, 1, 64, 64)
    assert (float(batch["image"].min()), float(batch["image"].max())) == (0, 1)
    assert batch["labels"]["label"][:2] == ["normal", "viral"]


def test_monai_reads_names_as_it_reads_paths(release, made, keys, tmp_path) -> None:
    from monai.transforms import LoadImage

    from primis.monai import ReleaseReader

    reader = ReleaseReader(made, keys["alice"], models=[TINY])
    load = LoadImage(reader=reader, ensure_channel_first=True)
    image = load("p1/chest.dcm")
    assert image.shape == (1, 64, 64)
    pixels = release["p1/chest.dcm"].read().pixels
    assert (pixels[0, ..., 0] == image[0].numpy().T).all()
    spacing = release["p1/chest.dcm"].spacing_mm
    assert np.diag(image.affine)[:2] == pytest.approx(spacing, rel=1e-6)
    assert load(["p0/chest.dcm", "p1/chest.dcm"]).shape == (2, 64, 64)
    assert (reader.verify_suffix("p1/chest.dcm"), reader.verify_suffix("p9.dcm")) == (True, False)
    again = pickle.loads(pickle.dumps(reader)).read(("p1/chest.dcm",))
    assert (again[0].pixels == pixels).all()


def test_monai_gets_the_array_that_its_own_reader_makes_of_the_restored_file(
    release, made, keys, tmp_path
) -> None:
    from monai.data import PydicomReader
    from monai.transforms import LoadImage

    from primis.monai import ReleaseReader

    name = "p2/chest.dcm"
    (tmp_path / "chest.dcm").write_bytes(release[name].file("diagnostic"))
    theirs = LoadImage(reader=PydicomReader())(tmp_path / "chest.dcm")
    ours = LoadImage(reader=ReleaseReader(made, keys["alice"], models=[TINY]))(name)
    assert ours.shape == theirs.shape[:2]
    assert (ours.numpy() == theirs.numpy().reshape(ours.shape)).all()


@pytest.fixture(scope="module")
def volumes(keys, tmp_path_factory) -> Path:
    """A release of a CT series of tilted slices, and a NIfTI volume."""
    folder = tmp_path_factory.mktemp("volumes")
    turned = {"ImageOrientationPatient": [1, 0, 0, 0, 0.8, -0.6]}
    names = [f"ct/{name}.dcm" for name in "bca"]
    slices = {
        name: slice_file(3.0 * k, PixelSpacing=[2, 1], InstanceNumber=k + 1, **turned)
        for k, name in enumerate(names)
    }
    lay_out(folder / "in", slices)
    affine = np.array([[0, -2, 0, 5], [1.5, 0, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1]])
    voxels = np.arange(40 * 30 * 5, dtype=np.int16).reshape(40, 30, 5)
    nibabel.save(nibabel.Nifti1Image(voxels, affine), folder / "in" / "mr.nii")
    to = read_signer(keys["alice"]).recipient.text
    out = folder / "release"
    primis.share(folder / "in", out, to=to, owner=keys["owner"], model=TINY, measure=False)
    return out


@pytest.mark.parametrize(("name", "theirs"), [("ct", "PydicomReader"), ("mr.nii", "NibabelReader")])
def test_a_volume_lies_where_monai_s_own_reader_puts_the_restored_files(
    volumes, keys, tmp_path, name, theirs
) -> None:
    import monai.data
    from monai.transforms import LoadImage

    from primis.monai import ReleaseReader

    release = primis.open(volumes, keys["alice"], models=[TINY])
    for file, data in release[name].files().items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(data)
    theirs = LoadImage(reader=getattr(monai.data, theirs)())(tmp_path / name)
    ours = LoadImage(reader=ReleaseReader(volumes, keys["alice"], models=[TINY]))(name)
    assert ours.shape == theirs.shape
    assert ours.affine.numpy() == pytest.approx(theirs.affine.numpy(), abs=1e-4)
    assert (ours.numpy() == theirs.numpy()).all()


def test_a_series_is_a_folder_of_its_files(volumes, keys) -> None:
    place = {"release": str(volumes), "identity": str(keys["alice"]), "models": [TINY]}
    files = PrimisFileSystem(**place)
    release = primis.open(volumes, keys["alice"], models=[TINY])
    assert files.ls("primis://ct", detail=False) == ["ct/a.dcm", "ct/b.dcm", "ct/c.dcm"]
    for name, data in release["ct"].files().items():
        assert files.cat_file(name) == data


@pytest.fixture
def files(made, keys) -> fsspec.AbstractFileSystem:
    """The release as a file system; its entry point counts only where primis is installed."""
    plugins = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    place = plugins["fsspec.specs"]["primis"].replace(":", ".")
    fsspec.register_implementation("primis", place, clobber=True)
    return fsspec.filesystem(
        "primis", release=str(made), identity=str(keys["alice"]), models=[TINY]
    )


def test_a_release_is_a_file_system(files, release) -> None:
    assert files.ls("primis://", detail=False) == [f"p{seed}" for seed in range(COUNT)]
    assert files.find("p3") == ["p3/chest.dcm"]
    assert files.glob("*/chest.dcm") == [f"p{seed}/chest.dcm" for seed in range(COUNT)]
    assert (files.isfile("p3/chest.dcm"), files.isdir("p3"), files.exists("p9")) == (1, 1, 0)
    with files.open("primis://p3/chest.dcm") as file:
        assert (parse(file.read()).pixels == release["p3/chest.dcm"].read().pixels).all()
    assert files.cat_file("p3/chest.dcm", 128, 132) == b"DICM"
    with pytest.raises(FileNotFoundError):
        files.open("p9/chest.dcm")
    again = pickle.loads(pickle.dumps(files))
    assert again.find("") == files.find("")


def test_a_file_system_of_a_release_is_read_only(files) -> None:
    before = files.find("")
    for mode in ("wb", "ab", "xb", "r+b"):
        with pytest.raises(OSError, match="read-only"):
            files.open("p0/chest.dcm", mode)
    with pytest.raises(OSError, match="read-only"):
        files.pipe_file("p0/new.dcm", b"x")
    with pytest.raises(NotImplementedError):
        files.rm("p0/chest.dcm")
    assert files.find("") == before


def test_names_that_lead_out_of_a_folder_are_made_safe(tmp_path, keys, signer, monkeypatch) -> None:
    from primis.jobs.share import task as share_task

    (tmp_path / "a.dcm").write_bytes(phantom_dicom(48))
    listed = share_task.listed_of
    monkeypatch.setattr(
        share_task, "listed_of", lambda *given: replace(listed(*given), name="../../.a.dcm")
    )
    to, out = read_signer(keys["alice"]).recipient.text, tmp_path / "release"
    primis.share(tmp_path / "a.dcm", out, to=to, owner=signer, model=TINY)
    files = PrimisFileSystem(str(out), str(keys["alice"]))
    assert files.find("") == ["a.dcm"]


WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_opened: list[str] | None = None


def _note_what_is_opened(event: str, given: tuple) -> None:
    if event == "open" and _opened is not None and given[2] & WRITING:
        _opened.append(str(given[0]))


def test_nothing_that_is_decrypted_reaches_the_disk(made, keys, files, tmp_path) -> None:
    """Python tells of every file that it opens, and this process opens none to write."""
    global _opened  # noqa: PLW0603
    sys.addaudithook(_note_what_is_opened)
    dataset = primis.Dataset(made, keys["alice"], models=[TINY])
    files.find("")
    _opened = []
    try:
        assert dataset[0]["image"].any()
        assert files.cat_file("p0/chest.dcm")
        assert _opened == []
        (tmp_path / "seen").write_bytes(b"")
        assert _opened == [str(tmp_path / "seen")]
    finally:
        _opened = None
