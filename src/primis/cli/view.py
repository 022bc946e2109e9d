"""`primis view`: a release in your browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from primis.cli.arguments import parse_path, parse_place, require_place, warn_if_exposed
from primis.cli.known import open_release, require_release, telling
from primis.cli.options import From, TrustAnew
from primis.cli.say import note, say, show
from primis.errors import UsageError

if TYPE_CHECKING:
    from primis.viewer.server import Server

EXAMPLES = (
    "primis view release -i me.key",
    "primis view https://host/release -i me.key",
    "primis view release --no-browser --port 8000",
    "primis view --export www",
)


def view(
    release: Annotated[
        str | None,
        typer.Argument(
            metavar="[RELEASE]",
            help="A release: its folder, or its URL (https://, s3://, gs://, az://).",
            parser=parse_place,
            show_default=False,
        ),
    ] = None,
    identity: Annotated[
        Path | None,
        typer.Option(
            "-i",
            "--identity",
            metavar="FILE",
            help="Your age identity, handed to the page once. If it has a passphrase, the page "
            "asks for it. (default: the page asks for a key)",
            parser=parse_path,
        ),
    ] = None,
    signer: From = None,
    model: Annotated[
        list[Path],
        typer.Option(
            "--model",
            metavar="FILE",
            help="A file of weights that do not come with primis. May be repeated.",
            parser=parse_path,
        ),
    ] = [],  # noqa: B006
    port: Annotated[
        int | None,
        typer.Option(
            "--port", metavar="N", min=1, max=65535, help="Port of 127.0.0.1. (default: a free one)"
        ),
    ] = None,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address and open no browser.")
    ] = False,
    export: Annotated[
        Path | None,
        typer.Option(
            "--export",
            metavar="FOLDER",
            help="Write the viewer to a new folder, for your own web host, and serve nothing.",
            parser=parse_path,
        ),
    ] = None,
    trust_anew: TrustAnew = False,
) -> None:
    """Open a release in your browser. Runs until Ctrl-C.

    The page comes from this machine (127.0.0.1), at an address that only you know. primis fetches
    the files of the release as the page needs them, and your browser decrypts them.
    """
    if export is not None:
        given = {
            "RELEASE": release is not None,
            "-i": identity is not None,
            "--from": signer is not None,
            "--port": port is not None,
        }
        if extra := [name for name, is_given in given.items() if is_given]:
            raise UsageError(f"--export only writes the viewer, expected no {', '.join(extra)}")
        _export(export, model)
        return
    if release is None:
        raise UsageError("no release: expected RELEASE, or --export FOLDER")
    require_release(release)
    from primis.viewer.assets import viewer_files
    from primis.viewer.files import ReleaseFiles
    from primis.viewer.key import read_for_viewer
    from primis.viewer.server import Server, Site

    key = None
    if identity is not None:
        key = read_for_viewer(identity)
        warn_if_exposed(identity)
    files = viewer_files(model)
    opened = open_release(release, signer=signer, anew=trust_anew)
    with telling(opened):
        site = Site(
            files,
            ReleaseFiles(opened, note),
            place=release,
            signer=opened.manifest.signer,
            key=key,
        )
        with Server(site, port, note) as server:
            _serve(server, release, browser=not no_browser)


def _serve(server: Server, release: str, *, browser: bool) -> None:
    from contextlib import nullcontext

    from primis.viewer.start import browser_at, ended_by_signals

    show(f'"{release}" is open until Ctrl-C to anyone who has this address: {server.url}')
    none = "no browser could be started: open the address above yourself"
    try:
        shown = browser_at(server.url, lambda: note(none)) if browser else nullcontext()
        with ended_by_signals(), shown:
            server.serve_forever()
    except KeyboardInterrupt:  # how this command ends
        note("the viewer has stopped: close its page too")


def _export(out: Path, models: list[Path]) -> None:
    require_place(out)
    from primis.viewer.assets import export, viewer_files

    files = viewer_files(models)
    export(files, out)
    say(f'wrote the viewer to "{out}": put it on a web host, but never on the host of a release')
