"""A plain installation, without extras, runs all of tests/core."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests import without_extras
from tests.documented import ROOT

PLUGIN = without_extras.__name__


@pytest.mark.skipif(without_extras.Refusal in sys.meta_path, reason="runs without extras")
def test_the_core_tests_are_found_without_the_extras() -> None:
    command = [sys.executable, "-m", "pytest", "-p", PLUGIN, "-q", "--collect-only", "tests/core"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "tests/core/test_installation.py" in done.stdout
