"""What others may do around a release: plant, replace, race, interrupt."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from primis.bundle.manifest import Listing, list_bundles
from primis.errors import (
    BadBundle,
    BadGrant,
    BadManifest,
    OutputError,
    TooManyPixels,
    UnexpectedRelease,
    UsageError,
    WrongSigner,
)
from primis.imaging.image import reading_up_to
from primis.imaging.phantom import phantom_dicom
from primis.jobs import restore as restoring
from primis.jobs.add import add
from primis.jobs.rekey import run as rekeying
from primis.jobs.rekey import swap, task
from primis.jobs.rekey.run import rekey
from primis.jobs.share import run as sharing
from primis.keys.identity import parse_recipient, read_identities, read_signer
from primis.keys.tier import Tier
from primis.release.grants import Scope, owner_grant, write_grant
from primis.release.known import KnownReleases
from primis.release.lock import locked
from primis.release.owner import grant, owner_scope
from primis.release.reader import Release
from primis.release.writer import write_manifest
from primis.sharing.opened import OpenedBundle
from primis.sharing.restore import read_image
from primis.stores.local import LocalStore
from tests.conftest import SETTINGS, TINY


@pytest.fixture(scope="session")
def made(tmp_path_factory, images, keys, signer) -> Path:
    """A release of two images, granted whole to Alice."""
    out = tmp_path_factory.mktemp("safe") / "release"
    alice = parse_recipient(f"alice={keys['alice']}")
    sharing.share([images], out, [alice], signer, SETTINGS, model=TINY)
    return out


@pytest.fixture
def release(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "release")
    return tmp_path / "release"


def opens(release: Path, key: Path) -> int:
    """How many images a key opens."""
    opened = Release(release)
    grants = opened.open_grants(read_identities(key))
    return sum(any(g.covers(i) for g in grants) for i in opened.ids if opened.bundle(i))


def lone_neighbour(release: Path) -> bool:
    """Whether nothing was left beside the release."""
    return [path.name for path in release.parent.iterdir() if "release" in path.name] == ["release"]


# one writer at a time


def _rekey_at_once(path: Path, key: Path, barrier) -> None:
    signer, opened = read_signer(key), Release(path)
    barrier.wait()
    rekey(opened, signer)


def _grant_at_once(path: Path, key: Path, to: str, barrier) -> None:
    signer, opened = read_signer(key), Release(path)
    barrier.wait()
    grant(opened, parse_recipient(to), signer)


@pytest.mark.parametrize("tries", [5, pytest.param(100, marks=pytest.mark.slow)])
def test_two_rekeys_and_a_grant_at_once_lose_nothing(made, keys, tmp_path, tries: int) -> None:
    spawn = multiprocessing.get_context("fork")
    for number in range(tries):
        path = tmp_path / f"{number}" / "release"
        shutil.copytree(made, path)
        barrier = spawn.Barrier(3)
        work = [(_rekey_at_once, (path, keys["owner"], barrier))] * 2
        work.append((_grant_at_once, (path, keys["owner"], f"bob={keys['bob']}", barrier)))
        processes = [spawn.Process(target=target, args=args) for target, args in work]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0, 0, 0]
        assert Release(path).manifest.version == 3
        assert opens(path, keys["alice"]) == opens(path, keys["bob"]) == 2
        assert lone_neighbour(path)


def test_a_lock_says_who_holds_it_and_ends_with_its_holder(tmp_path) -> None:
    folder, waited = tmp_path / "r", []
    with locked(folder, "primis share"):
        holder = rf'"primis share", process {os.getpid()} on '
        with pytest.raises(OutputError, match=holder), locked(folder, "primis share"):
            pass
        waiting = threading.Thread(target=lambda: _wait_for(folder, waited))
        waiting.start()
        while not waited:
            pass
    waiting.join()
    assert waited == [waited[0], "held"]
    assert not list(tmp_path.iterdir())


def _wait_for(folder: Path, waited: list[str]) -> None:
    with locked(folder, "primis rekey", on_wait=waited.append):
        waited.append("held")


@pytest.mark.parametrize("lay", [os.link, os.rename])
def test_nothing_but_a_lock_is_taken_for_one(tmp_path, lay) -> None:
    """A lock is written to; the owner's key, laid there as a hard link, would be lost."""
    precious, kept = tmp_path / "owner.key", tmp_path / "kept"
    precious.write_text("secret")
    os.link(precious, kept)
    lay(precious, tmp_path / ".r.primis-lock")
    with pytest.raises(OutputError, match="no lock of primis"), locked(tmp_path / "r", "x"):
        pass
    assert kept.read_text() == "secret"


