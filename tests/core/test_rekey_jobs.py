"""`rekey` by several processes and by shards: the same as by one, nothing lost where one ends."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

import primis
from primis.errors import (
    BadBundle,
    BadManifest,
    NoMatchingGrant,
    OutputError,
    UsageError,
    WorkerError,
)
from primis.imaging.phantom import phantom_dicom
from primis.jobs import work
from primis.jobs.add import add
from primis.jobs.executors.executor import TRIES
from primis.jobs.executors.processes import Processes
from primis.jobs.journal import Journal
from primis.jobs.rekey import run as rekeying
from primis.jobs.rekey import seal, task
from primis.jobs.rekey.run import Rekeyed
from primis.jobs.rekey.table import Table
from primis.jobs.rekey.task import SealTask, SealWorker
from primis.jobs.shards import Shard
from primis.jobs.share.run import share
from primis.keys.identity import parse_recipient, read_identities
from primis.release.owner import grant
from primis.release.reader import Release
from primis.release.verify import verify
from tests.conftest import SETTINGS, TINY

IMAGES = 9
PARTIAL = "release.rekey.partial"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs signals")


@pytest.fixture(scope="module")
def made(tmp_path_factory, keys, signer) -> Path:
    """A release of images of three sizes, granted to Alice whole and to Bob in part."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "in").mkdir()
    for seed in range(IMAGES):
        (folder / "in" / f"{seed}.dcm").write_bytes(phantom_dicom(48 + 16 * (seed % 3), seed=seed))
    to = [parse_recipient(f"alice={keys['alice']}")]
    share([folder / "in"], folder / "release", to, signer, SETTINGS, model=TINY)
    release = Release(folder / "release")
    grant(release, parse_recipient(f"bob={keys['bob']}"), signer, images=release.ids[:4])
    return folder / "release"


@pytest.fixture
def release(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "release")
    return tmp_path / "release"


@pytest.fixture
def few_together(monkeypatch) -> None:
    """Two bundles make a task, so that there are several."""
    monkeypatch.setattr(task, "_MOST", 2)


@pytest.fixture
def rekey(release: Path, signer):
    def run(shard: str | None = None, **how) -> Rekeyed:
        part = None if shard is None else Shard.parse(shard)
        return rekeying.rekey(Release(release), signer, shard=part, **how)

    return run


def facts(place: Path, key: Path) -> Counter:
    """What a key opens: names, sizes of bundles and pixels. Ids differ each time."""
    found = verify(Release(place))
    assert not found.wrong and not found.unlisted
    opened = primis.open(place, key, models=[TINY], remember=False)
    entries = Release(place).entries
    return Counter((i.name, entries[i.id].size, i.read().pixels.tobytes()) for i in opened)


def stop_at(wanted: int, what: str = "sealing anew"):
    """Progress that interrupts when so many are done."""

    def progress(said: str, done: int, total: int) -> None:
        if said == what and done >= wanted:
            raise KeyboardInterrupt

    return progress


def sealed_before(rekey, **how) -> int:
    """How many bundles a call takes over."""
    seen: list[int] = []

    def progress(said: str, done: int, total: int) -> None:
        if said == "sealing anew":
            seen.append(done)

    rekey(progress=progress, **how)
    return seen[0]


@pytest.mark.usefixtures("few_together")
def test_the_result_does_not_depend_on_who_does_the_work(made, keys, signer, tmp_path) -> None:
    before, ids = facts(made, keys["alice"]), {*Release(made).ids}
    done = {}
    for name in ("one", "two", "shards"):
        shutil.copytree(made, tmp_path / name)
        opened = Release(tmp_path / name)
        if name == "shards":
            for part in (Shard(2, 2), Shard(1, 2)):
                rekeying.rekey(opened, signer, shard=part)
        executor = Processes(2) if name == "two" else None
        done[name] = rekeying.rekey(opened, signer, executor=executor, finish=name == "shards")
        assert facts(tmp_path / name, keys["alice"]) == before
        bobs = Release(tmp_path / name).open_grants(read_identities(keys["bob"]))
        assert [len(g.images) for g in bobs] == [4]
        assert not ids & {*Release(tmp_path / name).ids}
        assert not list(tmp_path.glob(f"{name}.*")) + list(tmp_path.glob(f".{name}*"))
    assert done["one"] == done["two"] == done["shards"]
    assert done["one"] == Rekeyed(["alice", "bob"], [], [], [], IMAGES)


