"""The header of an age file, read within bounds before age's library sees it.

age parses a header in quadratic time, and whoever can write into a release chooses its size. So
the header is scanned here first, once, as the age specification (age-encryption.org/v1) has it:
the lines of the stanzas, nothing of what they seal. A file over the bounds is refused.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass

from primis.errors import BadKey

MAX_HEADER = 2 << 10
"""Bytes of a header: age takes some hundredths of a second for the worst of them. A grant has one
recipient or two, and the longest stanza, for RSA, takes 0.8 kB."""

MAX_STANZAS = 6
MAX_SCRYPT = 20
"""Highest work factor that is tried: a gigabyte and some seconds."""

_VERSION = b"age-encryption.org/v1\n"
_ARGUMENTS = re.compile(rb"-> [!-~]+(?: [!-~]+)*")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{0,64}")
_MAC = re.compile(rb"--- [A-Za-z0-9+/]{43}")
_FACTOR = re.compile(r"[1-9][0-9]?")
_COLUMNS = 64


class WrongPassphrase(BadKey):
    """A file is sealed to a passphrase, and not to the one that was offered."""


@dataclass(frozen=True)
class Stanza:
    """For whom the file's key is sealed: the kind of recipient, and the arguments of that kind."""

    kind: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class AgeHeader:
    """The stanzas of an age file, in their order, and the bytes that its header takes."""

    stanzas: tuple[Stanza, ...]
    bytes: int

    @property
    def kinds(self) -> tuple[str, ...]:
        """ "X25519", "ssh-ed25519", "ssh-rsa", "scrypt" or another: one for each stanza."""
        return tuple(stanza.kind for stanza in self.stanzas)

    @property
    def scrypt_factor(self) -> int | None:
        """The work factor N of a file for a passphrase, which takes 2^N steps; None for others."""
        first = self.stanzas[0]
        return int(first.arguments[1]) if first.kind == "scrypt" else None


def inspect_age(data: bytes) -> AgeHeader:
    """The header of an age file (binary, not armoured); raises BadKey beyond the bounds."""
    head = data[:MAX_HEADER]
    if not head.startswith(_VERSION):
        raise BadKey("it is not an age file")
    stanzas: list[Stanza] = []
    start, body_open = len(_VERSION), False
    while (end := head.find(b"\n", start)) >= 0:
        line, start = head[start:end], end + 1
        if body_open:
            if not _BASE64.fullmatch(line):
                raise BadKey("its age header is malformed")
            body_open = len(line) == _COLUMNS
        elif _MAC.fullmatch(line) and stanzas:
            return _checked(AgeHeader(tuple(stanzas), start))
        elif not _ARGUMENTS.fullmatch(line):
            raise BadKey("its age header is malformed")
        elif len(stanzas) == MAX_STANZAS:
            raise BadKey(f"its age header has over {MAX_STANZAS} recipients")
        else:
            kind, *arguments = line[3:].decode("ascii").split(" ")
            stanzas.append(Stanza(kind, tuple(arguments)))
            body_open = True
    if len(data) > MAX_HEADER:
        raise BadKey(f"its age header has over {MAX_HEADER} bytes")
    raise BadKey("its age header is cut off")


def _checked(header: AgeHeader) -> AgeHeader:
    for stanza in header.stanzas:
        if stanza.kind == "scrypt":
            alone = len(header.stanzas) == 1 and len(stanza.arguments) == 2
            if not alone or not _FACTOR.fullmatch(stanza.arguments[1]):
                raise BadKey("its age header is malformed")
    return header


def scrypt_work(data: bytes) -> int | None:
    """Steps that trying a passphrase on this age file takes, or None if it is for no passphrase.

    2^20 steps take a gigabyte and some seconds. Raises BadKey as `inspect_age` does.
    """
    factor = inspect_age(data).scrypt_factor
    return None if factor is None else 1 << factor


def ssh_tag(public: str) -> str:
    """What a stanza for this SSH key (`ssh-... base64`) begins with: 4 bytes of a hash of it."""
    wire = base64.b64decode(public.split()[1])
    return base64.b64encode(hashlib.sha256(wire).digest()[:4]).decode().rstrip("=")
