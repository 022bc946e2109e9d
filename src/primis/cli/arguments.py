"""From what was typed to what the engine takes. Raises UsageError, which says what was expected."""

from __future__ import annotations

import datetime
import ipaddress
import math
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from primis.atomic import PARTIAL
from primis.cli.say import tell, warn
from primis.errors import OutputError, PrimisError, UsageError
from primis.keys.home import default_owner_key
from primis.stores.places import is_url

if TYPE_CHECKING:
    from primis.keys.identity import Identity, Recipient, Signer


class Refused(PrimisError):
    """The engine refused what the command line asked for, which was right as such: exit code 1."""


@contextmanager
def refusing() -> Iterator[None]:
    """Around the engine: what makes no sense there was not told by the command line alone."""
    try:
        yield
    except UsageError as error:
        raise Refused(str(error)) from None


def parse_path(given: str | Path) -> Path:
    """A path that was typed. Raises UsageError for an empty one, which would be the folder one
    stands in."""
    if not str(given):
        raise UsageError('a path is "", expected the name of a file or folder')
    return Path(given)


def parse_place(given: str | Path) -> str:
    """Where a release lies, or is to lie: a path or a URL. Raises UsageError."""
    return str(given) if is_url(str(given)) else str(parse_path(given))


def require_place(out: Path) -> None:
    """Raise OutputError where something new cannot lie: below a file, or inside of a release."""
    for folder in Path(os.path.realpath(out)).parents:
        if os.path.lexists(folder) and not os.path.isdir(folder):
            raise OutputError(f'"{out}" cannot be made: "{folder}" is no folder')
        whole = os.path.isfile(folder / "manifest.json") or folder.name.endswith(PARTIAL)
        if whole and os.path.isdir(folder / "bundles"):
            raise OutputError(
                f'"{out}" would lie in the release "{folder}", where anyone can see it: '
                "expected another place"
            )


Owner = Annotated[
    Path | None,
    typer.Option(
        "--owner",
        metavar="FILE",
        help="Your own key file. (default: the one in the configuration folder, which the first "
        "share makes)",
        parser=parse_path,
    ),
]


def require_between(name: str, value: float, low: float, high: float) -> None:
    """Raises UsageError if an option lies outside its range."""
    if not low <= value <= high:
        given, least, most = (show_number(x) for x in (value, low, high))
        raise UsageError(f'--{name} is "{given}", expected {least} to {most}')


def show_number(value: float) -> str:
    """Whole numbers in full."""
    return str(int(value)) if math.isfinite(value) and value == int(value) else f"{value:.9g}"


def require_one_way(jobs: int | None, dask: str | None, dask_insecure: bool) -> None:
    """Raises UsageError if options ask for two ways of working at once."""
    if jobs is not None and dask is not None:
        raise UsageError("--jobs and --dask were both given, expected one of them")
    if dask_insecure and dask is None:
        raise UsageError("--dask-insecure needs --dask")


def parse_signer(text: str) -> str:
    """What a release is to be signed by. Raises UsageError."""
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise UsageError(f'--from is "{text}", expected the 64 hex digits of a signer')
    return text


def parse_date(text: str) -> datetime.date:
    """A day. Raises UsageError."""
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise UsageError(f'--not-after is "{text}", expected a date as YYYY-MM-DD') from None


def parse_viewer(text: str) -> str:
    """The viewer's address with a release as its parameter. Raises UsageError, which repeats no
    query or fragment: they may hold a secret."""
    from urllib.parse import parse_qs, urlsplit

    from primis.stores.places import without_secrets

    expected = "expected https://VIEWER/?release=https://HOST/RELEASE"
    refused = UsageError(f'--link is "{without_secrets(text)}", {expected}')
    try:
        viewer = urlsplit(text)
        [place] = parse_qs(viewer.query).get("release", [""])
        release = urlsplit(place)
        hosts = [_host(url.hostname or "") for url in (viewer, release)]
        sound = viewer.port != 0 and release.port != 0
    except ValueError:
        raise refused from None
    plain = text.isascii() and text.isprintable() and not set(text) & set(' "<>\\`')
    named = not (viewer.fragment or "#" in text or viewer.username or release.username)
    if not (sound and all(hosts) and plain and named) or "%" in "".join(hosts):
        raise refused
    for url in (viewer, release):
        if url.scheme != "https" and not (url.scheme == "http" and url.hostname in _LOOPBACK):
            raise refused
    if hosts[0] == hosts[1] and hosts[0] not in _LOOPBACK:
        raise UsageError(
            f'--link has viewer and release on one host, "{hosts[0]}": whoever stores a release '
            "could put another viewer there and take the keys, expected two hosts"
        )
    return text


