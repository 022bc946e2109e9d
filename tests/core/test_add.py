"""A release that grows."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from primis.errors import OutputError, UsageError, WrongSigner
from primis.imaging.phantom import phantom_dicom
from primis.jobs import add as adding
from primis.jobs.add import add
from primis.jobs.rekey.run import rekey
from primis.jobs.restore import restore
from primis.jobs.share.run import share
from primis.keys.identity import parse_recipient, read_identities, read_signer
from primis.release.owner import grant
from primis.release.reader import Release
from tests.conftest import SETTINGS, TINY


@pytest.fixture(scope="module")
def made(images, signer, keys, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("add") / "release"
    to = [parse_recipient(f"alice={keys['alice']}")]
    share([images], out, to, signer, SETTINGS, model=TINY)
    return out


@pytest.fixture
def release(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "release"))


@pytest.fixture
def more(tmp_path) -> Path:
    folder = tmp_path / "more"
    folder.mkdir()
    for seed in (3, 4):
        (folder / f"chest-{seed}.dcm").write_bytes(phantom_dicom(80, seed=seed))
    return folder


def names(release: Path, key: Path, out: Path) -> set[str]:
    results = restore(Release(release), read_identities(key), out, models=(TINY,))
    assert all(r.error is None for r in results)
    return {r.name for r in results}


def test_images_are_added_for_who_holds_the_whole(release, more, signer, keys, tmp_path) -> None:
    before = Release(release)
    grant(before, parse_recipient(f"bob={keys['bob']}"), signer, images=before.ids[:1])
    results = add(before, [more], signer, models=(TINY,))
    assert [r.error for r in results] == [None, None]
    after = Release(release)
    assert (after.manifest.version, len(after)) == (2, 4)
    assert after.manifest.release == before.manifest.release
    assert set(before.ids) < set(after.ids)
    every = {f"chest-{k}.dcm" for k in (1, 2, 3, 4)}
    assert names(release, keys["alice"], tmp_path / "a") == every
    assert len(names(release, keys["bob"], tmp_path / "b")) == 1
    assert {p.name for p in release.parent.iterdir()} == {"release", "more", "a", "b"}
    assert len(list((release / "pages").iterdir())) == 2
    times = {(release / "bundles" / f"{r.id}.primis").stat().st_mtime for r in results}
    assert len(times) == 1


def test_names_that_are_there_are_told_and_left_alone(release, more, images, signer) -> None:
    results = add(Release(release), [images, more], signer, models=(TINY,))
    refused = {r.name for r in results if r.error}
    assert refused == {"chest-1.dcm", "chest-2.dcm"}
    assert "already" in str(next(r.error for r in results if r.error))
    with pytest.raises(UsageError, match="no image could be added"):
        add(Release(release), [more], signer, models=(TINY,))
    assert len(Release(release)) == 4


def test_what_was_cut_off_goes_on_and_leaves_nothing(
    release, more, signer, keys, tmp_path, monkeypatch
) -> None:
    def stop(result, done, total):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add(Release(release), [more], signer, models=(TINY,), on_result=stop)
    assert len(Release(release)) == 2
    with monkeypatch.context() as patch:
        patch.setattr(adding, "write_contents", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        resumed = []
        with pytest.raises(KeyboardInterrupt):
            add(
                Release(release),
                [more],
                signer,
                models=(TINY,),
                on_result=lambda result, *_: resumed.append(result.resumed),
            )
        assert sorted(resumed) == [False, True]
    assert len(names(release, keys["alice"], tmp_path / "two")) == 2
    add(Release(release), [more], signer, models=(TINY,))
    assert len(names(release, keys["alice"], tmp_path / "four")) == 4
    assert len(list((release / "bundles").iterdir())) == 4
    assert not list(release.parent.glob("*.partial*"))


def test_only_the_owner_adds_and_not_under_old_secrets(release, more, signer, keys) -> None:
    with pytest.raises(WrongSigner):
        add(Release(release), [more], read_signer(keys["bob"]), models=(TINY,))
    old = Release(release)

    def meanwhile(result, done, total):
        if done == 1:
            rekey(Release(release), signer)

    with pytest.raises(OutputError, match="new secrets meanwhile"):
        add(old, [more], signer, models=(TINY,), on_result=meanwhile)
    assert len(Release(release)) == 2


def test_rekey_keeps_what_was_added(release, more, signer, keys, tmp_path) -> None:
    add(Release(release), [more], signer, models=(TINY,))
    rekey(Release(release), signer)
    assert len(names(release, keys["alice"], tmp_path / "out")) == 4
