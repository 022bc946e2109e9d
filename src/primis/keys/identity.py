"""Who a release is for, and who signs it: recipients (public) and identities (private).

Recipient kinds: age X25519 (`age1...`), SSH ed25519 and RSA, RSA as PEM or in an X.509 certificate,
passphrase. An owner's identity is an age X25519 key; the Ed25519 key that signs is derived from it, so
there is one line to keep safe. Sealing to recipients is age's (pyrage); conversions are cryptography's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyrage
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from primis.errors import BadKey

_KINDS = "an age1... or ssh-ed25519 / ssh-rsa key, or a file with one, with an RSA PEM or an X.509 certificate"
_PRIVATE = "AGE-SECRET-KEY-"
_MIN_RSA_BITS = 2048
_MAX_KEY_FILE = 1 << 20
_MAX_SCRYPT = 20  # a gigabyte and some seconds


@dataclass(frozen=True)
class Recipient:
    """Someone a grant can be sealed to.

    kind: "age", "ssh-ed25519", "ssh-rsa" or "passphrase". text: the public key in its one-line form,
    empty for a passphrase. label: what its grant file is named by.
    """

    kind: str
    text: str
    label: str
    passphrase: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not is_label(self.label):
            raise BadKey(f'label {self.label[:70]!a} is not allowed, expected 1 to 64 letters, digits, "-" or "_"')

    def encrypt(self, payload: bytes, *also: Recipient) -> bytes:
        """One age file for this recipient (and others that are not passphrases)."""
        if self.passphrase is not None:
            return pyrage.passphrase.encrypt(payload, self.passphrase)
        return pyrage.encrypt(payload, [_age_recipient(r.text) for r in (self, *also)])


@dataclass(frozen=True)
class Identity:
    """A private key or passphrase that may open grants; its repr shows the public half."""

    kind: str
    text: str
    label: str
    _key: Any = field(repr=False)

    def decrypt(self, sealed: bytes) -> bytes | None:
        """What an age file holds, or None if it is not for this identity.

        Raises BadKey with age's own words if the file itself does not verify.
        """
        try:
            if self.kind == "passphrase":
                return pyrage.passphrase.decrypt(sealed, self._key) if _is_scrypt(sealed) else None
            return None if _is_scrypt(sealed) else pyrage.decrypt(sealed, [self._key])
        except pyrage.DecryptError as error:
            if str(error) in ("No matching keys found", "Decryption failed"):
                return None
            raise BadKey(f'"{" ".join(str(error).split())}"') from None


@dataclass(frozen=True)
class Signer:
    """An owner's identity: opens the owner's grants and signs manifests."""

    recipient: Recipient
    identity: Identity
    _private: Ed25519PrivateKey = field(repr=False)

    @property
    def public(self) -> str:
        """Ed25519 public key, 64 hex digits: what `--from` demands."""
        return self._private.public_key().public_bytes_raw().hex()

    def sign(self, message: bytes) -> str:
        """Ed25519 signature (RFC 8032), 128 hex digits."""
        return self._private.sign(message).hex()


def verify(signer: str, message: bytes, signature: str) -> bool:
    """Whether `signature` (hex) of `message` is by the Ed25519 key `signer` (hex)."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(signer)).verify(bytes.fromhex(signature), message)
    except (InvalidSignature, ValueError):
        return False
    return True


def fingerprint(text: str) -> str:
    """First 8 hex digits of SHA-256 of a public key's one-line form; names grants, no secret."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def generate() -> str:
    """A new identity, as the text of a key file."""
    key = pyrage.x25519.Identity.generate()
    signer = _signer(key)
    return (
        "# primis identity: keep this file private; whoever has it opens what was granted to it\n"
        f"# public key: {key.to_public()}\n# signer: {signer.public}\n{key}\n"
    )


def read_signer(path: Path) -> Signer:
    """The owner's identity from a key file made by `primis keygen` (or age-keygen)."""
    for line in _lines(_read_key_file(path)):
        if line.startswith("AGE-SECRET-KEY-1"):
            return _signer(_x25519(line, str(path)))
    raise BadKey(f'key file "{path}" cannot sign: expected an identity made by "primis keygen"')


