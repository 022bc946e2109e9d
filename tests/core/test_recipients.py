"""Files of keys as people have them: every key in them counts, or is named."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
from pathlib import Path

import pyrage
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from primis.errors import BadKey
from primis.keys.identity import (
    Recipient,
    WrongPassphrase,
    generate,
    is_label,
    parse_recipient,
    parse_recipients,
    passphrase_recipient,
    read_identities,
    read_signer,
)
from tests.core.test_keys import (
    ED,
    NONE,
    PEM,
    RSA,
    RSA_PUBLIC_PEM,
    certificate,
    private,
    ssh_public,
)

TWO = (
    "age1yru6xfu3pfananzturd30vjxm2r3t76rp4lkffqslaeuhszu9q9syf3z2g",
    "age1dl2yhj0y3n5wczkqkg7ukxyym4cute87796xe9gmg6agqnkefqcqwfggtv",
)
DER = serialization.Encoding.DER
SPKI = serialization.PublicFormat.SubjectPublicKeyInfo
PKCS8 = serialization.PrivateFormat.PKCS8
SSH_ED = " ".join(ssh_public(ED).decode().split()[:2])
SSH_RSA = " ".join(ssh_public(RSA).decode().split()[:2])
EC = ec.generate_private_key(ec.SECP256R1())
ECDSA = ssh_public(EC).decode().strip()
DAY = datetime.timedelta(days=1)
LOCKED_OPENSSH = b"""-----BEGIN OPENSSH PRIVATE KEY-----
%b
-----END OPENSSH PRIVATE KEY-----
"""


def strings(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def locked_openssh() -> bytes:
    """The key ED as OpenSSH locks it; what is encrypted does not matter here."""
    public = base64.b64decode(SSH_ED.split()[1])
    names = strings(b"aes256-ctr", b"bcrypt", strings(b"salt" * 4) + bytes(4))
    raw = b"openssh-key-v1\0" + names + (1).to_bytes(4, "big") + strings(public, b"x" * 128)
    return LOCKED_OPENSSH % base64.b64encode(raw)


def signed(
    key=RSA,
    *,
    name="a",
    issuer="a",
    start=-DAY,
    end=DAY,
    extensions=(),
    encoding=PEM,
) -> bytes:
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, n)]) for n in (name, issuer)]
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(*reversed(names), key.public_key(), 1, now + start, now + end)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(RSA, hashes.SHA256()).public_bytes(encoding)


def usage(*allowed: str) -> x509.KeyUsage:
    names = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement "
        "key_cert_sign crl_sign encipher_only decipher_only"
    )
    return x509.KeyUsage(**{name: name in allowed for name in names.split()})


def read(data: bytes | str, tmp_path: Path, label: str = "") -> tuple[list[str], list[str]]:
    """(public keys, warnings) of a file."""
    path = tmp_path / "them.txt"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    warned: list[str] = []
    found = parse_recipients(f"{label}={path}" if label else str(path), warn=warned.append)
    return [recipient.text for recipient in found], warned


def test_all_keys_of_a_file_are_granted_under_numbered_labels(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("\n".join(["# the team", TWO[0], "", SSH_RSA + " bob", TWO[1], TWO[0]]))
    found = parse_recipients(f"bob={path}")
    assert [r.text for r in found] == [TWO[0], SSH_RSA, TWO[1]]
    assert [r.label for r in found] == ["bob", "bob-2", "bob-3"]
    labels = [r.label for r in parse_recipients(str(path))]
    assert labels == [parse_recipient(key).label for key in (TWO[0], SSH_RSA, TWO[1])]
    with pytest.raises(BadKey, match="holds 3 keys, expected one"):
        parse_recipient(str(path))


CODECS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_text_of_any_editor_is_read(codec: str, end: str, tmp_path: Path) -> None:
    marked = {"utf-16-be": b"\xfe\xff"}.get(codec, b"")
    for text in ("\n".join([*TWO, ""]), RSA_PUBLIC_PEM.decode(), "# Dr. Müller\n" + TWO[0]):
        data = marked + text.replace("\n", end).encode(codec)
        expected = list(TWO) if TWO[1] in text else [TWO[0] if "#" in text else SSH_RSA]
        assert read(data, tmp_path) == (expected, [])
    key = tmp_path / "key"
    key.write_bytes(marked + private(RSA).decode().replace("\n", end).encode(codec))
    assert [identity.text for identity in read_identities(key)] == [SSH_RSA]


SSH2 = f"""---- BEGIN SSH2 PUBLIC KEY ----
Comment: "a \\
b"
{SSH_ED.split()[1]}
---- END SSH2 PUBLIC KEY ----
"""
FORMS = {
    "DER certificate": (signed(encoding=DER), [SSH_RSA]),
    "DER public key": (RSA.public_key().public_bytes(DER, SPKI), [SSH_RSA]),
    "DER private key": (RSA.private_bytes(DER, PKCS8, NONE), [SSH_RSA]),
    "DER of ed25519": (ED.public_key().public_bytes(DER, SPKI), [SSH_ED]),
    "two certificates": (signed() + signed(ED, name="b"), [SSH_RSA, SSH_ED]),
    "text around a certificate": (b"Bag Attributes\n  x: y\n" + signed(), [SSH_RSA]),
    "a certificate that may encrypt": (signed(extensions=[usage("key_encipherment")]), [SSH_RSA]),
    "a certificate and its key": (signed() + private(RSA), [SSH_RSA]),
    "authorized_keys": (f'no-pty,command="a, \\"b ssh-rsa AAAA" {SSH_ED} alice@x\n', [SSH_ED]),
    "SSH2": (SSH2, [SSH_ED]),
    "a private OpenSSH key": (private(ED, "OpenSSH"), [SSH_ED]),
    "a locked one": (locked_openssh(), [SSH_ED]),
    "PEM and lines, in order": (
        "\n".join([TWO[0], RSA_PUBLIC_PEM.decode(), TWO[1]]),
        [TWO[0], SSH_RSA, TWO[1]],
    ),
}
HOLD_SECRETS = {
    "DER private key",
    "a certificate and its key",
    "a private OpenSSH key",
    "a locked one",
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_file_is_read(name: str, tmp_path: Path) -> None:
    data, expected = FORMS[name]
    found, warned = read(data, tmp_path)
    assert found == expected
    if name in HOLD_SECRETS:
        [warning] = warned
        assert "holds a private key, which its holder alone should have" in warning
    else:
        assert warned == []


def block(kind: str) -> str:
    return f"-----BEGIN {kind}-----\nAAAA\n-----END {kind}-----"


SIGNS = usage("digital_signature")
BAD = {
    "ecdsa": (ECDSA, "ecdsa-sha2-nistp256"),
    "a security key": ("sk-ssh-ed25519@openssh.com AAAA x", "sk-ssh-ed25519@openssh.com"),
    "an SSH certificate": ("ssh-rsa-cert-v01@openssh.com AAAA x", "ssh-rsa-cert-v01@openssh.com"),
    "an age plugin": ("age1yubikey1qqqq", "yubikey"),
    "post-quantum": ("age1pq1qqqq", "post-quantum"),
    "damaged": (TWO[0][:-1] + "q", "not a valid public key"),
    "damaged SSH": ("ssh-rsa AAAA", "not a valid public key"),
    "an authority's key": (f"cert-authority {SSH_ED}", "certificate authority"),
    "a key that expired": (f'expiry-time="20200101" {SSH_ED}', "expiry-time has passed"),
    "expired": (signed(start=-2 * DAY, end=-DAY).decode(), "a certificate that expired on 20"),
    "not yet valid": (signed(start=DAY, end=2 * DAY).decode(), "not valid before 20"),
    "signatures only": (signed(extensions=[SIGNS]).decode(), "signatures only"),
    "elliptic certificate": (signed(EC).decode(), "another kind"),
    "cut off": ("-----BEGIN CERTIFICATE-----", "PEM that does not end"),
    "unreadable": (block("CERTIFICATE"), "cannot be read"),
    "1024 bits": (ssh_public(rsa.generate_private_key(65537, 1024)).decode(), "1024 bits"),
    "OpenPGP": (block("PGP PUBLIC KEY BLOCK"), "pgp"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_key_that_cannot_be_used_is_named(name: str, tmp_path: Path) -> None:
    bad, why = BAD[name]
    for text in (f"{bad}\n{TWO[0]}\n", f"{TWO[0]}\n{bad}\n"):
        found, [warning] = read(text, tmp_path)
        assert found == [TWO[0]]
        assert why in warning
        assert "\n" not in warning
    with pytest.raises(BadKey) as caught:
        read(bad + "\n", tmp_path)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_words_that_are_no_key_are_named_by_their_line(tmp_path: Path) -> None:
    found, warned = read(f"alice\n{TWO[0]}\n" + "bob\n" * 9, tmp_path)
    assert found == [TWO[0]]
    assert len(warned) == 6
    assert "line 1 is no key" in warned[0]
    assert "5 more lines" in warned[5]


def test_what_a_certificate_forbids_its_private_key_does_not_allow(tmp_path: Path) -> None:
    with pytest.raises(BadKey, match="signatures only"):
        read(signed(extensions=[SIGNS]) + private(RSA), tmp_path)


def test_of_a_chain_only_the_end_is_granted(tmp_path: Path) -> None:
    authority = x509.BasicConstraints(ca=True, path_length=None)
    root = signed(name="root", issuer="root", extensions=[authority])
    found, [warning] = read(signed(ED, name="end", issuer="root") + root, tmp_path)
    assert found == [SSH_ED]
    assert "authority" in warning
    alone = signed(extensions=[authority])  # signed by itself, as openssl req -x509 makes it
    assert read(alone, tmp_path) == ([SSH_RSA], [])


def test_two_certificates_of_one_key_count_once_even_if_one_expired(tmp_path: Path) -> None:
    old = signed(start=-2 * DAY, end=-DAY)
    found, [warning] = read(old + signed() + certificate(), tmp_path)
    assert found == [SSH_RSA]
    assert "expired" in warning


def test_keys_typed_in_lines_and_names_with_equals_signs(tmp_path: Path) -> None:
    assert [r.text for r in parse_recipients("bob=" + "\n".join(TWO))] == list(TWO)
    path = tmp_path / "a=b"
    path.write_text(TWO[0])
    assert parse_recipient(str(path)).text == TWO[0]
    for text in ("nobody", "x" * 5000, "~nobody-here/key", "a\0b", "", "bob="):
        with pytest.raises(BadKey, match="neither a file nor a public key"):
            parse_recipients(text)


IDENTITIES = {
    "locked OpenSSH": (locked_openssh(), "locked by a passphrase.*ssh-keygen"),
    "locked PEM": (
        RSA.private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"x")),
        "locked by a passphrase.*openssl",
    ),
    "locked DER": (
        RSA.private_bytes(DER, PKCS8, serialization.BestAvailableEncryption(b"x")),
        "locked by a passphrase.*openssl",
    ),
    "age -p": (b"age-encryption.org/v1\n-> scrypt", "locked by a passphrase.*age -d"),
    "age -p -a": (
        b"-----BEGIN AGE ENCRYPTED FILE-----\nAAAA\n-----END AGE ENCRYPTED FILE-----\n",
        "locked by a passphrase.*age -d",
    ),
    "public": (TWO[0].encode(), "holds a public key, expected the private one"),
    "certificate": (signed(), "holds a public key, expected the private one"),
    "DER certificate": (signed(encoding=DER), "holds a public key, expected the private one"),
    "EC": (private(EC), r"another kind \(EC\)"),
    "PuTTY": (b"PuTTY-User-Key-File-3: ssh-ed25519\n", "PuTTYgen"),
    "plugin": (b"AGE-PLUGIN-YUBIKEY-1QQQ\n", "plugin"),
    "too large": (b"#" * (1 << 20) + b"#", "over 1048576 bytes"),
    "nothing": (b"", "no private key"),
}


@pytest.mark.parametrize("name", IDENTITIES)
def test_a_key_file_that_opens_nothing_says_why(name: str, tmp_path: Path) -> None:
    path = tmp_path / "k"
    path.write_bytes(IDENTITIES[name][0])
    with pytest.raises(BadKey, match=IDENTITIES[name][1]) as caught:
        read_identities(path)
    assert "\n" not in str(caught.value)


AGE = [generate().splitlines()[-1] for _ in range(2)]
AGE_PUBLIC = [str(pyrage.x25519.Identity.from_str(key).to_public()) for key in AGE]
LOCK = serialization.BestAvailableEncryption(b"correct horse")


def locked_by_ssh_keygen() -> bytes:
    pytest.importorskip("bcrypt")
    return ED.private_bytes(PEM, serialization.PrivateFormat.OpenSSH, LOCK)


def locked_by_age(*keys: str) -> bytes:
    return age_by_passphrase("\n".join(keys).encode(), "correct horse")


def age_by_passphrase(payload: bytes, passphrase: str, factor: int = 4) -> bytes:
    """An age file as `age -p` makes it, by the specification, but with little work to open it."""
    key, salt, nonce = b"k" * 16, b"s" * 16, b"n" * 16
    full_salt = b"age-encryption.org/v1/scrypt" + salt
    wrap = hashlib.scrypt(passphrase.encode(), salt=full_salt, n=1 << factor, r=8, p=1, dklen=32)
    body = ChaCha20Poly1305(wrap).encrypt(bytes(12), key, None)
    head = f"age-encryption.org/v1\n-> scrypt {unpadded(salt)} {factor}\n{unpadded(body)}\n---"
    mac = hmac.digest(derived(key, b"header"), head.encode(), "sha256")
    sealed = ChaCha20Poly1305(derived(key, b"payload", nonce)).encrypt(
        bytes(11) + b"\1", payload, None
    )
    return f"{head} {unpadded(mac)}\n".encode() + nonce + sealed


def derived(key: bytes, info: bytes, salt: bytes | None = None) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt=salt, info=info).derive(key)


def unpadded(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def armoured(data: bytes) -> bytes:
    kind = "AGE ENCRYPTED FILE"
    body = base64.encodebytes(data).decode()
    return f"-----BEGIN {kind}-----\n{body}-----END {kind}-----\n".encode()


LOCKED = {
    "OpenSSH": (locked_by_ssh_keygen, [SSH_ED]),
    "PEM": (lambda: RSA.private_bytes(PEM, PKCS8, LOCK), [SSH_RSA]),
    "DER": (lambda: RSA.private_bytes(DER, PKCS8, LOCK), [SSH_RSA]),
    "PKCS 12": (
        lambda: pkcs12.serialize_key_and_certificates(b"a", RSA, None, None, LOCK),
        [SSH_RSA],
    ),
    "age": (lambda: locked_by_age(*AGE), AGE_PUBLIC),
    "age, armoured": (lambda: armoured(locked_by_age(AGE[0])), AGE_PUBLIC[:1]),
}


@pytest.mark.parametrize("name", LOCKED)
def test_a_locked_key_file_opens_with_its_passphrase(name: str, tmp_path: Path) -> None:
    make, expected = LOCKED[name]
    path, asked = tmp_path / "k", []
    path.write_bytes(make())

    def ask(what: str) -> str:
        asked.append(what)
        return "correct horse"

    found = [identity.text for identity in read_identities(path, ask=ask)]
    assert found == expected
    assert asked == [f'passphrase of key file "{path}"']
    with pytest.raises(WrongPassphrase, match="the passphrase does not unlock it"):
        read_identities(path, ask=lambda _: "another horse")
    if name.startswith("age"):
        assert read_signer(path, ask=ask).recipient.text == expected[0]


def test_no_passphrase_is_asked_for_where_a_key_is_not_locked(tmp_path: Path) -> None:
    path = tmp_path / "k"
    path.write_bytes(private(ED, "OpenSSH") + RSA.private_bytes(PEM, PKCS8, LOCK))
    warned: list[str] = []
    [identity] = read_identities(path, warn=warned.append, ask=lambda _: pytest.fail("asked"))
    assert identity.text == SSH_ED
    assert len(warned) == 1


def test_a_file_that_no_passphrase_can_open_says_so(tmp_path: Path) -> None:
    recipient = pyrage.x25519.Recipient.from_str(AGE_PUBLIC[0])
    cases = {
        "is sealed to a key": pyrage.encrypt(AGE[0].encode(), [recipient]),
        "holds no private key": locked_by_age("no key"),
        "work factor is over 20": SLOW,
    }
    for why, data in cases.items():
        (tmp_path / "k").write_bytes(data)
        with pytest.raises(BadKey, match=why):
            read_identities(tmp_path / "k", ask=lambda _: "correct horse")


SLOW = (
    b"age-encryption.org/v1\n-> scrypt "
    + b"A" * 22
    + b" 30\n"
    + b"A" * 43
    + b"\n--- "
    + b"A" * 43
    + b"\n"
)


def test_all_private_keys_of_a_file_are_offered(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_bytes(private(ED, "OpenSSH") + private(EC) + private(RSA) + private(RSA) + signed())
    warned: list[str] = []
    found = read_identities(path, warn=warned.append)
    assert [identity.text for identity in found] == [SSH_ED, SSH_RSA]
    assert len(warned) == 1
    path.write_bytes(ED.private_bytes(DER, PKCS8, NONE))
    assert [identity.text for identity in read_identities(path)] == [SSH_ED]


WEAK = ["a" * 12, "passwordpassword", "123456789012", "qwertyuiopas", "abcdefghijkl", " " * 12]
WEAK += ["primisprimis", "hospital1234", "letmeinletmein", "!@#$%^&*()_+", "ab" * 300]


@pytest.mark.parametrize("passphrase", WEAK)
def test_a_passphrase_that_is_guessed_at_once_is_refused_and_not_repeated(passphrase: str) -> None:
    with pytest.raises(BadKey, match="among the first that are guessed") as caught:
        passphrase_recipient(passphrase)
    assert passphrase not in str(caught.value)


GOOD = ["correct horse battery", "ЖЖЖübergang lampe", "mX9#qL2vR7!p"]


@pytest.mark.parametrize("passphrase", GOOD)
def test_a_good_passphrase_is_taken(passphrase: str) -> None:
    assert passphrase_recipient(passphrase).passphrase == passphrase


def test_no_error_about_a_key_shows_it(tmp_path: Path) -> None:
    other = ed25519.Ed25519PrivateKey.generate()
    secret = private(other).decode().splitlines()[1]
    pkcs1 = private(RSA, "TraditionalOpenSSL").decode().splitlines()[1]
    for typed in (private(other).decode(), secret, pkcs1):
        for text in (typed, f"bob={typed}", typed.lower()):
            with pytest.raises(BadKey) as caught:
                parse_recipients(text)
            shown = repr(caught.value).lower()
            assert "a recipient was given as a private key" in shown
            assert not any(line.lower() in shown for line in typed.split("\n") if line)


BETWEEN = [" ", ",", ", ", "; ", "\t", '","', ' "']


@pytest.mark.parametrize("between", BETWEEN)
def test_all_keys_on_one_line_are_granted(between: str, tmp_path: Path) -> None:
    assert read(between.join(TWO) + "\n", tmp_path) == (list(TWO), [])
    for keys in ((TWO[0], SSH_ED), (SSH_ED, TWO[0]), (SSH_ED, SSH_RSA), (TWO[0], SSH_RSA, TWO[1])):
        assert read(between.join(keys), tmp_path) == (list(keys), [])
        assert read(between.join(keys) + " the team", tmp_path) == (list(keys), [])
    assert [r.text for r in parse_recipients(f"bob={between.join(TWO)}")] == list(TWO)


@pytest.mark.parametrize("words", [" bob ", " = bob, ", " or "])
def test_a_key_in_a_comment_is_named(words: str, tmp_path: Path) -> None:
    for key in (TWO[0], SSH_ED):
        found, [warning] = read(key + words + TWO[1], tmp_path)
        assert found == [key]
        assert "line 1 is a line on which another key follows" in warning
    found, [warning] = read(f"bob,{TWO[0]} {SSH_ED}\n{TWO[1]}", tmp_path)
    assert found == [TWO[1]]
    assert "line 1 is no key" in warning


def test_a_line_of_a_damaged_and_a_good_key_grants_the_good_one(tmp_path: Path) -> None:
    found, [warning] = read(f"{TWO[0][:-1]}q {TWO[1]}", tmp_path)
    assert found == [TWO[1]]
    assert "line 1 is not a valid public key" in warning
    assert len(read(" ".join(TWO * 5000), tmp_path)[0]) == 2


LABELS = ["con", "CON", "prn", "Aux", "nul", "com1", "LPT9", "-rf", "--to", "_x"]


@pytest.mark.parametrize("label", LABELS)
def test_a_label_that_makes_a_bad_file_name_is_refused(label: str) -> None:
    with pytest.raises(BadKey, match=f'label "{label}" is not allowed'):
        parse_recipients(f"{label}={TWO[0]}")
    with pytest.raises(BadKey, match=f'label "{label}" is not allowed'):
        passphrase_recipient("correct horse battery", label)
    assert is_label(label)  # a grant that has it already is read, and renewed
    assert Recipient("age", TWO[0], label).label == label
    for plain in ("con1", "com10", "com0", "a-", "0_", "console"):
        assert parse_recipient(f"{plain}={TWO[0]}").label == plain


def test_a_folder_given_as_a_recipient_is_called_one(tmp_path: Path) -> None:
    for text in (str(tmp_path), f"a={tmp_path}"):
        with pytest.raises(BadKey, match="is a folder, expected a file of keys"):
            parse_recipients(text)
