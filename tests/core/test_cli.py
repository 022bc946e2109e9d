"""The command line as a user meets it: one line per error, the exit status, no traceback."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image
import pydicom
import pytest

from primis.cli import arguments, main
from primis.cli.progress import Report, running_bar
from primis.cli.say import plain
from primis.errors import InputError, OutputError
from primis.imaging.phantom import phantom_dicom
from primis.jobs.result import Result
from primis.network.checkpoint import Domain, read_checkpoint, shipped
from primis.network.presets import PRESETS
from tests.conftest import TINY
from tests.core.test_recipients import age_by_passphrase

posix = pytest.mark.skipif(os.name != "posix", reason="needs signals, FIFOs and odd names")


class Said(NamedTuple):
    """What a command printed."""

    stdout: str
    stderr: str


@pytest.fixture
def run(tmp_path: Path, monkeypatch, capsys):
    """Commands in this process, which is much faster than one of their own."""

    def call(*words: object, status: int = 0, **env: str) -> Said:
        surroundings = {"PRIMIS_OWNER_KEY": str(tmp_path / "owner.key"), "COLUMNS": "200"} | env
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
            patch.chdir(tmp_path)
            patch.setattr(sys, "argv", ["primis", *map(str, words)])
            patch.setattr(sys, "stdin", io.StringIO())
            patch.setattr(arguments, "_remembered", [])
            for name, value in surroundings.items():
                patch.setenv(name, value)
            main.main()
        said = Said(*capsys.readouterr())
        assert int(ended.value.code or 0) == status, said.stderr
        return said

    return call


@pytest.fixture
def released(run, tmp_path: Path) -> Path:
    (tmp_path / "chest.dcm").write_bytes(phantom_dicom(64))
    run("keygen", "-o", "alice.key")
    run(
        "share",
        "chest.dcm",
        "--to",
        "alice=alice.key.pub",
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
        "bob=bob.key.pub",
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
    if os.name == "posix":
        assert (tmp_path / "owner.key").stat().st_mode & 0o777 == 0o600


def fidelity_in(text: str) -> tuple[float, ...]:
    """PSNR, mean and worst, and SSIM likewise, of the line on fidelity."""
    [line] = [line for line in text.splitlines() if line.startswith("fidelity: ")]
    pattern = (
        r'fidelity: PSNR ([\d.]+) dB on average, ([\d.]+) dB at worst \(".*"\); '
        r"SSIM ([\d.]+) on average, ([\d.]+) at worst(?:; \d exact)?"
    )
    found = re.fullmatch(pattern, line)
    assert found, line
    return tuple(float(number) for number in found.groups())


def test_what_images_lose_is_told_by_share_add_and_restore(run, tmp_path) -> None:
    """On a line of its own, image by image where asked for, and as JSON; a warning where it is
    much."""
    for seed in (1, 2, 3):
        (tmp_path / f"{seed}.dcm").write_bytes(phantom_dicom(64, seed=seed))
    mask = (np.mgrid[:40, :40][0] // 20 * 255).astype(np.uint8)
    PIL.Image.fromarray(mask).save(tmp_path / "mask.png")
    run("keygen", "-o", "alice.key")
    to = ("--to", "alice=alice.key.pub", "--model", TINY)
    said = run("share", "1.dcm", "2.dcm", "mask.png", *to, "-o", "r", "-v", "--least-psnr", "99")
    assert said.stdout.splitlines()[-1].endswith("; 1 exact")
    psnr, worst, ssim, worst_ssim = fidelity_in(said.stdout)
    assert 20 < worst < psnr < 60
    assert 0.5 < worst_ssim < ssim < 1
    each = re.findall(
        r" (\S+): \d+ bytes, S_x [\d.]+, PSNR ([\d.]+) dB, SSIM [\d.]+$", said.stderr, re.M
    )
    assert {name for name, _ in each} == {"1.dcm", "2.dcm"}
    assert min(float(value) for _, value in each) == worst
    assert re.search(r" mask.png: \d+ bytes, exact$", said.stderr, re.M)
    [warned] = [line for line in said.stderr.splitlines() if line.startswith("warning: ")]
    lowest = min(each, key=lambda pair: float(pair[1]))[0]
    assert "2 of 3 images have a PSNR below 99 dB" in warned
    assert f'the worst is "{lowest}" with {worst:.1f} dB' in warned

    restored = run("restore", "r", "-i", "alice.key", "-o", "out", "--model", TINY, "-v")
    assert fidelity_in(restored.stdout) == (psnr, worst, ssim, worst_ssim)
    assert f"{lowest}: " in restored.stderr
    assert f"PSNR {worst:.1f} dB" in restored.stderr
    facts = json.loads(
        run("restore", "r", "-i", "alice.key", "-o", "o2", "--model", TINY, "--json").stdout
    )
    assert facts["fidelity"]["lossy"] == 2
    assert facts["fidelity"]["exact"] == 1
    assert round(facts["fidelity"]["psnr"]["worst"], 1) == worst
    assert round(facts["fidelity"]["ssim"]["mean"], 3) == ssim
    by_name = {image["name"]: image["quality"] for image in facts["images"]}
    assert by_name["mask.png"] == {"psnr": None, "ssim": 1.0}
    assert by_name[lowest]["psnr"] == facts["fidelity"]["psnr"]["worst"]

    added = run("add", "r", "3.dcm", "--model", TINY, "--least-psnr", "0", "--json")
    assert "warning" not in added.stderr
    added = json.loads(added.stdout)
    assert added["fidelity"]["psnr"]["worst"] == added["images"][0]["quality"]["psnr"] > 20
    assert added["notes"] == added["warnings"] == []


def test_texture_is_added_where_it_is_asked_for_and_told(run, tmp_path) -> None:
    """The fidelity that is told is said to be that without it, also as JSON."""
    (tmp_path / "1.dcm").write_bytes(phantom_dicom(96, seed=1))
    mask = (np.mgrid[:40, :40][0] // 20 * 255).astype(np.uint8)
    PIL.Image.fromarray(mask).save(tmp_path / "mask.png")
    run("keygen", "-o", "alice.key")
    to = ("--to", "alice=alice.key.pub", "--model", TINY, "--with-original")
    run("share", "1.dcm", "mask.png", *to, "-o", "r")
    words = ("restore", "r", "-i", "alice.key", "--model", TINY)
    said = run(*words, "-o", "plain", "--tier", "diagnostic").stdout
    assert "texture" not in said
    said = run(*words, "-o", "textured", "--texture").stdout.splitlines()
    assert "(tier diagnostic)" in said[0]
    assert said[1].startswith("fidelity before texture was added: PSNR ")
    assert said[2:] == [
        "synthetic texture was added to 1 image: for measuring texture, not for reading"
    ]
    facts = json.loads(run(*words, "-o", "o2", "--texture", "--json").stdout)
    chest, flat = sorted(facts["images"], key=lambda image: image["name"])
    assert (chest["texture"], chest["quality"]) == (True, None)
    assert chest["quality_without_texture"]["psnr"] > 20
    assert (flat["texture"], flat["quality_without_texture"]) == (False, None)
    assert flat["quality"] == {"psnr": None, "ssim": 1.0}
    assert facts["fidelity_without_texture"]["lossy"] == 1
    assert facts["fidelity"] == {"exact": 1, "lossy": 0, "psnr": None, "ssim": None}
    plain, textured = (pydicom.dcmread(tmp_path / o / "1.dcm") for o in ("plain", "textured"))
    assert (plain.pixel_array != textured.pixel_array).any()
    assert "not for reading" in textured.DerivationDescription
    refused = run(*words, "-o", "o3", "--texture", "--tier", "preview", status=1)
    assert 'texture was asked for at tier "preview"' in refused.stderr


def test_texture_that_was_not_measured_is_an_error_of_one_line(run, tmp_path) -> None:
    (tmp_path / "1.dcm").write_bytes(phantom_dicom(64))
    run("keygen", "-o", "alice.key")
    run("share", "1.dcm", "--to", "alice.key.pub", "--model", TINY, "--no-measure", "-o", "r")
    words = ("restore", "r", "-i", "alice.key", "--model", TINY, "--texture")
    said = run(*words, "-o", "o", status=1)
    assert re.search(r"holds no texture: it was shared without measuring$", said.stderr, re.M)
    assert not list(tmp_path.glob("o/*"))


def test_what_is_not_measured_is_not_told(run, tmp_path) -> None:
    (tmp_path / "1.dcm").write_bytes(phantom_dicom(64))
    run("keygen", "-o", "alice.key")
    words = ("share", "1.dcm", "--to", "alice.key.pub", "--model", TINY, "--no-measure", "--json")
    shared = json.loads(run(*words, "-o", "r").stdout)
    assert (shared["fidelity"], shared["images"][0]["quality"]) == (None, None)
    assert (
        "fidelity" not in run("restore", "r", "-i", "alice.key", "-o", "o", "--model", TINY).stdout
    )


def test_a_psnr_chooses_the_s_x_and_says_it(run, tmp_path) -> None:
    for seed in (1, 2):
        (tmp_path / f"{seed}.dcm").write_bytes(phantom_dicom(64, seed=seed))
    run("keygen", "-o", "alice.key")
    words = ("share", "1.dcm", "2.dcm", "--to", "alice.key.pub", "--model", TINY)
    said = run(*words, "-o", "r", "--psnr", "25", "--json")
    facts = json.loads(said.stdout)
    assert facts["fidelity"]["psnr"]["worst"] >= 25
    assert f"note: S_x = {facts['sparsity']:g} is the smallest" in said.stderr
    assert "reach 25 dB, measured on 2 of 2" in said.stderr
    assert facts["warnings"] == []  # whoever asks for 25 dB is not warned below 35
    plain = run(*words, "-o", "p")
    assert "2 of 2 images have a PSNR below 35 dB" in plain.stderr
    assert ": share with a larger --sparsity" in plain.stderr
    [settings] = json.loads(run("inspect", "r", "--json").stdout)["settings"]
    assert settings["sparsity"] == facts["sparsity"] != 8
    refused = run(*words, "-o", "q", "--psnr", "99", status=1)
    assert "too few images reach a PSNR of 99 dB" in refused.stderr
    assert not list(tmp_path.glob("q*"))


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
        "header",
        "original",
    ]
    assert "age X25519" in run("inspect", granted).stdout


@pytest.fixture
def quick_passphrases(monkeypatch) -> None:
    """Grants to passphrases that take little work, as age's own take seconds."""
    monkeypatch.setattr("pyrage.passphrase.encrypt", age_by_passphrase)