def _signer(key: Any) -> Signer:
    text = str(key.to_public())
    seed = HKDF(SHA256(), 32, salt=None, info=b"primis/1 signing key").derive(str(key).encode())
    identity = Identity("age", text, f"age-{fingerprint(text)}", key)
    return Signer(Recipient("age", text, "owner"), identity, Ed25519PrivateKey.from_private_bytes(seed))


def read_identities(path: Path) -> list[Identity]:
    """All private keys in a file: age identities, an OpenSSH key, or an RSA key as PEM."""
    data = _read_key_file(path)
    if b"-----BEGIN" in data:
        return [_pem_identity(data, path)]
    lines = [line for line in _lines(data) if line.startswith("AGE-SECRET-KEY-1")]
    if not lines:
        public = any(line.startswith(("age1", "ssh-")) for line in _lines(data))
        what = "holds a public key, expected the private one" if public else "holds no private key that primis knows"
        raise BadKey(f'key file "{path}" {what}')
    found = []
    for line in lines:
        key = _x25519(line, str(path))
        text = str(key.to_public())
        found.append(Identity("age", text, f"age-{fingerprint(text)}", key))
    return found


def passphrase_identity(passphrase: str) -> Identity:
    """Opens grants that were sealed to this passphrase."""
    return Identity("passphrase", "", "passphrase", passphrase)


def passphrase_recipient(passphrase: str, label: str = "passphrase") -> Recipient:
    """A recipient who knows this passphrase, of at least 12 characters."""
    if len(passphrase) < 12:
        raise BadKey("the passphrase is shorter than 12 characters, expected a longer one: anyone can try them all")
    return Recipient("passphrase", "", label, passphrase)


def parse_recipient(text: str) -> Recipient:
    """A public key given as text or as a file, with an optional `label=` before it."""
    if _PRIVATE in text.upper():
        raise BadKey(f"a recipient was given as a private key, expected {_KINDS}; others may have seen it: make a new one")
    label, sign, rest = text.partition("=")
    if not sign or not is_label(label) or label.startswith("ssh-"):
        label, rest = "", text
    if rest.startswith(("age1", "ssh-")):
        return _public(rest, label, "")
    path = Path(rest).expanduser()
    if sign and not label and not path.is_file():
        before = text.partition("=")[0]
        raise BadKey(f'recipient "{text}": label "{before}" is not allowed, expected 1 to 64 letters a-z, digits, "-" or "_"')
    if not path.is_file():
        raise BadKey(f'recipient "{rest}" is neither a file nor a public key, expected {_KINDS}')
    data = _read_key_file(path)
    if b"-----BEGIN" in data:
        return _public(_pem_public(data, path), label, str(path))
    for line in _lines(data):
        if line.startswith("AGE-SECRET-KEY-1"):
            return _public(str(_x25519(line, rest).to_public()), label, rest)
        if line.startswith(("age1", "ssh-")):
            return _public(line, label, rest)
    raise BadKey(f'recipient file "{rest}" holds no public key, expected {_KINDS}')


def _public(text: str, label: str, where: str) -> Recipient:
    parts = text.split()
    text = parts[0] if text.startswith("age1") else " ".join(parts[:2])  # without an SSH comment
    try:
        _age_recipient(text)
    except (pyrage.RecipientError, ValueError):
        shown = where or text[:24] + "..."
        raise BadKey(f'recipient "{shown}" is not a valid public key, expected {_KINDS}') from None
    kind = "age" if text.startswith("age1") else parts[0]
    return Recipient(kind, text, label or f"{kind}-{fingerprint(text)}")


