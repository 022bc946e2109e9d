"""`primis inspect`: what a path is, and what anyone can see of it."""

from __future__ import annotations

from typing import Annotated

import typer

from primis.cli.arguments import open_identities, parse_place
from primis.cli.options import Identities, Json, Passphrase, TrustAnew
from primis.cli.say import show

EXAMPLES = (
    "primis inspect release",
    "primis inspect release -i me.key",
    "primis inspect release/grants/alice.1a2b3c4d.age --json",
)


def inspect(
    path: Annotated[
        str,
        typer.Argument(
            metavar="RELEASE|BUNDLE|GRANT",
            help="A release, its folder or URL, or one of the files in that folder.",
            parser=parse_place,
        ),
    ],
    as_json: Json = False,
    identity: Identities = [],  # noqa: B006
    passphrase: Passphrase = False,
    trust_anew: TrustAnew = False,
) -> None:
    """Show what anyone can see; with -i also what your key opens, and the names of the images."""
    keys = open_identities(identity, passphrase) if identity or passphrase else []
    from primis.cli.show import inspect_path

    show(inspect_path(path, keys, anew=trust_anew, as_json=as_json))
