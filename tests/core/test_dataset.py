"""A data set of a release without any training library: order, items, and what a pickle holds."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile

import primis
from primis.errors import UnexpectedRelease
from primis.imaging.phantom import draw_phantom, phantom_dicom
from primis.keys.identity import read_identities, read_signer
from tests.conftest import TINY

NAMES = ["a.dcm", "b.dcm", "c.dcm", "z/stack.tif"]


@pytest.fixture(autouse=True)
def nothing_remembered(tmp_path, monkeypatch) -> None:
    """Each test may take a copy of the release to another version."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture(scope="module")
def made(keys, tmp_path_factory) -> Path:
    """A release of three radiographs and a stack, two of them with labels."""
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "in" / "z").mkdir(parents=True)
    for seed, name in ((1, "c.dcm"), (2, "a.dcm"), (3, "b.dcm")):
        (folder / "in" / name).write_bytes(phantom_dicom(64, seed=seed))
    stack = np.stack([draw_phantom(64, seed=seed) for seed in (4, 5)])
    tifffile.imwrite(folder / "in" / NAMES[3], stack, photometric="minisblack")
    table = folder / "table.csv"
    table.write_text("file,label,patient\na.dcm,normal,1\nz/stack.tif,viral,\n")
    primis.share(
        folder / "in",
        folder / "release",
        to=read_signer(keys["alice"]).recipient.text,
        owner=keys["owner"],
        model=TINY,
        measure=False,
        labels=table,
    )
    return folder / "release"


@pytest.fixture
def dataset(made: Path, keys) -> primis.Dataset:
    return primis.Dataset(made, keys["alice"], models=[TINY])


def test_items_are_arrays_names_and_labels_in_the_order_of_names(dataset, made, keys) -> None:
    assert (len(dataset), dataset.names) == (4, NAMES)
    assert dataset.labels == [
        {"label": "normal", "patient": "1"},
        {"label": "", "patient": ""},
        {"label": "", "patient": ""},
        {"label": "viral", "patient": ""},
    ]
    first, last = dataset[0], dataset[-1]
    assert (first["name"], first["labels"]) == ("a.dcm", dataset.labels[0])
    assert (first["image"].dtype, first["image"].shape) == (np.float32, (1, 64, 64))
    assert last["image"].shape == (1, 2, 64, 64)
    release = primis.open(made, keys["alice"], models=[TINY])
    assert (first["image"][0] == release["a.dcm"].read().pixels[0, ..., 0]).all()
    assert [item["name"] for item in dataset] == NAMES
    with pytest.raises(IndexError):
        dataset[4]


def test_codes_take_the_place_of_pixels(made, keys) -> None:
    codes = primis.Dataset(made, keys["alice"], item="codes", models=[TINY])
    release = primis.open(made, keys["alice"], models=[TINY])
    assert (codes[0]["image"].dtype, codes[0]["image"].shape) == (np.float32, (256, 4, 4))
    assert codes[3]["image"].shape == (256, 2, 4, 4)
    stack = release[NAMES[3]].codes().values()
    assert (codes[3]["image"][:, 1] == stack[1, 0]).all()
    preview = primis.Dataset(made, keys["alice"], item="codes", tier="preview", models=[TINY])
    assert preview[0]["image"].shape == (release["a.dcm"].codes("preview").shape[2], 4, 4)


def test_a_transform_is_given_the_whole_item(made, keys) -> None:
    told = primis.Dataset(
        made,
        keys["alice"],
        models=[TINY],
        images=["c.dcm", "a.dcm"],
        transform=lambda item: (item["name"], item["labels"]["label"]),
    )
    assert list(told) == [("c.dcm", ""), ("a.dcm", "normal")]


