"""The command line: parse, call one function, print. Errors are one line, with a hint below."""

from __future__ import annotations

import datetime
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from primis.atomic import reason
from primis.cli.arguments import (
    Owner,
    make_key_pair,
    open_identities,
    open_signer,
    parse_date,
    parse_path,
    parse_protection,
    parse_recipients,
    parse_tier,
    require_between,
    require_place,
    show_size,
    take_passphrase,
)
from primis.cli.known import open_release, pixels_limit, require_release, telling
from primis.cli.measure import audit, evaluate
from primis.cli.say import close_output, say, tell, warn
from primis.cli.say import note as say_note
from primis.cli.train import train
from primis.errors import OutputError, PrimisError, UsageError

app = typer.Typer(
    help="Publish medical images where anyone can fetch them and only the people you chose can see them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_INTERRUPTED = 130
_PARSE_ERROR: type[typer.BadParameter] = typer.BadParameter.__mro__[
    2
]  # typer hides the base of its errors

_To = Annotated[
    list[str],
    typer.Option(
        "--to",
        metavar="KEY",
        help="Recipient: age1..., ssh-ed25519 / ssh-rsa, a key file (also PEM or X.509), or passphrase. "
        "May be repeated; LABEL=KEY names its grant.",
    ),
]
_Identity = Annotated[
    list[Path],
    typer.Option(
        "-i",
        "--identity",
        metavar="FILE",
        help="Your private key: age identity, SSH key or RSA PEM. May be repeated.",
        parser=parse_path,
    ),
]
_Tier = Annotated[
    str | None, typer.Option("--tier", metavar="TIER", help="preview, diagnostic or original.")
]
_Image = Annotated[
    list[str],
    typer.Option(
        "--image", metavar="ID", help="Only this image (start of its id). May be repeated."
    ),
]
_Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="One line for each image.")]
_Model = Annotated[
    Path | None,
    typer.Option(
        "--model",
        metavar="FILE",
        help="Other weights: a file, or paper, which comes along.",
        parser=parse_path,
    ),
]
_MaxPixels = Annotated[
    int | None,
    typer.Option(
        help="Refuse images of more pixels in all frames; every channel counts. (default: 300 "
        "million, fewer for small files)"
    ),
]
_Anew = Annotated[
    bool,
    typer.Option(
        "--trust-anew",
        help="Accept a signer or a state that differs from what was seen before, and remember it.",
    ),
]
_NotAfter = Annotated[
    str | None,
    typer.Option(
        "--not-after", metavar="YYYY-MM-DD", help="Last day on which primis opens the grant."
    ),
]
_Note = Annotated[
    str | None,
    typer.Option("--note", metavar="TEXT", help="A line for the recipient, sealed in the grant."),
]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        say(f"primis {installed('primis')}")
        raise typer.Exit


@app.command()
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
    protection: Annotated[str, typer.Option(help="keyed or sca.")] = "keyed",
    force: Annotated[
        bool, typer.Option("--force", help="Replace an earlier demo in that folder.")
    ] = False,
) -> None:
    """Share, attack and restore a built-in phantom; write a picture of all views."""
    from primis.cli.demo import run_demo

    require_place(out)
    run_demo(out, parse_protection(protection), force=force)


@app.command()
def keygen(
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            metavar="FILE",
            help="New key file, readable by you alone.",
            parser=parse_path,
        ),
    ],
    allow_readable: Annotated[
        bool,
        typer.Option("--allow-readable", help="Also on a disk that keeps no file modes."),
    ] = False,
) -> None:
    """Make a key file, and FILE.pub to give away; print the public key, the label of grants to it,
    and what it signs as."""
    from primis.keys.key_file import ReadableByOthers, quoted, why_exposed

    try:
        signer, public = make_key_pair(out, allow_readable=allow_readable)
    except ReadableByOthers as error:
        raise OutputError(f"{error}, or --allow-readable") from None
    say(f"public key: {signer.recipient.text}")
    say(f"label: {signer.identity.label}\nsigner: {signer.public}")
    kept = f"keep {quoted(out)} to yourself and safe"
    say(f"{kept}; give {quoted(public)}, the public key, to those who share with you")
    if reason := why_exposed(out):
        warn(reason)