@pytest.mark.usefixtures("few_together")
def test_a_worker_that_is_killed_loses_nothing(rekey, release, keys) -> None:
    if not Path("/proc/self/task").exists():
        pytest.skip("needs /proc")
    before, killed = facts(release, keys["alice"]), []

    def kill(said: str, done: int, total: int) -> None:
        if done and not killed:
            killed.extend(workers())
            for child in killed:
                os.kill(child, signal.SIGKILL)

    rekey(executor=Processes(2), progress=kill)
    assert killed
    assert facts(release, keys["alice"]) == before


def workers() -> list[int]:
    """Processes that we started to work."""
    place = Path("/proc/self/task")
    pids = [int(c) for task in place.iterdir() for c in (task / "children").read_text().split()]
    lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids}
    return [pid for pid, line in lines.items() if b"executors.program" in line]


class Deadly(SealWorker):
    """A worker that some bundle kills each time."""

    def __call__(self, task: SealTask, done=None):
        if any(bundle.entry.id == os.environ["DEADLY"] for bundle in task):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(task)


@pytest.mark.usefixtures("few_together")
def test_a_bundle_that_ends_its_worker_each_time_stops_all_and_the_next_call_goes_on(
    rekey, release, keys, monkeypatch
) -> None:
    before, ids = facts(release, keys["alice"]), Release(release).ids
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        patch.setenv("DEADLY", ids[3])
        patch.setattr(seal, "SealWorker", Deadly)
        with pytest.raises(WorkerError, match=f"ended its worker process {TRIES} times") as raised:
            rekey(executor=Processes(2))
    assert "\n" not in str(raised.value)
    assert Release(release).ids == ids
    assert sealed_before(rekey) >= IMAGES - 2
    assert facts(release, keys["alice"]) == before


@pytest.mark.usefixtures("few_together")
@pytest.mark.parametrize(("first", "second"), [(1, 2), (2, 1)])
def test_an_interrupted_call_goes_on_with_another_number_of_processes(
    rekey, release, keys, first: int, second: int
) -> None:
    before = facts(release, keys["alice"])
    with pytest.raises(KeyboardInterrupt):
        rekey(executor=Processes(first), progress=stop_at(4))
    assert 4 <= sealed_before(rekey, executor=Processes(second)) < IMAGES
    assert facts(release, keys["alice"]) == before


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_bad_bundle_is_one_line_and_the_release_stays(rekey, release, keys, jobs: int) -> None:
    before, ids = facts(release, keys["alice"]), Release(release).ids
    bad = release / "bundles" / f"{ids[5]}.primis"
    sound = bad.read_bytes()
    bad.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    with pytest.raises(BadBundle, match=f'bundle ".*{ids[5]}.*" was altered or damaged') as raised:
        rekey(executor=Processes(jobs))
    assert "\n" not in str(raised.value)
    assert Release(release).ids == ids
    bad.write_bytes(sound)
    rekey()
    assert facts(release, keys["alice"]) == before


def test_what_was_sealed_before_and_is_damaged_is_sealed_once_more(rekey, release, keys) -> None:
    before = facts(release, keys["alice"])
    with pytest.raises(KeyboardInterrupt):
        rekey(progress=stop_at(4))
    made = sorted((release.parent / PARTIAL / "bundles").iterdir())
    assert len(made) == 4
    made[0].write_bytes(b"damaged")
    assert sealed_before(rekey) == 3
    assert made[0].stem not in Release(release).ids
    assert facts(release, keys["alice"]) == before


def test_a_task_has_the_secrets_of_its_images_alone(rekey, release, signer, monkeypatch) -> None:
    """Of whatever a worker is given: those of the release would open all."""
    plain, sent = SealWorker.__call__, []

    def watched(self, task: SealTask, done=None):
        sent.append((self, task))
        return plain(self, task)

    monkeypatch.setattr(SealWorker, "__call__", watched)
    scopes = []
    monkeypatch.setattr(rekeying, "owner_scope", told(rekeying.owner_scope, scopes))
    rekey()
    secrets = [scope.secret.value for scope in scopes]
    assert len(set(secrets)) == 2  # before and after
    given = pickle.dumps(sent)
    assert len(sent) == IMAGES
    assert not any(secret in given for secret in secrets)


