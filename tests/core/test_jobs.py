"""Many processes: the same results as one, and nothing lost where one dies."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import primis
from primis.errors import NoPixels, OverBudget, TooManyPixels, WorkerError
from primis.imaging.phantom import phantom_dicom
from primis.jobs import restore as restoring
from primis.jobs.add import add
from primis.jobs.executors import processes
from primis.jobs.executors.executor import TRIES, Executor
from primis.jobs.executors.processes import Processes
from primis.jobs.executors.serial import Serial
from primis.jobs.result import Result
from primis.jobs.share import run as sharing
from primis.jobs.share.task import ShareWorker
from primis.keys.identity import parse_recipient, read_identities
from primis.release.reader import Release
from tests.conftest import SETTINGS, TINY

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs signals")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("in")
    for seed in range(5):
        (folder / f"{seed}.dcm").write_bytes(phantom_dicom(48 + 16 * seed, seed=seed))
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    return folder


def share(folder: Path, out: Path, keys, signer, executor: Executor | None = None, **how):
    to = [parse_recipient(f"alice={keys['alice']}")]
    return sharing.share([folder], out, to, signer, SETTINGS, model=TINY, executor=executor, **how)


def facts(results: list[Result]) -> list[tuple]:
    return [(r.name, r.bytes, r.kept, r.quality, str(r.error), r.notes) for r in results]


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_results_do_not_depend_on_the_number_of_workers(folder, keys, signer, tmp_path) -> None:
    shared = {n: share(folder, tmp_path / f"r{n}", keys, signer, Processes(n)) for n in (1, 2, 3)}
    assert facts(shared[1]) == facts(shared[2]) == facts(shared[3])
    assert sum(r.error is None for r in shared[2]) == 5
    release, identities = Release(tmp_path / "r2"), read_identities(keys["alice"])
    restored = {
        n: restoring.restore(
            release, identities, tmp_path / f"out{n}", models=(TINY,), executor=Processes(n)
        )
        for n in (1, 2)
    }
    assert restored[1] == restored[2]
    assert files(tmp_path / "out1") == files(tmp_path / "out2")
    assert len(files(tmp_path / "out1")) == 5


def test_the_owner_restores_by_processes_what_was_shared_without_originals(
    folder, keys, signer, tmp_path
) -> None:
    """Their grant is of tier original, which then is tier diagnostic, and needs the model."""
    share(folder, tmp_path / "r", keys, signer)
    release, identities = Release(tmp_path / "r"), read_identities(keys["owner"])
    results = restoring.restore(
        release, identities, tmp_path / "o", models=(TINY,), executor=Processes(2)
    )
    assert {(r.error, r.tier) for r in results} == {(None, "diagnostic")}


def test_images_are_added_by_processes(folder, keys, signer, tmp_path) -> None:
    share(folder, tmp_path / "r", keys, signer)
    (tmp_path / "more").mkdir()
    for seed in (7, 8):
        (tmp_path / "more" / f"{seed}.dcm").write_bytes(phantom_dicom(48, seed=seed))
    release = Release(tmp_path / "r")
    results = add(release, [tmp_path / "more"], signer, models=(TINY,), executor=Processes(2))
    assert [(r.name, r.error) for r in results] == [("7.dcm", None), ("8.dcm", None)]
    assert len(Release(tmp_path / "r")) == 7


def test_names_that_clash_are_given_in_the_order_of_the_images(
    folder, keys, signer, tmp_path, monkeypatch
) -> None:
    """Whichever image is done first."""
    names = ["x.dcm", "X.dcm", "x.dcm/y.dcm", "z.dcm"]
    monkeypatch.setattr(sharing, "collect", lambda inputs: [(folder / "1.dcm", n) for n in names])
    share(folder, tmp_path / "r", keys, signer)
    release, identities = Release(tmp_path / "r"), read_identities(keys["alice"])
    one = restoring.restore(release, identities, tmp_path / "one", models=(TINY,))
    other = restoring.restore(
        release, identities, tmp_path / "other", models=(TINY,), executor=Backwards()
    )
    assert one == other
    assert files(tmp_path / "one") == files(tmp_path / "other")
    assert len(files(tmp_path / "one")) == 4


class Backwards(Serial):
    """The last task is done first."""

    def run(self, worker, tasks, total, done=lambda share: None):
        yield from super().run(worker, iter(list(tasks)[::-1]), total, done)


@dataclass(frozen=True)
class Doubler:
    """A worker that doubles; some numbers end its process, always or once."""

    deadly: frozenset[int] = frozenset()
    once: Path | None = None

    def __call__(self, task: int, done=None) -> int:
        if task in self.deadly and self._first(task):
            os.kill(os.getpid(), signal.SIGKILL)
        return 2 * task

    def _first(self, task: int) -> bool:
        if self.once is None:
            return True
        try:
            (self.once / str(task)).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def lost(self, task: int, tries: int) -> str:
        return f"{task} lost after {tries}"


class Sleeper(Doubler):
    """A worker whose tasks take minutes."""

    def __call__(self, task: int, done=None) -> int:
        assert self.once is not None
        (self.once / f"{task} began").touch()
        time.sleep(600)
        return task


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers find this module where we do."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))


@pytest.mark.usefixtures("importable")
def test_a_task_that_ends_its_worker_each_time_is_reported_and_no_other_suffers() -> None:
    outcomes = dict(Processes(2).run(Doubler(frozenset({3})), iter(enumerate(range(12))), 12))
    assert outcomes == {k: 2 * k for k in range(12)} | {3: f"3 lost after {TRIES}"}


@pytest.mark.usefixtures("importable")
def test_a_task_whose_worker_dies_once_is_done(tmp_path) -> None:
    worker = Doubler(frozenset({0, 5, 11}), once=tmp_path)
    outcomes = dict(Processes(2).run(worker, iter(enumerate(range(12))), 12))
    assert outcomes == {k: 2 * k for k in range(12)}
    assert {path.name for path in tmp_path.iterdir()} == {"0", "5", "11"}


@pytest.mark.usefixtures("importable")
def test_workers_that_all_die_are_one_error_and_not_as_many_as_images() -> None:
    worker = Doubler(frozenset(range(10_000)))
    with pytest.raises(WorkerError, match="ended by themselves and none did its work"):
        list(Processes(2).run(worker, iter(enumerate(range(10_000))), 10_000))


@pytest.mark.usefixtures("importable")
def test_few_tasks_are_taken_before_they_are_needed() -> None:
    taken = 0

    def tasks() -> Iterator[tuple[int, int]]:
        nonlocal taken
        for taken in range(1, 101):
            yield taken, taken

    for done, _ in enumerate(Processes(2).run(Doubler(), tasks(), 100), start=1):
        assert taken <= done + 4


def test_few_images_start_few_processes(monkeypatch) -> None:
    monkeypatch.setattr(processes, "cores", lambda: 8)
    monkeypatch.delenv("PRIMIS_DEBUG", raising=False)
    assert [Processes().count(n) for n in (0, 1, 5, 12, 160_000)] == [1, 1, 1, 2, 8]
    assert [Processes(4).count(n) for n in (0, 1, 3, 100)] == [1, 1, 3, 4]


def test_a_worker_process_uses_one_thread(codec) -> None:
    worker = pickle.loads(pickle.dumps(ShareWorker(codec)))
    options = worker.codec._engine._encode.get_session_options()
    assert options.intra_op_num_threads == 1
    assert worker.codec.checkpoint.digest == codec.checkpoint.digest


@pytest.mark.parametrize(
    "error",
    [
        OverBudget("the header takes 9 bytes", "header_bytes", 16.0),
        NoPixels("SR", Path("a.dcm")),
        TooManyPixels("has 9 samples"),
    ],
)
def test_errors_come_back_from_a_worker_as_they_were(error) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


SHARE = """
    import sys
    from pathlib import Path
    from primis.jobs.executors.processes import Processes
    from primis.jobs.share.run import share
    from primis.keys.identity import parse_recipient, read_signer
    from tests.conftest import SETTINGS, TINY
    folder, out, owner, alice = map(Path, sys.argv[1:])
    def told(result, done, total):
        print(done, flush=True)
    share([folder], out, [parse_recipient(f"alice={alice}")], read_signer(owner), SETTINGS,
          model=TINY, executor=Processes(2), on_result=told)
