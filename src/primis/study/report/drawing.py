"""Pictures by matplotlib, drawn for print: as PNG, and names of versions as they are typeset."""

from __future__ import annotations

import io
from typing import Any

DOTS = 200
"""Per inch."""


def png(canvas: Any) -> bytes:
    """A matplotlib figure, the same bytes for the same picture."""
    out = io.BytesIO()
    canvas.savefig(out, format="png", dpi=DOTS, metadata={"Software": None})
    return out.getvalue()


def typeset(name: str) -> str:
    """S_x with a true subscript; long names of versions in two lines."""
    return name.replace("S_x", "$S_x$").replace(" at the bits of ", "\nat the bits of ")
