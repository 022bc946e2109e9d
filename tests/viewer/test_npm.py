"""The viewer's own tests, which node runs, and its codes and pixels beside Python's."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from primis.viewer.assets import STATIC
from tests.viewer.built import VIEWER, browser_there, find_browser, install, npm

CASES = VIEWER / ".cases"


@pytest.fixture(scope="module", autouse=True)
def packages() -> None:
    install()


def test_what_ships_is_built_from_these_sources_to_the_same_bytes(static: Path) -> None:
    ships, built = files_of(STATIC), files_of(static)
    assert sorted(ships) == sorted(built)
    assert [name for name, data in ships.items() if data != built[name]] == []


def files_of(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_types_and_format() -> None:
    npm("run", "lint")


def test_the_page_in_a_browser_with_images_of_nobody() -> None:
    said = npm("run", "drive", browser=find_browser())
    assert re.search(r"^\d+ passed, 0 failed$", said, re.MULTILINE)


def test_vectors_and_codes_equal_to_those_of_python_with_pixels_within_one_grey_level() -> None:
    """Also the unit tests. All that is compared is counted at its end."""
    make_cases()
    cases = json.loads((CASES / "cases.json").read_text())["cases"]
    images = {(case["release"], image["id"]) for case in cases for image in case["images"]}
    said = npm("test")
    assert "# fail 0" in said
    assert "# skipped 0" in said or browser_there() is None
    [(levels, samples)] = re.findall(r"(\d+) levels equal; \d+ of (\d+) samples apart by one", said)
    assert int(levels) > 100_000 and int(samples) > 1_000_000
    if any(case["release"] == "real" for case in cases):
        assert len(images) >= 50


def make_cases() -> None:
    """What Python restores, for node to compare with."""
    root = Path(__file__).parents[2]
    python = os.pathsep.join([str(root), *sys.path])
    made = subprocess.run(
        [sys.executable, "-m", "tests.make_viewer_cases", str(CASES)],
        cwd=root,
        env=os.environ | {"PYTHONPATH": python, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