@app.command()
def share(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Files and folders.", parser=parse_path)
    ],
    to: _To,
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="RELEASE", help="New folder.", parser=parse_path)
    ],
    sparsity: Annotated[
        float,
        typer.Option(
            help="S_x: non-zeros kept per 16 x 16 block, on average; 0.5 to 32, may be fractional."
        ),
    ] = 8.0,
    decoys: Annotated[
        float | None, typer.Option(help="S_n: decoys per block. (default: as many as S_x)")
    ] = None,
    protection: Annotated[
        str, typer.Option(help="keyed, or the paper's sca (leaks: see docs/threat-model.md).")
    ] = "keyed",
    support_bits: Annotated[
        float, typer.Option(help="Room for the sealed supports, bits per entry.")
    ] = 2.75,
    value_bits: Annotated[
        float, typer.Option(help="Room for the values, bits per published entry (keyed).")
    ] = 4.0,
    header_bytes: Annotated[
        int | None,
        typer.Option(help="Budget for each sealed header, bytes. (default: as the largest needs)"),
    ] = None,
    with_original: Annotated[
        bool, typer.Option("--with-original", help="Seal the file itself too: tier original.")
    ] = False,
    original_bits: Annotated[
        float | None,
        typer.Option(help="Budget for each file, bits per sample. (default: so that all fit)"),
    ] = None,
    tier: _Tier = None,
    owner: Owner = None,
    model: _Model = None,
    max_pixels: _MaxPixels = None,
    verbose: _Verbose = False,
) -> None:
    """Make a release of images and grant all that it holds to recipients (less with --tier)."""
    from primis.bundle.layout import MAX_HEADER_BYTES, MAX_ORIGINAL_BITS, MIN_HEADER_BYTES, Settings
    from primis.cli.progress import Report
    from primis.jobs import batch

    require_between("sparsity", sparsity, 0.5, 32)
    decoys = sparsity if decoys is None else decoys
    require_between("decoys", decoys, 0, 256 - sparsity)
    require_between("support-bits", support_bits, 0.5, 16)
    require_between("value-bits", value_bits, 1, 32)
    if header_bytes is not None:
        require_between("header-bytes", header_bytes, MIN_HEADER_BYTES, MAX_HEADER_BYTES)
    limit = pixels_limit(max_pixels)
    if original_bits is not None:
        require_between("original-bits", original_bits, 0.001, MAX_ORIGINAL_BITS)
        original_bits = round(original_bits, 3)
        if not with_original:
            raise UsageError("--original-bits needs --with-original")
    require_place(out)
    folders = [os.path.realpath(path) for path in images if os.path.isdir(path)]
    if any(Path(os.path.realpath(out)).is_relative_to(folder) for folder in folders):
        raise UsageError(
            f'the release "{out}" would lie in a folder that is shared, expected another place'
        )
    highest = "original" if with_original else "diagnostic"
    granted = parse_tier(tier) or highest
    if granted == "original" and not with_original:
        raise UsageError('tier "original" needs --with-original')
    recipients = parse_recipients(to)
    if protection == "sca":
        warn(
            "level sca leaks the image to anyone (docs/threat-model.md): "
            "never publish patients with it"
        )
    chosen = (decoys, sparsity, support_bits, value_bits)
    decoys, sparsity, support_bits, value_bits = (round(value, 3) for value in chosen)
    settings = Settings(
        decoys,
        parse_protection(protection),
        sparsity,
        support_bits,
        value_bits,
        header_bytes,
        original_bits,
    )
    with Report("sharing", verbose=verbose, sparsity=sparsity, named=images) as report:
        results = batch.share(
            images,
            out,
            recipients,
            open_signer(owner, make=True),
            settings,
            tier=granted,
            with_original=with_original,
            model=model,
            max_pixels=limit,
            on_result=report.add,
            on_look=report.look,
            on_note=say_note,
        )
    good = [r for r in results if r.error is None]
    size = sum(r.bytes for r in good)
    labels = ", ".join(r.label for r in recipients)
    say(
        f'shared {len(good)} of {len(results) - report.passed_over} images in "{out}" '
        f"({show_size(size)}), tier {granted}, to: {labels}"
    )
    try:
        open_release(out, anew=True)  # what is put back later will be noticed
    except OutputError as error:  # the release is whole all the same
        warn(str(error))
    report.finish()


