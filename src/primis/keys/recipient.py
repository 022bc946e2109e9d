"""Who a release is for: public keys, as text or in files, and passphrases.

Kinds: age X25519 (`age1...`), SSH ed25519 and RSA, both also as PEM, DER or in an X.509
certificate, and passphrases. Sealing to them is age's (pyrage).
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyrage

from primis.errors import BadKey
from primis.keys.age_passphrase import seal_to_passphrase
from primis.keys.key_file import holds_private_key, quoted, read_key_file
from primis.keys.key_text import NO_KEY, KeyEntry, read_keys
from primis.keys.passphrase import require_strong

KINDS = "an age1... or ssh-ed25519 / ssh-rsa key, or a file of such, RSA PEM or X.509 certificates"

Warn = Callable[[str], None]

_SHOWN = 5
_MAX_LABEL = 64
_LABEL = 'expected 1 to 64 letters a-z, digits, "-" or "_"'
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul"]
    + [f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)]
)
"""What Windows takes for devices, whatever ending a file of that name has."""


@dataclass(frozen=True)
class Recipient:
    """Someone a grant can be sealed to.

    kind: "age", "ssh-ed25519", "ssh-rsa" or "passphrase". text: the public key in its one-line
    form, empty for a passphrase. label: what its grant file is named by. work: for a passphrase,
    opening takes 2^work steps of scrypt; None for as many as take this machine a second.
    """

    kind: str
    text: str
    label: str
    passphrase: str | None = field(default=None, repr=False)
    work: int | None = None

    def __post_init__(self) -> None:
        if not is_label(self.label):
            raise BadKey(f"label {self.label[:70]!a} is not allowed, {_LABEL}")

    def encrypt(self, payload: bytes, *also: Recipient) -> bytes:
        """One age file for this recipient (and others that are not passphrases)."""
        if self.passphrase is not None and self.work is not None:
            return seal_to_passphrase(payload, self.passphrase, self.work)
        if self.passphrase is not None:
            return pyrage.passphrase.encrypt(payload, self.passphrase)
        return pyrage.encrypt(payload, [_age_recipient(r.text) for r in (self, *also)])


def _age_recipient(text: str) -> Any:
    if text.startswith("age1"):
        return pyrage.x25519.Recipient.from_str(text)
    return pyrage.ssh.Recipient.from_str(text)


def fingerprint(text: str) -> str:
    """First 8 hex digits of SHA-256 of a public key's one-line form; names grants, no secret."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def own_label(text: str) -> str:
    """The label of a public key to which nobody gave one: its kind and fingerprint."""
    return f"{kind_of(text)}-{fingerprint(text)}"


def kind_of(text: str) -> str:
    """The kind of a public key in its one-line form."""
    return "age" if text.startswith("age1") else text.split(maxsplit=1)[0]


def is_label(text: str) -> bool:
    """Whether it may name a grant."""
    plain = text.isascii() and all(c.isalnum() or c in "-_" for c in text)
    return plain and 0 < len(text) <= _MAX_LABEL


def require_new_label(text: str) -> None:
    """Raise BadKey for a label that no new grant should have; grants that have it are read."""
    if not is_label(text):
        raise BadKey(f"label {text[:70]!a} is not allowed, {_LABEL}")
    if text[0] in "-_":
        raise BadKey(f'label "{text}" is not allowed, expected a letter or a digit to begin with')
    if text.lower() in _DEVICES:
        raise BadKey(f'label "{text}" is not allowed: it names a device on Windows')


def passphrase_recipient(passphrase: str, label: str = "passphrase") -> Recipient:
    """A recipient who knows this passphrase; raises BadKey for one that is easily guessed."""
    require_new_label(label)
    require_strong(passphrase)
    return Recipient("passphrase", "", label, passphrase)


def parse_recipient(text: str) -> Recipient:
    """A public key given as text or as a file of one key, with an optional `label=` before it."""
    found = parse_recipients(text)
    if len(found) > 1:
        raise BadKey(f"recipient {_shown(text)} holds {len(found)} keys, expected one")
    return found[0]


