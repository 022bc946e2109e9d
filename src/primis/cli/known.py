"""What commands that open a release have in common: what was seen before, and what to tell."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from primis.cli.arguments import config_folder, require_between

if TYPE_CHECKING:
    from primis.sharing.known import KnownReleases
    from primis.sharing.release import Release


def known_releases() -> KnownReleases:
    """The signers and versions that this person has seen."""
    from primis.sharing.known import KnownReleases

    return KnownReleases(config_folder() / "known_releases.json")


def pixels_limit(given: int | None) -> int | None:
    """How many pixels an image may have; None where the size of its file decides. Raises
    UsageError."""
    if given is not None:
        require_between("max-pixels", given, 1, 1 << 34)
    return given


def tell(text: str) -> None:
    """A line on standard error, of which nothing reaches the terminal but text."""
    print("note: " + "".join(c for c in text if c.isprintable()), file=sys.stderr)


@contextmanager
def telling(release: Release) -> Iterator[None]:
    """Print what a person should hear about a release, before and after it was worked with."""
    for note in release.notes:
        tell(note)
    told = set(release.notes)
    try:
        yield
    finally:
        for note in release.notes:
            if note not in told:
                tell(note)
