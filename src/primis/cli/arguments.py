"""From what was typed to what the engine takes, and back to people. Raises UsageError, which says what was expected."""

from __future__ import annotations

import datetime
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from primis.errors import OutputError, UsageError

if TYPE_CHECKING:
    from primis.keys.identity import Identity, Recipient, Signer

Owner = Annotated[
    Path | None,
    typer.Option("--owner", metavar="FILE", help="Your own key file. (default: made at first use in the configuration folder)"),
]


def require_between(name: str, value: float, low: float, high: float) -> None:
    """Raises UsageError if an option lies outside its range."""
    if not low <= value <= high:
        raise UsageError(f'--{name} is "{value:.9g}", expected {low:.9g} to {high:.9g}')


def parse_protection(text: str) -> str:
    """A level. Raises UsageError."""
    if text not in ("keyed", "sca"):
        raise UsageError(f'--protection is "{text}", expected keyed or sca')
    return text


def parse_tier(text: str | None) -> str | None:
    """A tier, or None. Raises UsageError."""
    if text not in (None, "preview", "diagnostic", "original"):
        raise UsageError(f'--tier is "{text}", expected preview, diagnostic or original')
    return text


def parse_date(text: str | None) -> datetime.date | None:
    """A day, or None. Raises UsageError."""
    try:
        return None if text is None else datetime.date.fromisoformat(text)
    except ValueError:
        raise UsageError(f'--not-after is "{text}", expected a date as YYYY-MM-DD') from None


def parse_recipients(texts: list[str]) -> list[Recipient]:
    """Who is granted; asks for passphrases. Raises UsageError where a label comes twice."""
    from primis.keys.identity import parse_recipient, passphrase_recipient

    recipients = []
    for text in texts:
        label, _, key = text.rpartition("=")
        if key == "passphrase":
            recipients.append(passphrase_recipient(ask_passphrase(confirm=True), label or "passphrase"))
        else:
            recipients.append(parse_recipient(text))
    labels = [r.label for r in recipients]
    if twice := next((x for x in labels if labels.count(x) > 1), None):
        raise UsageError(f'recipient "{twice}" is named twice')
    return recipients


def open_identities(paths: list[Path], passphrase: bool) -> list[Identity]:
    """The private keys that are offered. Raises UsageError if there are none."""
    from primis.keys.identity import passphrase_identity, read_identities

    found = [identity for path in paths for identity in read_identities(path)]
    if passphrase:
        found.append(passphrase_identity(ask_passphrase(confirm=False)))
    if not found:
        raise UsageError("no key: expected -i FILE or --passphrase")
    return found


def ask_passphrase(*, confirm: bool) -> str:
    """From PRIMIS_PASSPHRASE, or from the terminal."""
    given = os.environ.get("PRIMIS_PASSPHRASE")
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise UsageError("no passphrase: expected PRIMIS_PASSPHRASE, or a terminal to ask on")
    return str(typer.prompt("passphrase", hide_input=True, confirmation_prompt=confirm, err=True))


def config_folder() -> Path:
    """Where primis keeps the owner's key and what it has seen."""
    return Path(typer.get_app_dir("primis"))


def open_signer(owner: Path | None, *, make: bool = False) -> Signer:
    """The owner's key; made at first use, if `make`."""
    from primis.keys.identity import read_signer

    path = owner or Path(os.environ.get("PRIMIS_OWNER_KEY") or Path(typer.get_app_dir("primis")) / "owner.key")
    if make and owner is None and not path.exists():
        signer = make_key(path)
        typer.echo(f'made your owner key "{path}": keep a copy, without it no grant can be added later', err=True)
        typer.echo(f"recipients can demand your signature with --from {signer.public}", err=True)
        return signer
    return read_signer(path)


def make_key(path: Path) -> Signer:
    """A new key file, readable by its owner alone."""
    from primis.keys.identity import generate, read_signer
    from primis.sharing.output import write_new

    if path.exists():
        raise OutputError(f'"{path}" exists, expected a new file')
    write_new(path, generate().encode(), 0o600)
    return read_signer(path)


def show_size(n: float) -> str:
    """Bytes, for people."""
    for unit in ("B", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.3g} {unit}"
        n /= 1024
    return f"{n:.4g} GiB"
