"""Writes into README.md the SHA-256 of the list of the viewer's files: `make viewer`."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SUMS = ROOT / "src/primis/viewer/static/SHA256SUMS"
NAMED = re.compile(r"(`SHA256SUMS`, is\s+`)[0-9a-f]{64}(`)")


def main() -> None:
    """Put it in the place of the one that is there."""
    readme = ROOT / "README.md"
    digest = hashlib.sha256(SUMS.read_bytes()).hexdigest()
    text, count = NAMED.subn(rf"\g<1>{digest}\g<2>", readme.read_text("utf-8"))
    if count != 1:
        raise SystemExit(f'"{readme}" names {count} sums of the viewer, expected 1')
    readme.write_text(text, "utf-8")
    print(f"{SUMS.relative_to(ROOT)}: {digest}")


if __name__ == "__main__":
    main()
