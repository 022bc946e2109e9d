"""Who opens a release, and who signs it: private keys and passphrases.

An owner's identity is an age X25519 key; the Ed25519 key that signs is derived from it, so there is
one line to keep safe. Opening is age's (pyrage), after a look at the header within bounds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyrage
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from primis.errors import BadKey
from primis.keys.age_file import (
    MAX_SCRYPT,
    AgeHeader,
    WrongPassphrase,
    inspect_age,
    scrypt_work,
    ssh_tag,
)
from primis.keys.key_file import quoted, read_key_file
from primis.keys.key_text import KeyEntry, read_keys
from primis.keys.recipient import (
    Recipient,
    Warn,
    fingerprint,
    is_label,
    kind_of,
    own_label,
    parse_recipient,
    parse_recipients,
    passphrase_recipient,
)

__all__ = [
    "Identity",
    "Recipient",
    "Signer",
    "WrongPassphrase",
    "fingerprint",
    "generate",
    "inspect_age",
    "is_label",
    "parse_recipient",
    "parse_recipients",
    "passphrase_identity",
    "passphrase_recipient",
    "read_identities",
    "read_signer",
    "scrypt_work",
    "verify",
]

_SHOWN = 5

Ask = Callable[[str], str]
"""Is told which passphrase is wanted, and gives it."""


@dataclass(frozen=True)
class Identity:
    """A private key or passphrase that may open grants; its repr shows the public half."""

    kind: str
    text: str
    label: str
    _key: Any = field(repr=False)

    def decrypt(self, sealed: bytes) -> bytes | None:
        """What an age file holds, or None if it is not for this identity.

        Raises WrongPassphrase where the file is for a passphrase and this is another one, and
        BadKey where the file itself is malformed, too large to be tried, or altered.
        """
        if not self._may_open(inspect_age(sealed)):
            return None
        try:
            if self.kind == "passphrase":
                return pyrage.passphrase.decrypt(sealed, self._key)
            return pyrage.decrypt(sealed, [self._key])
        except pyrage.DecryptError as error:
            words = " ".join(str(error).split())
        if words == "No matching keys found":
            return None
        if words == "Decryption failed" and self.kind == "passphrase":
            raise WrongPassphrase("the passphrase offered does not open it")
        raise BadKey(f'"{words}"')

    def _may_open(self, header: AgeHeader) -> bool:
        """Whether a stanza can be for this key: tells without any work for most files."""
        if self.kind == "passphrase":
            factor = header.scrypt_factor
            if factor is not None and factor > MAX_SCRYPT:
                raise BadKey(f"its scrypt work factor is over {MAX_SCRYPT}")
            return factor is not None
        if self.kind == "age":
            return "X25519" in header.kinds
        tag = ssh_tag(self.text)
        return any(s.kind == self.kind and s.arguments[:1] == (tag,) for s in header.stanzas)


@dataclass(frozen=True)
class Signer:
    """An owner's identity: opens the owner's grants and signs manifests."""

    recipient: Recipient
    identity: Identity
    _private: Ed25519PrivateKey = field(repr=False)

    @property
    def public(self) -> str:
        """Ed25519 public key, 64 hex digits: what a recipient can demand."""
        return self._private.public_key().public_bytes_raw().hex()

    def sign(self, message: bytes) -> str:
        """Ed25519 signature (RFC 8032), 128 hex digits."""
        return self._private.sign(message).hex()


def verify(signer: str, message: bytes, signature: str) -> bool:
    """Whether `signature` (hex) of `message` is by the Ed25519 key `signer` (hex)."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(signer)).verify(
            bytes.fromhex(signature), message
        )
    except (InvalidSignature, ValueError):
        return False
    return True


def generate() -> str:
    """A new identity, as the text of a key file."""
    key = pyrage.x25519.Identity.generate()
    signer = _signer(key)
    return (
        "# primis identity: keep this file private; whoever has it opens what was granted to it\n"
        f"# public key: {key.to_public()}\n# signer: {signer.public}\n{key}\n"
    )