def told(call, answers: list):
    """A call whose answers are noted."""

    def noted(*given):
        answers.append(call(*given))
        return answers[-1]

    return noted


@pytest.mark.usefixtures("few_together")
def test_the_disk_keeps_all_names_before_the_journal_says_so(rekey, release, monkeypatch) -> None:
    """Files are written some at a time, and their folder is then synchronised once."""
    events: list[str] = []
    plain_write, plain_sync, plain_note = task.write_new, task.sync_folder, Journal.note

    def write(path: Path, data: bytes, **how: bool) -> None:
        plain_write(path, data, **how)
        events.append("written")

    def sync(folder: Path) -> None:
        assert folder == release.parent / PARTIAL / "bundles"
        plain_sync(folder)
        events.append("kept")

    def note(self, **record):
        events.extend(["noted"] * ("sealed" in record))
        return plain_note(self, **record)

    monkeypatch.setattr(task, "write_new", write)
    monkeypatch.setattr(task, "sync_folder", sync)
    monkeypatch.setattr(Journal, "note", note)
    monkeypatch.setattr(task, "_TASKS", 1)
    rekey()
    assert events == ["written", "written", "kept", "noted"] * 4 + ["written", "kept", "noted"]


def test_a_table_finds_each_bundle_and_no_other(made) -> None:
    entries = list(Release(made).entries.values())
    table = Table(entries)
    assert [table.find(entry.id) for entry in entries] == list(range(IMAGES))
    assert [table.find(other) for other in ("0" * 32, "f" * 32)] == [None, None]
    assert [table.before(row) for row in range(IMAGES)] == entries
    table.put(3, entries[5])
    table.put(4, entries[6])
    table.put(4, None)
    assert (table.made, list(table.left())) == (1, [0, 1, 2, 4, 5, 6, 7, 8])
    assert list(table.all_made()) == [(3, entries[5])]
    assert table.renamed(entries[3].id) == entries[5].id
    assert table.renamed(entries[4].id) is None


# shards


def test_a_shard_leaves_the_release_as_it_is(rekey, release, keys) -> None:
    before = {p: p.read_bytes() for p in release.rglob("*") if p.is_file()}
    assert rekey("1/2") == Rekeyed([], [], [], [], 5)
    assert {p: p.read_bytes() for p in release.rglob("*") if p.is_file()} == before
    with pytest.raises(UsageError, match=r"4 of 9 .* not sealed anew yet, expected shards 2/2"):
        rekey(finish=True)
    rekey("2/2")
    assert rekey(finish=True).images == IMAGES


def test_an_interrupted_shard_goes_on_and_is_missed_until_then(rekey, release, keys) -> None:
    rekey("1/3")
    rekey("3/3")
    with pytest.raises(KeyboardInterrupt):
        rekey("2/3", progress=stop_at(1))
    with pytest.raises(UsageError, match=r"2 of 9 .* expected shards 2/3 to be run"):
        rekey(finish=True)
    assert sealed_before(rekey, shard="2/3") == 1
    rekey(finish=True)
    assert len(facts(release, keys["alice"])) == IMAGES


def test_a_shard_runs_beside_others_and_beside_a_grant(rekey, release, keys, signer) -> None:
    done: list[int] = []

    def meanwhile(said: str, count: int, total: int) -> None:
        if not done:
            with pytest.raises(OutputError, match='is being changed by "primis rekey 1/2"'):
                rekey("1/2")
            with pytest.raises(OutputError, match='is being changed by "primis rekey 1/2"'):
                rekey(finish=True)
            done.append(rekey("2/2").images)
            grant(Release(release), parse_recipient(f"carol={keys['stranger']}"), signer)

    rekey("1/2", progress=meanwhile)
    assert sorted(rekey(finish=True).renewed) == ["alice", "bob", "carol"]
    assert len(facts(release, keys["stranger"])) == IMAGES


