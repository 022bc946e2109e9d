"""A grant: the secrets that open a release, named images of it, up to a tier, for one recipient.

A grant is one age file. Where the recipient is not a passphrase the owner is a recipient too, so that
`rekey` can renew it. Its payload is JSON inside the encryption (docs/format.md, section 5).
"""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass, field

from primis.errors import BadGrant, GrantExpired, NotCovered, TierTooLow
from primis.keys.identity import Recipient
from primis.keys.seal import TIERS, Secret, image_secret, release_secrets


@dataclass(frozen=True)
class Grant:
    """What a recipient may open.

    release: id of the release, 32 hex digits. signer: Ed25519 public key of its owner.
    tier: the highest tier opened. secret: the release secret of that tier, None if only `images`
    are opened: bundle id -> tier -> image secret. recipient: its public key ("" for a passphrase).
    note: for the recipient. not_after: the last day, UTC, on which primis opens it.
    """

    release: str
    signer: str
    tier: str
    label: str
    recipient: str
    secret: Secret | None = field(default=None, repr=False)
    images: dict[str, dict[str, Secret]] = field(default_factory=dict, repr=False)
    note: str | None = None
    not_after: datetime.date | None = None

    def image_secrets(self, bundle_id: str) -> dict[str, Secret]:
        """Tier -> image secret of one image; raises NotCovered."""
        if self.secret is not None:
            opened = release_secrets(self.secret, self.tier)
            return {tier: image_secret(secret, bundle_id) for tier, secret in opened.items()}
        if bundle_id not in self.images:
            raise NotCovered(
                f'image "{bundle_id}" is not covered by grant "{self.label}", which opens {len(self.images)} named image(s)'
            )
        return self.images[bundle_id]

    def covers(self, bundle_id: str) -> bool:
        """Whether it opens this image at any tier."""
        return self.secret is not None or bundle_id in self.images

    def require_tier(self, tier: str) -> None:
        """Raise TierTooLow unless the grant opens `tier`."""
        if TIERS.index(tier) > TIERS.index(self.tier):
            raise TierTooLow(f'tier "{tier}" was asked for, but grant "{self.label}" opens up to "{self.tier}"')

    def require_current(self, today: datetime.date) -> None:
        """Raise GrantExpired after its last day. A courtesy of the reader's software: a recipient's
        copy of the secrets does not expire."""
        if self.not_after is not None and today > self.not_after:
            raise GrantExpired(f'grant "{self.label}" expired after {self.not_after.isoformat()}, today is {today.isoformat()}')

    def seal(self, recipient: Recipient, owner: Recipient) -> bytes:
        """The age file."""
        body = {
            "format": 1,
            "images": {i: {t: s.value.hex() for t, s in tiers.items()} for i, tiers in self.images.items()},
            "label": self.label,
            "not_after": self.not_after.isoformat() if self.not_after else None,
            "note": self.note,
            "recipient": self.recipient,
            "release": self.release,
            "secret": self.secret.value.hex() if self.secret else None,
            "signer": self.signer,
            "tier": self.tier,
        }
        also = [] if recipient.kind == "passphrase" or recipient.text == owner.text else [owner]
        return recipient.encrypt(json.dumps(body, sort_keys=True).encode(), *also)


def read_grant(payload: bytes, where: str) -> Grant:
    """The grant in a decrypted age file; raises BadGrant."""
    try:
        body = json.loads(payload)
        if body["format"] != 1 or body["tier"] not in TIERS:
            raise ValueError
        images = {i: {t: Secret(bytes.fromhex(s)) for t, s in tiers.items() if t in TIERS} for i, tiers in body["images"].items()}
        secret = None if body["secret"] is None else Secret(bytes.fromhex(body["secret"]))
        last = None if body["not_after"] is None else datetime.date.fromisoformat(body["not_after"])
        texts = {k: str(body[k]) for k in ("release", "signer", "tier", "label", "recipient")}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadGrant(f'grant "{where}" is not a grant of format 1') from None
    return Grant(**texts, secret=secret, images=images, note=body.get("note"), not_after=last)