@pytest.mark.usefixtures("quick_passphrases")
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
        ["share", "x", "--to", "k.pub", "-o", "r", "--sparsity", "four"],
        "--sparsity",
    ),
    "sparsity too high": (
        ["share", "x", "--to", "k.pub", "-o", "r", "--sparsity", "99"],
        "expected 0.5 to 32",
    ),
    "two ways to choose S_x": (
        ["share", "x", "--to", "k.pub", "-o", "r", "--sparsity", "8", "--psnr", "42"],
        "--psnr chooses S_x, expected --psnr or --sparsity and not both",
    ),
    "PSNR that no image has": (
        ["share", "x", "--to", "k.pub", "-o", "r", "--psnr", "400"],
        "expected 10 to 100",
    ),
    "a threshold for what is not measured": (
        ["add", "r", "x", "--no-measure", "--least-psnr", "30"],
        "--least-psnr needs what --no-measure leaves out",
    ),
    "no such tier": (
        ["restore", "r", "-i", "alice.key", "-o", "o", "--tier", "gold"],
        '--tier is "gold"',
    ),
    "no such protection": (["demo", "--protection", "rot13"], '--protection is "rot13"'),
    "no key": (["restore", "r", "-o", "o"], "no key"),
    "signer that is none": (
        ["restore", "r", "-i", "alice.key", "-o", "o", "--from", "me"],
        '--from is "me", expected the 64 hex digits of a signer',
    ),
    "bad date": (["grant", "r", "--to", "alice.key.pub", "--not-after", "tomorrow"], "YYYY-MM-DD"),
    "a day that has passed": (
        ["grant", "r", "--to", "alice.key.pub", "--not-after", "2020-01-01"],
        "expected today or a later day",
    ),
    "release among the images": (
        ["share", ".", "--to", "alice.key.pub", "-o", "q"],
        "would lie in a folder that is shared",
    ),
    "room for no file": (
        ["share", "x", "--to", "k.pub", "-o", "q", "--original-bits", "9"],
        "--original-bits needs --with-original",
    ),
    "too little room": (
        ["share", "x", "--to", "k.pub", "-o", "q", "--header-bytes", "9"],
        '"9", expected 64 to 16777216',
    ),
    "one shard and the end of all": (
        ["rekey", "x", "--shard", "1/2", "--finish"],
        "--shard and --finish were both given",
    ),
    "rekey in two ways": (
        ["rekey", "x", "--jobs", "2", "--dask", "a:1"],
        "--jobs and --dask were both given",
    ),
    "original without the file": (
        ["share", "x", "--to", "k.pub", "-o", "q", "--tier", "original"],
        "--with-original",
    ),
}
FAILURES = {
    "no such image": (
        ["share", "nothing.png", "--to", "alice.key.pub", "-o", "r2"],
        '"nothing.png" does not exist',
    ),
    "no such image id": (
        ["restore", "r", "-i", "alice.key", "-o", "o", "--image", "zz"],
        'image "zz" matches 0',
    ),
    "withdraw the owner": (["rekey", "r", "--without", "owner"], "cannot be withdrawn"),
    "a folder that is no release": (
        ["restore", "empty", "-i", "alice.key", "-o", "o"],
        'folder "empty" is no release: it has no manifest.json',
    ),
    "folder exists": (["restore", "r", "-i", "alice.key", "-o", "."], 'folder "." exists'),
    "not a release": (
        ["restore", "nowhere", "-i", "alice.key", "-o", "o"],
        'folder "nowhere" does not exist',
    ),
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
        ["share", "chest.dcm", "--to", "alice.key.pub", "-o", "q", "--model", "chest.dcm"],
        'model "chest.dcm" is damaged',
    ),
    "inspect what is nothing": (
        ["inspect", "chest.dcm"],
        "neither a release, a bundle nor a grant",
    ),
    "key file exists": (["keygen", "-o", "alice.key"], '"alice.key" exists'),
    "share where a release is": (
        ["share", "chest.dcm", "--to", "alice.key.pub", "-o", "r"],
        'folder "r" exists',
    ),
}