@app.command()
def restore(
    release: Annotated[Path, typer.Argument(metavar="RELEASE", parser=parse_path)],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="FOLDER", help="New folder.", parser=parse_path)
    ],
    identity: _Identity = [],  # noqa: B006
    passphrase: Annotated[
        bool,
        typer.Option(
            "--passphrase", help="Open with a passphrase: PRIMIS_PASSPHRASE, or asked for."
        ),
    ] = False,
    tier: _Tier = None,
    image: _Image = [],  # noqa: B006
    signer: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="SIGNER", help="Refuse a release that this signer did not sign."
        ),
    ] = None,
    model: Annotated[
        list[Path],
        typer.Option(
            "--model",
            metavar="FILE",
            help="Weights other than the shipped ones.",
            parser=parse_path,
        ),
    ] = [],  # noqa: B006
    trust_anew: _Anew = False,
    max_pixels: _MaxPixels = None,
    verbose: _Verbose = False,
) -> None:
    """Restore the images that your key opens, at the highest tier unless told otherwise."""
    from primis.cli.progress import Report
    from primis.jobs import batch

    require_release(release)
    require_place(out)
    keys, limit = open_identities(identity, passphrase), pixels_limit(max_pixels)
    opened = open_release(release, signer=signer, anew=trust_anew)
    with telling(opened), Report("restoring", verbose=verbose) as report:
        results = batch.restore(
            opened,
            keys,
            out,
            tier=parse_tier(tier),
            images=image,
            models=tuple(model),
            max_pixels=limit,
            on_result=report.add,
        )
    good = [r for r in results if r.error is None]
    tiers = ", ".join(sorted({r.tier for r in good if r.tier})) or "none"
    say(
        f'restored {len(good)} of {len(results)} images to "{out}" (tier {tiers}); signed by {opened.manifest.signer}'
    )
    report.finish()


@app.command()
def grant(
    release: Annotated[Path, typer.Argument(metavar="RELEASE", parser=parse_path)],
    to: _To,
    tier: _Tier = None,
    image: _Image = [],  # noqa: B006
    note: _Note = None,
    not_after: _NotAfter = None,
    trust_anew: _Anew = False,
    owner: Owner = None,
) -> None:
    """Let more people open a release, or some images of it, up to tier diagnostic unless told otherwise."""
    from primis.release import release as sharing

    require_release(release)
    recipients, last = parse_recipients(to), parse_date(not_after)
    signer = open_signer(owner)
    opened = open_release(release, anew=trust_anew)
    chosen = [opened.resolve(i) for i in image]
    granted = parse_tier(tier) or "diagnostic"
    if granted == "original" and not sharing.has_originals(opened):
        raise UsageError(
            'tier "original" was asked for, but the release was shared without --with-original'
        )
    if last is not None and last < datetime.datetime.now(datetime.UTC).date():
        raise UsageError(f'--not-after is "{last}", expected a day to come')
    what = f"{len(chosen)} image(s)" if chosen else "the whole release"
    with telling(opened):
        for recipient in recipients:
            path = sharing.grant(
                opened,
                recipient,
                signer,
                tier=granted,
                images=chosen or None,
                note=note,
                not_after=last,
                on_wait=say_note,
            )
            label = path.name.split(".")[0]
            say(f'granted {what} up to tier {granted} to {label}: "{path}"')


