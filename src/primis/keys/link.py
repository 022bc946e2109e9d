"""A link that opens a grant: a random passphrase in the fragment of the viewer's address.

A browser sends a fragment to no server. With a PIN, which is sent separately, the link alone opens
nothing at once: an attacker has 10^6 PINs to try, and each takes the work below.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from primis.keys.recipient import Recipient

LABEL = "link"
WORK = 18
"""Of scrypt: 2^18 steps and 256 MB for each passphrase tried, some seconds in a browser."""

_BYTES = 16
_PINS = 1_000_000


@dataclass(frozen=True)
class Link:
    """secret: 128 random bits. pin: six digits, or None."""

    secret: str = field(repr=False)
    pin: str | None = field(repr=False)

    @classmethod
    def new(cls, *, pin: bool = True) -> Link:
        """By the operating system's generator."""
        digits = f"{secrets.randbelow(_PINS):06}" if pin else None
        return cls(secrets.token_urlsafe(_BYTES), digits)

    @property
    def passphrase(self) -> str:
        """What the grant is sealed to."""
        return self.secret if self.pin is None else f"{self.secret}-{self.pin}"

    @property
    def recipient(self) -> Recipient:
        """Whoever has link and PIN."""
        return Recipient("passphrase", "", LABEL, self.passphrase, WORK)

    def at(self, viewer: str, label: str) -> str:
        """The link. label: of the grant, so that the page tries no other one."""
        ask = "" if self.pin is None else "&pin"
        return f"{viewer}#open={self.secret}{ask}&grant={label}"
