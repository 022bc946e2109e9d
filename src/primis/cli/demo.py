"""`primis demo`: one phantom through the whole system."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from primis.bundle.settings import Protection
from primis.cli.arguments import parse_path, require_place

EXAMPLES = ("primis demo", "primis demo -o elsewhere --protection sca --force")


def demo(
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            metavar="FOLDER",
            help="Where the picture and the release go.",
            parser=parse_path,
        ),
    ] = Path("primis-demo"),
    protection: Annotated[
        Protection, typer.Option(help="Level of the release; the picture compares both.")
    ] = Protection.KEYED,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an earlier demo in that folder.")
    ] = False,
) -> None:
    """Share, attack and restore a built-in phantom; write a picture of all views."""
    require_place(out)
    from primis.cli.views import run_demo

    run_demo(out, protection, force=force)