@app.command()
def rekey(
    release: Annotated[Path, typer.Argument(metavar="RELEASE", parser=parse_path)],
    without: Annotated[
        list[str],
        typer.Option("--without", metavar="LABEL", help="Withdraw this grant. May be repeated."),
    ] = [],  # noqa: B006
    carry_others: Annotated[
        bool,
        typer.Option(
            "--carry-others", help="Keep files in the folder that are not part of the release."
        ),
    ] = False,
    trust_anew: _Anew = False,
    owner: Owner = None,
) -> None:
    """Give a release new secrets, without encoding again; renew its grants."""
    from primis.cli.progress import bar
    from primis.release.rekey import rekey as give_new_secrets

    require_release(release)
    signer = open_signer(owner)
    opened = open_release(release, anew=trust_anew)
    with telling(opened), bar() as progress:
        task = progress.add_task("rekeying", total=len(opened.ids))
        done = give_new_secrets(
            opened,
            signer,
            without=without,
            carry_others=carry_others,
            on_bundle=lambda _: progress.advance(task),
            on_wait=say_note,
        )
    renewed, dropped = ", ".join(done.renewed) or "none", ", ".join(done.dropped) or "none"
    say(f'"{release}" has new secrets; grants renewed: {renewed}; dropped: {dropped}')
    if done.left_out:
        why = "links are not followed" if carry_others else "--carry-others keeps files"
        say_note(f"left out ({why}): {', '.join(done.left_out)}")
    say("whoever kept a copy of the old release and its grant can still open that copy")
    for folder in done.still_there:
        warn(f'"{folder}" cannot be removed and still opens with withdrawn keys: remove it')
    if done.still_there:
        raise typer.Exit(1)


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(metavar="RELEASE|BUNDLE|GRANT", parser=parse_path)],
    json_: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    identity: _Identity = [],  # noqa: B006
    trust_anew: _Anew = False,
) -> None:
    """Show what anyone can see; with -i also what your key opens."""
    from primis.cli.show import inspect_path

    identities = open_identities(identity, False) if identity else []
    say(inspect_path(path, identities, anew=trust_anew, as_json=json_))


app.command()(audit)
app.command()(evaluate)


app.command()(train)


def main() -> None:
    """Entry point: run, and turn what was raised on purpose into one line and an exit status."""
    take_passphrase()  # no process that is started here inherits it
    try:
        status = app(standalone_mode=False)
        if status == _INTERRUPTED:  # typer has caught it already
            raise KeyboardInterrupt
        sys.exit(status if isinstance(status, int) else 0)
    except PrimisError as error:
        _fail(str(error), 2 if isinstance(error, UsageError) else 1, error)
    except _PARSE_ERROR as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "primis"
        if not (message := error.format_message().rstrip(".").replace("\n", " ")):
            sys.exit(2)  # no command: its help was shown
        _fail(_bad_number(error) or message, 2, None, f"{command} --help lists what it takes")
    except (KeyboardInterrupt, typer.Abort):
        goes_on = {
            "share": "where it stopped",
            "restore": "where it stopped",
            "train": "from its last checkpoint, if it had one",
            "audit": "after the last attack that was done",
            "evaluate": "after the last part that was done",
        }
        command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
        hint = f"the same command again goes on {goes_on[command]}" if command in goes_on else None
        _fail("interrupted", _INTERRUPTED, None, hint)
    except BrokenPipeError:
        close_output()
        sys.exit(1)
    except OSError as error:
        _fail(_what_failed(error), 1, None)
    except ModuleNotFoundError as error:
        _fail(
            f'"{error.name}" is not installed',
            1,
            None,
            "in the checkout, pip install -c constraints.txt '.[all]' brings what every command needs",
        )
    except MemoryError:
        _fail("out of memory", 1, None)
    except Exception as error:
        if os.environ.get("PRIMIS_DEBUG"):
            raise
        _fail(
            f"unexpected {type(error).__name__}: this is a defect of primis",
            1,
            None,
            "PRIMIS_DEBUG=1 shows where; please report it",
        )


def _what_failed(error: OSError) -> str:
    """A line for an error of the system that nothing else has put in words."""
    if error.filename is not None:
        return f'"{os.fsdecode(error.filename)}": {error.strerror or error}'
    close_output()  # it may still hold what it could not take, and would fail once more at the end
    return f"input or output failed: {reason(error)}"


def _bad_number(error: typer.BadParameter) -> str | None:
    """What was typed in place of a number, and for which option; None if that is not the error."""
    details = getattr(error.__cause__, "errors", None)
    options = getattr(error.param, "opts", ()) if isinstance(error, typer.BadParameter) else ()
    if details is None or not options:
        return None
    first = details()[0]
    kinds = {"float": "a number", "int": "a whole number"}
    expected = kinds.get(first["type"].split("_")[0])
    return expected and f'{max(options, key=len)} is "{first["input"]}", expected {expected}'


def _fail(message: str, status: int, error: PrimisError | None, hint: str | None = None) -> None:
    from primis.cli.hints import hint_for

    tell(f"primis: {message}")
    hint = hint or (hint_for(error) if error else None)
    if hint:
        tell(f"hint: {hint}")
    sys.exit(status)
