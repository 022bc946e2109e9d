"""The command line as a user meets it: one line per error, the exit status, no traceback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from primis.imaging.phantom import phantom_dicom
from tests.conftest import TINY


@pytest.fixture
def run(tmp_path: Path):
    def call(*words: object, status: int = 0, **env: str) -> subprocess.CompletedProcess:
        surroundings = (
            os.environ | {"PRIMIS_OWNER_KEY": str(tmp_path / "owner.key"), "COLUMNS": "200"} | env
        )
        command = [sys.executable, "-m", "primis.cli", *map(str, words)]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env=surroundings,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return call


@pytest.fixture
def released(run, tmp_path: Path) -> Path:
    (tmp_path / "chest.dcm").write_bytes(phantom_dicom(64))
    run("keygen", "-o", "alice.key")
    run(
        "share",
        "chest.dcm",
        "--to",
        "alice=alice.key",
        "-o",
        "r",
        "--model",
        TINY,
        "--with-original",
    )
    return tmp_path / "r"


def test_share_grant_restore_rekey_inspect(run, released, tmp_path) -> None:
    out = run("restore", "r", "-i", "alice.key", "-o", "out").stdout
    assert "restored 1 of 1 images" in out
    assert (tmp_path / "out" / "chest.dcm").read_bytes() == (tmp_path / "chest.dcm").read_bytes()
    run("keygen", "-o", "bob.key")
    run(
        "grant",
        "r",
        "--to",
        "bob=bob.key",
        "--tier",
        "preview",
        "--note",
        "hi",
        "--not-after",
        "2999-01-01",
    )
    shown = json.loads(run("inspect", "r", "--json", "-i", "bob.key").stdout)
    assert shown["opened"] == [
        {
            "label": "bob",
            "tier": "preview",
            "images": "all",
            "note": "hi",
            "not_after": "2999-01-01",
        }
    ]
    named = json.loads(run("inspect", "r", "--json", "-i", "alice.key").stdout)["names"]
    assert [n["name"] for n in named] == ["chest.dcm"]
    assert "names" not in shown
    assert [g["label"] for g in shown["grants"]] == ["alice", "bob", "owner"]
    assert "grants renewed: alice; dropped: bob" in run("rekey", "r", "--without", "bob").stdout
    run("restore", "r", "-i", "alice.key", "-o", "again", "--from", shown["signer"])
    assert (tmp_path / "owner.key").stat().st_mode & 0o777 == 0o600


def test_inspect_shows_a_bundle_and_a_grant_to_anyone(run, released) -> None:
    bundle, granted = (
        next((released / "bundles").iterdir()),
        next((released / "grants").glob("alice*")),
    )
    facts = json.loads(run("inspect", bundle, "--json").stdout)
    assert {"geometry", "settings", "model", "sections"} <= set(facts)
    assert [s["name"] for s in facts["sections"]] == [
        "info",
        "index",
        "public",
        "supports",
        "header",
        "original",
    ]
    assert "age X25519" in run("inspect", granted).stdout


def test_passphrase(run, tmp_path) -> None:
    (tmp_path / "chest.dcm").write_bytes(phantom_dicom(64))
    secret = {"PRIMIS_PASSPHRASE": "correct horse battery"}
    run("share", "chest.dcm", "--to", "passphrase", "-o", "r", "--model", TINY, **secret)
    run("restore", "r", "--passphrase", "-o", "out", "--model", TINY, **secret)
    wrong = run(
        "restore",
        "r",
        "--passphrase",
        "-o",
        "o2",
        status=1,
        PRIMIS_PASSPHRASE="another horse battery",
    )
    assert "has a grant for a passphrase, but not for this one" in wrong.stderr


USAGE = {
    "no arguments to share": (["share"], "Missing argument"),
    "unknown command": (["shaer"], "No such command"),
    "sparsity is text": (
        ["share", "x", "--to", "k", "-o", "r", "--sparsity", "four"],
        "--sparsity",
    ),
    "sparsity too high": (
        ["share", "x", "--to", "k", "-o", "r", "--sparsity", "99"],
        "expected 0.5 to 32",
    ),
    "no such image": (
        ["share", "nothing.png", "--to", "alice.key", "-o", "r2"],
        '"nothing.png" does not exist',
    ),
    "no such tier": (
        ["restore", "r", "-i", "alice.key", "-o", "o", "--tier", "gold"],
        '--tier is "gold"',
    ),
    "no such protection": (["demo", "--protection", "rot13"], '--protection is "rot13"'),
    "no key": (["restore", "r", "-o", "o"], "no key"),
    "no such image id": (
        ["restore", "r", "-i", "alice.key", "-o", "o", "--image", "zz"],
        'image "zz" matches 0',
    ),
    "bad date": (["grant", "r", "--to", "alice.key", "--not-after", "tomorrow"], "YYYY-MM-DD"),
    "a day that has passed": (
        ["grant", "r", "--to", "alice.key", "--not-after", "2020-01-01"],
        "expected a day to come",
    ),
    "release among the images": (
        ["share", ".", "--to", "alice.key", "-o", "q"],
        "would lie in a folder that is shared",
    ),
    "withdraw the owner": (["rekey", "r", "--without", "owner"], "cannot be withdrawn"),
    "room for no file": (
        ["share", "x", "--to", "k", "-o", "q", "--original-bits", "9"],
        "--original-bits needs --with-original",
    ),
    "too little room": (
        ["share", "x", "--to", "k", "-o", "q", "--header-bytes", "9"],
        '"9", expected 256 to 16777216',
    ),
    "original without the file": (
        ["share", "x", "--to", "k", "-o", "q", "--tier", "original"],
        "--with-original",
    ),
}
FAILURES = {
    "folder exists": (["restore", "r", "-i", "alice.key", "-o", "."], 'folder "." exists'),
    "not a release": (["restore", "nowhere", "-i", "alice.key", "-o", "o"], "is not a release"),
    "wrong key": (
        ["restore", "r", "-i", "owner.key2", "-o", "o"],
        "has no grant for the key offered",
    ),
    "missing key": (
        ["restore", "r", "-i", "no.key", "-o", "o"],
        'key file "no.key" cannot be read',
    ),
    "bad recipient": (["grant", "r", "--to", "nobody"], 'recipient "nobody"'),
    "wrong signer": (
        ["restore", "r", "-i", "alice.key", "-o", "o", "--from", "0" * 64],
        "expected",
    ),
    "model not there": (
        ["restore", "r", "-i", "alice.key", "-o", "o", "--tier", "diagnostic"],
        "is needed, but only these are here",
    ),
    "model damaged": (
        ["share", "chest.dcm", "--to", "alice.key", "-o", "q", "--model", "chest.dcm"],
        'model "chest.dcm" is damaged',
    ),
    "inspect what is nothing": (
        ["inspect", "chest.dcm"],
        "neither a release, a bundle nor a grant",
    ),
    "key file exists": (["keygen", "-o", "alice.key"], '"alice.key" exists'),
    "share where a release is": (
        ["share", "chest.dcm", "--to", "alice.key", "-o", "r"],
        'folder "r" exists',
    ),
}


def test_every_failure_is_one_line_and_a_status(run, released, tmp_path) -> None:
    run("keygen", "-o", "owner.key2")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    for cases, status in ((USAGE, 2), (FAILURES, 1)):
        for name, (words, message) in cases.items():
            error = run(*words, status=status).stderr
            lines = [line for line in error.splitlines() if not line.startswith("hint:")]
            assert message in lines[0], name
            assert all(line.startswith("primis: ") for line in lines), name
            assert len(lines) <= 2, name
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_bad_image_among_good_ones_gives_status_1(run, tmp_path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "chest.dcm").write_bytes(phantom_dicom(64))
    (tmp_path / "in" / "bad.png").write_bytes(b"nothing")
    run("keygen", "-o", "k")
    done = run("share", "in", "--to", "k", "-o", "r", "--model", TINY, status=1)
    assert "shared 1 of 2 images" in done.stdout
    assert "bad.png" in done.stderr


def test_every_failed_image_is_named(run, tmp_path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.dcm").write_bytes(phantom_dicom(64, seed=1))
    run("keygen", "-o", "alice.key")
    done = run(
        "share", "a.dcm", "b.dcm", "--to", "alice.key", "-o", "s", "--header-bytes", "256", status=2
    )
    assert all(f'image "{name}.dcm": the header takes' in done.stderr for name in ("a", "b"))


def test_help_and_version(run) -> None:
    for command in ("demo", "keygen", "share", "restore", "grant", "rekey", "inspect", "train"):
        assert command in run("--help").stdout
        assert "Usage" in run(command, "--help").stdout
    assert run("--version").stdout.startswith("primis ")


def test_ctrl_c_says_how_to_go_on(run, tmp_path) -> None:
    run("keygen", "-o", "k")
    (tmp_path / "in").mkdir()
    data = phantom_dicom(256)
    for number in range(200):
        (tmp_path / "in" / f"{number}.dcm").write_bytes(data)
    words = ["share", "in", "--to", "k", "-o", "r", "--owner", "k", "--model", str(TINY)]
    process = subprocess.Popen(
        [sys.executable, "-m", "primis.cli", *words],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    journal = tmp_path / "r.partial.journal"
    while process.poll() is None and not (journal.exists() and '"kept"' in journal.read_text()):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate()
    assert process.returncode == 130
    assert error.splitlines()[-2:] == [
        "primis: interrupted",
        "hint: the same command again goes on where it stopped",
    ]
    assert not (tmp_path / "r").exists()
    assert "image(s) were done before" in run(*words).stderr


def test_primis_contacts_nobody_and_leaves_nothing_at_home(run, released, tmp_path) -> None:
    (tmp_path / "home").mkdir()
    run(
        "restore",
        "r",
        "-i",
        "alice.key",
        "-o",
        "o",
        "--tier",
        "diagnostic",
        "--model",
        TINY,
        HOME=str(tmp_path / "home"),
    )
    assert list((tmp_path / "home").rglob("*")) == []


def test_only_share_makes_an_owner_key(run, released, tmp_path) -> None:
    elsewhere = {"PRIMIS_OWNER_KEY": str(tmp_path / "no.key")}
    assert '"' in run("rekey", "r", status=1, **elsewhere).stderr
    assert not (tmp_path / "no.key").exists()


def test_level_sca_is_shared_with_a_warning(run, released) -> None:
    done = run(
        "share",
        "chest.dcm",
        "--to",
        "alice.key",
        "-o",
        "open",
        "--protection",
        "sca",
        "--model",
        TINY,
    )
    assert "leaks the image to anyone" in done.stderr


def test_audit_writes_a_page_and_says_what_it_lacks(run, released, tmp_path) -> None:
    said = run("audit", "r", "-o", "report", "--originals", ".", "--model", TINY).stdout
    assert "found    control: a keystream used twice" in said
    assert "note: too few images" in said
    assert "learned anything of the images beyond doubt" in said
    assert (tmp_path / "report" / "index.html").exists()
    assert json.loads((tmp_path / "report" / "audit.json").read_text())["broken"] == []
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


def test_an_audit_that_finds_a_leak_fails(monkeypatch, tmp_path, capsys) -> None:
    from typer.testing import CliRunner

    from primis.cli import main
    from primis.evaluation import audit as auditing
    from primis.evaluation.attacks.judge import counted
    from primis.evaluation.report.findings import Report
    from primis.keys.identity import generate
    from primis.sharing import release

    leak, blind = counted("a", "b", "c", 1, 9), counted("a", "b", "c", 0, 9)
    (tmp_path / "k").write_text(generate())
    monkeypatch.setattr(release, "Release", lambda path: None)
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


def test_a_recipient_remembers_the_signer(run, released, tmp_path) -> None:
    """Whoever stores the release puts another in its place, sealed to the same recipient."""
    mine = {"XDG_CONFIG_HOME": str(tmp_path / "recipient")}
    first = run("restore", "r", "-i", "alice.key", "-o", "o1", **mine).stderr
    assert "is seen for the first time: signer" in first
    assert run("restore", "r", "-i", "alice.key", "-o", "o2", **mine).stderr == ""
    shutil.rmtree(tmp_path / "r")
    other = {"PRIMIS_OWNER_KEY": str(tmp_path / "mallory.key")}
    to = "alice=alice.key.pub"
    run("keygen", "-o", "mallory.key")
    run("share", "chest.dcm", "--to", to, "-o", "r", "--model", TINY, "--with-original", **other)
    refused = run("restore", "r", "-i", "alice.key", "-o", "o3", status=1, **mine).stderr
    assert "is signed by" in refused
    assert "--trust-anew accepts" in refused
    assert not (tmp_path / "o3").exists()
    run("restore", "r", "-i", "alice.key", "-o", "o4", "--trust-anew", **mine)
    assert run("restore", "r", "-i", "alice.key", "-o", "o5", **mine).stderr == ""


def test_what_a_batch_meets_is_one_line_each(run, tmp_path) -> None:
    """Files that ended whole batches: the good one is shared, the status says that some failed."""
    folder = tmp_path / "in"
    (folder / "locked").mkdir(parents=True)
    (folder / "good.dcm").write_bytes(phantom_dicom(64))
    (folder / "gone.dcm").symlink_to(folder / "nothing")
    (folder / "\x1b[31mred.png").write_bytes(b"no image")
    os.mkfifo(folder / "pipe.dcm")
    run("keygen", "-o", "k")
    done = run("share", "in", "--to", "k.pub", "-o", "r", "--model", TINY, status=1)
    assert 'shared 1 of 4 images in "r"' in done.stdout
    lines = [line for line in done.stderr.splitlines() if line.startswith("primis: image")]
    assert len(lines) == 3
    assert "\x1b" not in done.stderr
    assert any("gone.dcm" in line and "link to nothing" in line for line in lines)
    assert any("pipe.dcm" in line and "FIFO" in line for line in lines)
    run("restore", "r", "-i", "k", "-o", "out", "--model", TINY)


def test_rekey_says_what_it_leaves_behind(run, released, tmp_path) -> None:
    (released / "labels.csv").write_text("image,label")
    done = run("rekey", "r")
    assert "left out (--carry-others keeps files): labels.csv" in done.stderr
    (released / "labels.csv").write_text("image,label")
    run("rekey", "r", "--carry-others")
    assert (released / "labels.csv").exists()
    shutil.copytree(released, tmp_path / "r.0123abcd.old")
    shown = run("inspect", "r").stdout
    assert "opens with withdrawn keys" in shown
