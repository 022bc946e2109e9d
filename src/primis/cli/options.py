"""The options that several commands share, and what every command's help has in common."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from primis.cli import say
from primis.cli.arguments import parse_path, parse_place, parse_signer
from primis.imaging.region import Region
from primis.jobs.shards import Shard as Part
from primis.keys.tier import Tier as TierName

EXIT_CODES = (
    "[bold]Exit codes[/bold]\n\n"
    "0 all done · 1 something failed or was refused · 2 wrong usage · 130 interrupted"
)
MAX_PIXELS = 1 << 34
MAX_JOBS = 1024


ReleasePlace = Annotated[
    str,
    typer.Argument(
        metavar="RELEASE",
        help="A release: its folder, or its URL (https://, s3://, gs://, az://).",
        parser=parse_place,
    ),
]
To = Annotated[
    list[str],
    typer.Option(
        "--to",
        metavar="KEY",
        help="Public key of a recipient: age1..., ssh-ed25519 or ssh-rsa, a file of such keys, "
        "RSA in PEM, an X.509 certificate, or the word passphrase. May be repeated; LABEL=KEY "
        "names the grant.",
    ),
]
Identities = Annotated[
    list[Path],
    typer.Option(
        "-i",
        "--identity",
        metavar="FILE",
        help="Your private key: an age identity, an SSH key or RSA in PEM. For one that is locked "
        "by a passphrase, primis takes PRIMIS_PASSPHRASE or asks. May be repeated.",
        parser=parse_path,
    ),
]
Passphrase = Annotated[
    bool,
    typer.Option(
        "--passphrase",
        help="Open a grant to a passphrase: PRIMIS_PASSPHRASE, or primis asks.",
    ),
]
Tier = Annotated[
    TierName | None,
    typer.Option("--tier", help="Highest tier to open; each includes the ones before it."),
]
Images = Annotated[
    list[str],
    typer.Option(
        "--image",
        metavar="NAME|ID",
        help="Only this image: its file name, or the start of its id. May be repeated.",
    ),
]
RegionOption = Annotated[
    Region | None,
    typer.Option(
        "--region",
        metavar="X,Y,WIDTH,HEIGHT[,FIRST-LAST]",
        help="Only these pixels, counted from the upper left corner, and these frames, counted "
        "from 0 (default: all).",
        parser=Region.parse,
    ),
]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="One line for each image.")]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object, and nothing else on standard output."),
]
Quiet = Annotated[
    bool,
    typer.Option("-q", "--quiet", help="Print errors and warnings only, no progress or notes."),
]
Lossless = Annotated[
    bool,
    typer.Option(
        "--lossless",
        help="Seal every sample as it is, for tier diagnostic: an image takes as many bytes as it "
        "has uncompressed, and some for its preview.",
    ),
]
NoSeries = Annotated[
    bool,
    typer.Option(
        "--no-series",
        help="Share each DICOM file alone, as an image of its own. By default the slices of one "
        "series and geometry are one image.",
    ),
]


FramesAlone = Annotated[
    bool,
    typer.Option(
        "--frames-alone",
        help="Code each frame by itself, so that a grant of some opens no others. By default "
        "neighbours that are alike are coded together, which saves bytes.",
    ),
]


class HeaderKept(StrEnum):
    """How much of a file's header is sealed for tier diagnostic."""

    WHOLE = "whole"
    MINIMAL = "minimal"


Header = Annotated[
    HeaderKept,
    typer.Option(
        "--header",
        help="minimal seals of each file's header only what is needed to show the image. The whole "
        "header is then in the file itself alone (--with-original). File names stay.",
    ),
]
MaxPixels = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=MAX_PIXELS,
        help="Refuse images of more pixels, all frames together; each channel counts. "
        "(default: 600 million, fewer for small files)",
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "-j",
        "--jobs",
        metavar="N",
        min=1,
        max=MAX_JOBS,
        help="Processes that work at once. (default: as many as cores, fewer for few images)",
    ),
]
Dask = Annotated[
    str | None,
    typer.Option(
        "--dask",
        metavar="ADDRESS",
        help="Have the workers of a Dask cluster do the work: the address of its scheduler, "
        "tls://HOST:PORT.",
    ),
]
DaskInsecure = Annotated[
    bool,
    typer.Option(
        "--dask-insecure",
        help="Allow a scheduler on another machine without TLS: whoever listens sees the images.",
    ),
]
Shard = Annotated[
    Part | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Work on the I-th of N parts of the images alone: for the array jobs of a cluster.",
        parser=Part.parse,
    ),
]
TrustAnew = Annotated[
    bool,
    typer.Option(
        "--trust-anew",
        help="Accept a signer or a state that differs from what was seen before, and remember it.",
    ),
]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="SIGNER",
        help="Refuse a release that this signer did not sign (64 hex digits).",
        parser=parse_signer,
    ),
]


def command(
    app: typer.Typer, *examples: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add a command whose help ends with these examples, and that takes `--quiet`."""
    shown = "\n".join(f"  {example}" for example in examples)
    epilog = f"[bold]Examples[/bold]\n\n{shown}\n\n{EXIT_CODES}"

    def register(function: Callable[..., None]) -> Callable[..., None]:
        app.command(help=_flowing(function), epilog=epilog)(_with_quiet(function))
        return function

    return register


def _flowing(function: Callable[..., None]) -> str:
    """What a function says of itself, a line a paragraph: a terminal wraps it at its own width."""
    paragraphs = (inspect.getdoc(function) or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _with_quiet(function: Callable[..., None]) -> Callable[..., None]:
    """The same command with one option more, which what it prints through goes by."""

    @functools.wraps(function)
    def run(quiet: bool, **given: Any) -> None:
        say.set_quiet(quiet)
        function(**given)

    hints = get_type_hints(function, include_extras=True) | {"quiet": Quiet}
    given = inspect.signature(function).parameters.values()
    quiet = inspect.Parameter("quiet", inspect.Parameter.KEYWORD_ONLY, default=False)
    shown = [each.replace(annotation=hints[each.name]) for each in (*given, quiet)]
    run.__annotations__ = hints
    run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    return run