def test_every_failure_is_one_line_and_a_status(run, released, tmp_path) -> None:
    run("keygen", "-o", "owner.key2")
    (tmp_path / "empty").mkdir()
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    for cases, status in ((USAGE, 2), (FAILURES, 1)):
        for name, (words, message) in cases.items():
            error = run(*words, status=status).stderr
            lines = [x for x in error.splitlines() if not x.startswith(("hint:", "note:"))]
            assert message in lines[0], name
            assert all(line.startswith("primis: ") for line in lines), name
            assert len(lines) <= 2, name
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_bad_image_among_good_ones_gives_status_1(run, tmp_path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "chest.dcm").write_bytes(phantom_dicom(64))
    (tmp_path / "in" / "bad.png").write_bytes(b"nothing")
    run("keygen", "-o", "k")
    done = run("share", "in", "--to", "k.pub", "-o", "r", "--model", TINY, status=1)
    assert "shared 1 of 2 images" in done.stdout
    assert "bad.png" in done.stderr


def test_every_failed_image_is_named(run, tmp_path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.dcm").write_bytes(phantom_dicom(64, seed=1))
    run("keygen", "-o", "alice.key")
    done = run(
        "share",
        "a.dcm",
        "b.dcm",
        "--to",
        "alice.key.pub",
        "-o",
        "s",
        "--header-bytes",
        "256",
        status=1,
    )
    assert all(f'image "{name}.dcm": the header takes' in done.stderr for name in ("a", "b"))


def test_help_and_version(run) -> None:
    for command in ("demo", "keygen", "share", "restore", "grant", "rekey", "inspect", "train"):
        assert command in run("--help").stdout
        assert "Usage" in run(command, "--help").stdout
    assert run("--version").stdout.startswith("primis ")


@posix
def test_ctrl_c_says_how_to_go_on(run, tmp_path) -> None:
    run("keygen", "-o", "k")
    (tmp_path / "in").mkdir()
    data = phantom_dicom(128)
    for number in range(20):
        (tmp_path / "in" / f"{number}.dcm").write_bytes(data)
    words = ["share", "in", "--to", "k.pub", "-o", "r", "--owner", "k", "--model", str(TINY)]
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
    assert re.search(r"[0-9]+ images? (was|were) done before", run(*words).stderr)


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
        "alice.key.pub",
        "-o",
        "open",
        "--protection",
        "sca",
        "--model",
        TINY,
    )
    assert "leaks the image to anyone" in done.stderr


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


@posix
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


def test_a_damaged_memory_of_signers_costs_no_release(run, tmp_path) -> None:
    (tmp_path / "chest.dcm").write_bytes(phantom_dicom(64))
    run("keygen", "-o", "k")
    mine = {"XDG_CONFIG_HOME": str(tmp_path / "mine")}
    (tmp_path / "mine" / "primis").mkdir(parents=True)
    (tmp_path / "mine" / "primis" / "known_releases.json").write_text("{")
    done = run("share", "chest.dcm", "--to", "k.pub", "-o", "r", "--model", TINY, **mine)
    assert "shared 1 of 1" in done.stdout
    assert "is damaged: put back a copy" in done.stderr
    refused = run("restore", "r", "-i", "k", "-o", "o", "--model", TINY, status=1, **mine)
    assert "is damaged: put back a copy" in refused.stderr


def test_rekey_by_shards(run, released, tmp_path) -> None:
    (tmp_path / "more.dcm").write_bytes(phantom_dicom(64, seed=2))
    run("add", "r", "more.dcm", "--model", TINY)
    run("keygen", "-o", "bob.key")
    run("grant", "r", "--to", "bob=bob.key.pub")
    said = run("rekey", "r", "--without", "carol", "--shard", "1/2", status=1).stderr
    assert 'grant "carol" is not in the release' in said
    words = ("rekey", "r", "--without", "bob")
    said = run(*words, "--shard", "1/2", "--jobs", "2").stdout
    assert 'sealed 1 image of shard 1/2 of "r" anew' in said and "--finish" in said
    missing = run(*words, "--finish", status=1).stderr
    assert "1 of 2 images were not sealed anew yet, expected shards 2/2" in missing
    facts = json.loads(run(*words, "--shard", "2/2", "--json").stdout)
    assert (facts["shard"], facts["images"], facts["dropped"]) == ("2/2", 1, [])
    facts = json.loads(run(*words, "--finish", "--json").stdout)
    assert (facts["images"], facts["renewed"], facts["dropped"]) == (2, ["alice"], ["bob"])
    assert "grants renewed: alice; dropped: none" in run("rekey", "r").stdout


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


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """Commands in this process, which is much faster: call(words) gives status, output, errors."""
    from primis.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PRIMIS_OWNER_KEY", str(tmp_path / "owner.key"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["primis", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    (tmp_path / "chest.dcm").write_bytes(phantom_dicom(64))
    assert call("keygen", "-o", "alice.key")[0] == 0
    return call


