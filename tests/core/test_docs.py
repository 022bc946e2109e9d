"""Every command in docs/how-to.md and the README runs as it stands, in order."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from primis.imaging.phantom import phantom_dicom

ROOT = Path(__file__).parents[2]


def commands(page: str) -> list[str]:
    """Lines that start with `primis` in the fenced blocks of a page."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", (ROOT / page).read_text(), flags=re.S | re.M)
    return [line for block in blocks for line in block.splitlines() if line.startswith("primis ")]


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    (tmp_path / "xrays").mkdir()
    for seed in range(6):
        (tmp_path / "xrays" / f"{seed}.dcm").write_bytes(phantom_dicom(160, seed=seed))
    return tmp_path


@pytest.mark.parametrize("page", ["docs/how-to.md", "README.md"])
def test_documented_commands_run(page: str, workplace: Path) -> None:
    env = os.environ | {"PRIMIS_OWNER_KEY": str(workplace / "owner.key")}
    listed = commands(page)
    assert len(listed) > 2
    setup = [f"primis keygen -o {name}.key" for name in ("alice", "bob") if page != "README.md"]
    for line in setup + listed:
        words = shlex.split(line, comments=True)[1:]
        command = [sys.executable, "-m", "primis.cli", *words]
        done = subprocess.run(
            command, cwd=workplace, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (line, done.stderr)


def test_links_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), (page.name, target)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.stem)
def test_examples_run(path: Path) -> None:
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_tables_of_the_benchmarks_are_what_the_results_say() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import tables; assert all(tables.render(p.read_text()) == p.read_text() for p in tables.PAGES)"],
        cwd=ROOT / "benchmarks", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
