"""A Dask cluster of two processes: all images done, none twice, and one line where it cannot be."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from primis.datasets.files import Source
from primis.errors import WorkerError
from primis.imaging.phantom import phantom_dicom
from primis.jobs import restore as restoring
from primis.jobs.executors.choice import executor_for
from primis.jobs.rekey.run import rekey
from primis.jobs.rekey.task import SealWorker
from primis.jobs.result import Result
from primis.jobs.share import run as sharing
from primis.keys.identity import parse_recipient, read_identities
from primis.release.reader import Release
from primis.release.verify import verify
from primis.stores.local import LocalStore
from tests.conftest import SETTINGS, TINY
from tests.documented import commands, lay_out_images, reader

RESTORED = ("restored", "restored-by-dask")
distributed = pytest.importorskip("distributed")
dask = pytest.importorskip("primis.jobs.executors.dask")


@pytest.fixture(scope="module")
def cluster() -> Iterator:
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address=None,
        silence_logs=logging.CRITICAL,
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("in")
    for seed in range(20):
        (folder / f"{seed:02}.dcm").write_bytes(phantom_dicom(96, seed=seed))
    return folder


@pytest.fixture
def share(folder, keys, signer, tmp_path, cluster):
    def run(out="r", place=None, **how):
        to = [parse_recipient(f"alice={keys['alice']}")]
        with executor_for(None, place or cluster.scheduler_address) as executor:
            return sharing.share(
                [folder],
                tmp_path / out,
                to,
                signer,
                SETTINGS,
                model=TINY,
                executor=executor,
                **how,
            )

    return run


def test_a_worker_that_is_killed_loses_no_image_and_none_is_done_twice(
    share, cluster, keys, tmp_path
) -> None:
    killed: list[int] = []
    told: list[str] = []

    def kill(result: Result, done: int, total: int) -> None:
        told.append(result.name)
        if not killed:
            nanny = cluster.workers[0]
            killed.append(nanny.pid)
            os.kill(nanny.pid, signal.SIGKILL)

    results = share(on_result=kill)
    assert killed
    assert [r.error for r in results] == [None] * 20
    assert sorted(told) == [r.name for r in results]
    assert len(list((tmp_path / "r" / "bundles").iterdir())) == 20
    release, identities = Release(tmp_path / "r"), read_identities(keys["alice"])
    with distributed.Client(cluster) as client, executor_for(None, client) as executor:
        there = restoring.restore(
            release, identities, tmp_path / "there", models=(TINY,), executor=executor
        )
    here = restoring.restore(release, identities, tmp_path / "here", models=(TINY,))
    assert there == here
    assert {p.name: p.read_bytes() for p in (tmp_path / "there").iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "here").iterdir()
    }


def test_new_secrets_by_a_cluster_whose_workers_need_not_see_the_release(
    share, cluster, keys, signer, tmp_path, monkeypatch
) -> None:
    """They are sent bytes and give bytes back."""
    share()
    identities, sent = read_identities(keys["alice"]), []
    before = restoring.restore(
        Release(tmp_path / "r"), identities, tmp_path / "before", models=(TINY,)
    )
    plain = SealWorker.sent

    def watched(self, task):
        sent.append(plain(self, task))
        return sent[-1]

    monkeypatch.setattr(SealWorker, "sent", watched)
    with executor_for(None, cluster.scheduler_address) as executor:
        done = rekey(Release(tmp_path / "r"), signer, executor=executor)
    assert (done.renewed, done.images) == (["alice"], 20)
    assert all(bundle.data for task in sent for bundle in task)
    found = verify(Release(tmp_path / "r"))
    assert (found.bundles, found.wrong, found.unlisted) == (20, [], [])
    after = restoring.restore(
        Release(tmp_path / "r"), identities, tmp_path / "after", models=(TINY,)
    )
    assert sorted((r.name, r.quality, r.error) for r in after) == sorted(
        (r.name, r.quality, r.error) for r in before
    )
    nowhere = LocalStore(tmp_path / "nowhere")
    there = SealWorker(Release(tmp_path / "r").profiles, None, nowhere)
    sealed = there.elsewhere(sent[0], "node7")
    assert [len(data) for data in sealed.data] == [entry.size for entry in sealed.entries]
    assert len(sealed.data) == len(sent[0]) and not nowhere.folder.exists()


def test_an_interrupted_run_goes_on_elsewhere(share, folder, keys, signer, tmp_path) -> None:
    def interrupt(result: Result, done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        share("s", on_result=interrupt)
    to = [parse_recipient(f"alice={keys['alice']}")]
    results = sharing.share([folder], tmp_path / "s", to, signer, SETTINGS, model=TINY)
    assert sum(r.resumed for r in results) == 4
    assert all(r.error is None for r in results)


def test_a_file_that_a_worker_does_not_find_is_told_with_the_remedy(codec, tmp_path) -> None:
    from primis.jobs.share.task import ShareWorker

    gone = Source.of((tmp_path / "gone.dcm", "gone.dcm"))
    task = SimpleNamespace(source=gone, need=None)
    said = str(ShareWorker(codec).elsewhere(task, "node7"))
    assert 'the worker on "node7"' in said and "same path on all machines" in said


@pytest.mark.parametrize(
    "address", ["tcp://10.0.0.1:8786", "10.0.0.1:8786", "tcp://cluster.example.org:8786"]
)
def test_tls_is_demanded_unless_the_scheduler_is_on_this_machine(address) -> None:
    with pytest.raises(WorkerError, match="without TLS"), executor_for(None, address):
        pass
    for fine in ("tls://10.0.0.1:8786", "tcp://127.0.0.1:8786", "tcp://[::1]:1", "localhost:1"):
        dask._require_safe(fine, insecure=False)
    dask._require_safe(address, insecure=True)


def test_a_scheduler_that_other_machines_reach_without_tls_is_refused_from_here_too() -> None:
    """It may be named by its loopback address."""
    client = SimpleNamespace(
        scheduler=SimpleNamespace(address="tcp://127.0.0.1:8786"),
        scheduler_info=lambda: {"address": "tcp://10.0.0.1:8786", "workers": {"one": {}}},
    )
    with pytest.raises(WorkerError, match="without TLS"):
        dask._check(client, insecure=False)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "tls://127.0.0.1:9", "127.0.0.1:x"])
def test_a_scheduler_that_cannot_be_reached_is_one_line(address, monkeypatch) -> None:
    monkeypatch.setattr(dask, "_SECONDS", 1)
    with (
        pytest.raises(WorkerError, match="cannot be reached") as raised,
        executor_for(None, address),
    ):
        pass
    assert "\n" not in str(raised.value)


def test_another_version_on_a_worker_is_one_line() -> None:
    said = dask._work(dask._Parcel.of(None), dask._Parcel.of([]), "primis 9 on Python 3.99").open()
    assert "expected primis 9 on Python 3.99" in said


def test_a_scheduler_that_ends_in_the_middle_keeps_the_journal(
    share, cluster, folder, keys, signer, tmp_path
) -> None:
    other = distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        loop=cluster.loop,  # of its own it must start within 10 s, which a busy machine may miss
        host="127.0.0.1",
        dashboard_address=None,
        silence_logs=logging.CRITICAL,
    )

    def end(result: Result, done: int, total: int) -> None:
        if done == 2:
            other.close()

    with pytest.raises(WorkerError, match="scheduler ended"):
        share("t", other.scheduler_address, on_result=end)
    to = [parse_recipient(f"alice={keys['alice']}")]
    results = sharing.share([folder], tmp_path / "t", to, signer, SETTINGS, model=TINY)
    assert sum(r.resumed for r in results) >= 2
    assert all(r.error is None for r in results)


def test_a_parcel_shows_nothing_of_what_is_in_it() -> None:
    assert "secret" not in repr(dask._Parcel.of(b"secret"))


def test_the_page_on_clusters_runs_as_it_stands(cluster, tmp_path, capsys) -> None:
    lay_out_images(tmp_path)
    address = urlsplit(cluster.scheduler_address).netloc
    with reader(tmp_path, capsys) as call:
        call("keygen", "-o", "alice.key")
        for command in commands("docs/how-to/cluster.md"):
            call(*(word.replace("127.0.0.1:8786", address) for word in command.words))
    restored = [{p.name for p in (tmp_path / x).iterdir()} for x in RESTORED]
    assert restored == [{f"{seed}.dcm" for seed in range(6)}] * 2
    parts = [{p.name for p in (tmp_path / "parts" / k).iterdir()} for k in "12"]
    assert [len(part) for part in parts] == [3, 3]
    assert set.union(*parts) == restored[0]