def share(here, *images: object, out: str = "r") -> tuple[int, str, str]:
    return here("share", *images, "--to", "a=alice.key.pub", "-o", out, "--model", TINY)


@posix
def test_one_bad_argument_costs_one_line(here, tmp_path, monkeypatch) -> None:
    """What `share *.dcm` is given: each that cannot be used is a line, the others are shared."""
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "a.png").touch()
    (tmp_path / "unreadable.png").touch()
    access, stat = os.access, os.stat

    def barred(path: object, *more: object, **how: object) -> os.stat_result:
        if "closed/" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *more, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", barred)
    monkeypatch.setattr(
        os, "access", lambda path, mode: "unread" not in str(path) and access(path, mode)
    )
    odd = ["unreadable.png", "closed/a.png", "x" * 300, "missing.png", "chest.dcm/a.png"]
    status, out, err = share(here, *odd, "chest.dcm")
    assert status == 1
    assert 'shared 1 of 6 images in "r"' in out
    lines = [line for line in err.splitlines() if line.startswith("primis: image ")]
    assert len(lines) == 5
    assert all(any(f'"{name}"' in line for line in lines) for name in odd)
    assert 'image "closed/a.png" cannot be read: Permission denied' in err
    assert share(here, "missing.png", out="q")[0] == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="needs file modes")
def test_what_may_not_be_read_costs_one_line(here, tmp_path) -> None:
    (tmp_path / "unreadable.png").touch(0o000)
    (tmp_path / "closed").mkdir(0o000)
    status, out, err = share(here, "unreadable.png", "closed", "closed/a.png", "chest.dcm")
    (tmp_path / "closed").chmod(0o700)
    assert (status, err.count("Permission denied")) == (1, 3)
    assert "shared 1 of 4 images" in out


@pytest.mark.parametrize(
    "words",
    [
        ("share", "", "--to", "k.pub", "-o", "q"),
        ("share", "chest.dcm", "--to", "k.pub", "-o", ""),
        ("keygen", "-o", ""),
        ("restore", "", "-o", "q"),
        ("restore", "r", "-i", "", "-o", "q"),
        ("inspect", ""),
        ("audit", "r", "-o", "q", "--originals", ""),
        ("evaluate", "all", "", "-o", "q"),
        ("train", "", "-o", "q"),
        ("demo", "-o", ""),
    ],
)
def test_an_empty_path_is_never_the_folder_one_stands_in(here, tmp_path, words) -> None:
    before = sorted(tmp_path.rglob("*"))
    status, _, err = here(*words)
    assert (status, err) == (2, 'primis: a path is "", expected the name of a file or folder\n')
    assert sorted(tmp_path.rglob("*")) == before


SECRET = "AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ"
OPENSSH = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2g"


@pytest.mark.parametrize("secret", [SECRET, SECRET.lower(), f"./{SECRET}", OPENSSH])
def test_a_secret_in_a_wrong_place_is_not_repeated(here, tmp_path, secret) -> None:
    assert share(here, "chest.dcm")[0] == 0
    opened = ("-i", "alice.key", "-o", "o")
    for words in (
        ("restore", "r", *opened, "--from", secret),
        ("restore", "r", *opened, "--image", secret),
        ("restore", "r", *opened, "--tier", secret),
        ("restore", "r", *opened, "--model", secret),
        ("restore", secret, *opened),
        ("restore", "r", "-i", secret, "-o", "o"),
        ("restore", "r", *opened, "--max-pixels", secret),
        ("rekey", "r", "--without", secret),
        ("share", secret, "--to", "alice.key.pub", "-o", "q"),
        ("share", "chest.dcm", secret, "--to", f"{secret}=alice.key.pub", "-o", "q"),
        ("share", "chest.dcm", "--to", "alice.key.pub", "-o", "q", "--model", secret),
        ("grant", "r", "--to", "alice.key.pub", "--not-after", secret),
        ("inspect", secret),
        (secret,),
    ):
        status, out, err = here(*words)
        assert status, words
        assert re.search("^primis: ", err, re.MULTILINE), words
        assert "q" * 20 not in (out + err).lower(), words
        assert "zxktdjeaaaaabg" not in (out + err).lower(), words


def test_only_what_can_be_shown_is_printed() -> None:
    assert plain("a\x1b[31mb\udcffc\u202ed\ne\x07") == "a[31mbcde"
    assert plain(f'image "{SECRET}"') == 'image "AGE-SECRET-KEY-(hidden)"'
    assert plain("AGE-SECRET-\x1bKEY-1QQQ") == "AGE-SECRET-KEY-(hidden)"
    assert plain(f"folder/{OPENSSH}x") == "(hidden)"
    assert plain("AGE-SECRET-KEY is the kind, age1qqq the key") == (
        "AGE-SECRET-KEY is the kind, age1qqq the key"
    )


def test_a_report_prints_what_matters_and_no_escapes(capsys, tmp_path) -> None:
    name = "\x1b]0;x\x07\udce4.png"
    few = [Result(f"{name}{kept}", "0" * 32, 9, kept) for kept in (3.9, 7.0)]
    for verbose, count in ((False, 1), (True, 2)):
        report = Report("sharing", verbose=verbose, sparsity=8)
        with report:
            for result in few:
                report.add(result, 1, 2)
        report.finish()
        err = capsys.readouterr().err
        said = {1: "1 image", 2: "2 images"}[count]
        assert f'note: {said} kept fewer entries than S_x asks for, "]0;x.png3.9" the fewest' in err
        assert "\x1b" not in err
    report = Report("restoring", verbose=False)
    with report:
        for sealed, restored in (("latin1_\udcfc.png", "latin1_.png"), ("con.png", "con_.png")):
            renamed = f'"{sealed}" is restored as "{restored}"'
            report.add(Result(restored, "0" * 32, 9, notes=(renamed,)), 1, 2)
    assert capsys.readouterr().err.splitlines() == [
        'note: a name with characters that cannot be shown is restored as "latin1_.png"',
        'note: "con.png" is restored as "con_.png"',
    ]


