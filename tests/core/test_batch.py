"""Folders of images: resumed when interrupted, complete despite a bad file, never half-written."""

from __future__ import annotations

import json
import os
import resource
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pydicom
import pytest

from primis.datasets.files import Source, collect
from primis.errors import OutputError, UnreadableImage, UsageError
from primis.imaging import apart
from primis.imaging.files import read
from primis.imaging.phantom import phantom_dicom
from primis.jobs import restore as restoring
from primis.jobs import restore_task
from primis.jobs.journal import Journal
from primis.jobs.result import Result
from primis.jobs.share import look as looking
from primis.jobs.share import run as sharing
from primis.jobs.share import task as share_task
from primis.jobs.share.source import Reading
from primis.keys.identity import parse_recipient, read_identities, read_signer
from primis.keys.seal import Secret
from primis.release.grants import Scope, index_names, owner_grant
from primis.release.reader import Release, bundle_key
from primis.stores.local import LocalStore
from tests.conftest import SETTINGS, TINY


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a/one.dcm", "b/one.dcm", "b/two.dcm"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(phantom_dicom(48, seed=len(name)))
    return tmp_path / "in"


@pytest.fixture
def share(folder, keys, signer, tmp_path):
    def run(**how):
        to = [parse_recipient(f"alice={keys['alice']}")]
        return sharing.share([folder], tmp_path / "r", to, signer, SETTINGS, model=TINY, **how)

    return run


def interrupt_after(count: int):
    def on_result(result: Result, done: int, total: int) -> None:
        if done == count:
            raise KeyboardInterrupt

    return on_result


def test_files_in_folders_keep_their_places_there(folder, share, keys, tmp_path) -> None:
    (folder / "notes.txt").write_text("not an image")
    assert [r.name for r in share()] == ["a/one.dcm", "b/one.dcm", "b/two.dcm"]
    restoring.restore(
        Release(tmp_path / "r"), read_identities(keys["alice"]), tmp_path / "out", models=(TINY,)
    )
    found = sorted(
        p.relative_to(tmp_path / "out").as_posix()
        for p in (tmp_path / "out").rglob("*")
        if p.is_file()
    )
    assert found == ["a/one.dcm", "b/one.dcm", "b/two.dcm"]


def test_an_interrupted_share_goes_on_where_it_stopped(share, tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):
        share(on_result=interrupt_after(2))
    assert not (tmp_path / "r").exists()
    assert (tmp_path / "r.partial").stat().st_mode & 0o777 == 0o700
    done = {p.name for p in (tmp_path / "r.partial" / "bundles").iterdir()}
    results = share()
    assert sorted(r.resumed for r in results) == [False, True, True]
    assert [r.name for r in results] == ["a/one.dcm", "b/one.dcm", "b/two.dcm"]
    assert done < {p.name for p in (tmp_path / "r" / "bundles").iterdir()}
    assert {p.name for p in (tmp_path / "r").iterdir()} == {
        "manifest.json",
        "bundles",
        "grants",
        "pages",
    }
    assert not list(tmp_path.glob("r.partial*"))


