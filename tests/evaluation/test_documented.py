"""The documented commands that train or attack, which need torch, run as they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.documented import commands, lay_out_images, reader


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
