"""A key file for the page: handed over once, from memory, and only if the page can use it."""

from __future__ import annotations

import re
from pathlib import Path
from threading import Lock

from primis.errors import BadKey, PrimisError
from primis.keys.key_file import quoted, read_key_file
from primis.keys.key_text import KeyEntry, decode_text, read_keys

_LOCKED = b"age-encryption.org/v1"
_ARMOUR = "-----BEGIN AGE ENCRYPTED FILE-----"
_IDENTITY = re.compile(r"^\s*AGE-SECRET-KEY-(PQ-)?1[A-Z0-9]+\s*$", re.MULTILINE | re.IGNORECASE)
"""Of X25519 and of X-Wing: what a page can open grants with."""

_MOST = 1 << 16
"""Bytes of a key file that the page reads."""


class HandedOver(PrimisError):
    """The key was fetched before."""


class OneKey:
    """The bytes of a key file, which are given away once."""

    def __init__(self, data: bytes) -> None:
        self._data: bytes | None = data
        self._lock = Lock()

    def __repr__(self) -> str:
        return "OneKey()"

    def take(self) -> bytes:
        """Raises HandedOver the second time."""
        with self._lock:
            data, self._data = self._data, None
        if data is None:
            raise HandedOver("the key was fetched before: start primis view again")
        return data

    def require_there(self) -> None:
        """Raises HandedOver where it was taken."""
        if self._data is None:
            raise HandedOver("the key was fetched before: start primis view again")


def read_for_viewer(path: Path) -> OneKey:
    """A file of age identities, or one that a passphrase or a passkey locks, which is handed over
    as it is: the page asks for either. Raises BadKey for keys that no page can use."""
    data = read_key_file(path)
    if len(data) > _MOST:
        raise BadKey(f"key file {quoted(path)} has {len(data)} bytes, expected at most {_MOST}")
    text = decode_text(data)
    if data.startswith(_LOCKED) or text.lstrip().startswith(_ARMOUR):
        return OneKey(data)
    if _IDENTITY.search(text):
        return OneKey(text.encode())
    raise BadKey(
        f"key file {quoted(path)} {_what(read_keys(data))}, expected an age identity "
        '("primis keygen" makes one), which is what the viewer can use'
    )


def _what(entries: list[KeyEntry]) -> str:
    kinds = {entry.kind for entry in entries}
    if "private" in kinds:
        return "holds an SSH, PEM or other private key"
    return "holds a public key" if kinds & {"public", "certificate"} else "holds no private key"
