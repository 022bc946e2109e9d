"""`rekey` that is killed at any moment: the same call again goes on, and nothing is lost or opens
with keys that were withdrawn."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import pytest

from primis.errors import BadManifest, NoMatchingGrant, OutputError
from primis.jobs.executors.processes import Processes
from primis.jobs.rekey.run import rekey
from primis.jobs.shards import Shard
from primis.jobs.share.run import share
from primis.keys.grant import read_grant, split_grant
from primis.keys.identity import parse_recipient, read_identities
from primis.release.grants import index_names
from primis.release.owner import grant
from primis.release.reader import Release
from primis.release.verify import verify
from primis.stores.local import LocalStore
from primis.stores.places import open_store
from tests.conftest import SETTINGS, TINY
from tests.hosts import s3_host

PARTIAL = "release.rekey.partial"


@pytest.fixture(scope="session")
def made(tmp_path_factory, images, keys, signer) -> Path:
    """A release of two images, granted whole to Alice and to Bob."""
    out = tmp_path_factory.mktemp("killed") / "release"
    people = [parse_recipient(f"{name}={keys[name]}") for name in ("alice", "bob")]
    share([images], out, people, signer, SETTINGS, model=TINY)
    return out


@pytest.fixture
def release(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "release")
    return tmp_path / "release"


def killed(event: str, pattern: str, work: Callable[[], object]) -> bool:
    """Whether a process that does it ended when it was about to do that to a file."""
    if not (pid := os.fork()):

        def hook(name: str, given: tuple) -> None:
            if name == event and fnmatch(str(given[0]), pattern):
                os._exit(9)

        sys.addaudithook(hook)
        try:
            work()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9


def opens(place: Path | str, key: Path) -> int:
    """How many images a key opens."""
    release = Release(place)
    grants = release.open_grants(read_identities(key))
    return sum(any(g.covers(i) for g in grants) for i in release.ids)


def is_whole(place: Path | str, *keys: Path) -> bool:
    """Everything verifies, nothing lies there besides, and those keys open all of it."""
    found = verify(Release(place))
    sound = not found.wrong and not found.unlisted and found.bundles == 2
    return sound and all(opens(place, key) == 2 for key in keys)


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@needs_fork
@pytest.mark.parametrize(
    ("event", "pattern"),
    [
        ("os.mkdir", f"*/{PARTIAL}"),
        ("os.rename", f"*/{PARTIAL}/grants/.primis-*"),
        ("os.rename", f"*/{PARTIAL}/bundles/.primis-*"),
        ("os.rename", f"*/{PARTIAL}/pages/.primis-*"),
        ("os.rename", f"*/{PARTIAL}/.primis-*"),
        ("os.chmod", f"*/{PARTIAL}/bundles"),
        ("os.remove", f"*/{PARTIAL}/.primis-mark"),
        ("os.rename", "*/release"),
        ("os.rename", f"*/{PARTIAL}"),
        ("os.remove", "*.journal"),
    ],
)
def test_the_same_call_goes_on(release, keys, signer, event: str, pattern: str) -> None:
    assert killed(event, pattern, lambda: rekey(Release(release), signer))
    if not release.exists():
        with pytest.raises(BadManifest, match="was cut off"):
            Release(release)
        next(release.parent.glob("release.*.old")).rename(release)
    assert is_whole(release, keys["alice"], keys["bob"])
    assert rekey(Release(release), signer).still_there == []
    assert is_whole(release, keys["alice"], keys["bob"])
    assert [path.name for path in release.parent.iterdir()] == ["release"]


@needs_fork
def test_an_old_state_that_is_half_removed_is_removed_by_the_next(release, keys, signer) -> None:
    assert killed("os.remove", "manifest.json", lambda: rekey(Release(release), signer))
    [old] = release.parent.glob("release.*.old")
    assert [path.name for path in old.iterdir()] == ["manifest.json"]
    rekey(Release(release), signer)
    assert [path.name for path in release.parent.iterdir()] == ["release"]


@needs_fork
def test_others_are_carried_as_the_call_that_ends_it_asks(release, signer) -> None:
    (release / "notes").mkdir()
    (release / "notes" / "a.txt").write_text("a")

    def call() -> None:
        rekey(Release(release), signer, carry_others=True)

    assert killed("os.remove", f"*/{PARTIAL}/.primis-mark", call)
    call()
    assert (release / "notes" / "a.txt").read_text() == "a"


@needs_fork
def test_others_that_are_left_out_now_are_not_published(release, signer) -> None:
    (release / "notes.txt").write_text("private")
    assert killed(
        "os.remove",
        f"*/{PARTIAL}/.primis-mark",
        lambda: rekey(Release(release), signer, carry_others=True),
    )
    assert rekey(Release(release), signer).left_out == ["notes.txt"]
    assert not (release / "notes.txt").exists()


@needs_fork
def test_who_is_withdrawn_now_cannot_open_what_was_shown_before(release, keys, signer) -> None:
    """The folder can be read by others from the moment when it is finished."""
    assert killed("os.remove", f"*/{PARTIAL}/.primis-mark", lambda: rekey(Release(release), signer))
    [taken] = (release.parent / PARTIAL / "grants").glob("bob.*")
    held = opened_by(taken.read_bytes(), keys["bob"])
    rekey(Release(release), signer, without=["bob"])
    assert held.keys != Release(release).manifest.keys
    assert is_whole(release, keys["alice"])
    with pytest.raises(NoMatchingGrant):
        opens(release, keys["bob"])


@needs_fork
def test_what_was_made_stays_where_more_are_granted_since(release, keys, signer) -> None:
    assert killed("os.remove", f"*/{PARTIAL}/.primis-mark", lambda: rekey(Release(release), signer))
    made = {path.stem for path in (release.parent / PARTIAL / "bundles").iterdir()}
    grant(Release(release), parse_recipient(f"carol={keys['stranger']}"), signer)
    assert rekey(Release(release), signer).renewed == ["alice", "bob", "carol"]
    assert set(Release(release).ids) == made


def test_the_index_of_grants_is_there_where_all_were_withdrawn(release, signer) -> None:
    """Hosts that list no folders tell by it which grants there are."""
    assert rekey(Release(release), signer, without=["alice", "bob"]).renewed == []
    [owners] = (release / "grants").glob("*.age")
    assert index_names(LocalStore(release)) == [owners.name]


def test_a_folder_that_rekey_did_not_make_is_not_removed(release, signer) -> None:
    mine = release.parent / PARTIAL
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="has no journal"):
        rekey(Release(release), signer)
    assert (mine / "thesis.txt").exists()


def opened_by(data: bytes, key: Path):
    """The grant in a file, as a key opens it."""
    [identity] = read_identities(key)
    return read_grant(split_grant(identity.decrypt(data), "it"), "it")


@needs_fork
@pytest.mark.parametrize(
    ("event", "pattern"),
    [
        ("os.mkdir", f"*/{PARTIAL}"),
        ("os.rename", f"*/{PARTIAL}/grants/.primis-*"),
        ("os.rename", f"*/{PARTIAL}/bundles/.primis-*"),
        ("open", f"*/{PARTIAL}.journal-1-of-2"),
    ],
)
def test_a_shard_goes_on(release, keys, signer, event: str, pattern: str) -> None:
    def call(number: int) -> None:
        rekey(Release(release), signer, shard=Shard(number, 2))

    assert killed(event, pattern, lambda: call(1))
    assert is_whole(release, keys["alice"], keys["bob"])
    for number in (2, 1):
        call(number)
    rekey(Release(release), signer, finish=True)
    assert is_whole(release, keys["alice"], keys["bob"])
    assert [path.name for path in release.parent.iterdir()] == ["release"]


@needs_fork
@pytest.mark.parametrize(
    ("event", "pattern"),
    [
        ("os.rename", f"*/{PARTIAL}/pages/.primis-*"),
        ("os.rename", f"*/{PARTIAL}/.primis-*"),
        ("os.remove", f"*/{PARTIAL}/.primis-mark"),
        ("os.rename", f"*/{PARTIAL}"),
    ],
)
def test_the_last_call_of_shards_goes_on(release, keys, signer, event: str, pattern: str) -> None:
    for number in (2, 1):
        rekey(Release(release), signer, shard=Shard(number, 2))
    made = {path.name for path in (release.parent / PARTIAL / "bundles").iterdir()}
    assert killed(event, pattern, lambda: rekey(Release(release), signer, finish=True))
    if not release.exists():
        next(release.parent.glob("release.*.old")).rename(release)
    assert is_whole(release, keys["alice"], keys["bob"])
    rekey(Release(release), signer, finish=True)
    assert is_whole(release, keys["alice"], keys["bob"])
    assert {path.name for path in (release / "bundles").iterdir()} == made
    assert [path.name for path in release.parent.iterdir()] == ["release"]


# on a host


@pytest.fixture
def bucket(made: Path, tmp_path: Path, monkeypatch):
    pytest.importorskip("obstore")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PRIMIS_WORK", str(tmp_path / "work"))
    with s3_host(monkeypatch) as url:
        store = open_store(f"{url}/release")
        for path in filter(Path.is_file, made.rglob("*")):
            store.put(path.relative_to(made).as_posix(), path.read_bytes())
        yield f"{url}/release"


class Killed(BaseException):
    """The process is gone: nothing else is asked of the host."""


def rekey_killed_at(part: str, place: str, signer) -> None:
    """A call that ends when it is about to send the first file of a part, as if it were killed."""
    from primis.stores.bucket import BucketStore

    gone = False

    def guarded(plain):
        def call(self, key: str, *given):
            nonlocal gone
            gone = gone or key.startswith(part)
            if gone:
                raise Killed
            return plain(self, key, *given)

        return call

    with pytest.MonkeyPatch.context() as patched:
        for name in ("put", "put_new", "replace", "delete"):
            patched.setattr(BucketStore, name, guarded(getattr(BucketStore, name)))
        with pytest.raises(Killed):
            rekey(Release(place), signer)


def test_shards_of_a_release_on_a_host(bucket, keys, signer, tmp_path) -> None:
    """They meet in the folder that PRIMIS_WORK names."""
    for number in (2, 1):
        rekey(Release(bucket), signer, shard=Shard(number, 2), executor=Processes(2))
    assert Release(bucket).manifest.version == 1
    assert rekey(Release(bucket), signer, finish=True).images == 2
    assert Release(bucket).manifest.version == 2
    assert is_whole(bucket, keys["alice"], keys["bob"])
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize("part", ["bundles", "pages", "grants", "manifest.json"])
def test_what_was_sent_to_a_host_before_is_not_removed_as_old(
    bucket, keys, signer, part: str
) -> None:
    rekey_killed_at(part, bucket, signer)
    assert Release(bucket).manifest.version == 1
    assert opens(bucket, keys["alice"]) == 2
    assert rekey(Release(bucket), signer).still_there == []
    assert Release(bucket).manifest.version == 2
    assert is_whole(bucket, keys["alice"], keys["bob"])


def test_who_is_withdrawn_now_cannot_open_what_was_sent_before(bucket, keys, signer) -> None:
    """Whatever a host was sent, anyone may have fetched."""
    rekey_killed_at("manifest.json", bucket, signer)
    store = open_store(bucket)
    taken = [store.get(f"grants/{n}", 1 << 20).data for n in store.list("grants") if "bob" in n]
    assert len(taken) == 2
    rekey(Release(bucket), signer, without=["bob"])
    after = Release(bucket).manifest.keys
    assert [opened_by(data, keys["bob"]).keys == after for data in taken] == [False, False]
    assert is_whole(bucket, keys["alice"])
