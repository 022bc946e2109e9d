"""Buckets that several people change at once, and hosts that lose answers: nothing is lost, nothing
of others is touched, nothing opens with keys that nobody meant to grant."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import primis
from primis.errors import Changed, HostError, OutputError, StoreError
from primis.jobs.add import add
from primis.jobs.rekey import swap
from primis.jobs.rekey.run import rekey
from primis.jobs.restore import restore
from primis.keys.identity import parse_recipient, read_identities, read_signer
from primis.release import publish as publishing
from primis.release.owner import grant
from primis.release.reader import Release
from primis.release.verify import verify
from primis.stores.places import open_store
from tests.conftest import TINY
from tests.hosts import s3_host

pytest.importorskip("obstore")
from primis.stores.bucket import BucketStore


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PRIMIS_WORK", str(tmp_path / "work"))
    with s3_host(monkeypatch) as url:
        yield f"{url}/release"


def share_to(place: str, images: Path, keys, to: str = "alice") -> list:
    recipient = read_signer(keys[to]).recipient.text
    return primis.share(images, place, to=recipient, owner=keys["owner"], model=TINY)


def bob(keys):
    return parse_recipient(f"bob={keys['bob']}")


def is_whole(place: str, keys, out: Path, count: int) -> bool:
    """Everything verifies, nothing lies there besides, and alice opens all of it."""
    release = Release(place)
    found = verify(release)
    results = restore(release, read_identities(keys["alice"]), out, models=(TINY,))
    sound = not found.wrong and not found.unlisted and found.bundles == count
    return sound and [r.error for r in results] == [None] * count


def test_a_grant_made_during_rekey_is_not_lost(bucket, images, keys, signer, tmp_path) -> None:
    share_to(bucket, images, keys)
    made: list[str] = []

    def meanwhile(*progress: object) -> None:
        if not made:
            made.append(grant(Release(bucket), bob(keys), signer))

    with pytest.raises(OutputError, match='granted to "bob" meanwhile'):
        rekey(Release(bucket), signer, progress=meanwhile)
    assert is_whole(bucket, keys, tmp_path / "a", 2)
    assert "bob" in rekey(Release(bucket), signer).renewed
    assert Release(bucket).open_grants(read_identities(keys["bob"]))


def test_a_grant_that_crosses_a_rekey_is_told(bucket, images, keys, signer, monkeypatch) -> None:
    share_to(bucket, images, keys)
    plain = BucketStore.put_new

    def meanwhile(self, key: str, data: bytes) -> None:
        if key.startswith("grants/bob"):
            monkeypatch.setattr(BucketStore, "put_new", plain)
            rekey(Release(bucket), signer)
        plain(self, key, data)

    monkeypatch.setattr(BucketStore, "put_new", meanwhile)
    with pytest.raises(OutputError, match="was given new secrets meanwhile"):
        grant(Release(bucket), bob(keys), signer)
    assert "bob" not in Release(bucket).labels()
    grant(Release(bucket), bob(keys), signer)
    assert Release(bucket).open_grants(read_identities(keys["bob"]))


def test_images_added_while_rekey_removes_the_old_state_stay(
    bucket, images, keys, signer, monkeypatch, tmp_path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, name in ((one, "chest-1.dcm"), (two, "chest-2.dcm")):
        folder.mkdir()
        shutil.copy(images / name, folder)
    share_to(bucket, one, keys)
    plain = publishing.remove_keys

    def meanwhile(*given):
        monkeypatch.setattr(swap, "remove_keys", plain)
        add(Release(bucket), [two], signer, models=(TINY,))
        return plain(*given)

    monkeypatch.setattr(swap, "remove_keys", meanwhile)
    rekey(Release(bucket), signer)
    assert Release(bucket).manifest.version == 3
    assert is_whole(bucket, keys, tmp_path / "out", 2)


def test_files_of_others_are_not_touched(bucket, images, keys, signer) -> None:
    store = open_store(bucket)
    theirs = ("pages/index.html", "bundles/README.txt", "grants/minutes.pdf")
    for key in theirs:
        store.put(key, b"theirs")
    share_to(bucket, images, keys)
    rekey(Release(bucket), signer)
    assert [store.get(key, 10).data for key in theirs] == [b"theirs"] * 3


def test_what_an_abandoned_attempt_left_is_not_published_with_ours(
    bucket, images, keys, monkeypatch, tmp_path
) -> None:
    plain = BucketStore.put_new

    def cut_off(self, key: str, data: bytes) -> None:
        if key == "manifest.json":
            raise KeyboardInterrupt
        plain(self, key, data)

    monkeypatch.setattr(BucketStore, "put_new", cut_off)
    with pytest.raises(KeyboardInterrupt):
        share_to(bucket, images, keys, "bob")
    monkeypatch.setattr(BucketStore, "put_new", plain)
    shutil.rmtree(tmp_path / "work")
    with pytest.raises(OutputError, match="files of another attempt"):
        share_to(bucket, images, keys)
    with pytest.raises(StoreError):
        open_store(bucket).get("manifest.json", 100)


def test_an_answer_that_was_lost_is_no_change_by_somebody_else(
    bucket, images, keys, signer, monkeypatch, tmp_path
) -> None:
    share_to(bucket, images, keys)
    plain = BucketStore.replace

    def lost(self, key: str, data: bytes, tag: str) -> None:
        plain(self, key, data, tag)
        if key == "manifest.json":  # tried again by the library, which then meets its own
            raise Changed(key, "it was changed meanwhile")

    monkeypatch.setattr(BucketStore, "replace", lost)
    assert rekey(Release(bucket), signer).still_there == []
    assert is_whole(bucket, keys, tmp_path / "out", 2)


@pytest.mark.parametrize("committed", [False, True])
def test_a_rekey_whose_host_goes_away_leaves_one_whole_state(
    bucket, images, keys, signer, monkeypatch, tmp_path, committed: bool
) -> None:
    share_to(bucket, images, keys)
    plain = BucketStore.replace

    def goes_away(self, key: str, data: bytes, tag: str) -> None:
        if key != "manifest.json":
            plain(self, key, data, tag)
            return
        if committed:
            plain(self, key, data, tag)
        raise HostError(key, "the host cannot be reached")

    monkeypatch.setattr(BucketStore, "replace", goes_away)
    with pytest.raises(HostError):
        rekey(Release(bucket), signer)
    monkeypatch.setattr(BucketStore, "replace", plain)
    release = Release(bucket)
    assert release.manifest.version == (2 if committed else 1)
    assert (
        len(restore(release, read_identities(keys["alice"]), tmp_path / "o", models=(TINY,))) == 2
    )
    if not committed:
        assert is_whole(bucket, keys, tmp_path / "out", 2)
        assert release.notes == []


def test_a_grant_whose_index_cannot_be_written_is_none(images, keys, signer, tmp_path) -> None:
    share_to(str(tmp_path / "r"), images, keys)
    index = tmp_path / "r/grants/index.json"
    index.unlink()
    index.mkdir()
    with pytest.raises(OutputError):
        grant(Release(tmp_path / "r"), bob(keys), signer)
    assert "bob" not in Release(tmp_path / "r").labels()
