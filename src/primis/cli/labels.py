"""The option of `share` and `add` that gives images labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from primis.cli.arguments import parse_path

LabelTable = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        metavar="TABLE",
        help="CSV with a column file: its other columns are sealed in the release's catalogue, for "
        "who holds tier diagnostic of all of it.",
        parser=parse_path,
    ),
]
