"""The commands that attack, measure and train, which need torch, as a user meets them."""

from __future__ import annotations

import io
import json

import numpy as np
import pydicom
import pytest

from primis.errors import UsageError
from primis.imaging.files import parse
from primis.imaging.image import pixel_limit
from primis.imaging.padding import find_padding
from primis.imaging.phantom import draw_phantom, phantom_dicom
from tests.conftest import TINY
from tests.core.test_cli import here, released, run, share
from tests.hosts import web_host

__all__ = ["here", "released", "run"]


def test_audit_writes_a_page_and_says_what_it_lacks(run, released, tmp_path) -> None:
    said = run("audit", "r", "-o", "report", "--originals", ".", "--model", TINY).stdout
    assert "detected control: a keystream used twice" in said
    assert "note: too few images" in said
    assert "learned anything of the images" in said
    assert (tmp_path / "report" / "index.html").exists()
    assert json.loads((tmp_path / "report" / "audit.json").read_text())["verdict"]["detected"] == []
    assert not (tmp_path / "report.partial").exists()
    assert '"report" exists' in run("audit", "r", "-o", "report", "--model", TINY, status=1).stderr
    assert (
        "does not exist"
        in run(
            "audit", "r", "-o", "x", "--originals", "elsewhere", "--model", TINY, status=2
        ).stderr
    )
    run("keygen", "-o", "other.key")
    assert run(
        "audit", "r", "-o", "x", "--model", TINY, "--owner", "other.key", status=1
    ).stderr.startswith("primis: ")
    assert not (tmp_path / "x").exists()


def test_a_release_on_a_web_host_is_audited_where_it_lies(here, tmp_path) -> None:
    assert share(here, "chest.dcm")[0] == 0
    with web_host(tmp_path) as host:
        status, out, err = here(
            "audit", f"{host.url}/r", "-o", "report", "--model", TINY, "--jobs", "2"
        )
    assert status == 0, err
    assert "detected control: one secret for all images" in out
    assert "too few images" in out
    both = here("audit", "r", "-o", "x", "--jobs", "2", "--dask", "x:1")[2]
    assert "--jobs and --dask were both given" in both


@pytest.mark.parametrize(("debug", "workers"), [("", 3), ("1", 1)])
def test_an_audit_uses_all_cores_unless_an_error_is_looked_for(
    here, monkeypatch, debug: str, workers: int
) -> None:
    """An error is to be seen where it arises: `PRIMIS_DEBUG=1 shows where`."""
    from primis import codec
    from primis.audit import run as auditing
    from primis.jobs.executors import processes

    def counted(*_: object, executor, **__: object) -> None:
        raise UsageError(f"{executor.count(100)} at once")

    assert share(here, "chest.dcm")[0] == 0
    monkeypatch.setattr(auditing, "audit", counted)
    monkeypatch.setattr(codec, "cores", lambda: 3)
    monkeypatch.setattr(processes, "cores", lambda: 3)
    monkeypatch.setenv("PRIMIS_DEBUG", debug)
    assert f"{workers} at once" in here("audit", "r", "-o", "x", "--model", TINY)[2]


