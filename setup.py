"""Stamps the commit that primis is built or installed from into its metadata, beside the version.

Everything else stands in pyproject.toml.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.egg_info import egg_info

HERE = Path(__file__).resolve().parent
COMMIT_FILE = "commit.txt"


def commit() -> str:
    """Of this checkout; "" where it is none, even if it lies within another."""
    if not (HERE / ".git").exists():
        return ""
    git = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


class StampedEggInfo(egg_info):
    """Writes the commit; a source distribution brings its own along."""

    def run(self) -> None:
        stamp = Path(self.egg_info) / COMMIT_FILE
        carried = HERE / "src" / stamp.parent.name / COMMIT_FILE
        found = commit() or (carried.read_text() if carried.is_file() else "")
        self.mkpath(self.egg_info)
        stamp.write_text(found)
        super().run()


setup(cmdclass={"egg_info": StampedEggInfo})
