"""X.509 certificates as a source of public keys, and the reasons not to seal to one.

What a certificate says of itself is checked: its dates, and whether its key may encrypt. Who signed
it and whether it was revoked is not: whoever grants has checked where the certificate came from.
"""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509 import Certificate
from cryptography.x509.oid import PublicKeyAlgorithmOID

_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension)


def load_certificate(load: Callable[[bytes], Certificate], data: bytes) -> Certificate | None:
    """The certificate in PEM or DER, whichever `load` reads, or None if it cannot be read."""
    try:
        with warnings.catch_warnings():  # of odd serial numbers, for example
            warnings.simplefilter("ignore")
            return load(data)
    except _UNREADABLE:
        return None


def why_refused(
    certificate: Certificate,
    others: list[Certificate],
    now: datetime.datetime,
) -> str | None:
    """What it is, where nothing must be sealed to it, or None. `others` lie in the same file."""
    try:
        return _dates(certificate, now) or _usage(certificate) or _authority(certificate, others)
    except _UNREADABLE:
        return "a certificate that cannot be read"


def _dates(certificate: Certificate, now: datetime.datetime) -> str | None:
    last, first = certificate.not_valid_after_utc, certificate.not_valid_before_utc
    if last < now:
        return f"a certificate that expired on {last:%Y-%m-%d} (ask its holder for a current one)"
    if first > now:
        return f"a certificate that is not valid before {first:%Y-%m-%d} (is the clock right?)"
    return None


def _usage(certificate: Certificate) -> str | None:
    usage: Any = _extension(certificate, x509.KeyUsage)
    pss = certificate.public_key_algorithm_oid == PublicKeyAlgorithmOID.RSASSA_PSS
    if pss or (usage and not usage.key_encipherment and not usage.data_encipherment):
        return "a certificate for signatures only (ask its holder for one to encrypt to)"
    return None


def _authority(certificate: Certificate, others: list[Certificate]) -> str | None:
    """Whether it is a link of a chain: files of servers hold those who signed as well."""
    basic: Any = _extension(certificate, x509.BasicConstraints)
    signed = any(c.issuer == certificate.subject for c in others if c != certificate)
    if basic and basic.ca and signed:
        return "the certificate of an authority that signed another one in this file"
    return None


def _extension(certificate: Certificate, kind: type[x509.ExtensionType]) -> Any:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