"""


PLACES = (Path(__file__).parents[2], Path(primis.__file__).parents[1])
"""Of `tests` and `primis`."""


def test_an_interruption_ends_all_workers_and_the_same_call_goes_on(keys, signer, tmp_path) -> None:
    """As an unguarded script, which a pool of the standard library would run once more."""
    folder = tmp_path / "in"
    folder.mkdir()
    for seed in range(12):
        (folder / f"{seed}.dcm").write_bytes(phantom_dicom(160, seed=seed))
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SHARE))
    command = [sys.executable, script, folder, tmp_path / "r", keys["owner"], keys["alice"]]
    mark = f"{tmp_path.name}-{os.getpid()}"
    running = subprocess.Popen(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"MARK": mark, "PYTHONPATH": os.pathsep.join(map(str, PLACES))},
    )
    assert running.stdout is not None
    for _ in range(3):
        assert running.stdout.readline()
    assert len(_marked(mark)) >= 3
    assert {line.split(b"\0", 1)[1] for line in _workers(mark)} == {
        b"-P\0-m\0primis.jobs.executors.program\0"
    }
    running.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in running.communicate(timeout=60)[1]
    _wait_until(lambda: not _marked(mark))
    results = share(folder, tmp_path / "r", keys, signer, Processes(2))
    assert len(results) == 12 and all(r.error is None for r in results)
    assert sum(r.resumed for r in results) >= 3
    assert not list(tmp_path.glob("r.partial*"))


def test_workers_end_with_a_coordinator_that_is_killed(tmp_path) -> None:
    script = """
        import sys
        from pathlib import Path
        from primis.jobs.executors.processes import Processes
        from tests.core.test_jobs import Sleeper
        worker = Sleeper(once=Path(sys.argv[1]))
        list(Processes(2).run(worker, iter(enumerate(range(2))), 2))
    """
    mark = f"{tmp_path.name}-{os.getpid()}"
    running = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)],
        env=os.environ | {"MARK": mark, "PYTHONPATH": os.pathsep.join(map(str, PLACES))},
    )
    _wait_until(lambda: len(list(tmp_path.glob("* began"))) == 2)
    running.kill()
    running.wait()
    _wait_until(lambda: not _marked(mark))


def _marked(mark: str) -> list[Path]:
    """Processes that inherited an environment variable."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if f"MARK={mark}".encode() in (place / "environ").read_bytes().split(b"\0"):
                found.append(place)
        except OSError:
            continue
    return found


