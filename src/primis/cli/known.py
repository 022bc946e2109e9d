"""What commands that open a release have in common: what was seen before, and what to tell."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from primis.atomic import PARTIAL
from primis.cli import say
from primis.cli.arguments import refusing
from primis.cli.say import warn
from primis.errors import InputError, OutputError
from primis.keys.home import config_folder, known_releases_file
from primis.stores.places import is_url

if TYPE_CHECKING:
    from primis.release.known import KnownReleases
    from primis.release.reader import Release


def known_releases(*, read_only: bool = False) -> KnownReleases:
    """The signers and versions that this person has seen."""
    from primis.release.known import KnownReleases

    return (
        KnownReleases(known_releases_file(), read_only=True)
        if read_only
        else KnownReleases(known_releases_file())
    )


def open_release(place: str, *, signer: str | None = None, anew: bool = False) -> Release:
    """A release, compared with what was seen of it before, and remembered.

    Where it cannot be remembered that is said, and what is known of it holds all the same. Raises
    InputError where there is no such folder.
    """
    from primis.release.reader import Release

    require_release(place)
    try:
        return Release(place, signer=signer, known=known_releases(), anew=anew)
    except OutputError as error:
        known = (
            known_releases(read_only=True) if os.access(known_releases_file(), os.R_OK) else None
        )
        release = Release(place, signer=signer, known=known, anew=anew)  # damaged: raises again
        why = str(error).rpartition(": ")[2]
        warn(
            f'the signer of "{place}" cannot be remembered in folder "{config_folder()}": {why}; '
            "XDG_CONFIG_HOME chooses another"
        )
        return release


def require_release(place: str) -> None:
    """Raise InputError where a release cannot be: its folder is mistyped, or a file."""
    from primis.release.old_states import left_behind

    if is_url(place):
        return
    path = Path(place)
    waits = path.with_name(path.name + PARTIAL) if path.name else path
    if os.path.isfile(path):
        raise InputError(f'"{path}" is a file, expected the folder of a release')
    if os.path.isdir(waits) or left_behind(path):
        return
    if _is_missing(path):
        raise InputError(f'folder "{path}" does not exist, expected a release')
    if os.path.isdir(path) and _is_missing(path / "manifest.json"):
        raise InputError(f'folder "{path}" is no release: it has no manifest.json')


def _is_missing(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


@contextmanager
def telling(release: Release) -> Iterator[None]:
    """Print what a person should hear about a release, before and after it was worked with.

    What the engine calls wrong usage is Refused: the command line itself was right.
    """
    for note in release.notes:
        say.note(note)
    told = set(release.notes)
    try:
        with refusing():
            yield
    finally:
        for note in release.notes:
            if note not in told:
                say.note(note)