def test_an_audit_that_finds_a_leak_fails(monkeypatch, tmp_path, capsys) -> None:
    from typer.testing import CliRunner

    from primis.attacks.result import counted
    from primis.audit import run as auditing
    from primis.audit.report import Report
    from primis.cli import main
    from primis.keys.identity import generate
    from primis.release import reader

    leak, blind = counted("a", "b", "c", 1, 9), counted("a", "b", "c", 0, 9)
    (tmp_path / "k").write_text(generate())
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "manifest.json").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reader, "Release", lambda path: None)
    for controls, findings, status in (
        ([leak], [blind], 0),
        ([leak], [leak], 1),
        ([blind], [blind], 1),
    ):
        monkeypatch.setattr(
            auditing, "audit", lambda *_, c=controls, f=findings, **__: Report({}, c, f, [])
        )
        words = [
            "audit",
            "r",
            "-o",
            str(tmp_path / f"out{status}{len(list(tmp_path.iterdir()))}"),
            "--owner",
            str(tmp_path / "k"),
        ]
        assert CliRunner().invoke(main.app, words).exit_code == status


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("evaluate", "everything", ".", "-o", "out"),
            'part "everything" is unknown, expected fidelity',
        ),
        (("evaluate", "all", "nowhere", "-o", "out"), 'data "nowhere" does not exist'),
        (
            ("evaluate", "all", ".", "-o", "out", "--mechanism", "rot13"),
            '--mechanism is "rot13", expected keyed',
        ),
        (
            ("evaluate", "fidelity", ".", "-o", "out", "--sparsity", "99"),
            '--sparsity is "99", expected 0.5 to 32',
        ),
        (("evaluate", "fidelity", ".", "-o", "out", "--most", "3"), '--most is "3", expected 20'),
        (
            ("evaluate", "fidelity", ".", "-o", "out", "--layout", "mine"),
            'layout "mine" is unknown, expected table',
        ),
        (
            ("evaluate", "fidelity", "chest.dcm", "-o", "out"),
            'data "chest.dcm" is a file, expected a folder',
        ),
        (("evaluate", "fidelity", ".", "-o", "."), '"." exists, expected a new folder'),
    ],
)
def test_evaluate_says_what_is_wrong(run, tmp_path, words, said) -> None:
    (tmp_path / "chest.dcm").write_bytes(phantom_dicom(64))
    done = run(*words, status=1 if "exists" in said else 2)
    first, *rest = done.stderr.splitlines()
    assert said in first
    assert all(line.startswith("hint:") for line in rest)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.partial" / "report").exists()


def test_nothing_is_written_into_a_release(here, tmp_path) -> None:
    assert share(here, "chest.dcm")[0] == 0
    before = sorted(tmp_path.glob("[!c]*/**/*"))
    for words in (("audit", "r"), ("evaluate", "all", "."), ("train", ".")):
        status, _, err = here(*words, "-o", "r/x")
        assert status == 1, words
        assert f'"r/x" would lie in the release "{tmp_path / "r"}"' in err, words
    assert sorted(tmp_path.glob("[!c]*/**/*")) == before


def test_a_mistyped_release_is_not_attacked(here) -> None:
    said = 'primis: folder "x" does not exist, expected a release\n'
    assert here("audit", "x", "-o", "o")[::2] == (1, said)


@pytest.mark.parametrize(
    ("words", "reads"),
    [
        (("audit", "r"), "primis.audit.run.audit"),
        (("evaluate", "fidelity", "."), "primis.study.study.Study"),
        (("train", "."), "primis.training.run.train_checkpoint"),
    ],
)
def test_all_that_a_command_reads_is_under_its_limit_of_pixels(
    here, tmp_path, monkeypatch, words, reads
) -> None:
    assert share(here, "chest.dcm")[0] == 0
    (tmp_path / "chest2.dcm").write_bytes(phantom_dicom(64))

    def told(*_: object, **__: object) -> None:
        raise UsageError(f"reads up to {pixel_limit(None, 1 << 40)}")

    monkeypatch.setattr(reads, told)
    for option, limit in ((("--max-pixels", "12345"), 12345), ((), 600_000_000)):
        status, _, err = here(*words, "-o", "q", *option)
        assert (status, err.splitlines()[0]) == (2, f"primis: reads up to {limit}")


def test_an_audit_knows_an_original_with_padding(here, tmp_path) -> None:
    """What is padding is not encoded: encoded again, the original must be without it too."""
    source = pydicom.dcmread(io.BytesIO(phantom_dicom(64)))
    pixels = source.pixel_array.copy()
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    pixels[x**2 + y**2 > 1] = 65535
    source.PixelData = pixels.tobytes()
    source.BitsStored, source.HighBit = 16, 15
    source.add_new("PixelPaddingValue", "US", 65535)
    (tmp_path / "in").mkdir()
    source.save_as(tmp_path / "in" / "ct.dcm")
    assert find_padding(parse((tmp_path / "in" / "ct.dcm").read_bytes())) is not None
    assert share(here, "in")[0] == 0
    status, _, err = here("audit", "r", "-o", "report", "--originals", "in", "--model", TINY)
    assert status == 0, err
    draw = (draw_phantom(64, seed=5) << 2).astype(np.uint16)
    source.PixelData = draw.tobytes()
    source.save_as(tmp_path / "in" / "ct.dcm")
    status, _, err = here("audit", "r", "-o", "report2", "--originals", "in", "--model", TINY)
    assert (status, "is not the image that was shared under this name" in err) == (2, True)