def test_a_note_says_of_which_image_it_is(capsys) -> None:
    with Report("sharing", verbose=False) as report:
        report.add(Result("missing", "0" * 32, 9, notes=("slices are missing",)), 1, 2)
        report.add(Result("a.png", "1" * 32, 9, error=InputError('image "in/a.png" is no')), 2, 2)
    assert capsys.readouterr().err.splitlines() == [
        'note: image "missing": slices are missing',
        'primis: image "in/a.png" is no',
    ]


def test_a_bar_moves_within_an_image() -> None:
    report = Report("sharing", verbose=False)
    with report:
        report.part(1.25, 2)
        assert report._progress.tasks[0].percentage == 62.5


def test_each_phase_has_a_clock_of_its_own() -> None:
    """A bar that was full once would show the time it took then, and none that remains."""
    report = Report("sharing", verbose=False)
    with report:
        report.look(3, 3)
        (task,) = report._progress.tasks
        assert task.finished
        report.part(0.5, 3)
        assert (task.description, task.finished, task.completed) == ("sharing", False, 0.5)
        report.part(3, 3)
        assert task.finished


def test_without_a_terminal_progress_is_a_line_now_and_then(capsys, monkeypatch) -> None:
    seconds = iter([0.0, 29.0, 31.0, 31.0, 60.0, 62.0, 62.0])
    monkeypatch.setattr("primis.cli.progress.time.monotonic", lambda: next(seconds))
    with running_bar("evaluate") as show:
        for done in (1, 2, 3, 4):
            show("fidelity", done, 9)
    said = ["note: fidelity: 2 of 9", "note: fidelity: 4 of 9"]
    assert capsys.readouterr().err.splitlines() == said


def test_people_read_names_beside_ids(run, released) -> None:
    shown = run("inspect", "r", "-i", "alice.key").stdout
    (line,) = [line for line in shown.splitlines() if "chest.dcm" in line]
    assert re.fullmatch(r"  id [0-9a-f]{32}, bytes [0-9]+, name chest.dcm", line)
    assert "  label alice, tier original, images all\n" in shown


def test_dicom_without_pixels_counts_where_it_was_asked_for(here, tmp_path) -> None:
    from pydicom.data import get_testdata_file

    study = tmp_path / "study"
    (study / "deep").mkdir(parents=True)
    (study / "1.dcm").write_bytes(phantom_dicom(64))
    for name in ("2.dcm", "deep/3.dcm"):
        shutil.copy(str(get_testdata_file("test-SR.dcm")), study / name)
    shutil.copy(str(get_testdata_file("rtplan.dcm")), study / "4.dcm")
    shutil.copy(str(get_testdata_file("DICOMDIR")), study / "DICOMDIR")
    status, out, err = share(here, "study")
    assert status == 0
    assert 'shared 1 of 1 images in "r"' in out
    assert "note: passed over 3 DICOM objects without pixels (SR, RTPLAN)" in err
    assert "image " not in err
    status, out, err = share(here, "study", "./study/4.dcm", out="q")
    assert status == 1
    assert 'shared 1 of 2 images in "q"' in out
    assert "passed over 2 DICOM objects" in err
    assert 'image "study/4.dcm" is DICOM without pixels (modality "RTPLAN")' in err


def test_nothing_is_written_into_a_release_or_below_a_file(here, tmp_path) -> None:
    assert share(here, "chest.dcm")[0] == 0
    before = sorted(tmp_path.glob("[!c]*/**/*"))
    for place in ("r/x", "r/bundles/x", "q/../r/grants/deep/x"):
        for words in (
            ("share", "chest.dcm", "--to", "alice.key.pub", "-o", place),
            ("restore", "r", "-i", "alice.key", "-o", place),
            ("demo", "-o", place),
            ("keygen", "-o", place),
        ):
            status, _, err = here(*words)
            assert status == 1, words
            assert f'"{place}" would lie in the release "{tmp_path / "r"}"' in err, words
    status, _, err = share(here, "chest.dcm", out="chest.dcm/r")
    assert status == 1
    assert f'"chest.dcm/r" cannot be made: "{tmp_path / "chest.dcm"}" is no folder' in err
    assert sorted(tmp_path.glob("[!c]*/**/*")) == before
    share(here, "chest.dcm", out="r2")
    assert (tmp_path / "r2").is_dir()


@pytest.mark.parametrize("place", [".", "./", "..", "/"])
def test_a_key_needs_a_name(here, place) -> None:
    status, _, err = here("keygen", "-o", place)
    assert status == 1
    assert f'"{Path(place)}" is no name for a new file' in err


def test_a_signer_that_cannot_be_remembered_is_a_warning(here, tmp_path, monkeypatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))  # even root makes no folder there
    assert here("keygen", "-o", "owner.key")[0] == 0
    folder = tmp_path / "file" / "primis"
    status, out, err = share(here, "chest.dcm")
    assert status == 0
    assert 'shared 1 of 1 images in "r"' in out
    said = f'warning: the signer of "r" cannot be remembered in folder "{folder}": '
    assert said in err
    assert "XDG_CONFIG_HOME chooses another" in err
    status, _, err = here("restore", "r", "-i", "alice.key", "-o", "o", "--model", TINY)
    assert (status, said in err) == (0, True)
    assert here("grant", "r", "--to", "b=owner.key.pub")[0] == 0


def test_a_known_release_is_compared_where_nothing_can_be_remembered(
    here, tmp_path, monkeypatch
) -> None:
    from primis.release import known

    def full(*_: object) -> None:
        raise OutputError('"x" cannot be written: the disk is full')

    assert share(here, "chest.dcm")[0] == 0
    monkeypatch.setattr(known, "write_new", full)
    assert here("inspect", "r", "-i", "alice.key")[0] == 0
    shutil.rmtree(tmp_path / "r")
    monkeypatch.setenv("PRIMIS_OWNER_KEY", str(tmp_path / "mallory.key"))
    status, _, err = share(here, "chest.dcm")
    assert status == 0
    assert "cannot be remembered" in err
    assert "the disk is full" in err
    status, _, err = here("restore", "r", "-i", "alice.key", "-o", "o")
    assert status == 1
    assert "is signed by" in err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--sparsity", "abc"), '--sparsity is "abc", expected a number'),
        (("--max-pixels", "1.5"), '--max-pixels is "1.5", expected a whole number'),
        (("--max-pixels", "0"), '--max-pixels is "0", expected 1 to 17179869184'),
        (("--sparsity", "0.25"), '--sparsity is "0.25", expected 0.5 to 32'),
    ],
)
def test_numbers_are_named_as_they_were_typed(here, words, line) -> None:
    status, _, err = here("share", "chest.dcm", "--to", "alice.key.pub", "-o", "q", *words)
    assert (status, err.splitlines()[0]) == (2, f"primis: {line}")