def test_a_place_that_anybody_may_change_is_refused(tmp_path) -> None:
    """Whoever may rename there puts another folder in the place of ours while we write."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(OutputError, match="anybody may write in"), locked(tmp_path / "open/r", "x"):
        pass
    (tmp_path / "open").chmod(0o1777)
    with locked(tmp_path / "open/r", "x"):
        pass


def test_a_lock_follows_no_link(tmp_path) -> None:
    precious = tmp_path / "owner.key"
    precious.write_text("secret")
    (tmp_path / ".r.primis-lock").symlink_to(precious)
    with pytest.raises(OutputError, match="cannot be locked"), locked(tmp_path / "r", "x"):
        pass
    assert precious.read_text() == "secret"
    (tmp_path / ".r.primis-lock").unlink()
    os.mkfifo(tmp_path / ".r.primis-lock")
    with pytest.raises(OutputError, match="no lock of primis"), locked(tmp_path / "r", "x"):
        pass


def test_two_shares_to_one_place_do_not_mix(images, signer, tmp_path) -> None:
    with locked(tmp_path / "r", "primis share"), pytest.raises(OutputError, match="is being chan"):
        sharing.share([images], tmp_path / "r", [], signer, SETTINGS, model=TINY)


# rekey


def test_rekey_writes_through_nothing_that_others_laid(release, keys, signer) -> None:
    """Its folder has a name that anyone can foretell, and lay a link there."""
    home, link = release.parent / "home", release.parent / "release.rekey.partial"
    home.mkdir()
    (home / "manifest.json").write_text("precious")
    link.symlink_to(home)
    with pytest.raises(OutputError, match="is a link or a device, expected your own"):
        rekey(Release(release), signer)
    link.unlink()
    rekey(Release(release), signer)
    assert [path.name for path in home.iterdir()] == ["manifest.json"]
    assert (home / "manifest.json").read_text() == "precious"
    assert opens(release, keys["alice"]) == 2
    assert not (release / "bundles").is_symlink()


def test_rekey_goes_on_with_nothing_that_another_began(release, keys, signer) -> None:
    """Under secrets of theirs all would be open to them."""

    def stop(*progress: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rekey(Release(release), signer, progress=stop)
    theirs = owner_grant(Scope.new(Release(release).manifest.release), signer)
    place = LocalStore(release.parent / "release.rekey.partial")
    next((place.folder / "grants").glob("owner.*")).unlink()
    write_grant(place, theirs, signer.recipient, read_signer(keys["stranger"]))
    with pytest.raises(OutputError, match="was not begun with your key"):
        rekey(Release(release), signer)
    assert opens(release, keys["alice"]) == 2


def test_rekey_goes_on_where_it_was_interrupted(release, keys, signer) -> None:
    before, seen = Release(release).ids, list[tuple[str, int, int]]()

    def stop(what: str, done: int, total: int) -> None:
        if (what, done) == ("sealing anew", 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rekey(Release(release), signer, progress=stop)
    assert Release(release).ids == before
    assert opens(release, keys["alice"]) == 2
    [made] = (release.parent / "release.rekey.partial" / "bundles").iterdir()
    rekey(Release(release), signer, progress=lambda *told: seen.append(told))
    assert [told for told in seen if told[0] == "sealing anew"] == [("sealing anew", 1, 2)]
    assert made.stem in Release(release).ids
    assert not set(before) & set(Release(release).ids)
    assert opens(release, keys["alice"]) == 2
    assert lone_neighbour(release)


def test_a_rekey_of_another_state_is_begun_anew(release, keys, signer, tmp_path) -> None:
    def stop(what: str, done: int, total: int) -> None:
        if (what, done) == ("sealing anew", 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rekey(Release(release), signer, progress=stop)
    [made] = (release.parent / "release.rekey.partial" / "bundles").iterdir()
    (tmp_path / "more.dcm").write_bytes(phantom_dicom(48, seed=9))
    add(Release(release), [tmp_path / "more.dcm"], signer, models=(TINY,))
    rekey(Release(release), signer)
    assert made.stem not in Release(release).ids
    assert opens(release, keys["alice"]) == 3


def test_rekey_that_fails_leaves_the_old_release_and_nothing_else(
    release, keys, signer, monkeypatch
) -> None:
    before = {p: p.read_bytes() for p in release.rglob("*") if p.is_file()}

    def torn(*what, **how):
        raise BadBundle("torn")

    monkeypatch.setattr(rekeying._New, "require_whole", torn)
    with pytest.raises(BadBundle):
        rekey(Release(release), signer)
    assert {p: p.read_bytes() for p in release.rglob("*") if p.is_file()} == before
    assert lone_neighbour(release)


def test_rekey_reads_back_what_it_wrote(release, signer, monkeypatch) -> None:
    write_new = task.write_new

    def lossy(path: Path, data: bytes, **how: bool) -> None:
        write_new(path, data[:-1], **how)

    monkeypatch.setattr(task, "write_new", lossy)
    with pytest.raises(BadBundle, match="bytes, the manifest lists"):
        rekey(Release(release), signer)


def test_what_a_killed_rekey_left_is_named_and_removed_by_the_next(release, keys, signer) -> None:
    old, mine = release.parent / "release.0123abcd.old", release.parent / "release.20251126.old"
    shutil.copytree(release, old)
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    [said] = Release(release).notes
    assert str(old) in said
    assert "opens with withdrawn keys" in said
    rekey(Release(release), signer)
    assert not old.exists()
    assert (mine / "thesis.txt").exists()
    assert Release(release).notes == []


def test_another_release_that_was_put_aside_is_no_rekey_s_to_remove(
    release, images, keys, signer
) -> None:
    aside = release.parent / "release.0123abcd.old"
    release.rename(aside)  # as a rekey that was killed between two renames leaves it
    with pytest.raises(OutputError, match=r'rename ".*0123abcd.old" to "release"'):
        sharing.share([images], release, [], signer, SETTINGS, model=TINY)
    sharing.share([images], release.parent / "new", [], signer, SETTINGS, model=TINY)
    (release.parent / "new").rename(release)
    rekey(Release(release), signer)
    assert opens(aside, keys["alice"]) == 2


def test_rekey_that_cannot_remove_the_old_folder_says_so(release, signer, monkeypatch) -> None:
    monkeypatch.setattr(swap, "remove_folder", lambda folder: False)
    done = rekey(Release(release), signer)
    [still] = done.still_there
    assert Path(still).name.endswith(".old")
    assert str(still) in Release(release).notes[0]


def test_an_id_lives_through_rekey_and_its_version_grows(release, signer) -> None:
    before = Release(release).manifest
    rekey(Release(release), signer)
    after = Release(release).manifest
    assert (after.release, after.version) == (before.release, before.version + 1)
    assert after.keys != before.keys


# trust on first use


def open_known(release: Path, known: KnownReleases, **how: object) -> list[str]:
    return Release(release, known=known, **how).notes  # type: ignore[arg-type]


@pytest.fixture
def known(tmp_path: Path) -> KnownReleases:
    return KnownReleases(tmp_path / "config" / "known_releases.json")


def test_the_first_signer_is_said_and_remembered(release, known, signer, tmp_path) -> None:
    [said] = open_known(release, known)
    assert "first time" in said
    assert signer.public in said
    assert open_known(release, known) == []
    stored = tmp_path / "config" / "known_releases.json"
    assert stored.stat().st_mode & 0o777 == 0o600


def test_another_signer_is_refused_until_it_is_named(release, known, keys, signer) -> None:
    """Whoever stores a release deletes the grants and seals new ones to the recipients."""
    open_known(release, known)
    mallory = read_signer(keys["stranger"])
    shutil.rmtree(release)
    images = release.parent / "theirs"
    images.mkdir()
    (images / "x.dcm").write_bytes(phantom_dicom(48, seed=5))
    alice = parse_recipient(f"alice={keys['alice']}")
    sharing.share([images], release, [alice], mallory, SETTINGS, model=TINY)
    with pytest.raises(UnexpectedRelease, match=rf"since \d{{4}}-.*{signer.public}"):
        open_known(release, known)
    with pytest.raises(WrongSigner):
        open_known(release, known, signer=signer.public)
    open_known(release, known, signer=mallory.public)  # asked for by name
    assert open_known(release, known) == []


def test_a_copy_elsewhere_under_another_signature_is_refused(release, known, keys) -> None:
    open_known(release, known)
    copy = release.parent / "mirror"
    shutil.copytree(release, copy)
    write_manifest(copy, Release(copy).manifest, read_signer(keys["stranger"]))
    with pytest.raises(UnexpectedRelease):
        open_known(copy, known)
    open_known(copy, known, anew=True)
    assert open_known(copy, known) == []  # accepted once and for all
    with pytest.raises(UnexpectedRelease):
        open_known(release, known)


def test_an_older_state_and_a_fork_are_refused_until_accepted(release, known, signer) -> None:
    old = release.parent / "kept"
    shutil.copytree(release, old)
    rekey(Release(release), signer)
    open_known(release, known)
    shutil.rmtree(release)
    shutil.copytree(old, release)
    with pytest.raises(UnexpectedRelease, match="older state, version 1; version 2 was seen on"):
        open_known(release, known)
    assert open_known(release, known, anew=True) == []
    assert open_known(release, known) == []
    manifest = Release(release).manifest
    write_manifest(release, replace(manifest, created="2020-01-01T00:00:00Z"), signer)
    with pytest.raises(UnexpectedRelease, match="version 1 with other content"):
        open_known(release, known)


def test_rekey_of_the_owner_takes_no_older_state(release, known, signer) -> None:
    """It would renew the grants that were withdrawn since."""
    old = release.parent / "kept"
    shutil.copytree(release, old)
    rekey(Release(release, known=known), signer)
    shutil.rmtree(release)
    shutil.copytree(old, release)
    with pytest.raises(UnexpectedRelease):
        rekey(Release(release, known=known), signer)


def test_a_damaged_memory_is_no_empty_one(release, known, tmp_path) -> None:
    open_known(release, known)
    (tmp_path / "config" / "known_releases.json").write_text("{")
    with pytest.raises(OutputError, match="is damaged"):
        open_known(release, known)


def test_a_link_to_another_folder_is_still_the_same_place(release, known, images, keys) -> None:
    current = release.parent / "current"
    current.symlink_to(release)
    open_known(current, known)
    other = release.parent / "theirs"
    alice, mallory = parse_recipient(f"alice={keys['alice']}"), read_signer(keys["stranger"])
    sharing.share([images], other, [alice], mallory, SETTINGS, model=TINY)
    current.unlink()
    current.symlink_to(other)
    with pytest.raises(UnexpectedRelease):
        open_known(current, known)


def test_another_signer_s_release_does_not_make_an_older_state_forgotten(
    release, known, keys, signer
) -> None:
    kept, mallory = release.parent / "kept", read_signer(keys["stranger"])
    shutil.copytree(release, kept)
    rekey(Release(release), signer)
    open_known(release, known)
    theirs = release.parent / "theirs"
    shutil.copytree(kept, theirs)
    write_manifest(theirs, Release(theirs).manifest, mallory)
    with pytest.raises(UnexpectedRelease):
        open_known(theirs, known)
    open_known(theirs, known, signer=mallory.public)
    with pytest.raises(UnexpectedRelease, match="older state"):
        open_known(kept, known, signer=signer.public)


def test_what_cannot_be_remembered_is_still_compared(release, known, keys, tmp_path) -> None:
    open_known(release, known)
    file = tmp_path / "config" / "known_releases.json"
    before = file.read_bytes()
    read_only = KnownReleases(file, read_only=True)
    assert open_known(release, read_only) == []
    write_manifest(release, Release(release).manifest, read_signer(keys["stranger"]))
    with pytest.raises(UnexpectedRelease):
        open_known(release, read_only)
    assert file.read_bytes() == before


# grants, files and sizes of others


def test_a_damaged_grant_stops_nobody_and_is_named(release, keys) -> None:
    [path] = (release / "grants").glob("owner.*")
    path.write_bytes(path.read_bytes()[:-1])
    opened = Release(release)
    assert len(opened.open_grants(read_identities(keys["alice"]))) == 1
    assert str(path) in opened.notes[0]
    assert "altered" in opened.notes[0]


def test_a_grant_for_another_key_does_not_count(release, keys, signer) -> None:
    """A recipient could seal what was granted to them to others, under the owner's signature."""
    opened = Release(release)
    [alices] = opened.open_grants(read_identities(keys["alice"]))
    bob = parse_recipient(f"bob={keys['bob']}")
    data = alices.seal(bob, signer)
    [path] = (release / "grants").glob("alice.*")
    path.unlink()
    name = f"alice.{hashlib.sha256(data).hexdigest()[:8]}.age"
    (release / "grants" / name).write_bytes(data)
    with pytest.raises(Exception, match="no grant for the key offered"):
        Release(release).open_grants(read_identities(keys["bob"]))


