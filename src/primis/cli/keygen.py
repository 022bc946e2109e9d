"""`primis keygen`: a new key file, and its public key beside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from primis.cli.arguments import make_key, parse_path, require_place
from primis.cli.options import Json
from primis.cli.say import result, warn
from primis.errors import OutputError, UsageError

if TYPE_CHECKING:
    from primis.keys.identity import Signer

EXAMPLES = ("primis keygen -o me.key", "primis keygen -o me.key --json")


def keygen(
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            metavar="FILE",
            help="New key file, readable by you alone; FILE.pub is the half to give away.",
            parser=parse_path,
        ),
    ],
    allow_readable: Annotated[
        bool,
        typer.Option("--allow-readable", help="Also on a disk that keeps no file modes."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a key file, and FILE.pub to give away.

    Prints the public key, the label of grants to it, and the name under which it signs.
    """
    from primis.keys.key_file import ReadableByOthers, quoted, why_exposed

    try:
        signer, public = make_key_pair(out, allow_readable=allow_readable)
    except ReadableByOthers as error:
        raise OutputError(f"{error}, or --allow-readable") from None
    lines = [
        f"public key: {signer.recipient.text}",
        f"label: {signer.identity.label}",
        f"signer: {signer.public}",
        f"keep {quoted(out)} to yourself and safe; "
        f"give {quoted(public)}, the public key, to those who share with you",
    ]
    facts = {
        "key_file": str(out),
        "public_key_file": str(public),
        "public_key": signer.recipient.text,
        "label": signer.identity.label,
        "signer": signer.public,
    }
    result("\n".join(lines), facts, as_json=as_json)
    if reason := why_exposed(out):
        warn(reason)


def make_key_pair(path: Path, *, allow_readable: bool = False) -> tuple[Signer, Path]:
    """A new key file, and its public key beside it; both or none."""
    from primis.keys.key_file import quoted, write_key_file

    public = path.with_name(f"{path.name}.pub") if path.name else path
    _require_new(path, public)
    try:
        signer = make_key(path, allow_readable=allow_readable)
    except FileExistsError:
        raise OutputError(f"{quoted(path)} exists, expected a new file") from None
    try:
        write_key_file(public, f"{signer.recipient.text}\n".encode(), 0o644)
    except BaseException as error:
        path.unlink()
        if isinstance(error, FileExistsError):
            raise OutputError(f"{quoted(public)} exists, expected a new file") from None
        raise
    return signer, public


def _require_new(path: Path, public: Path) -> None:
    """Raise OutputError where the two files cannot be made, UsageError where a key was typed."""
    from primis.keys.key_file import holds_private_key, quoted

    if holds_private_key(str(path)):
        where = "a private key was given in place of the name of a new file"
        raise UsageError(f"{where}; others may have seen it: make a new one")
    if path.name in ("", ".."):
        raise OutputError(f"{quoted(path)} is no name for a new file")
    require_place(path)
    for each in (path, public):
        if os.path.lexists(each):
            raise OutputError(f"{quoted(each)} exists, expected a new file")
