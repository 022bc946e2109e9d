"""What the documentation shows runs as it stands, in order."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import primis
from primis.bundle.container import write_bundle
from primis.bundle.header import Header
from primis.bundle.settings import Profile, Settings
from primis.codes.selection import TILE
from primis.network.checkpoint import read_checkpoint, shipped
from primis.network.presets import PRESETS
from tests.documented import ROOT, blocks, commands, lay_out_images, masked, reader

PAGES = ("README.md", "docs/how-to.md")
WRAPPED = sorted(
    str(page.relative_to(ROOT))
    for folder in (".", ".github", "benchmarks", "docs", "docs/how-to", "examples")
    for page in (ROOT / folder).glob("*.md")
)


@pytest.mark.parametrize("page", PAGES)
def test_documented_commands_run(
    page: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All but those that need torch, which tests/evaluation/test_documented.py runs."""
    listed = [command for command in commands(page) if not command.needs_torch]
    assert len(listed) > 2
    lay_out_images(tmp_path)
    with reader(tmp_path, capsys) as run:
        for name in ("alice", "bob", "partner"):
            run("keygen", "-o", f"{name}.key")
        for command in listed:
            said = [masked(line) for line in run(*command.words).splitlines()]
            for line in command.output:
                assert masked(line) in said, command.line


def test_the_readme_shows_what_commands_print() -> None:
    assert sum(bool(command.output) for command in commands("README.md")) >= 2


@pytest.mark.skipif("open" not in primis.__all__, reason="needs primis.open")
def test_documented_programs_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [program] = blocks("README.md", "python")
    lay_out_images(tmp_path, count=2)
    with reader(tmp_path, capsys) as run:
        run("keygen", "-o", "partner.key")
        exec(compile(program, "README.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize("page", WRAPPED)
def test_lines_are_wrapped_at_100_columns(page: str) -> None:
    """But for rows of tables, links that cannot be broken, and what the benchmarks generate."""
    text = re.sub(r"<!-- (?!end)\w+ -->.*?<!-- end -->", "", (ROOT / page).read_text(), flags=re.S)
    for line in text.splitlines():
        whole = line.startswith("|") or " " not in line.strip()
        assert whole or len(line) <= 100, line


def test_the_threat_model_names_code_that_is_there() -> None:
    page = (ROOT / "docs/threat-model.md").read_text()
    rows = re.findall(r"^\| \d \| .*? \| (.*) \|$", page, flags=re.MULTILINE)
    assert len(rows) >= 6
    for place in "; ".join(rows).split("; "):
        file, *names = re.findall(r"`([^`]+)`", place)
        code = (ROOT / "src/primis" / file).read_text()
        assert names
        for name in names:
            for part in name.split("."):
                defined = rf"^ *(def|class) {part}\b"
                assert re.search(defined, code, flags=re.MULTILINE), (file, name)


def test_the_architecture_lists_the_rooms_of_the_import_contract_in_its_order() -> None:
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = contract["contracts"][0]["layers"]
    wanted = [[name.removeprefix("primis.") for name in x.split(" | ")] for x in layers]
    [tree, *_] = blocks("ARCHITECTURE.md")
    floors = re.split(r"^# \d+ .*$", tree, flags=re.MULTILINE)[1:]
    rooms = [re.findall(r"^  (\w+)(?:/|\.py) ", floor, flags=re.MULTILINE) for floor in floors]
    assert rooms == wanted


def test_the_architecture_names_modules_that_are_there() -> None:
    [_, way] = blocks("ARCHITECTURE.md")
    modules = re.findall(r"\w+/\w+|\bcodec\b", way)
    assert len(modules) >= 15
    for name in modules:
        place = ROOT / "src/primis" / name
        assert place.is_dir() or place.with_suffix(".py").exists(), name


def test_a_bundle_is_as_large_as_the_benchmarks_say() -> None:
    page = (ROOT / "benchmarks/README.md").read_text()
    [size, header_bytes] = re.search(
        r"([\d,]+) bytes at S_x = 8, with\s([\d,]+) bytes", page
    ).groups()
    preset = PRESETS["default"]
    rate = read_checkpoint(shipped()).tables.bits_per_entry(8.0)
    settings = Settings(
        sparsity=8.0,
        code_bits=rate,
        header_bytes=int(header_bytes.replace(",", "")),
        original_bits=0,
        exact_bits=0,
    )
    profile = Profile(
        "0" * 64, preset.stride, TILE, preset.code_maps, preset.atoms_per_map, settings
    )
    header = Header("0" * 32, profile.geometry(1, 512, 512, 1), settings, "0" * 64)
    parts = {name: bytes(length) for name, length in header.fixed_sizes.items()}
    assert len(write_bundle(header, parts)) == int(size.replace(",", ""))


def test_the_reference_is_what_the_docstrings_say() -> None:
    code = "import write_api\nassert write_api.page() == write_api.PAGE.read_text()"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT / "docs", capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run make api: {done.stderr}"
    page = (ROOT / "docs/api.md").read_text()
    described = set(re.findall(r"^### `(\w+)`", page, flags=re.MULTILINE))
    assert described >= set(primis.__all__)


def test_links_lead_somewhere() -> None:
    folders = (".", "docs", "docs/how-to", "benchmarks", "examples", ".github")
    for page in [page for folder in folders for page in (ROOT / folder).glob("*.md")]:
        for target in re.findall(r"\]\(([^):]+)\)", page.read_text()):
            file, _, anchor = target.partition("#")
            there = (page.parent / file) if file else page
            assert there.exists(), (page.name, target)
            assert not anchor or anchor in _anchors(there), (page.name, target)


def _anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.stem)
def test_examples_run(path: Path) -> None:
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_tables_of_the_benchmarks_are_what_the_results_say() -> None:
    code = (
        "import tables\n"
        "assert all(tables.render(p.read_text()) == p.read_text() for p in tables.PAGES)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=ROOT / "benchmarks", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
