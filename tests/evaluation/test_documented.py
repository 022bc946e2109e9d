"""What is documented and needs torch or another extra runs as it stands."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from tests.documented import blocks, commands, lay_out_images, reader


def test_documented_commands_that_need_torch_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = [command for command in commands("docs/how-to.md") if command.needs_torch]
    assert {"audit", "evaluate", "train"} <= {command.words[0] for command in listed}
    lay_out_images(tmp_path)
    with reader(tmp_path, capsys) as primis:
        primis("keygen", "-o", "alice.key")
        primis("share", "xrays", "--to", "alice=alice.key.pub", "-o", "release")
        for command in listed:
            primis(*command.words)


def test_training_from_a_release_runs_as_documented(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = "docs/how-to/train-from-a-release.md"
    programs = blocks(page, "python")
    assert len(programs) == 5
    lay_out_images(tmp_path)
    [table] = blocks(page, "csv")
    (tmp_path / "xrays" / "labels.csv").write_text(table)
    fsspec.register_implementation("primis", "primis.filesystem.PrimisFileSystem", clobber=True)
    with reader(tmp_path, capsys) as primis:
        primis("keygen", "-o", "alice.key")
        for command in commands(page):
            primis(*command.words)
        capsys.readouterr()
        for program in programs:
            exec(compile(program, page, "exec"), {})
            assert capsys.readouterr().out.strip(), program