def _age_recipient(text: str) -> Any:
    return pyrage.x25519.Recipient.from_str(text) if text.startswith("age1") else pyrage.ssh.Recipient.from_str(text)


def _pem_public(data: bytes, path: Path) -> str:
    """The one-line SSH form of the key in a certificate, a public or a private key."""
    try:
        if b"BEGIN CERTIFICATE" in data:
            key: Any = x509.load_pem_x509_certificate(data).public_key()
        elif b"PUBLIC KEY" in data:
            key = serialization.load_pem_public_key(data)
        else:
            key = _load_private(data).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadKey(f'recipient file "{path}" cannot be read as PEM, expected {_KINDS}') from None
    if isinstance(key, RSAPublicKey) and key.key_size < _MIN_RSA_BITS:
        raise BadKey(f'recipient file "{path}" has an RSA key of {key.key_size} bits, expected at least {_MIN_RSA_BITS}')
    if not isinstance(key, RSAPublicKey | Ed25519PublicKey):
        raise BadKey(f'recipient file "{path}" has a key of another kind, expected RSA or ed25519')
    return key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def _load_private(data: bytes) -> Any:
    if b"OPENSSH PRIVATE KEY" in data:
        return serialization.load_ssh_private_key(data, password=None)
    return serialization.load_pem_private_key(data, password=None)


def _pem_identity(data: bytes, path: Path) -> Identity:
    """Any private key in PEM, re-encoded in memory as the OpenSSH form that age's library reads."""
    try:
        key = _load_private(data)
    except TypeError:
        raise BadKey(f'key file "{path}" is locked by a passphrase, expected an unlocked copy') from None
    except (ValueError, UnsupportedAlgorithm):
        raise BadKey(f'key file "{path}" cannot be read as a private key') from None
    if not isinstance(key, RSAPrivateKey | Ed25519PrivateKey):
        raise BadKey(f'key file "{path}" has a key of another kind, expected RSA or ed25519')
    none = serialization.NoEncryption()
    ssh = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, none)
    encoding, public = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    text = key.public_key().public_bytes(encoding, public).decode()
    kind = text.split()[0]
    return Identity(kind, text, f"{kind}-{fingerprint(text)}", pyrage.ssh.Identity.from_buffer(ssh))


def _x25519(line: str, where: str) -> Any:
    try:
        return pyrage.x25519.Identity.from_str(line)
    except (pyrage.IdentityError, ValueError):
        raise BadKey(f'key file "{where}" holds a damaged age identity') from None


def _read_key_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_KEY_FILE)
    except OSError as error:
        if _PRIVATE in str(path).upper():
            raise BadKey("a private key was given in place of its file; others may have seen it: make a new one") from None
        raise BadKey(f'key file "{path}" cannot be read: {error.strerror}') from None


def _lines(data: bytes) -> list[str]:
    return [line.strip() for line in data.decode("utf-8", "replace").splitlines() if line.strip()]


def is_label(text: str) -> bool:
    return 0 < len(text) <= 64 and text.isascii() and all(c.isalnum() or c in "-_" for c in text)


def _is_scrypt(sealed: bytes) -> bool:
    """Whether it is sealed to a passphrase; raises BadKey where trying one would take minutes or all memory."""
    first = sealed[:128].split(b"\n")[1:2]
    if not first or not first[0].startswith(b"-> scrypt "):
        return False
    factor = first[0].rpartition(b" ")[2]
    if not factor.isdigit() or int(factor) > _MAX_SCRYPT:
        raise BadKey(f"its scrypt work factor is over {_MAX_SCRYPT}")
    return True


def scrypt_work(sealed: bytes) -> int | None:
    """Steps of scrypt that a passphrase takes on an age file; None where it takes none."""
    if not _is_scrypt(sealed):
        return None
    return 1 << int(sealed[:128].split(b"\n")[1].rpartition(b" ")[2])
