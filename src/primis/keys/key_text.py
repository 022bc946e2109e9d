"""What a file of keys holds, in the forms in which people have them.

Text (UTF-8 or UTF-16, any line ends) of age and SSH keys, `authorized_keys`, comments; PEM blocks
and DER of certificates, public and private keys; SSH2 public keys as PuTTY writes them. Nothing
that may be a key is passed over: what cannot be used comes back with what it is instead.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import datetime
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import pyrage
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import pkcs12

from primis.errors import BadKey
from primis.keys.age_file import MAX_SCRYPT, WrongPassphrase, inspect_age
from primis.keys.certificate import load_certificate, why_refused

_MIN_RSA, _MAX_RSA = 2048, 4096  # age's library takes no longer ones
_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm)
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins as the one of UTF-16 does
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_SSH2 = re.compile(r"---- BEGIN SSH2 PUBLIC KEY ----(.*?)---- END SSH2 PUBLIC KEY ----", re.DOTALL)
_SSH_KIND = r"(?:sk-)?(?:ssh|ecdsa|rsa|webauthn)-[\w.@-]+"
_SSH_LINE = re.compile(rf"({_SSH_KIND})\s+([A-Za-z0-9+/]+={{0,2}})(?=[\s,;\"']|$)")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_OPTION = r'[A-Za-z][A-Za-z0-9-]*(?:="(?:[^"\\]|\\.)*")?'
_OPTIONS = re.compile(rf"({_OPTION}(?:,{_OPTION})*)\s+")
_EXPIRY = re.compile(r'expiry-time="(\d{8})(\d{4,6})?Z?"', re.IGNORECASE)
_AGE = re.compile(r"age1[a-z0-9]+")
_TOKEN = re.compile(r"[^\s,;\"']+")
_BETWEEN = " \t,;\"'"
_ANOTHER = re.compile(
    rf"\b(?:age1[a-z0-9]{{20}}|AGE-(?:SECRET-KEY|PLUGIN)-|{_SSH_KIND}\s+[A-Za-z0-9+/]{{20}})",
    re.IGNORECASE,
)
"""Where another key begins on a line."""

NO_KEY = "no key that primis knows"
_AGE_BEGIN = b"age-encryption.org/v1"

Unlock = Callable[[str], "list[KeyEntry]"]
"""What a passphrase opens; raises WrongPassphrase, or BadKey where no passphrase helps."""

Kind = Literal["public", "private", "certificate", "unknown"]


@dataclass(frozen=True)
class KeyEntry:
    """One key of a file, or a line that is none.

    where: "line 3" (a PEM block's first) or "it". public: the public half in its one-line form,
    None if nothing can be sealed to it. private: what age's library opens files with, None unless
    this is an unlocked private key. problem: what it is instead. unlock: what a passphrase makes of
    a locked one; by_hand: the command that makes an unlocked copy.
    """

    where: str
    kind: Kind
    public: str | None = None
    private: Any = field(default=None, repr=False)
    problem: str | None = None
    unlock: Unlock | None = field(default=None, repr=False)
    by_hand: str | None = None


def read_keys(data: bytes) -> list[KeyEntry]:
    """All keys in a file or text, in their order, and what else looks like one."""
    if data.startswith(_AGE_BEGIN):
        return [_locked_age("it", data)]
    if _is_der(data):
        return [_der(data)]
    text = "\n".join(decode_text(data).splitlines())
    if text.lstrip().startswith("PuTTY-User-Key-File-"):
        problem = "a PuTTY key (PuTTYgen exports it as an OpenSSH key)"
        return [KeyEntry("it", "private", problem=problem)]
    found = [*_blocks(text), *_lines(text)]
    return [entry for _, entry in sorted(found, key=lambda pair: pair[0])]


def decode_text(data: bytes) -> str:
    """Text of a file as editors leave it: UTF-8 or UTF-16, with or without a byte order mark."""
    for mark, codec in _BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(codec, "replace").replace("\ufeff", "")
    if len(data) >= 4 and not data[1] and not data[3]:
        return data.decode("utf-16-le", "replace")
    if len(data) >= 4 and not data[0] and not data[2]:
        return data.decode("utf-16-be", "replace")
    return data.decode("utf-8", "replace").replace("\ufeff", "")


# PEM and DER


def _blocks(text: str) -> Iterator[tuple[int, KeyEntry]]:
    """(line, entry) of each PEM block and SSH2 key."""
    certificates: dict[int, x509.Certificate | None] = {}
    found = list(_PEM.finditer(text))
    blocks = [(_line_number(text, match), match[1], _pem_bytes(match)) for match in found]
    for number, kind, data in blocks:
        if kind.endswith("CERTIFICATE"):
            certificates[number] = load_certificate(x509.load_pem_x509_certificate, data)
    others = [certificate for certificate in certificates.values() if certificate]
    for number, kind, data in blocks:
        where = f"line {number}"
        if number in certificates:
            yield number, _certificate(where, certificates[number], others)
        elif kind != "EC PARAMETERS":
            yield number, _pem(where, kind, data)
    for match in _SSH2.finditer(text):
        number = _line_number(text, match)
        yield number, _ssh2(f"line {number}", match[1])


def _line_number(text: str, match: re.Match[str]) -> int:
    return text.count("\n", 0, match.start()) + 1


def _pem(where: str, kind: str, data: bytes) -> KeyEntry:
    if kind.endswith("PUBLIC KEY"):
        return _public_key(where, serialization.load_pem_public_key, data)
    if kind.endswith("PRIVATE KEY"):
        return _pem_private(where, kind, data)
    if kind == "AGE ENCRYPTED FILE":
        body = "".join(data.decode("ascii", "replace").splitlines()[1:-1])
        return _locked_age(where, _unpack(body))
    return KeyEntry(where, "unknown", problem=f"PEM that primis does not read ({kind.lower()})")


def _pem_bytes(match: re.Match[str]) -> bytes:
    lines = (line.strip() for line in match[0].splitlines())
    return ("\n".join(lines) + "\n").encode("ascii", "replace")


def _pem_private(where: str, kind: str, data: bytes) -> KeyEntry:
    if kind == "OPENSSH PRIVATE KEY":
        load = partial(serialization.load_ssh_private_key, data)
        if public := _locked_openssh(data):
            unlock = partial(_unlocked, where, load)
            return _locked(where, "ssh-keygen -p -f COPY", unlock, public)
        return _private_key(where, load)
    return _private_key(where, partial(serialization.load_pem_private_key, data))


def _is_der(data: bytes) -> bool:
    """Whether it is one DER sequence from end to end."""
    if len(data) < 4 or data[0] != 0x30:
        return False
    size = data[1]
    if size < 0x80:
        return len(data) == 2 + size
    octets = size - 0x80
    rest = int.from_bytes(data[2 : 2 + octets], "big")
    return 1 <= octets <= 4 and len(data) == 2 + octets + rest


def _der(data: bytes) -> KeyEntry:
    if certificate := load_certificate(x509.load_der_x509_certificate, data):
        return _certificate("it", certificate, [])
    found = _public_key("it", serialization.load_der_public_key, data)
    if found.public:
        return found
    private = _private_key("it", partial(serialization.load_der_private_key, data))
    if private.private or private.unlock:
        return private
    if b"\x02\x01\x03" in data[2:9]:  # the version that PKCS #12 begins with
        unlock = partial(_unlocked, "it", partial(_load_pkcs12, data))
        return _locked("it", "openssl pkcs12 -nodes -nocerts -in FILE -out COPY", unlock)
    problem = "DER that is neither a certificate nor a key that primis knows"
    return KeyEntry("it", "unknown", problem=problem)


def _certificate(
    where: str,
    certificate: x509.Certificate | None,
    others: list[x509.Certificate],
) -> KeyEntry:
    if certificate is None:
        return KeyEntry(where, "certificate", problem="a certificate that cannot be read")
    now = datetime.datetime.now(datetime.UTC)
    if problem := why_refused(certificate, others, now):
        return KeyEntry(where, "certificate", problem=problem)
    try:
        return _entry(where, "certificate", certificate.public_key())
    except _UNREADABLE:
        return KeyEntry(where, "certificate", problem="a certificate with a key of another kind")


def _public_key(where: str, load: Callable[[bytes], Any], data: bytes) -> KeyEntry:
    try:
        return _entry(where, "public", load(data))
    except _UNREADABLE:
        return KeyEntry(where, "public", problem="a public key that cannot be read")


def _private_key(where: str, load: Callable[[bytes | None], Any]) -> KeyEntry:
    """Any private key, or one that is locked; `load` takes the passphrase."""
    try:
        key = load(None)
    except TypeError:
        unlock = partial(_unlocked, where, load)
        return _locked(where, "openssl pkey -in FILE -out COPY", unlock)
    except _UNREADABLE:
        return KeyEntry(where, "private", problem="a private key that cannot be read")
    return _loaded(where, key)


def _loaded(where: str, key: Any) -> KeyEntry:
    """A private key, re-encoded in memory as the OpenSSH form that age's library reads."""
    found = _entry(where, "private", key.public_key())
    if not found.public or not isinstance(key, RSAPrivateKey | Ed25519PrivateKey):
        return found
    form, none = serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    ssh = key.private_bytes(serialization.Encoding.PEM, form, none)
    return KeyEntry(where, "private", found.public, pyrage.ssh.Identity.from_buffer(ssh))


def _unlocked(where: str, load: Callable[[bytes | None], Any], passphrase: str) -> list[KeyEntry]:
    try:
        key = load(passphrase.encode())
    except UnsupportedAlgorithm:
        needed = 'is locked in a way that needs the package "bcrypt", which is not installed'
        raise BadKey(needed) from None
    except (ValueError, TypeError):
        raise WrongPassphrase("the passphrase does not unlock it") from None
    return [_loaded(where, key)]


def _load_pkcs12(data: bytes, passphrase: bytes | None) -> Any:
    key, _, _ = pkcs12.load_key_and_certificates(data, passphrase)
    if key is None:
        raise BadKey("holds no private key")
    return key


def _locked_age(where: str, data: bytes) -> KeyEntry:
    """An age file of identities, as `age -p` locks it."""
    return _locked(where, "age -d -o COPY FILE", partial(_unlocked_age, data))


def _unlocked_age(data: bytes, passphrase: str) -> list[KeyEntry]:
    factor = inspect_age(data).scrypt_factor
    if factor is None:
        raise BadKey("is sealed to a key, not to a passphrase")
    if factor > MAX_SCRYPT:
        raise BadKey(f"takes too long to unlock: its scrypt work factor is over {MAX_SCRYPT}")
    try:
        text = pyrage.passphrase.decrypt(data, passphrase)
    except pyrage.DecryptError:
        raise WrongPassphrase("the passphrase does not unlock it") from None
    return [] if text.startswith(_AGE_BEGIN) else read_keys(text)


def _entry(where: str, kind: Kind, key: Any) -> KeyEntry:
    if not isinstance(key, RSAPublicKey | Ed25519PublicKey):
        name = type(key).__name__.lstrip("_").removesuffix("PublicKey")
        problem = f"a key of another kind ({name}) than RSA and ed25519"
        return KeyEntry(where, kind, problem=problem)
    form = serialization.PublicFormat.OpenSSH
    text = key.public_bytes(serialization.Encoding.OpenSSH, form).decode()
    return _checked(where, kind, text)


def _locked(
    where: str,
    by_hand: str,
    unlock: Unlock,
    public: str | None = None,
) -> KeyEntry:
    problem = "a private key that is locked by a passphrase"
    known = public if public and _checked(where, "private", public).public else None
    return KeyEntry(where, "private", known, None, problem, unlock, by_hand)


# SSH


def _checked(where: str, kind: Kind, text: str) -> KeyEntry:
    """The entry of an ssh-ed25519 or ssh-rsa key in its one-line form."""
    try:
        key = serialization.load_ssh_public_key(text.encode())
        bits = key.key_size if isinstance(key, RSAPublicKey) else None
        if bits is not None and not _MIN_RSA <= bits <= _MAX_RSA:
            problem = f"an RSA key of {bits} bits ({_MIN_RSA} to {_MAX_RSA} are needed)"
            return KeyEntry(where, kind, problem=problem)
        pyrage.ssh.Recipient.from_str(text)
    except (*_UNREADABLE, pyrage.RecipientError):
        return KeyEntry(where, kind, problem="not a valid public key")
    return KeyEntry(where, kind, text)


def _ssh_line(where: str, line: str) -> tuple[KeyEntry, str] | None:
    """The key of a line of `authorized_keys` (options, kind, key, comment), and its comment. None
    if it is no such line."""
    options = ""
    if not (match := _SSH_LINE.match(line)) and (before := _OPTIONS.match(line)):
        options, match = before[1], _SSH_LINE.match(line, before.end())
    if not match or _ANOTHER.search(_QUOTED.sub("", options)):
        return None
    return _ssh_entry(where, options, match), line[match.end() :]


def _ssh_entry(where: str, options: str, match: re.Match[str]) -> KeyEntry:
    kind, body = match[1], match[2]
    if kind not in ("ssh-ed25519", "ssh-rsa"):
        return KeyEntry(where, "public", problem=f'a key of another kind ("{kind}")')
    flags = _QUOTED.sub("", options).lower().split(",")
    if "cert-authority" in flags:
        return KeyEntry(where, "public", problem="the key of a certificate authority")
    today = f"{datetime.datetime.now(datetime.UTC):%Y%m%d}"
    if (until := _EXPIRY.search(options)) and until[1] < today:
        return KeyEntry(where, "public", problem="a key whose expiry-time has passed")
    return _checked(where, "public", f"{kind} {body}")


def _ssh2(where: str, body: str) -> KeyEntry:
    """The form of RFC 4716, which PuTTYgen saves: headers, then base64."""
    joined = body.replace("\\\n", "")  # a header that goes on
    packed = "".join(line.strip() for line in joined.splitlines() if ":" not in line)
    kind = _first_string(_unpack(packed)).decode("ascii", "replace")
    found = _ssh_line(where, f"{kind} {packed}")
    return found[0] if found else KeyEntry(where, "public", problem="not a valid public key")


def _locked_openssh(data: bytes) -> str | None:
    """The public half, which OpenSSH leaves readable, of a private key that is locked, or None."""
    raw = _unpack("".join(data.decode("ascii", "replace").splitlines()[1:-1]))
    rest = raw.removeprefix(b"openssh-key-v1\0")
    cipher = _first_string(rest)
    if rest == raw or cipher in (b"none", b""):
        return None
    for _ in range(3):  # cipher, key derivation, its options
        rest = rest[4 + len(_first_string(rest)) :]
    public = _first_string(rest[4:])  # after the number of keys
    kind = _first_string(public).decode("ascii", "replace")
    return f"{kind} {base64.b64encode(public).decode()}"


def _unpack(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except (binascii.Error, ValueError):
        return b""


def _first_string(data: bytes) -> bytes:
    """The string at the start of SSH's wire format: its length in four bytes, then itself."""
    return data[4 : 4 + int.from_bytes(data[:4], "big")]


# Lines


def _lines(text: str) -> Iterator[tuple[int, KeyEntry]]:
    """(line, entry) of what stands outside of blocks; beside those other words are not named."""
    rest = text
    for block in (_PEM, _SSH2):
        rest = block.sub(lambda match: "\n" * match[0].count("\n"), rest)
    words_are_lines = rest == text
    for number, line in enumerate(map(str.strip, rest.splitlines()), 1):
        if not line or line.startswith("#"):
            continue
        for found in _line(f"line {number}", line):
            if found.kind != "unknown" or words_are_lines or "-----BEGIN" in line:
                yield number, found


def _line(where: str, line: str) -> Iterator[KeyEntry]:
    """The keys on a line, one after another; what follows the last one is a comment."""
    while True:
        entry, line = _first(where, line)
        yield entry
        another = None if entry.kind == "unknown" else _ANOTHER.search(line)
        if another is None:
            return
        if line[: another.start()].strip(_BETWEEN):
            problem = "a line on which another key follows in a comment"
            yield KeyEntry(where, "public", problem=problem)
            return
        line = line[another.start() :]


def _first(where: str, line: str) -> tuple[KeyEntry, str]:
    """The first key on a line, and the rest of the line."""
    line = line.lstrip(_BETWEEN)
    token = _TOKEN.match(line)
    found = _token(where, token[0] if token else "")
    if found.kind == "unknown" and (of_ssh := _ssh_line(where, line)):
        return of_ssh
    return found, line[token.end() :] if token else ""


def _token(where: str, token: str) -> KeyEntry:
    upper = token.upper()
    if upper.startswith("AGE-SECRET-KEY-1"):
        return _age_identity(where, upper)
    if upper.startswith(("AGE-SECRET-KEY-", "AGE-PLUGIN-")):
        kind = "post-quantum" if upper.startswith("AGE-SECRET-KEY-PQ") else "plugin"
        return KeyEntry(where, "private", problem=f"an age key of another kind ({kind})")
    if _AGE.fullmatch(token):
        return _age_recipient(where, token)
    if token.startswith("-----BEGIN"):
        return KeyEntry(where, "unknown", problem="the begin of PEM that does not end")
    return KeyEntry(where, "unknown", problem=NO_KEY)


def _age_identity(where: str, token: str) -> KeyEntry:
    try:
        key = pyrage.x25519.Identity.from_str(token)
    except (pyrage.IdentityError, ValueError):
        return KeyEntry(where, "private", problem="a damaged age identity")
    return KeyEntry(where, "private", str(key.to_public()), key)


def _age_recipient(where: str, token: str) -> KeyEntry:
    kind, separator, _ = token[4:].rpartition("1")
    if separator:
        name = "post-quantum" if kind == "pq" else f'plugin "{kind[:20]}"'
        return KeyEntry(where, "public", problem=f"an age key of another kind ({name})")
    try:
        pyrage.x25519.Recipient.from_str(token)
    except (pyrage.RecipientError, ValueError):
        return KeyEntry(where, "public", problem="not a valid public key")
    return KeyEntry(where, "public", token)
