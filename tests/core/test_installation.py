"""A plain installation, without extras, runs all of tests/core."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest

from primis.viewer.assets import STATIC, viewer_files
from tests import without_extras
from tests.documented import ROOT

PLUGIN = without_extras.__name__


@pytest.mark.skipif(without_extras.Refusal in sys.meta_path, reason="runs without extras")
def test_the_core_tests_are_found_without_the_extras() -> None:
    command = [sys.executable, "-m", "pytest", "-p", PLUGIN, "-q", "--collect-only", "tests/core"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "tests/core/test_installation.py" in done.stdout


def test_the_viewer_that_ships_is_the_one_whose_sums_the_readme_names() -> None:
    """Rebuilt by tests/viewer, where Node.js is there."""
    listed = (STATIC / "SHA256SUMS").read_bytes()
    sums = dict(reversed(line.split("  ")) for line in listed.decode().splitlines())
    files = {n: p for n, p in viewer_files().items() if p.name != "SHA256SUMS"}
    assert {n: hashlib.sha256(p.read_bytes()).hexdigest() for n, p in files.items()} == sums
    readme = (ROOT / "README.md").read_text("utf-8")
    assert hashlib.sha256(listed).hexdigest() in readme