_LOOPBACK = ("localhost", "127.0.0.1")


def _host(name: str) -> str:
    """A host as browsers compare it. Raises ValueError for what they would read as another name or
    number: letters beyond ASCII, of which some vanish, and numbers in other forms."""
    name = name.rstrip(".")
    if not name.isascii():
        raise ValueError("expected a name in ASCII")
    if ":" in name:
        return str(ipaddress.IPv6Address(name))
    if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", name.rpartition(".")[2]):
        return str(ipaddress.IPv4Address(name))
    return name


def parse_recipients(texts: list[str]) -> list[Recipient]:
    """Who is granted, each key once; asks for passphrases. Raises UsageError for a label twice."""
    from primis.keys import recipient as keys

    found: list[Recipient] = []
    for text in texts:
        if asks_for(text):
            label = text.rpartition("=")[0]
            typed = ask_passphrase(confirm=True)
            found.append(keys.passphrase_recipient(typed, label or "passphrase"))
        else:
            found += keys.parse_recipients(text, warn=warn)
    recipients = list(dict.fromkeys(found))
    labels = [r.label for r in recipients]
    if twice := next((x for x in labels if labels.count(x) > 1), None):
        raise UsageError(f'recipient "{twice}" is named twice')
    return recipients


def asks_for(recipient: str) -> bool:
    """Whether a recipient is a passphrase, which is asked for."""
    return recipient.rpartition("=")[2] == "passphrase"


def open_identities(paths: list[Path], passphrase: bool) -> list[Identity]:
    """The private keys that are offered. Raises UsageError if there are none."""
    from primis.keys.identity import passphrase_identity, read_identities

    found: list[Identity] = []
    for path in paths:
        found += read_identities(path, warn=warn, ask=ask_for)
        warn_if_exposed(path)
    if passphrase:
        found.append(passphrase_identity(ask_passphrase(confirm=False)))
    if not found:
        raise UsageError("no key: expected -i FILE or --passphrase")
    return found


def warn_if_exposed(path: Path) -> None:
    """Warn of a private key file that others can read or change."""
    from primis.keys.key_file import why_exposed

    if reason := why_exposed(path):
        warn(reason)


def ask_for(what: str) -> str:
    """A passphrase that unlocks something of one's own."""
    return ask_passphrase(confirm=False, what=what)


def ask_passphrase(*, confirm: bool, what: str = "passphrase") -> str:
    """From PRIMIS_PASSPHRASE, or from the terminal."""
    given = take_passphrase()
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise UsageError(f"no {what}: expected PRIMIS_PASSPHRASE, or a terminal to ask on")
    return str(typer.prompt(what, hide_input=True, confirmation_prompt=confirm, err=True))


def take_passphrase() -> str | None:
    """PRIMIS_PASSPHRASE, taken out of the environment: processes started here do not inherit it.

    It is remembered for the next call. None where it is unset or empty.
    """
    given = os.environ.pop("PRIMIS_PASSPHRASE", None)
    if given is not None:
        _remembered[:] = [given] if given else []
    return _remembered[0] if _remembered else None


_remembered: list[str] = []


def open_signer(owner: Path | None, *, make: bool = False) -> Signer:
    """The owner's key; made at first use, if `make`."""
    from primis.keys.identity import read_signer
    from primis.keys.key_file import ReadableByOthers, quoted, wait_until_written

    path = owner or default_owner_key()
    if make and owner is None and not os.path.lexists(path):
        try:
            signer = make_key(path)
        except FileExistsError:  # another process was first: its key is the owner's
            pass
        except ReadableByOthers as error:
            advice = "make one all the same with primis keygen --allow-readable"
            raise OutputError(f"{error}; {advice}") from None
        else:
            lost = "keep a copy, without it no grant can be added later"
            tell(f"made your owner key {quoted(path)}: {lost}")
            tell(f"recipients can demand your signature with --from {signer.public}")
            return signer
    wait_until_written(path)
    signer = read_signer(path, ask=ask_for)
    warn_if_exposed(path)
    return signer


def make_key(path: Path, *, allow_readable: bool = False) -> Signer:
    """A new key file, readable by its owner alone. Raises FileExistsError where there is a file."""
    from primis.keys.identity import generate, read_signer
    from primis.keys.key_file import write_key_file

    write_key_file(path, generate().encode(), allow_readable=allow_readable)
    return read_signer(path)


def show_size(n: float) -> str:
    """Bytes, for people."""
    for unit in ("B", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.3g} {unit}"
        n /= 1024
    return f"{n:.4g} GiB"