def test_only_the_command_line_knows_its_options() -> None:
    """What the engine says holds for who calls it from Python too."""
    package = Path(main.__file__).parents[1]
    named = []
    for path in package.rglob("*.py"):
        if package / "cli" in path.parents:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = re.sub(r"--[a-z][^\n]*?-->", "", node.value)  # an arrow of a drawing
                named += [(path.name, option) for option in re.findall(r"(?<![<-])--[a-z]+", text)]
    assert named == []


def test_pixels_over_the_limit_come_with_the_option_that_allows_them(here, tmp_path) -> None:
    status, _, err = here(
        *("share", "chest.dcm", "--to", "alice.key.pub", "-o", "q", "--max-pixels", "4095")
    )
    said = 'primis: image "chest.dcm" has 1 x 64 x 64 x 1 samples, expected at most 4095'
    assert status == 1
    assert err.splitlines()[-3:-1] == [
        said,
        "hint: --max-pixels N allows more, as far as your memory holds them",
    ]
    assert share(here, "chest.dcm")[0] == 0
    status, _, err = here(
        "restore", "r", "-i", "alice.key", "-o", "o", "--model", TINY, "--max-pixels", "4095"
    )
    assert status == 1
    assert "hint: --max-pixels N allows more" in err
    assert "fetch it again" not in err


def test_a_mistyped_release_is_not_fetched_again(here, tmp_path) -> None:
    opened = ("-i", "alice.key", "-o", "o")
    for words in (
        ("restore", "x", *opened),
        ("inspect", "x"),
        ("rekey", "x"),
    ):
        assert here(*words)[::2] == (1, 'primis: folder "x" does not exist, expected a release\n')
    said = 'primis: "chest.dcm" is a file, expected the folder of a release\n'
    assert here("restore", "chest.dcm", *opened)[::2] == (1, said)
    (tmp_path / "x.partial").mkdir()
    assert "is incomplete" in here("restore", "x", *opened)[2]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("option", ["--version", "--help"])
def test_output_that_cannot_be_written_is_one_line(option: str) -> None:
    command = [sys.executable, "-m", "primis.cli", option]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    what = {"--version": "standard output cannot be written", "--help": "input or output failed"}
    said = f"primis: {what[option]}: the disk is full"
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, said)
    assert len(done.stderr.splitlines()) <= 2