def test_a_changed_input_is_shared_anew_and_a_torn_journal_line_is_passed_over(
    folder, share, tmp_path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        share(on_result=interrupt_after(2))
    journal = tmp_path / "r.partial.journal"
    first = next(
        record["name"]
        for line in journal.read_text().splitlines()[1:]
        if "kept" in (record := json.loads(line or "{}"))
    )
    (folder / first).write_bytes(phantom_dicom(64, seed=99))
    journal.write_bytes(journal.read_bytes()[:-9])
    assert [r.resumed for r in share()] == [False, False, False]
    assert len(list((tmp_path / "r" / "bundles").iterdir())) == 3


def test_a_share_that_another_began_is_not_gone_on_with(share, keys, signer, tmp_path) -> None:
    """Whoever writes beside the release could lay a secret there, theirs or an older release's."""
    with pytest.raises(KeyboardInterrupt):
        share(on_result=interrupt_after(1))
    partial, journal = tmp_path / "r.partial", tmp_path / "r.partial.journal"
    [own] = (partial / "grants").glob("owner.*")
    release_id = next(
        json.loads(line)["begun"] for line in journal.read_text().splitlines() if '"begun"' in line
    )
    mallory = read_signer(keys["stranger"])
    keys_id = next(
        json.loads(line)["keys"] for line in journal.read_text().splitlines() if '"begun"' in line
    )
    theirs = owner_grant(Scope(release_id, keys_id, Secret(b"m" * 32)), mallory)
    kept = own.read_bytes()
    own.write_bytes(theirs.seal(signer.recipient, mallory))
    with pytest.raises(OutputError, match="not begun with your key"):
        share()
    planted = owner_grant(Scope("ab" * 16, keys_id, Secret(b"m" * 32)), signer)
    own.write_bytes(planted.seal(signer.recipient, signer))
    with pytest.raises(OutputError, match="not begun with your key"):
        share()
    own.write_bytes(kept)
    shutil.copytree(partial, tmp_path / "s.partial")
    shutil.copy(journal, tmp_path / "s.partial.journal")
    with pytest.raises(OutputError, match="not begun with your key"):  # nor elsewhere
        sharing.share([tmp_path / "in"], tmp_path / "s", [], signer, SETTINGS, model=TINY)
    partial.chmod(0o777)
    with pytest.raises(OutputError, match="others may write in"):
        share()
    partial.chmod(0o700)
    assert all(r.error is None for r in share())


def test_another_folder_in_the_place_of_ours_is_not_published(share, tmp_path) -> None:
    """Whoever may rename beside the release puts a folder of the owner's there."""
    with pytest.raises(KeyboardInterrupt):
        share(on_result=interrupt_after(1))
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (private / "secret.txt").write_text("secret")
    partial = tmp_path / "r.partial"
    partial.rename(tmp_path / "gone")
    private.rename(partial)
    with pytest.raises(OutputError, match="is not the folder that"):
        share()
    assert (partial / "secret.txt").exists()
    partial.rename(private)
    (tmp_path / "gone").rename(partial)
    (partial / "secret.txt").write_text("laid into ours")
    share()
    assert {p.name for p in (tmp_path / "r").iterdir()} == {
        "manifest.json",
        "bundles",
        "grants",
        "pages",
    }


def test_no_journal_stays_when_the_end_was_cut_off(share, tmp_path, monkeypatch) -> None:
    """It names patients; the release is whole and published."""
    from primis.jobs import work

    finish = work.finish_folder

    def killed(partial: Path, out: Path) -> None:
        finish(partial, out)
        raise KeyboardInterrupt

    monkeypatch.setattr(work, "finish_folder", killed)
    with pytest.raises(KeyboardInterrupt):
        share()
    journal = tmp_path / "r.partial.journal"
    assert "one.dcm" not in journal.read_text()
    with pytest.raises(OutputError, match="exists"):
        share()
    assert not journal.exists()


def test_a_share_that_was_killed_just_before_its_end_goes_on(share, tmp_path, monkeypatch) -> None:
    """Giving all files one time takes long where there are many."""
    from primis.jobs import work

    def killed(folder: Path, mode: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(work, "level", killed)
    with pytest.raises(KeyboardInterrupt):
        share()
    monkeypatch.undo()
    assert [result.resumed for result in share()] == [True] * 3
    assert not list(tmp_path.rglob("*primis-mark")) and not list(tmp_path.glob("r.*"))


def test_a_record_that_another_wrote_does_not_count(share, tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):
        share(on_result=interrupt_after(1))
    journal = tmp_path / "r.partial.journal"
    journal.write_text(journal.read_text().replace('"kept": ', '"kept": 1'))
    assert not any(r.resumed for r in share())


def test_images_are_shared_in_no_order(folder, share) -> None:
    for k in range(20):
        (folder / f"{k:02}.dcm").write_bytes(phantom_dicom(32, seed=k))
    seen: list[str] = []
    results = share(on_result=lambda result, done, total: seen.append(result.name))
    assert sorted(seen) == [r.name for r in results] != seen


def test_a_link_back_is_followed_once(folder) -> None:
    (folder / "a" / "back").symlink_to(folder)
    (folder / "loop").symlink_to(folder / "loop")
    assert sorted(name for _, name in collect([folder])) == [
        "a/one.dcm",
        "b/one.dcm",
        "b/two.dcm",
        "loop",
    ]


def test_other_settings_do_not_mix_with_what_was_begun(
    folder, share, keys, signer, tmp_path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        share(on_result=interrupt_after(1))
    other = replace(SETTINGS, sparsity=8.0)
    with pytest.raises(OutputError, match="started with different settings"):
        sharing.share([folder], tmp_path / "r", [], signer, other, model=TINY)


def test_a_bad_file_is_reported_and_the_others_are_shared(folder, share) -> None:
    (folder / "a" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    results = share()
    errors = {r.name: r.error for r in results if r.error}
    assert list(errors) == ["a/bad.png"]
    assert isinstance(errors["a/bad.png"], UnreadableImage)
    assert len(results) == 4


def test_a_name_that_is_not_unicode_is_said_and_the_others_are_shared(folder, share) -> None:
    with open(os.fsencode(folder / "a") + b"/\xff.dcm", "wb") as file:
        file.write(phantom_dicom(48))
    errors = [r.error for r in share() if r.error]
    assert len(errors) == 1 and "has a name that is not UTF-8: rename it" in str(errors[0])


def test_an_interrupted_restore_goes_on_where_it_stopped(share, keys, tmp_path) -> None:
    share()
    release, identities = Release(tmp_path / "r"), read_identities(keys["alice"])
    with pytest.raises(KeyboardInterrupt):
        restoring.restore(
            release, identities, tmp_path / "out", models=(TINY,), on_result=interrupt_after(1)
        )
    assert not (tmp_path / "out").exists()
    results = restoring.restore(release, identities, tmp_path / "out", models=(TINY,))
    assert [r.resumed for r in results] == [True, False, False]
    assert not list((tmp_path / "out").rglob("journal*"))


def test_a_bundle_that_fails_does_not_stop_the_others(share, keys, tmp_path) -> None:
    share()
    release = Release(tmp_path / "r")
    (release.folder / bundle_key(release.ids[1])).unlink()
    results = restoring.restore(
        release, read_identities(keys["alice"]), tmp_path / "out", models=(TINY,)
    )
    assert [r.error is None for r in results] == [True, False, True]
    assert len([p for p in (tmp_path / "out").rglob("*") if p.is_file()]) == 2


def test_names_never_leave_the_output_folder(folder, keys, signer, tmp_path, monkeypatch) -> None:
    evil = ["../../escape.dcm", "/etc/passwd", "a/../../x.dcm"]
    monkeypatch.setattr(
        sharing, "collect", lambda inputs: [(folder / "a" / "one.dcm", n) for n in evil]
    )
    to = [parse_recipient(f"alice={keys['alice']}")]
    sharing.share([folder], tmp_path / "r", to, signer, SETTINGS, model=TINY)
    before = set(tmp_path.rglob("*"))
    results = restoring.restore(
        Release(tmp_path / "r"),
        read_identities(keys["alice"]),
        tmp_path / "deep/out",
        models=(TINY,),
    )
    assert all(
        (tmp_path / "deep/out" / r.name).resolve().is_relative_to((tmp_path / "deep/out").resolve())
        for r in results
    )
    new = set(tmp_path.rglob("*")) - before
    assert all(p.is_relative_to(tmp_path / "deep") for p in new)


def test_a_full_disk_is_one_error_and_leaves_no_torn_file(share, tmp_path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            share()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((tmp_path / "r.partial").glob("bundles/*"))
    assert all(r.error is None for r in share())


def test_nothing_to_share_says_so(tmp_path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        collect([tmp_path / "nothing"])
    with pytest.raises(UsageError, match="no image"):
        collect([tmp_path])


def test_the_journal_stays_out_of_the_release(share, tmp_path) -> None:
    share()
    assert len(Release(tmp_path / "r").ids) == 3
    assert b"one.dcm" not in b"".join(
        p.read_bytes() for p in (tmp_path / "r").rglob("*") if p.is_file()
    )


def test_a_resumed_share_grants_only_to_those_named_now(
    folder, share, keys, signer, tmp_path, monkeypatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(
            sharing, "write_contents", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            share()
    bob = parse_recipient(f"bob={keys['bob']}")
    sharing.share([folder], tmp_path / "r", [bob], signer, SETTINGS, model=TINY)
    assert [g.label for g in Release(tmp_path / "r").grants()] == ["bob", "owner"]


def test_a_release_for_its_owner_alone_has_an_index_of_grants(folder, signer, tmp_path) -> None:
    """Without it nobody finds the owner's on a host that lists no folders."""
    sharing.share([folder], tmp_path / "r", [], signer, SETTINGS, model=TINY)
    [owners] = (tmp_path / "r" / "grants").glob("*.age")
    assert index_names(LocalStore(tmp_path / "r")) == [owners.name]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_journal_on_a_full_disk_says_so(tmp_path) -> None:
    (tmp_path / "journal").symlink_to("/dev/full")
    with pytest.raises(OutputError, match="cannot be written: the disk is full"):
        Journal(tmp_path / "journal").note(id="1")


def test_a_torn_bundle_is_shared_anew(share, tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):
        share(on_result=interrupt_after(2))
    torn = sorted((tmp_path / "r.partial" / "bundles").iterdir())[0]
    torn.write_bytes(torn.read_bytes()[:100])
    assert sorted(r.resumed for r in share()) == [False, False, True]


def test_a_folder_that_is_not_ours_is_left_alone(share, keys, tmp_path) -> None:
    share()
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="has no journal"):
        restoring.restore(
            Release(tmp_path / "r"),
            read_identities(keys["alice"]),
            tmp_path / "out",
            models=(TINY,),
        )
    assert (tmp_path / "out.partial" / "thesis.txt").read_text() == "years of work"


def test_a_name_that_is_also_a_folder_finds_another_place(
    folder, keys, signer, tmp_path, monkeypatch
) -> None:
    names = ["img", "img/b.dcm", "x" * 300, "/".join("a" * 40), "n\u4e2d" * 80]
    monkeypatch.setattr(
        sharing, "collect", lambda inputs: [(folder / "a" / "one.dcm", n) for n in names]
    )
    sharing.share(
        [folder],
        tmp_path / "r",
        [parse_recipient(f"alice={keys['alice']}")],
        signer,
        SETTINGS,
        model=TINY,
    )
    results = restoring.restore(
        Release(tmp_path / "r"), read_identities(keys["alice"]), tmp_path / "out", models=(TINY,)
    )
    assert [r.error for r in results] == [None] * 5
    assert len([p for p in (tmp_path / "out").rglob("*") if p.is_file()]) == 5


def test_the_header_budget_is_chosen_by_a_pass_over_the_files(folder, share, tmp_path) -> None:
    before = [r for r in share() if r.error]
    (small,) = _header_bytes(tmp_path / "r")
    shutil.rmtree(tmp_path / "r")
    _with_private_header(folder / "b" / "two.dcm", 30_000)
    told: list[str] = []
    results = share(on_note=told.append)
    assert not before
    assert [r.error for r in results] == [None] * 3
    assert told and "two.dcm" in told[0] and f"without it {small} would do" in told[0]
    assert small <= 1024
    assert _header_bytes(tmp_path / "r") == {32_768}  # one for the release, a power of two


def test_all_headers_that_do_not_fit_a_given_budget_are_told_with_what_would(
    folder, keys, signer, tmp_path
) -> None:
    for name, size in (("a/one.dcm", 9_000), ("b/two.dcm", 30_000)):
        _with_private_header(folder / name, size)
    settings, to = replace(SETTINGS, header_bytes=2048), [parse_recipient(f"a={keys['alice']}")]
    told: list[bool] = []
    results = sharing.share(
        [folder],
        tmp_path / "r",
        to,
        signer,
        settings,
        model=TINY,
        on_result=lambda result, done, total: told.append(result.error is not None),
    )
    assert told == [True, True, False]  # before anything is encoded
    refused = {r.name: str(r.error) for r in results if r.error}
    assert sorted(refused) == ["a/one.dcm", "b/two.dcm"]
    assert all("header_bytes = 32768 would do" in text for text in refused.values())
    wide = replace(SETTINGS, header_bytes=32_768)
    results = sharing.share([folder], tmp_path / "s", to, signer, wide, model=TINY)
    assert [r.error for r in results] == [None] * 3


def _with_private_header(path: Path, size: int) -> None:
    dataset = pydicom.dcmread(path)
    block = dataset.private_block(0x0029, "MAKER", create=True)
    block.add_new(1, "OB", np.random.default_rng(0).bytes(size))
    dataset.save_as(path)


def _header_bytes(path: Path) -> set[int | None]:
    release = Release(path)
    return {release.header(i).settings.header_bytes for i in release.ids}


def test_a_file_larger_than_its_samples_is_sealed_too(folder, keys, signer, tmp_path) -> None:
    _with_private_header(folder / "b" / "two.dcm", 200_000)
    to = [parse_recipient(f"alice={keys['alice']}")]
    results = sharing.share(
        [folder],
        tmp_path / "r",
        to,
        signer,
        SETTINGS,
        tier="original",
        with_original=True,
        model=TINY,
    )
    assert [r.error for r in results] == [None] * 3
    release = Release(tmp_path / "r")
    assert len({release.header(i).settings.original_bits for i in release.ids}) == 1
    restoring.restore(release, read_identities(keys["alice"]), tmp_path / "out", models=(TINY,))
    for name in ("a/one.dcm", "b/one.dcm", "b/two.dcm"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()


def test_a_defect_in_one_image_does_not_stop_the_others(
    folder, share, keys, tmp_path, monkeypatch
) -> None:
    share_image, restore_image = share_task.share_image, restore_task.restore_image

    def broken(image, *what, name, **how):
        if name == "b/one.dcm":
            raise ZeroDivisionError("secret detail")
        return share_image(image, *what, name=name, **how)

    monkeypatch.setattr(share_task, "share_image", broken)
    results = {r.name: r.error for r in share()}
    assert "a defect of primis" in str(results["b/one.dcm"])
    assert "secret detail" not in str(results["b/one.dcm"])
    assert sum(error is None for error in results.values()) == 2
    seen = []

    def broken_too(data, *what, **how):
        seen.append(data)
        if len(seen) == 1:
            raise RuntimeError
        return restore_image(data, *what, **how)

    monkeypatch.setattr(restore_task, "restore_image", broken_too)
    release, identities = Release(tmp_path / "r"), read_identities(keys["alice"])
    results = restoring.restore(release, identities, tmp_path / "out", models=(TINY,))
    assert [r.error is None for r in results] == [False, True]


def test_the_same_file_twice_is_shared_once_and_the_release_opens(
    folder, keys, signer, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "link.dcm").symlink_to(folder / "a" / "one.dcm")
    inputs = [Path("a"), folder / "a", folder / "a" / "one.dcm", Path("link.dcm")]
    to = [parse_recipient(f"alice={keys['alice']}")]
    results = sharing.share(inputs, tmp_path / "r", to, signer, SETTINGS, model=TINY)
    assert [r.name for r in results] == ["one.dcm", "link.dcm"]
    release = Release(tmp_path / "r")
    assert len(release.ids) == 2
    restoring.restore(release, read_identities(keys["alice"]), tmp_path / "out", models=(TINY,))


def test_what_a_kill_left_is_not_published(share, keys, tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):
        share(on_result=interrupt_after(1))
    for place in ("r.partial/bundles", "r.partial/grants", "r.partial"):
        (tmp_path / place / ".primis-0123456789abcdef.tmp").write_bytes(b"torn")
    share()
    release = Release(tmp_path / "r")
    identities = read_identities(keys["alice"])
    with pytest.raises(KeyboardInterrupt):
        restoring.restore(
            release, identities, tmp_path / "out", models=(TINY,), on_result=interrupt_after(1)
        )
    (tmp_path / "out.partial" / ".primis-0123456789abcdef.tmp").write_bytes(b"a patient's pixels")
    restoring.restore(release, identities, tmp_path / "out", models=(TINY,))
    assert not [p for p in tmp_path.rglob(".primis-*")]
    assert not [p for p in tmp_path.rglob("*lock")]


def test_a_renamed_image_is_said(folder, keys, signer, tmp_path) -> None:
    (folder / "a" / "one.dcm").rename(folder / "a" / "con.txt")
    (folder / "a" / "con.txt").rename(folder / "a" / ("x" * 220 + ".dcm"))
    to = [parse_recipient(f"alice={keys['alice']}")]
    sharing.share([folder], tmp_path / "r", to, signer, SETTINGS, model=TINY)
    release, identities = Release(tmp_path / "r"), read_identities(keys["alice"])
    results = restoring.restore(release, identities, tmp_path / "out", models=(TINY,))
    [renamed] = [r for r in results if r.notes]
    assert renamed.name == f"{renamed.id}.dcm"
    assert renamed.notes[0].startswith('"a/xxx')


def test_an_original_that_is_no_image_gets_no_image_s_name(
    folder, share, keys, signer, tmp_path, monkeypatch
) -> None:
    script = b"#!/bin/sh\necho owned\n"
    monkeypatch.setattr(
        share_task, "read_source", lambda source, how, on_bad: (read(source.place)[0], script)
    )
    to = [parse_recipient(f"alice={keys['alice']}")]
    sharing.share(
        [folder],
        tmp_path / "r",
        to,
        signer,
        SETTINGS,
        tier="original",
        with_original=True,
        model=TINY,
    )
    release, identities = Release(tmp_path / "r"), read_identities(keys["alice"])
    results = restoring.restore(release, identities, tmp_path / "out", models=(TINY,))
    assert all(r.name == f"{r.id}.bin" and "no image" in r.notes[0] for r in results)


@pytest.mark.parametrize("out", ["/", "x" * 300])
def test_a_place_that_cannot_be_is_told_at_once(folder, signer, tmp_path, out: str) -> None:
    with pytest.raises(OutputError, match="name for a new folder"):
        sharing.share([folder], tmp_path / out, [], signer, SETTINGS, model=TINY)


def test_progress_moves_within_an_image(share, folder, keys, tmp_path) -> None:
    """Both ways: ever on, one step for each tile at least, from one whole number to the next."""
    for path in folder.rglob("*.dcm"):
        path.unlink()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 16 * 32 * 3), np.uint8)  # three tiles
    PIL.Image.fromarray(pixels).save(folder / "wide.png")
    PIL.Image.fromarray(pixels[::-1]).save(folder / "wide2.png")
    parts: list[float] = []

    def on_part(done: float, total: int) -> None:
        assert total == 2
        parts.append(done)

    def on_result(result: Result, done: int, total: int) -> None:
        assert result.error is None
        assert parts == sorted(parts)
        within = [part - (done - 1) for part in parts]
        assert len(set(within)) >= 3
        assert 0 < within[0] < within[-1] == 1
        parts.clear()

    share(on_part=on_part, on_result=on_result)
    opened, alice = Release(tmp_path / "r"), read_identities(keys["alice"])
    how = {"models": (TINY,), "on_part": on_part, "on_result": on_result}
    assert len(restoring.restore(opened, alice, tmp_path / "out", **how)) == 2


def test_an_interruption_while_files_are_looked_at_ends_the_decoders(
    share, folder, tmp_path, monkeypatch
) -> None:
    """Nothing is read that waits, and the same call goes on."""
    for number in range(40):
        (folder / f"{number}.dcm").write_bytes(phantom_dicom(48, seed=number))
    reads: list[Path] = []

    def slow_read(source: Source, how: Reading):
        reads.append(source.place)
        time.sleep(0.02)  # or all are read before a busy machine comes to interrupt them
        return how.read(source.place)

    monkeypatch.setattr(looking, "read_source", slow_read)

    def on_look(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        share(on_look=on_look)
    assert not apart._pools
    assert len(reads) < 40
    looked: list[tuple[int, int]] = []
    assert len(share(on_look=lambda done, total: looked.append((done, total)))) == 43
    assert looked == [(number, 43) for number in range(1, 44)]