def test_a_grant_is_not_parsed_before_its_signature_is_verified(release, keys, monkeypatch) -> None:
    """Anyone can seal megabytes of JSON to a public key."""
    alice = parse_recipient(f"alice={keys['alice']}")
    data = alice.encrypt(b"a" * 64 + b" " + b"b" * 128 + b"\n[" + b"{}," * 1000)
    [path] = (release / "grants").glob("alice.*")
    path.unlink()
    name = f"alice.{hashlib.sha256(data).hexdigest()[:8]}.age"
    (release / "grants" / name).write_bytes(data)
    opened = Release(release)
    monkeypatch.setattr(json, "loads", lambda *a: pytest.fail("parsed before it was verified"))
    with pytest.raises(BadGrant, match="not signed"):
        opened.open_grants(read_identities(keys["alice"]))


def test_grants_of_many_bytes_are_passed_over(release, keys, monkeypatch) -> None:
    monkeypatch.setattr("primis.release.grants._MAX_ALL_GRANTS", 1500)
    opened = Release(release)
    assert len(opened.grants()) == 1
    assert "passed over" in opened.notes[0]


def test_too_many_grants_are_refused(release, keys, monkeypatch) -> None:
    monkeypatch.setattr("primis.release.grants._MAX_GRANTS", 1)
    with pytest.raises(BadGrant, match="has 2 grants, expected at most 1"):
        Release(release).grants()