COMMANDS = {
    "add": ["add", "x", "y"],
    "demo": ["demo"],
    "keygen": ["keygen", "-o", "k"],
    "share": ["share", "x", "--to", "k", "-o", "q"],
    "restore": ["restore", "x", "-o", "q"],
    "grant": ["grant", "x", "--to", "k"],
    "rekey": ["rekey", "x"],
    "inspect": ["inspect", "x"],
    "verify": ["verify", "x"],
    "view": ["view", "x"],
    "audit": ["audit", "x", "-o", "q"],
    "evaluate": ["evaluate", "all", "x", "-o", "q"],
    "train": ["train", "x", "-o", "q"],
}
HEAVY = {"numpy", "onnxruntime", "torch", "pydicom", "cryptography", "pyrage", "PIL"}
MISTYPED = {
    "demo": ["--protection", "rot13"],
    "share": ["--sparsity", "99"],
    "restore": ["--tier", "gold"],
    "grant": ["--not-after", "tomorrow"],
    "view": ["--port", "0"],
    "audit": ["--minutes", "0"],
    "evaluate": ["--sparsity", "99"],
    "train": ["--steps", "x"],
}
TRAINING = {"torch", "lightning", "sklearn", "scipy", "monai", "matplotlib"}
MISSING = [
    ["audit", "no", "-o", "q"],
    ["audit", "r", "-o", "q", "--originals", "no"],
    ["audit", "r", "-o", "q", "--table", "no"],
    ["audit", "r", "-o", "q", "--model", "no"],
    ["audit", "r", "-o", "q", "--owner", "no"],
    ["audit", "r", "-o", "q", "--steps", "0"],
    ["evaluate", "nothing", "r", "-o", "q"],
    ["evaluate", "all", "no", "-o", "q"],
    ["evaluate", "all", "empty", "-o", "q"],
    ["evaluate", "all", "in", "-o", "q", "--layout", "no"],
    ["evaluate", "all", "in", "-o", "q", "--mechanism", "no"],
    ["evaluate", "all", "in", "-o", "q", "--most", "1"],
    ["train", "no", "-o", "q"],
    ["train", "empty", "-o", "q"],
    ["train", "in", "-o", "q", "--validation", "no"],
    ["train", "in", "-o", "q", "--start", "no"],
    ["train", "in", "-o", "q", "--preset", "no"],
    ["train", "in", "-o", "q", "--steps", "3"],
    ["train", "in", "-o", "q", "--accelerator", "no"],
]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_mistyped_option_is_told_before_anything_heavy_is_loaded(name: str) -> None:
    """Measured by what was loaded, in a process of its own: no clock is fair on a busy machine."""
    tries = [[*COMMANDS[name], "--mistyped"], ["--mistyped", *COMMANDS[name]]]
    if name in MISTYPED:
        tries.append([*COMMANDS[name], *MISTYPED[name]])
    code = (
        "import sys\nfrom primis.cli.main import main\n"
        f"for words in {tries!r}:\n"
        "    sys.argv = ['primis', *words]\n"
        "    try: main()\n"
        "    except SystemExit as ended: assert ended.code == 2, words\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & HEAVY


def test_what_is_missing_is_told_before_torch_is_loaded(here, tmp_path) -> None:
    assert share(here, "chest.dcm")[0] == 0
    for name in ("in", "empty"):
        (tmp_path / name).mkdir()
    for number in range(2):
        (tmp_path / "in" / f"{number}.dcm").write_bytes(phantom_dicom(64, seed=number))
    code = (
        "import sys\nfrom primis.cli.main import main\n"
        f"for words in {MISSING!r}:\n"
        "    sys.argv = ['primis', *words]\n"
        "    try: main()\n"
        "    except SystemExit as ended: assert ended.code in (1, 2), words\n"
        f"    print(words, *({TRAINING!r} & {{name.split('.')[0] for name in sys.modules}}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(words) for words in MISSING]
    said = [line for line in done.stderr.splitlines() if line.startswith("primis: ")]
    assert len(said) == len(MISSING)
    assert not [line for line in said if "not installed" in line or "defect" in line]


def test_help_ends_with_examples_that_parse_and_the_exit_codes(run) -> None:
    from typer.main import get_command

    group = get_command(main.app)
    assert set(group.commands) == set(COMMANDS)
    for name, command in group.commands.items():
        shown = run(name, "--help").stdout
        assert "130 interrupted" in shown
        assert "--quiet" in shown
        examples = [shlex.split(x) for x in command.epilog.splitlines() if "primis" in x]
        assert examples, name
        for _, word, *rest in examples:
            assert word == name
            command.make_context(name, list(rest))


@pytest.mark.parametrize(("words", "offered"), [("primis restore --ti", "--tier")])
def test_a_shell_completes_options(words: str, offered: str) -> None:
    env = {"_PRIMIS_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "2"}
    code = "import sys; sys.argv = ['primis']\nfrom primis.cli.main import main\nmain()"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, check=False, env=os.environ | env)
    assert offered in done.stdout.decode().split()


def test_json_is_one_object_and_nothing_else(run, tmp_path) -> None:
    (tmp_path / "chest.dcm").write_bytes(phantom_dicom(64))
    made = json.loads(run("keygen", "-o", "k", "--json").stdout)
    assert (made["key_file"], made["public_key_file"]) == ("k", "k.pub")
    assert made["public_key"] == (tmp_path / "k.pub").read_text().strip()
    shared = json.loads(
        run(
            "share",
            "chest.dcm",
            "no.png",
            "--to",
            "a=k.pub",
            "-o",
            "r",
            "--model",
            TINY,
            "--json",
            status=1,
        ).stdout
    )
    good, bad = shared["images"]
    assert (shared["shared"], shared["tier"], shared["recipients"]) == (1, "diagnostic", ["a"])
    assert good["name"] == "chest.dcm"
    assert good["bytes"] == shared["bytes"]
    assert "cannot be read" in bad["error"]
    words = ("restore", "r", "-i", "k", "-o", "o", "--model", TINY, "--json")
    restored = json.loads(run(*words).stdout)
    assert restored["images"][0]["id"] == good["id"]
    assert restored["images"][0]["tier"] == "diagnostic"
    run("keygen", "-o", "b")
    granted = json.loads(run("grant", "r", "--to", "b=b.pub", "--tier", "preview", "--json").stdout)
    assert [grant["label"] for grant in granted["grants"]] == ["b"]
    assert Path(granted["grants"][0]["file"]).exists()
    rekeyed = json.loads(run("rekey", "r", "--without", "b", "--json").stdout)
    assert (rekeyed["renewed"], rekeyed["dropped"]) == (["a"], ["b"])


def test_quiet_prints_errors_and_warnings_only(run, tmp_path) -> None:
    (tmp_path / "chest.dcm").write_bytes(phantom_dicom(64))
    run("keygen", "-o", "owner.key")
    assert run("keygen", "-o", "k", "-q") == ("", "")
    share = ("share", "chest.dcm", "--to", "k.pub", "--model", TINY, "--quiet")
    assert run(*share, "-o", "r", "--least-psnr", "0") == ("", "")
    assert "below 90 dB" in run(*share, "-o", "u", "--least-psnr", "90").stderr
    assert "leaks the image" in run(*share, "-o", "s", "--protection", "sca").stderr
    assert "cannot be read" in run(*share, "no.png", "-o", "t", status=1).stderr
    assert '"kind"' in run("inspect", "r", "--json", "--quiet").stdout
    assert "public key" in run("keygen", "-o", "k2").stdout  # quiet was for one command


def test_an_image_is_asked_for_by_the_name_that_the_key_opens(run, tmp_path) -> None:
    for folder, seed in (("a", 1), ("b", 2)):
        (tmp_path / "in" / folder).mkdir(parents=True)
        (tmp_path / "in" / folder / "chest.dcm").write_bytes(phantom_dicom(64, seed=seed))
    (tmp_path / "in" / "hand.dcm").write_bytes(phantom_dicom(64, seed=3))
    for key in ("k", "p"):
        run("keygen", "-o", key)
    run("share", "in", "--to", "k.pub", "-o", "r", "--model", TINY)
    opened = ("restore", "r", "-i", "k", "--model", TINY)
    run(*opened, "-o", "o1", "--image", "hand.dcm", "--image", "a/chest.dcm")
    found = sorted(p.relative_to(tmp_path / "o1").as_posix() for p in tmp_path.glob("o1/**/*.dcm"))
    assert found == ["a/chest.dcm", "hand.dcm"]
    assert "matches 2 images" in run(*opened, "-o", "o2", "--image", "chest.dcm", status=1).stderr
    assert "matches 0 images" in run(*opened, "-o", "o2", "--image", "foot.dcm", status=1).stderr
    run("grant", "r", "--to", "p.pub", "--image", "hand.dcm", "--tier", "preview")
    done = run("restore", "r", "-i", "p", "-o", "o3", "--model", TINY)
    assert "restored 1 of 1 images" in done.stdout
    refused = run("restore", "r", "-i", "p", "-o", "o4", "--image", "hand.dcm", status=1).stderr
    assert "the grant opens no names" in refused


def test_a_private_key_as_recipient_is_a_warning(run, tmp_path) -> None:
    (tmp_path / "chest.dcm").write_bytes(phantom_dicom(64))
    run("keygen", "-o", "k")
    share = ("share", "chest.dcm", "--model", TINY)
    assert "holds a private key" in run(*share, "--to", "p=k", "-o", "r").stderr
    assert "private key" not in run(*share, "--to", "p=k.pub", "-o", "s").stderr


def test_share_says_what_of_the_headers_may_identify(run, tmp_path) -> None:
    """By name, and nothing of what the elements say."""
    from PIL import Image as Pillow

    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "chest.dcm").write_bytes(phantom_dicom(64))
    Pillow.new("L", (64, 64)).save(tmp_path / "plain.png")
    run("keygen", "-o", "k")
    said = "1 of 1 images has header elements that may identify a patient"
    share = ("share", "--to", "k.pub", "--model", TINY)
    first = run(*share, "in", "-o", "r1").stderr
    assert said in first and "PatientName" in first and "PHANTOM" not in first
    assert said not in run(*share, "in", "-o", "r2", "--tier", "preview").stderr
    assert said not in run(*share, "plain.png", "-o", "r3").stderr
    source = pydicom.dcmread(io.BytesIO(phantom_dicom(64)))
    source.PatientIdentityRemoved, source.BurnedInAnnotation = "YES", "YES"
    source.save_as(tmp_path / "in" / "other.dcm")
    done = run(*share, "in", "-o", "r4", "--json")
    found = json.loads(done.stdout)["identifying"]
    assert (found["files"], found["of"], found["burned_in"]) == (1, 2, 1)
    assert found["names"]["PatientName"] == 1 and "BurnedInAnnotation" not in found["names"]
    assert "1 of 2 images says that what identifies a patient is burned into their" in done.stderr
    (tmp_path / "more.dcm").write_bytes(phantom_dicom(64, seed=1))
    assert said in run("add", "r1", "more.dcm", "--model", TINY).stderr


@pytest.mark.usefixtures("quick_passphrases")
def test_images_unlike_those_of_the_training_are_a_note(run, tmp_path, monkeypatch) -> None:
    """Once, with how many of which kind; masks are sealed without the model."""
    domain = Domain("phantoms", frozenset({"DX"}))
    monkeypatch.setattr("primis.network.checkpoint._DOMAINS", {"phantoms": domain})
    source = pydicom.dcmread(io.BytesIO(phantom_dicom(64)))
    (tmp_path / "in").mkdir()
    for modality in ("DX", "CT", "MR"):
        source.Modality = modality
        source.save_as(tmp_path / "in" / f"{modality}.dcm")
    rng = np.random.default_rng(0)
    for name, shape in (("grey", (64, 64)), ("colour", (64, 64, 3)), ("colour2", (64, 64, 3))):
        pixels = rng.integers(0, 256, shape, np.uint8)
        PIL.Image.fromarray(pixels).save(tmp_path / "in" / f"{name}.png")
    PIL.Image.new("RGB", (64, 64)).save(tmp_path / "in" / "mask.png")
    run("keygen", "-o", "k")
    share = ("--to", "k.pub", "--model", TINY, "--no-measure")
    done = run("share", "in", *share, "-o", "r", "--json")
    said = (
        "4 of 7 images are in colour, CT or MR; these weights were trained on phantoms only: "
        "check what a recipient sees with primis restore"
    )
    assert done.stderr.splitlines().count(f"note: {said}") == 1
    assert json.loads(done.stdout)["notes"] == [said]
    assert "trained on" not in run("share", "in/DX.dcm", "in/grey.png", *share, "-o", "s").stderr
    added = run("add", "s", "in/CT.dcm", "--model", TINY).stderr
    assert "note: 1 of 1 images is CT; its weights were trained on phantoms only: " in added


def test_the_weights_that_come_along_say_what_they_were_trained_on() -> None:
    for name in PRESETS:
        domain = read_checkpoint(shipped(name)).domain
        assert domain == Domain("chest radiographs", frozenset({"CR", "DX"}))
    assert read_checkpoint(TINY).domain is None


def test_what_killed_commands_left_is_swept_by_the_next(here, tmp_path) -> None:
    """A key in the making beside a key or in the configuration, torn files in a release."""
    assert share(here, "chest.dcm")[0] == 0
    (tmp_path / "other.dcm").write_bytes(phantom_dicom(64, seed=1))
    left = f".primis-{'0' * 16}.tmp"
    begun = ["", "config/primis", "r", "r/pages", "r/bundles", "r/grants"]
    swept = {
        ("keygen", "-o", "new.key"): [""],
        ("restore", "r", "-i", "alice.key", "-o", "o", "--model", TINY): [""],
        ("grant", "r", "--to", "b=new.key.pub"): ["r/grants"],
        ("add", "r", "other.dcm", "--model", TINY): begun,
    }
    for words, places in swept.items():
        for place in begun:
            (tmp_path / place / left).write_bytes(b"torn")
        assert here(*words)[0] == 0, words
        assert not [place for place in places if (tmp_path / place / left).exists()], words


def test_a_wrong_passphrase_is_not_a_missing_grant(run, released, tmp_path) -> None:
    secret = {"PRIMIS_PASSPHRASE": "correct horse battery"}
    restore = ("restore", "r", "--passphrase", "-o", "o")
    missing = run(*restore, status=1, **secret).stderr
    assert "has no grant for the key offered (passphrase)" in missing
    assert "hint: ask the owner for a grant" in missing
    run("grant", "r", "--to", "passphrase", "--tier", "preview", **secret)
    wrong = run(*restore, status=1, PRIMIS_PASSPHRASE="another horse battery").stderr
    assert "has a grant for a passphrase, but not for this one" in wrong
    assert "hint: type the passphrase again" in wrong


def test_a_locked_identity_asks_for_its_passphrase(run, released, tmp_path) -> None:
    key = (tmp_path / "alice.key").read_bytes()
    (tmp_path / "locked.age").write_bytes(age_by_passphrase(key, "correct horse"))
    restore = ("restore", "r", "-i", "locked.age", "-o", "o")
    refused = run(*restore, status=2).stderr
    assert 'no passphrase of key file "locked.age": expected PRIMIS_PASSPHRASE' in refused
    wrong = run(*restore, status=1, PRIMIS_PASSPHRASE="another horse").stderr
    assert 'key file "locked.age": the passphrase does not unlock it' in wrong
    run(*restore, PRIMIS_PASSPHRASE="correct horse")


@pytest.mark.usefixtures("quick_passphrases")
def test_inspect_says_whose_the_keys_of_a_grant_are(run, released) -> None:
    run("grant", "r", "--to", "passphrase", PRIMIS_PASSPHRASE="correct horse battery")
    lines = run("inspect", "r").stdout.splitlines()
    [alice] = [line for line in lines if "label alice" in line]
    assert "the recipient's key (age X25519), or the owner's (age X25519)" in alice
    [owner] = [line for line in lines if "label owner" in line]
    assert "opens with the owner's key (age X25519)" in owner
    [typed] = [line for line in lines if "label passphrase" in line]
    assert typed.endswith("opens with a passphrase")