def parse_recipients(text: str, *, warn: Warn = warnings.warn) -> list[Recipient]:
    """All public keys in a text or file, with an optional `label=` before it; none twice.

    Of several the first has the label, the next are label-2, label-3 ... `warn` is told of each key
    that is left out, and why. Raises BadKey if there is none to seal to.
    """
    if holds_private_key(text):
        advice = "others may have seen it: make a new one"
        raise BadKey(f"a recipient was given as a private key, expected {KINDS}; {advice}")
    label, name, entries = _read(text)
    if label:
        require_new_label(label)
    secret = any(entry.kind == "private" for entry in entries)
    entries = _without_keys_of_certificates(entries)
    keys = list(dict.fromkeys(entry.public for entry in entries if entry.public))
    refused = [entry for entry in entries if not entry.public]
    if not keys:
        raise BadKey(_why_none(name, refused))
    for entry in refused[:_SHOWN]:
        warn(f"recipient {name}: {_what(entry)} and was left out")
    if len(refused) > _SHOWN:
        warn(f"recipient {name}: {len(refused) - _SHOWN} more lines were left out")
    if secret:
        why = "holds a private key, which its holder alone should have"
        warn(f"recipient {name} {why}: only the public half was used, ask for the public key")
    labels = [label, *(f"{label}-{n}" for n in range(2, len(keys) + 1))] if label else []
    named = zip(keys, labels or map(own_label, keys), strict=True)
    return [Recipient(kind_of(key), key, key_label) for key, key_label in named]


def _read(text: str) -> tuple[str, str, list[KeyEntry]]:
    """(label, name for messages, entries) of what was typed: keys themselves, or a file's name."""
    before, sign, rest = text.partition("=")
    labelled = bool(sign) and is_label(before) and not before.startswith("ssh-")
    tries = [(before, rest), ("", text)] if labelled else [("", text)]
    typed = [(label, given, read_keys(given.encode(errors="replace"))) for label, given in tries]
    for label, given, entries in typed:
        if any(entry.public for entry in entries):
            return label, _shown(given), entries
    for label, given in tries:
        if path := _file(given):
            return label, quoted(path), read_keys(read_key_file(path, "recipient file"))
    for label, given, entries in typed:
        if any(entry.kind != "unknown" for entry in entries):
            return label, _shown(given), entries
    if sign and not labelled:
        why = f"label {_shown(before)} is not allowed, {_LABEL}"
        raise BadKey(f"recipient {_shown(text)}: {why}")
    given = tries[0][1]
    if any(_is_folder(given) for _, given in tries):
        raise BadKey(f"recipient {_shown(given)} is a folder, expected a file of keys")
    raise BadKey(f"recipient {_shown(given)} is neither a file nor a public key, expected {KINDS}")


def _file(given: str) -> Path | None:
    try:
        path = Path(given).expanduser()
        return path if given and path.exists() and not path.is_dir() else None
    except (OSError, ValueError, RuntimeError):  # a name that is too long, or no such user
        return None


def _is_folder(given: str) -> bool:
    try:
        return bool(given) and Path(given).expanduser().is_dir()
    except (OSError, ValueError, RuntimeError):
        return False


def _without_keys_of_certificates(entries: list[KeyEntry]) -> list[KeyEntry]:
    """Without private keys beside certificates: what a certificate forbids holds for its key."""
    if not any(entry.kind == "certificate" for entry in entries):
        return entries
    return [entry for entry in entries if entry.kind != "private"]


def _why_none(name: str, refused: list[KeyEntry]) -> str:
    named = [entry for entry in refused if entry.problem != NO_KEY]
    if not named:
        return f"recipient {name} holds no public key, expected {KINDS}"
    found = ", ".join(_what(entry) for entry in named[:_SHOWN])
    more = f", and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
    return f"recipient {name} holds no key to seal to: {found}{more}; expected {KINDS}"


def _what(entry: KeyEntry) -> str:
    return f"{entry.where} is {entry.problem}"


def _shown(text: str) -> str:
    return quoted(text if len(text) <= 70 else text[:40] + "...")
