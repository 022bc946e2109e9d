"""A release that is shared in parts, by processes that know nothing of each other."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import portalocker
import pydicom
import pytest

from primis.cli.main import main
from primis.errors import OutputError, PrimisError, UsageError
from primis.imaging.phantom import phantom_dicom
from primis.jobs import restore as restoring
from primis.jobs import work
from primis.jobs.result import Result
from primis.jobs.shards import Shard, dealt, listed
from primis.jobs.share import batch
from primis.jobs.share import run as sharing
from primis.keys.identity import parse_recipient, read_identities
from primis.release.lock import locked
from primis.release.reader import Release
from tests.conftest import SETTINGS, TINY

IMAGES = 7


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for seed in range(IMAGES):
        (tmp_path / "in" / f"{seed}.dcm").write_bytes(phantom_dicom(48, seed=seed))
    return tmp_path / "in"


@pytest.fixture
def share(folder, keys, signer, tmp_path):
    def run(shard: str | None = None, inputs: Path = folder, **how) -> list[Result]:
        to = [parse_recipient(f"alice={keys['alice']}")]
        part = None if shard is None else Shard.parse(shard)
        how = {"model": TINY, "settings": SETTINGS} | how
        settings = how.pop("settings")
        return sharing.share([inputs], tmp_path / "r", to, signer, settings, shard=part, **how)

    return run


def names(results: list[Result]) -> list[str]:
    return [result.name for result in results if result.error is None]


def stop(result: Result, done: int, total: int) -> None:
    raise KeyboardInterrupt


def test_shards_are_told_apart_and_as_large_as_each_other() -> None:
    numbers = dealt(range(100), lambda k: hash((k, "x")), 7)
    assert sorted({numbers.count(k) for k in range(1, 8)}) == [14, 15]
    assert Shard.parse("3/8") == (3, 8)
    for wrong in ("", "3", "0/8", "9/8", "3/0", "-1/8", "3/8/2", "1/1000000", "３/8"):
        with pytest.raises(UsageError, match="expected I/N"):
            Shard.parse(wrong)


def test_shards_are_named_briefly() -> None:
    assert listed([9, 3, 4, 5, 7, 8, 1, 1], 9) == "1/9, 3-5/9, 7-9/9"


def test_all_shards_and_one_more_call_make_the_release(share, keys, tmp_path) -> None:
    parts = [names(share(f"{number}/3")) for number in (2, 3, 1)]
    assert sorted(len(part) for part in parts) == [2, 2, 3]
    assert sorted(chain(*parts)) == [f"{k}.dcm" for k in range(IMAGES)]
    assert not (tmp_path / "r").exists()
    results = share(finish=True)
    assert [r.resumed for r in results] == [True] * IMAGES
    assert not list(tmp_path.glob("r.*")) and not list(tmp_path.glob(".r*"))
    release = Release(tmp_path / "r")
    assert len(release) == IMAGES
    identities = read_identities(keys["alice"])
    restored = restoring.restore(release, identities, tmp_path / "out", models=(TINY,))
    assert sorted(names(restored)) == [f"{k}.dcm" for k in range(IMAGES)]


def test_an_interrupted_shard_goes_on_and_is_missed_until_then(share, tmp_path) -> None:
    share("1/2")
    with pytest.raises(KeyboardInterrupt):
        share("2/2", on_result=stop)
    with pytest.raises(UsageError, match=r"2 of 7 .* not worked on yet, expected shards 2/2"):
        share(finish=True)
    again = share("2/2")
    assert sorted(r.resumed for r in again) == [False, False, True]
    assert len(names(share(finish=True))) == IMAGES


def test_a_file_that_changed_after_its_shard_is_not_published_as_it_was(
    folder, share, tmp_path
) -> None:
    shard = {name: f"{k}/2" for k in (1, 2) for name in names(share(f"{k}/2"))}
    (folder / "3.dcm").write_bytes(phantom_dicom(64, seed=33))
    with pytest.raises(UsageError, match=f"1 of 7 .* expected shards {shard['3.dcm']}"):
        share(finish=True)
    share(shard["3.dcm"])
    share(finish=True)
    assert len(Release(tmp_path / "r")) == IMAGES


def test_images_that_are_no_longer_given_are_left_out_and_that_is_said(folder, share) -> None:
    for number in (1, 2):
        share(f"{number}/2")
    (folder / "3.dcm").unlink()
    notes: list[str] = []
    assert len(share(finish=True, on_note=notes.append)) == IMAGES - 1
    assert len(notes) == 1 and "are left out" in notes[0] and notes[0].endswith('1, first "3.dcm"')


def test_what_failed_in_its_shard_is_tried_once_more_and_reported(
    folder, share, tmp_path, monkeypatch
) -> None:
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    plain = batch.ShareWorker.__call__

    def fails(self, task, done=lambda share: None):
        return OutputErrorAsInput() if task.source.name == "4.dcm" else plain(self, task, done)

    monkeypatch.setattr(batch.ShareWorker, "__call__", fails)
    failed = [r.name for k in (1, 2) for r in share(f"{k}/2") if r.error is not None]
    assert sorted(failed) == ["4.dcm", "bad.png"]
    monkeypatch.undo()
    results = share(finish=True)
    assert [r.name for r in results if r.error is not None] == ["bad.png"]
    assert len(Release(tmp_path / "r")) == IMAGES


class OutputErrorAsInput(PrimisError):
    """Something that went wrong on that machine."""


def test_nothing_of_a_record_that_another_wrote_counts(share, tmp_path) -> None:
    share("1/2")
    share("2/2")
    path = next(tmp_path.glob("r.partial.journal-1-of-2"))
    head, *lines = path.read_text().splitlines()
    forged = [json.dumps(json.loads(line) | {"kept": 99.0}) if line else "" for line in lines]
    path.write_text("\n".join([head, *forged]))
    with pytest.raises(UsageError, match="expected shards 1/2 to be run"):
        share(finish=True)


def test_a_journal_of_an_older_release_in_this_place_is_begun_anew(share, tmp_path) -> None:
    share("1/2")
    old = next(tmp_path.glob("r.partial.journal-1-of-2")).read_bytes()
    share("2/2")
    share(finish=True)
    (tmp_path / "r").rename(tmp_path / "before")
    share("2/2")
    (tmp_path / "r.partial.journal-1-of-2").write_bytes(old)
    with pytest.raises(UsageError, match="expected shards 1/2 to be run"):
        share(finish=True)


def test_a_shard_whose_journal_was_removed_stops_and_writes_no_other(
    folder, share, tmp_path
) -> None:
    """It would be of nothing, and readable by others; it names files."""

    def removed(result: Result, done: int, total: int) -> None:
        shutil.rmtree(tmp_path / "r.partial")
        for path in tmp_path.glob("r.partial.journal*"):
            path.unlink()

    with pytest.raises(OutputError, match=r'journal-1-of-2" cannot be written: No such file'):
        share("1/2", on_result=removed)
    assert not list(tmp_path.glob("r.partial.journal*"))


def test_only_our_own_journals_of_shards_are_dropped(share, tmp_path, monkeypatch) -> None:
    notes, others = (tmp_path / f"r.partial.journal-{name}" for name in ("notes", "9-of-9"))
    for path in (notes, others):
        path.write_text("something else")
    monkeypatch.setattr(work, "is_ours", lambda path: path != others)
    for number in (1, 2):
        share(f"{number}/2")
    share(finish=True)
    assert sorted(tmp_path.glob("r.*")) == [others, notes]


def test_the_last_call_holds_no_more_files_open_the_more_shards_there_are(tmp_path) -> None:
    with work.Work(tmp_path / "r", "primis share") as made:
        made.begin({})
        for number in range(1, 101):
            with made.shard(Shard(number, 101)):
                pass
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        opened = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 64
        resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 32, before[1]))
        try:
            found = made.shards(101)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert len(found) == 100  # one was never begun


def test_files_are_dealt_alike_however_their_folder_is_spelled(
    folder, share, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parts = [names(share("1/2")), names(share("2/2", inputs=Path(folder.name)))]
    assert sorted(chain(*parts)) == [f"{k}.dcm" for k in range(IMAGES)]
    assert [r.resumed for r in share(finish=True)] == [True] * IMAGES


def test_a_shard_is_for_one_process_and_waits_for_nobody_elses(share, tmp_path) -> None:
    seen: list[str] = []

    def meanwhile(result: Result, done: int, total: int) -> None:
        if seen:
            return
        with pytest.raises(OutputError, match=r'is being changed by "primis share 1/2"'):
            share("1/2")
        with pytest.raises(OutputError, match=r'is being changed by "primis share 1/2"'):
            share(finish=True)
        seen.extend(names(share("2/2")))

    ours = names(share("1/2", on_result=meanwhile))
    assert sorted(ours + seen) == [f"{k}.dcm" for k in range(IMAGES)]
    assert len(names(share(finish=True))) == IMAGES


def test_a_lock_that_its_holder_removes_while_it_is_opened_is_waited_for(
    tmp_path, monkeypatch
) -> None:
    """As where many shards begin at once."""
    plain, path, opened = os.open, tmp_path / ".r.primis-lock", []

    def open_and_lose(file, *how, **more) -> int:
        descriptor = plain(file, *how, **more)
        if Path(file) == path and not opened:
            path.unlink()
            opened.append(descriptor)
        return descriptor

    monkeypatch.setattr(os, "open", open_and_lose)
    with locked(tmp_path / "r", "primis share", on_wait=lambda said: None):
        assert path.exists()
    assert opened


def test_a_lock_that_another_machine_removes_is_waited_for(tmp_path, monkeypatch) -> None:
    """NFS says so when the file that was opened is to be locked."""
    plain, told = fcntl.flock, []

    def flock(file, flags: int) -> None:
        if not told:
            told.append(flags)
            raise OSError(errno.ESTALE, "Stale file handle")
        plain(file, flags)

    monkeypatch.setattr(portalocker.portalocker, "LOCKER", flock)
    with locked(tmp_path / "r", "primis share"):
        assert told


def test_shards_are_of_one_plan(share, tmp_path) -> None:
    with pytest.raises(UsageError, match="no shard"):
        share(finish=True)
    share("1/2")
    for wrong in (lambda: share("1/3"), share):
        with pytest.raises(OutputError, match="is being shared in 2 shards: finish that"):
            wrong()
    with pytest.raises(UsageError, match="expected one of them"):
        share("2/2", finish=True)
    for wrong in (
        lambda: share("2/2", with_original=True),
        lambda: share(finish=True, measure=False),
    ):
        with pytest.raises(OutputError, match="started with different settings"):
            wrong()
    share("2/2")
    assert len(names(share(finish=True))) == IMAGES


def test_a_whole_share_is_not_gone_on_with_in_shards(share) -> None:
    with pytest.raises(KeyboardInterrupt):
        share(on_result=stop)
    with pytest.raises(OutputError, match="is being shared without shards: finish that"):
        share("1/2")
    with pytest.raises(UsageError, match="no shard"):
        share(finish=True)


def test_s_x_is_chosen_once_for_all_shards(share, tmp_path) -> None:
    chosen: list = []
    for number in (1, 2, 3):
        share(f"{number}/3", psnr=20, on_chosen=chosen.append)
    share(finish=True, psnr=20, on_chosen=chosen.append)
    assert len(chosen) == 4 and len(set(chosen)) == 1
    assert chosen[0].images == IMAGES
    release = Release(tmp_path / "r")
    assert {release.header(i).settings.sparsity for i in release.ids} == {chosen[0].sparsity}


def test_more_shards_than_images(share, tmp_path) -> None:
    assert sum(len(names(share(f"{number}/9"))) for number in range(1, 10)) == IMAGES
    assert len(names(share(finish=True))) == IMAGES


def test_each_shard_has_the_budgets_of_its_own_files(folder, share, tmp_path) -> None:
    """One header of seven is large."""
    data = pydicom.dcmread(folder / "3.dcm")
    data.ImageComments = np.random.default_rng(0).bytes(4000).hex()
    data.save_as(folder / "3.dcm")
    settings = replace(SETTINGS, header_bytes=None)
    shards = [names(share(f"{number}/4", settings=settings)) for number in (1, 2, 3, 4)]
    share(finish=True, settings=settings)
    release = Release(tmp_path / "r")
    sizes = [release.header(i).settings.header_bytes or 0 for i in release.ids]
    assert len(set(sizes)) == 2
    assert sizes.count(max(sizes)) == next(len(shard) for shard in shards if "3.dcm" in shard)


def test_images_are_restored_in_shards(share, keys, tmp_path) -> None:
    share()
    release, identities = Release(tmp_path / "r"), read_identities(keys["alice"])
    parts = [
        names(
            restoring.restore(
                release, identities, tmp_path / f"o{k}", models=(TINY,), shard=Shard(k, 3)
            )
        )
        for k in (1, 2, 3)
    ]
    assert sorted(chain(*parts)) == [f"{k}.dcm" for k in range(IMAGES)]
    with pytest.raises(UsageError, match="shard 8/8 has no image, expected fewer shards"):
        restoring.restore(release, identities, tmp_path / "o", models=(TINY,), shard=Shard(8, 8))


def test_restored_shards_from_the_command_line(share, keys, tmp_path, capsys, monkeypatch) -> None:
    share()
    base = ["restore", str(tmp_path / "r"), "-i", str(keys["alice"]), "-o", str(tmp_path / "o")]
    base += ["--model", str(TINY), "--jobs", "1"]
    assert run_main(monkeypatch, *base, "--shard", "3") == 2
    assert 'primis: shard is "3", expected I/N' in capsys.readouterr().err
    assert run_main(monkeypatch, *base, "--shard", "3/3", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["shard"], facts["restored"]) == ("3/3", 2)


def run_main(monkeypatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["primis", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_shards_run_at_once_from_the_command_line(folder, keys, tmp_path) -> None:
    """Four processes, begun at the same time; then the last call."""
    base = [sys.executable, "-m", "primis.cli", "share", str(folder), "-o", str(tmp_path / "r")]
    base += ["--to", f"alice={keys['alice']}", "--owner", str(keys["owner"]), "--jobs", "1"]
    base += ["--model", str(TINY), "--to", "passphrase"]
    running = [
        subprocess.Popen(
            [*base, "--shard", f"{number}/4", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        for number in (1, 2, 3, 4)
    ]
    told = [process.communicate(timeout=100) for process in running]
    assert [process.returncode for process in running] == [0] * 4, told
    facts = [json.loads(out) for out, _ in told]
    assert [fact["shard"] for fact in facts] == ["1/4", "2/4", "3/4", "4/4"]
    assert sum(fact["shared"] for fact in facts) == IMAGES
    done = subprocess.run(
        [*base, "--finish"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PRIMIS_PASSPHRASE": "correct horse"},
    )
    assert done.returncode == 0, done.stderr
    assert f"shared {IMAGES} of {IMAGES} images" in done.stdout
    assert f"{IMAGES} images were done before" in done.stderr
    assert Release(tmp_path / "r").labels() == ["alice", "owner", "passphrase"]
