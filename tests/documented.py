"""Commands and programs in the documentation, and how to run them as a reader would."""

from __future__ import annotations

import re
import shlex
import sys
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from primis.cli import arguments, main
from primis.imaging.phantom import phantom_dicom
from primis.viewer import assets, server

ROOT = Path(__file__).parents[1]
_NEEDS_TORCH = {"audit", "evaluate", "train"}
_OWN_WEIGHTS = "own"
VIEWER_PAGE = Path(__file__).parent / "viewer_page"
"""In place of what `make viewer` builds."""


class Documented(NamedTuple):
    """A line that starts with `primis` in a block, and the lines that are shown as its output."""

    line: str
    output: list[str]

    @property
    def words(self) -> list[str]:
        return shlex.split(self.line, comments=True)[1:]

    @property
    def needs_torch(self) -> bool:
        """Itself, or because weights are used that another command had to train."""
        return self.words[0] in _NEEDS_TORCH or _OWN_WEIGHTS in self.words


def blocks(page: str, language: str = "") -> list[str]:
    """The fenced blocks of a page, of one language."""
    fenced = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
    return [text for said, text in fenced.findall((ROOT / page).read_text()) if said == language]


def commands(page: str) -> list[Documented]:
    """Every `primis ...` of a page, in order."""
    found: list[Documented] = []
    for block in blocks(page):
        inside = False
        for line in block.splitlines():
            plain = line.removeprefix("$ ")
            if plain.startswith("primis "):
                found.append(Documented(plain, []))
                inside = True
            elif line and inside:
                found[-1].output.append(line)
    return found


def masked(text: str) -> str:
    """A line of output without what differs from run to run: keys, digests and numbers."""
    text = re.sub(r"age1[a-z0-9]{58}|[0-9a-f]{16,}(\.\.\.)?", "KEY", text)
    return re.sub(r"\d+(\.\d+)?", "N", text)


@contextmanager
def reader(folder: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., str]]:
    """Whoever follows a page in this folder, with keys and images: call(words) gives the output.
    What a command serves until Ctrl-C is interrupted at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PRIMIS_OWNER_KEY", str(folder / "owner.key"))
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        patch.setattr(arguments, "_remembered", [])
        patch.setattr(assets, "STATIC", VIEWER_PAGE)
        patch.setattr(server.Server, "serve_forever", _interrupted)
        patch.setattr(webbrowser, "open", lambda url: True)

        def call(*words: str) -> str:
            patch.setattr(sys, "argv", ["primis", *words])
            with pytest.raises(SystemExit) as ended:
                main.main()
            said = capsys.readouterr()
            assert not ended.value.code, (words, said.err)
            return said.out

        yield call


def _interrupted(_: object) -> None:
    raise KeyboardInterrupt


def lay_out_images(folder: Path, count: int = 6, side: int = 128) -> None:
    """A folder `xrays` of phantoms."""
    (folder / "xrays").mkdir()
    for seed in range(count):
        (folder / "xrays" / f"{seed}.dcm").write_bytes(phantom_dicom(side, seed=seed))