def test_a_shard_that_waited_for_the_last_call_begins_nothing(release, signer) -> None:
    """What it would begin is of the next state, and nobody would end it."""
    before = Release(release)
    rekeying.rekey(Release(release), signer)
    with pytest.raises(OutputError, match="was changed meanwhile: give the command again"):
        rekeying.rekey(before, signer, shard=Shard(1, 2))
    assert [path.name for path in release.parent.iterdir()] == ["release"]


def test_shards_are_of_one_number(rekey) -> None:
    with pytest.raises(UsageError, match="no shard"):
        rekey(finish=True)
    rekey("1/2")
    for wrong in (lambda: rekey("1/3"), rekey):
        with pytest.raises(OutputError, match="is being sealed anew in 2 shards: finish that"):
            wrong()
    with pytest.raises(UsageError, match="expected one of them"):
        rekey("2/2", finish=True)


def test_a_whole_rekey_is_not_gone_on_with_in_shards(rekey) -> None:
    with pytest.raises(KeyboardInterrupt):
        rekey(progress=stop_at(1))
    with pytest.raises(OutputError, match="is being sealed anew without shards"):
        rekey("1/2")
    with pytest.raises(UsageError, match="no shard"):
        rekey(finish=True)
    rekey()


def test_shards_of_an_older_state_are_not_finished(rekey, release, signer, tmp_path, keys) -> None:
    for part in ("1/2", "2/2"):
        rekey(part)
    (tmp_path / "more.dcm").write_bytes(phantom_dicom(48, seed=99))
    add(Release(release), [tmp_path / "more.dcm"], signer, models=(TINY,))
    with pytest.raises(UsageError, match="was changed since its shards were sealed anew"):
        rekey(finish=True)
    for part in ("1/2", "2/2"):
        rekey(part)
    assert rekey(finish=True).images == IMAGES + 1
    assert len(facts(release, keys["alice"])) == IMAGES + 1


def test_a_shard_whose_release_is_changed_meanwhile_says_so(rekey, release, signer) -> None:
    """Whoever deletes the folder of the shards may give new secrets without them."""

    def meanwhile(said: str, done: int, total: int) -> None:
        if not any(path.name.endswith("-of-3") for path in release.parent.iterdir()):
            return
        shutil.rmtree(release.parent / PARTIAL)
        for path in release.parent.glob(f"{PARTIAL}.*"):
            path.unlink()
        rekey()

    with pytest.raises(BadManifest, match="was changed while it was read: open it again"):
        rekey("1/3", progress=meanwhile)


def test_who_is_withdrawn_at_the_end_cannot_open_what_was_shown_before(
    rekey, release, keys, monkeypatch
) -> None:
    """A last call was cut off when others could already read its grants."""
    for part in ("1/2", "2/2"):
        rekey(part)

    def killed(*given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(work, "level", killed)
        with pytest.raises(KeyboardInterrupt):
            rekey(finish=True)
    with pytest.raises(UsageError, match="grants are withdrawn that others may have read"):
        rekey(finish=True, without=["bob"])
    for part in ("1/2", "2/2"):
        rekey(part)
    rekey(finish=True, without=["bob"])
    assert len(facts(release, keys["alice"])) == IMAGES
    with pytest.raises(NoMatchingGrant):
        Release(release).open_grants(read_identities(keys["bob"]))


def test_nothing_of_a_record_that_another_wrote_counts(rekey, release) -> None:
    for part in ("1/2", "2/2"):
        rekey(part)
    journal = release.parent / f"{PARTIAL}.journal-1-of-2"
    head, *lines = journal.read_text().splitlines()
    forged = [line.replace('"tag": "', '"tag": "0') for line in lines]
    journal.write_text("\n".join([head, *forged]))
    with pytest.raises(UsageError, match=r"5 of 9 .* expected shards 1/2 to be run"):
        rekey(finish=True)


def test_more_shards_than_images(rekey, release, keys) -> None:
    assert sum(rekey(f"{number}/12").images for number in range(1, 13)) == IMAGES
    rekey(finish=True)
    assert len(facts(release, keys["alice"])) == IMAGES


def test_from_python(release, keys) -> None:
    for part in ("1/2", "2/2"):
        assert primis.rekey(release, owner=keys["owner"], shard=part, jobs=2).renewed == []
    done = primis.rekey(release, owner=keys["owner"], finish=True, without=["bob"])
    assert (done.renewed, done.dropped, done.images) == (["alice"], ["bob"], IMAGES)
