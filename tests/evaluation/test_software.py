"""The commit that made a result is stamped when primis is built, wherever it runs afterwards."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

from primis.study.software import COMMIT_FILE, described

pytest.importorskip("setuptools")

ROOT = Path(__file__).resolve().parents[2]
PROJECT = """\
[project]
name = "primis"
version = "1.2"
[tool.setuptools.packages.find]
where = ["src"]
"""


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    done = subprocess.run(["git", "-C", folder, *who, *words], capture_output=True, check=True)
    return done.stdout.decode().strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A package of one file with our setup.py, under version control."""
    folder = tmp_path / "checkout"
    (folder / "src" / "primis").mkdir(parents=True)
    (folder / "src" / "primis" / "__init__.py").write_text("")
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / ".gitignore").write_text("*.egg-info/\n")
    shutil.copy(ROOT / "setup.py", folder)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def metadata(folder: Path, out: Path) -> PathDistribution:
    """What a wheel that is built there brings along."""
    out.mkdir()
    code = "import sys, setuptools.build_meta as b; b.prepare_metadata_for_build_wheel(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, out], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return PathDistribution(next(out.glob("*.dist-info")))


def test_a_wheel_knows_the_commit_that_it_was_built_from(checkout: Path, tmp_path: Path) -> None:
    commit = git(checkout, "rev-parse", "--short", "HEAD")
    assert described(metadata(checkout, tmp_path / "a")) == f"primis 1.2, commit {commit}"
    (checkout / "pyproject.toml").write_text(f"{PROJECT}# changed\n")
    assert described(metadata(checkout, tmp_path / "b")).endswith(f"{commit}-dirty")


def test_a_source_distribution_carries_the_commit_and_asks_no_folder_around_it(
    checkout: Path, tmp_path: Path
) -> None:
    commit = git(checkout, "rev-parse", "--short", "HEAD")
    metadata(checkout, tmp_path / "a")  # as building it does, this leaves src/primis.egg-info
    inside = checkout / "vendored"
    inside.mkdir()
    for name in ("pyproject.toml", "setup.py", "src"):
        move = shutil.copytree if (checkout / name).is_dir() else shutil.copy
        move(checkout / name, inside / name)
    git(checkout, "commit", "-q", "--allow-empty", "-m", "second")
    shutil.rmtree(inside / "src" / "primis.egg-info", ignore_errors=True)
    assert described(metadata(inside, tmp_path / "b")) == "primis 1.2, commit unknown"
    (inside / "src" / "primis.egg-info").mkdir(exist_ok=True)
    (inside / "src" / "primis.egg-info" / COMMIT_FILE).write_text(commit)
    assert described(metadata(inside, tmp_path / "c")) == f"primis 1.2, commit {commit}"


def test_an_editable_installation_says_that_it_may_have_changed(tmp_path: Path) -> None:
    folder = tmp_path / "primis-1.2.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: primis\nVersion: 1.2\n")
    (folder / COMMIT_FILE).write_text("05ab98e")
    origin = {"url": "file:///x", "dir_info": {"editable": True}}
    (folder / "direct_url.json").write_text(json.dumps(origin))
    found = described(PathDistribution(folder))
    assert found == "primis 1.2, commit 05ab98e when it was installed"
