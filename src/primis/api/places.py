"""What people have, as the engine takes it: places, public keys, private keys."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from primis.errors import BadKey
from primis.keys.home import config_folder, default_owner_key, known_releases_file
from primis.keys.identity import (
    Identity,
    Signer,
    generate,
    parse_recipients,
    passphrase_identity,
    read_identities,
    read_signer,
)
from primis.keys.key_file import wait_until_written, write_key_file
from primis.keys.recipient import Recipient
from primis.release.known import KnownReleases
from primis.release.reader import Release

Place = str | PathLike[str]
Keys = Place | Recipient | Sequence[Place | Recipient]
"""Public keys: as text, in a file, or parsed."""

Identities = Place | Identity | Sequence[Place | Identity]
"""Private keys: in a file, or parsed."""

_LOG = logging.getLogger("primis")


def open_place(place: Place, signer: str | None, *, remember: bool) -> Release:
    """The release in a place. remember: compare it with what was seen before, and remember it."""
    known = None
    if remember:
        config_folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        known = KnownReleases(known_releases_file())
    return Release(place, signer=signer, known=known)


def wherever(place: Place) -> str:
    """The same place from any working folder."""
    text = os.fspath(place)
    return text if "://" in text else os.path.abspath(text)


def each_of(given: Place | Sequence[Place]) -> list[Place]:
    """One or several."""
    return [given] if isinstance(given, str | PathLike) else list(given)


def recipients_of(to: Keys) -> list[Recipient]:
    """Public keys, each once. Raises BadKey."""
    each = [to] if isinstance(to, str | PathLike | Recipient) else to
    parsed: list[Recipient] = []
    for key in each:
        parsed += [key] if isinstance(key, Recipient) else parse_recipients(str(key))
    return list(dict.fromkeys(parsed))


def identities_of(identity: Identities | None, passphrase: str | None) -> list[Identity]:
    """Private keys. Raises BadKey."""
    read: list[Identity] = [] if passphrase is None else [passphrase_identity(passphrase)]
    for key in given_identities(identity, passphrase):
        read += [key] if isinstance(key, Identity) else read_identities(Path(key))
    if not read:
        raise BadKey("no private key was given")
    return read


def given_identities(
    identity: Identities | None, passphrase: str | None
) -> Sequence[Place | Identity]:
    """One by one; where there is neither key nor passphrase, the owner's key."""
    if identity is None:
        return [] if passphrase else [default_owner_key()]
    return [identity] if isinstance(identity, str | PathLike | Identity) else list(identity)


def signer_of(owner: Place | Signer | None, *, make: bool = True) -> Signer:
    """The owner's key; the default one is made at first use."""
    if isinstance(owner, Signer):
        return owner
    path = default_owner_key() if owner is None else Path(owner)
    if make and owner is None and not path.exists():
        try:
            write_key_file(path, generate().encode())
        except FileExistsError:  # another process was first: its key is the owner's
            pass
        else:
            _LOG.warning(
                'made your owner key "%s": keep a copy, without it no grant can be added', path
            )
    wait_until_written(path)
    return read_signer(path)