@pytest.mark.parametrize("odd", ["fifo", "endless"])
def test_what_never_ends_is_not_read(release, keys, odd: str) -> None:
    bundle = next((release / "bundles").iterdir())
    for path in (release / "manifest.json", bundle):
        kept = path.read_bytes()
        path.unlink()
        os.mkfifo(path) if odd == "fifo" else path.symlink_to("/dev/zero")
        with pytest.raises((BadManifest, BadBundle), match="no regular file"):
            Release(release).bundle(bundle.stem)
        path.unlink()
        path.write_bytes(kept)


def test_an_unsigned_manifest_is_not_parsed(release, monkeypatch) -> None:
    path = release / "manifest.json"
    line, _, _ = path.read_bytes().partition(b"\n")
    path.write_bytes(line + b"\n[" + b"[" * 1000)
    monkeypatch.setattr(json, "loads", lambda *a: pytest.fail("parsed before it was verified"))
    with pytest.raises(BadManifest, match="does not verify"):
        Release(release)


def test_a_bundle_under_another_id_is_refused(release, keys, signer) -> None:
    opened = Release(release)
    one, other = opened.ids
    data = opened.bundle(other)
    (release / "bundles" / f"{one}.primis").write_bytes(data)
    entries = dict(opened.entries)
    entries[one] = entries[other]._replace(id=one)
    tree = list_bundles(entries.values())
    (release / "pages" / tree.root).write_bytes(tree.pages[tree.root])
    listing = Listing(tree.count, tree.root)
    write_manifest(release, replace(opened.manifest, bundles=listing), signer)
    with pytest.raises(BadBundle, match=f'calls itself "{other}"'):
        Release(release).bundle(one)