def read_signer(path: Path, *, ask: Ask | None = None) -> Signer:
    """The owner's identity from a key file made by `primis keygen` (or age-keygen).

    `ask` gives the passphrase of a file that is locked by one.
    """
    entries = _unlock(read_keys(read_key_file(path)), path, ask)
    for entry in entries:
        if entry.kind == "private" and entry.private and kind_of(entry.public or "") == "age":
            return _signer(entry.private)
    for entry in entries:
        if entry.unlock:
            raise BadKey(f"key file {quoted(path)} {_locked(entry)}")
    expected = 'expected an identity made by "primis keygen"'
    raise BadKey(f"key file {quoted(path)} cannot sign: {expected}")


def _signer(key: Any) -> Signer:
    text = str(key.to_public())
    kdf = HKDF(SHA256(), 32, salt=None, info=b"primis/1 signing key")
    seed = kdf.derive(str(key).encode())
    identity = Identity("age", text, own_label(text), key)
    private = Ed25519PrivateKey.from_private_bytes(seed)
    return Signer(Recipient("age", text, "owner"), identity, private)


def read_identities(
    path: Path,
    *,
    warn: Warn = warnings.warn,
    ask: Ask | None = None,
) -> list[Identity]:
    """All private keys in a file: age identities, OpenSSH keys, RSA and ed25519 keys as PEM or DER.

    `warn` is told of each private key that cannot be used beside those that can. `ask` gives the
    passphrase of a file whose keys are all locked. Raises BadKey if no key can be used.
    """
    entries = _unlock(read_keys(read_key_file(path)), path, ask)
    usable = {entry.public: entry for entry in entries if entry.private and entry.public}
    private = [entry for entry in entries if entry.kind == "private" and not entry.private]
    if not usable:
        raise BadKey(f"key file {quoted(path)} {_why_none(entries, private)}")
    for entry in private[:_SHOWN]:
        warn(f"key file {quoted(path)}: {entry.where} is {entry.problem} and is not tried")
    return [Identity(kind_of(text), text, own_label(text), e.private) for text, e in usable.items()]


def _unlock(entries: list[KeyEntry], path: Path, ask: Ask | None) -> list[KeyEntry]:
    """With what a passphrase opens, where every private key of a file is locked by one.

    Raises WrongPassphrase for another passphrase, and BadKey where none helps.
    """
    locked = [entry for entry in entries if entry.unlock]
    if ask is None or not locked or any(entry.private for entry in entries):
        return entries
    passphrase = ask(f"passphrase of key file {quoted(path)}")
    opened: list[KeyEntry] = []
    for entry in locked:
        assert entry.unlock is not None
        try:
            opened += entry.unlock(passphrase)
        except WrongPassphrase as error:
            raise WrongPassphrase(f"key file {quoted(path)}: {error}") from None
        except BadKey as error:
            raise BadKey(f"key file {quoted(path)} {error}") from None
    return [entry for entry in entries if not entry.unlock] + opened


def _why_none(entries: list[KeyEntry], private: list[KeyEntry]) -> str:
    if private and private[0].unlock:
        return _locked(private[0])
    if private:
        found = ", ".join(f"{e.where} is {e.problem}" for e in private[:_SHOWN])
        return f"holds no private key that primis can use: {found}"
    if any(entry.kind in ("public", "certificate") for entry in entries):
        return "holds a public key, expected the private one"
    return "holds no private key that primis knows"


def _locked(entry: KeyEntry) -> str:
    return f"is locked by a passphrase, expected an unlocked copy: {entry.by_hand}"


def passphrase_identity(passphrase: str) -> Identity:
    """Opens grants that were sealed to this passphrase."""
    return Identity("passphrase", "", "passphrase", passphrase)


def _x25519(line: str, where: str) -> Any:
    [entry] = read_keys(line.encode())
    if not entry.private:
        raise BadKey(f"key file {quoted(where)} holds a damaged age identity")
    return entry.private
