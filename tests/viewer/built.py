"""Node, its packages, Chromium and the viewer as `make viewer` builds it, once for all workers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

VIEWER = Path(__file__).parents[2] / "viewer"
OLDEST_NODE = 20
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
KEPT_ONCE = ("weights", "kernel.wasm", "*-decode.onnx")
"""Of `dist/assets`: what the package has elsewhere, and serves from there."""


def require_node() -> None:
    """Skip where node or npm is missing or too old."""
    if os.name != "posix":
        pytest.skip("needs locks of POSIX, and processes that signals end")
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}: Node.js {OLDEST_NODE} or later")
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    if int(said.stdout.removeprefix("v").split(".")[0]) < OLDEST_NODE:
        pytest.skip(f"needs Node.js {OLDEST_NODE} or later, node is {said.stdout.strip()}")


def browser_there() -> str | None:
    """The path of Chromium, where there is one."""
    named = os.environ.get("CHROMIUM")
    if named is not None:
        return named if Path(named).exists() else None
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def find_browser() -> str:
    """The path of Chromium; skips where there is none."""
    found = browser_there()
    if found is None:
        pytest.skip(f"needs Chromium: one of {', '.join(BROWSERS)}, or where CHROMIUM says")
    return found


@contextmanager
def only_one() -> Iterator[None]:
    """One process at a time, of all that use this folder of the viewer."""
    import fcntl

    with (VIEWER / "package-lock.json").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def npm(*words: str, browser: str | None = None) -> str:
    """What a command of npm says; fails the test with it."""
    ended = subprocess.run(
        ["npm", *words],
        cwd=VIEWER,
        env=os.environ | ({"CHROMIUM": browser} if browser else {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    if ended.returncode:
        pytest.fail(f"npm {' '.join(words)}\n{ended.stdout[-8000:]}", pytrace=False)
    return ended.stdout


def install() -> None:
    """The packages of package-lock.json, unless they are there. Skips where they cannot be had."""
    require_node()
    with only_one():
        if not _is_installed():
            ended = subprocess.run(
                ["npm", "ci", "--no-audit", "--no-fund"],
                cwd=VIEWER,
                capture_output=True,
                text=True,
                check=False,
            )
            if ended.returncode:
                last = ended.stderr.strip().splitlines()[-1:]
                pytest.skip(f"needs the packages of viewer/package-lock.json: npm ci says {last}")


def _is_installed() -> bool:
    there = VIEWER / "node_modules" / ".package-lock.json"
    if not there.is_file():
        return False
    found = json.loads(there.read_text())["packages"]
    wanted = json.loads((VIEWER / "package-lock.json").read_text())["packages"]
    required = {name for name, about in wanted.items() if name and not about.get("optional")}
    same = all(wanted.get(name, {}).get("version") == found[name]["version"] for name in found)
    return same and required <= found.keys()


def build(folder: Path) -> Path:
    """The static files of `primis.viewer`, as `make viewer` leaves them, in this folder: built by
    whoever comes first."""
    install()
    static = folder / "static"
    with only_one():
        if not static.is_dir():
            npm("run", "build")
            partial = shutil.copytree(
                VIEWER / "dist",
                folder / "static.partial",
                ignore=shutil.ignore_patterns(*KEPT_ONCE),
            )
            Path(partial).rename(static)
    return static