def test_pixels_over_the_limit_are_refused_before_they_are_decoded(release, keys, tmp_path) -> None:
    opened, identities = Release(release), read_identities(keys["alice"])
    out = tmp_path / "out"
    results = restoring.restore(opened, identities, out, models=(TINY,), max_pixels=1000)
    assert all(isinstance(r.error, TooManyPixels) for r in results)
    assert all("expected at most 1000" in str(r.error) for r in results)
    bundle = OpenedBundle.read(opened.bundle(opened.ids[0]), {}, opened.profiles)
    with reading_up_to(1000), pytest.raises(TooManyPixels, match=r"expected at most 1000$"):
        read_image(bundle, Tier.DIAGNOSTIC, lambda digest: pytest.fail("it was decoded"))
    assert not out.exists()


def test_labels_that_clash_are_told_before_anything_is_encoded(images, keys, signer, tmp_path):
    twice = [parse_recipient(f"a={keys[name]}") for name in ("alice", "bob")]
    with pytest.raises(UsageError, match='label "a" is given to two'):
        sharing.share([images], tmp_path / "r", twice, signer, SETTINGS, model=TINY)
    owner = [parse_recipient(f"owner={keys['alice']}")]
    with pytest.raises(UsageError, match="the owner's own"):
        sharing.share([images], tmp_path / "r", owner, signer, SETTINGS, model=TINY)
    assert not list(tmp_path.iterdir())


def test_owner_scope_is_of_the_present_secrets(release, signer) -> None:
    before = owner_scope(Release(release), signer)
    rekey(Release(release), signer)
    after = owner_scope(Release(release), signer)
    assert after.release == before.release
    assert after.secret != before.secret
