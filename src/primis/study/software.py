"""Which primis made a result: its version, and the commit that it was built or installed from.

setup.py stamps the commit into the package's metadata. Nothing is asked of the folder that the
program runs in.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.metadata import Distribution, distribution

COMMIT_FILE = "commit.txt"
"""Of the metadata, beside the version."""


@cache
def software() -> str:
    """primis 0.1.0, commit 05ab98e."""
    return described(distribution("primis"))


def described(package: Distribution) -> str:
    """Version and commit of an installed package; an editable one may have changed since."""
    commit = (package.read_text(COMMIT_FILE) or "").strip() or "unknown"
    since = " when it was installed" if commit != "unknown" and _editable(package) else ""
    return f"primis {package.version}, commit {commit}{since}"


def _editable(package: Distribution) -> bool:
    """Whether it runs from a checkout (PEP 610)."""
    origin = json.loads(package.read_text("direct_url.json") or "{}")
    match origin:
        case {"dir_info": {"editable": bool(editable)}}:
            return editable
    return False