def _workers(mark: str) -> list[bytes]:
    """The command lines of worker processes."""
    lines = []
    for place in _marked(mark):
        try:
            line = (place / "cmdline").read_bytes()
        except OSError:
            continue
        if b"executors.program" in line:
            lines.append(line)
    return lines


def _wait_until(holds) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_worker_that_is_killed_loses_no_image(folder, keys, signer, tmp_path) -> None:
    killed = []

    def kill(result: Result, done: int, total: int) -> None:
        if not killed:
            children = [p for p in _children(os.getpid()) if b"executors.program" in _line(p)]
            killed.extend(children)
            for child in children:
                os.kill(child, signal.SIGKILL)

    results = share(folder, tmp_path / "r", keys, signer, Processes(2), on_result=kill)
    assert killed
    assert [r.name for r in results if r.error] == ["bad.png"]
    assert len(Release(tmp_path / "r")) == 5
    assert len(list((tmp_path / "r" / "bundles").iterdir())) == 5


def _children(pid: int) -> list[int]:
    place = Path(f"/proc/{pid}/task")
    return [int(c) for task in place.iterdir() for c in (task / "children").read_text().split()]


def _line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.fixture(autouse=True)
def needs_proc(request: pytest.FixtureRequest) -> None:
    looks = "killed" in request.node.name or "interruption" in request.node.name
    if looks and not Path("/proc/self/environ").exists():
        pytest.skip("needs /proc")