def test_the_order_is_the_same_after_a_rekey(made, keys, tmp_path) -> None:
    shutil.copytree(made, again := tmp_path / "release")
    before = primis.Dataset(again, keys["alice"], models=[TINY])
    sent = pickle.dumps(before)
    primis.rekey(again, owner=keys["owner"])
    after = primis.Dataset(again, keys["alice"], models=[TINY])
    assert after.names == pickle.loads(sent).names == before.names
    assert (after[2]["image"] == pickle.loads(sent)[2]["image"]).all()


def _name_and_process(dataset: primis.Dataset) -> tuple[str, float, int]:
    item = dataset[1]
    return item["name"], float(item["image"].sum()), os.getpid()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_another_process_opens_it_for_itself(dataset, method: str) -> None:
    name, total, here = _name_and_process(dataset)
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        other = pool.submit(_name_and_process, dataset).result(120)
    assert other[:2] == (name, total)
    assert other[2] != here


def test_a_pickle_holds_where_keys_lie_and_none_of_them(dataset, made, keys) -> None:
    sent = pickle.dumps(dataset)
    secret = keys["alice"].read_text().splitlines()[-1]
    grant = primis.open(made, keys["alice"], models=[TINY])._opened.grants[0]
    assert str(keys["alice"]).encode() in sent
    for hidden in (secret.encode(), grant.secret.value, b"AGE-SECRET", b"a.dcm", b"normal"):
        assert hidden not in sent
    [parsed] = read_identities(keys["alice"])
    unsendable = primis.Dataset(made, parsed, models=[TINY])
    assert unsendable.names == NAMES
    with pytest.raises(primis.PrimisError, match="the path of a key file"):
        pickle.dumps(unsendable)
    assert repr(dataset) == "Dataset(4 images, tier diagnostic, pixels)"


def test_another_release_in_the_same_place_is_not_taken_for_it(dataset, made, keys, tmp_path):
    shutil.copytree(made, moved := tmp_path / "release")
    sent = pickle.dumps(primis.Dataset(moved, keys["alice"], models=[TINY]))
    shutil.rmtree(moved)
    (tmp_path / "d.dcm").write_bytes(phantom_dicom(64))
    to = read_signer(keys["alice"]).recipient.text
    primis.share(tmp_path / "d.dcm", moved, to=to, owner=keys["owner"], model=TINY)
    with pytest.raises(UnexpectedRelease, match="another release"):
        pickle.loads(sent)[0]


def test_images_that_were_added_are_noticed(made, keys, signer, tmp_path) -> None:
    from primis.jobs.add import add
    from primis.release.reader import Release

    shutil.copytree(made, grown := tmp_path / "release")
    sent = pickle.dumps(primis.Dataset(grown, keys["alice"], models=[TINY]))
    (tmp_path / "d.dcm").write_bytes(phantom_dicom(64))
    add(Release(grown), [tmp_path / "d.dcm"], signer, models=(TINY,))
    with pytest.raises(UnexpectedRelease, match="5 images, expected 4"):
        pickle.loads(sent)[0]


def test_a_preview_grant_is_learnt_from_without_names(made, keys, tmp_path, signer) -> None:
    shutil.copytree(made, again := tmp_path / "release")
    primis.grant(again, to=read_signer(keys["bob"]).recipient.text, tier="preview", owner=signer)
    dataset = primis.Dataset(again, keys["bob"], tier="preview", models=[TINY])
    assert dataset.names == sorted(dataset.names)
    assert dataset[0]["labels"] == {}
    assert sorted(item["image"].size for item in dataset) == [4096, 4096, 4096, 8192]


@pytest.mark.parametrize(
    ("given", "why"),
    [({"tier": "original"}, "files"), ({"item": "masks"}, "masks"), ({"identity": "x"}, "belong")],
)
def test_what_makes_no_sense_is_refused(made, keys, given, why) -> None:
    release = primis.open(made, keys["alice"], models=[TINY])
    with pytest.raises((primis.PrimisError, ValueError), match=why):
        primis.Dataset(release, **given)
    with pytest.raises(KeyError, match=r"e\.dcm"):
        primis.Dataset(release, images=["e.dcm"])
