"""A grant: the secrets that open a release, named images of it or regions of them, up to a tier.

A grant is one age file, for one recipient. Where the recipient is not a passphrase the owner is a
recipient too, so that `rekey` can renew it. Its payload is JSON inside the encryption, signed by
the owner: anyone can seal an age file to a public key, and only a signed one counts
(docs/format.md, section 5).
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from primis.canonical import canonical, parse_canonical
from primis.errors import BadGrant, GrantExpired, NotCovered, TierTooLow
from primis.imaging.region import Region
from primis.keys.identity import Recipient, Signer, is_label, verify
from primis.keys.seal import Secret, TierSecrets, image_secrets, release_secrets, tile_secret
from primis.keys.tier import TIERS, Tier

_LEAST_BYTES = 1024
_SIGNATURE_LINE = re.compile(rb"([0-9a-f]{64}) ([0-9a-f]{128})\n")


@dataclass(frozen=True)
class RegionSecrets:
    """What opens a region of an image and nothing else of it.

    region: within the image, its last frame known. info: what its frames need besides their code,
    as section `info` has it. tiles: tier -> number of a tile -> its secret.
    """

    region: Region
    info: bytes = field(repr=False)
    tiles: dict[Tier, dict[int, Secret]] = field(repr=False)

    def up_to(self, tier: Tier) -> RegionSecrets:
        """The same without higher tiers."""
        return replace(self, tiles={t: tiles for t, tiles in self.tiles.items() if t <= tier})

    def renewed(self, secrets: Mapping[Tier, Secret]) -> RegionSecrets:
        """The same tiles under other secrets of the image."""
        tiles = {
            tier: {number: tile_secret(secrets[tier], number) for number in numbers}
            for tier, numbers in self.tiles.items()
        }
        return replace(self, tiles=tiles)

    @property
    def body(self) -> dict[str, Any]:
        """As JSON has it."""
        r = self.region
        return {
            "info": self.info.hex(),
            "region": [r.x, r.y, r.width, r.height, r.first, r.last],
            "tiles": {
                tier: {str(number): secret.value.hex() for number, secret in tiles.items()}
                for tier, tiles in self.tiles.items()
            },
        }

    @classmethod
    def parse(cls, body: dict[str, Any], tier: Tier) -> RegionSecrets:
        """Inverse of `body`. tier: of the grant. Raises ValueError, KeyError, TypeError,
        AttributeError."""
        x, y, width, height, first, last = body["region"]
        if not all(type(n) is int and n >= 0 for n in body["region"]) or not width or not height:
            raise ValueError("no region")
        if last < first or set(body["tiles"]) != set(tier.opened):
            raise ValueError("no region")
        tiles = {t: _tiles(body["tiles"][t]) for t in tier.opened}
        return cls(Region(x, y, width, height, first, last), _bytes(body["info"]), tiles)


def _bytes(text: str) -> bytes:
    """Of hexadecimal as it is written: in lower case, without spaces. Raises ValueError."""
    data = bytes.fromhex(text)
    if data.hex() != text:
        raise ValueError("no hexadecimal")
    return data


def _tiles(secrets: dict[str, str]) -> dict[int, Secret]:
    """By number, each written in one way."""
    tiles = {int(number): Secret(_bytes(value)) for number, value in secrets.items()}
    if not tiles or [str(number) for number in tiles] != [*secrets] or min(tiles) < 0:
        raise ValueError("no tiles")
    return tiles


ImageKeys = TierSecrets | RegionSecrets
"""What opens an image: all of it by tier, or a region."""


def highest(keys: ImageKeys) -> Tier:
    """The highest tier that they open."""
    return max(keys.tiles if isinstance(keys, RegionSecrets) else keys)


def keys_up_to(keys: ImageKeys, tier: Tier) -> ImageKeys:
    """The same without higher tiers."""
    if isinstance(keys, RegionSecrets):
        return keys.up_to(tier)
    return {opened: keys[opened] for opened in tier.opened}


@dataclass(frozen=True)
class Grant:
    """What a recipient may open.

    release: id of the release, 32 hex digits; keys: that of its secrets, new at each `rekey`.
    signer: Ed25519 public key of its owner.
    tier: the highest tier opened. secret: the release secret of that tier, None if only `images` or
    `regions` of images are opened. images: bundle id -> tier -> image secret; regions: bundle id ->
    what opens a region of it. recipient: its public key ("" for a passphrase).
    note: for the recipient. not_after: the last day, UTC, on which primis opens it.
    """

    release: str
    keys: str
    signer: str
    tier: Tier
    label: str
    recipient: str
    secret: Secret | None = field(default=None, repr=False)
    images: dict[str, TierSecrets] = field(default_factory=dict, repr=False)
    note: str | None = None
    not_after: datetime.date | None = None
    regions: dict[str, RegionSecrets] = field(default_factory=dict, repr=False)

    def keys_of(self, bundle_id: str) -> ImageKeys:
        """What opens an image, or a region of it; raises NotCovered."""
        if bundle_id in self.regions and not self.covers_whole(bundle_id):
            return self.regions[bundle_id]
        return self.image_secrets(bundle_id)

    def image_secrets(self, bundle_id: str) -> TierSecrets:
        """Tier -> image secret of one image; raises NotCovered."""
        if self.secret is not None:
            return image_secrets(release_secrets(self.secret, self.tier), bundle_id)
        if bundle_id not in self.images:
            raise NotCovered(
                f'image "{bundle_id}" is not covered by grant "{self.label}", '
                f"which opens {len(self.images) + len(self.regions)} named image(s)"
            )
        return self.images[bundle_id]

    def covers(self, bundle_id: str) -> bool:
        """Whether it opens this image, or a region of it, at any tier."""
        return self.covers_whole(bundle_id) or bundle_id in self.regions

    def covers_whole(self, bundle_id: str) -> bool:
        """Whether it opens all of this image at any tier."""
        return self.secret is not None or bundle_id in self.images

    def require_tier(self, tier: Tier) -> None:
        """Raise TierTooLow unless the grant opens `tier`."""
        if tier > self.tier:
            raise TierTooLow(
                f'tier "{tier}" was asked for, but grant "{self.label}" opens up to "{self.tier}"'
            )

    def require_current(self, today: datetime.date) -> None:
        """Raise GrantExpired after its last day. A courtesy of the reader's software: a recipient's
        copy of the secrets does not expire."""
        if self.not_after is not None and today > self.not_after:
            raise GrantExpired(
                f'grant "{self.label}" expired after {self.not_after.isoformat()}, '
                f"today is {today.isoformat()}"
            )

    def seal(self, recipient: Recipient, owner: Signer) -> bytes:
        """The age file, signed by the owner; of 1, 2, 4 ... kilobytes, so that its length tells
        little of what it opens."""
        body = canonical(self._body())
        signature = owner.sign(_message(owner.public, body))
        payload = f"{owner.public} {signature}\n".encode() + body
        size = _LEAST_BYTES << max(0, (len(payload) - 1) // _LEAST_BYTES).bit_length()
        alone = recipient.kind == "passphrase" or recipient.text == owner.recipient.text
        return recipient.encrypt(payload.ljust(size), *([] if alone else [owner.recipient]))

    def _body(self) -> dict[str, Any]:
        regions = {bundle_id: region.body for bundle_id, region in self.regions.items()}
        return ({"regions": regions} if regions else {}) | {
            "format": 1,
            "keys": self.keys,
            "images": {
                i: {t: s.value.hex() for t, s in tiers.items()} for i, tiers in self.images.items()
            },
            "label": self.label,
            "not_after": self.not_after.isoformat() if self.not_after else None,
            "note": self.note,
            "recipient": self.recipient,
            "release": self.release,
            "secret": self.secret.value.hex() if self.secret else None,
            "tier": self.tier,
        }


def _message(signer: str, body: bytes) -> bytes:
    return f"primis/1 grant {signer}\n".encode() + body


class SignedGrant(NamedTuple):
    """A decrypted grant, its signature verified, before anything in it is parsed."""

    signer: str
    body: bytes


def split_grant(payload: bytes, where: str) -> SignedGrant:
    """Who signed a decrypted grant, and what. Raises BadGrant."""
    line = _SIGNATURE_LINE.match(payload)
    if line is None:
        raise BadGrant(f'grant "{where}" is not a grant of format 1')
    signer, signature = (part.decode() for part in line.groups())
    body = payload[line.end() :].rstrip(b" ")
    if not verify(signer, _message(signer, body), signature):
        raise BadGrant(f'grant "{where}" is not signed by the owner that it names')
    return SignedGrant(signer, body)


def read_grant(signed: SignedGrant, where: str) -> Grant:
    """The grant, once its signer is one to be trusted; raises BadGrant."""
    try:
        return _grant(parse_canonical(signed.body), signed.signer)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadGrant(f'grant "{where}" is not a grant of format 1') from None


def _grant(body: dict[str, Any], signer: str) -> Grant:
    texts = {k: body[k] for k in ("release", "keys", "label", "recipient")}
    told = [body[k] for k in ("note", "not_after") if body[k] is not None]
    if not all(type(text) is str for text in (*texts.values(), *told)):
        raise ValueError
    if (
        type(body["format"]) is not int
        or body["format"] != 1
        or body["tier"] not in TIERS
        or not is_label(body["label"])
    ):
        raise ValueError
    tier = Tier(body["tier"])
    images = {i: _opened(tiers, tier) for i, tiers in body["images"].items()}
    secret = None if body["secret"] is None else Secret(_bytes(body["secret"]))
    regions = {i: RegionSecrets.parse(found, tier) for i, found in body.get("regions", {}).items()}
    if (secret is None) == (not images and not regions):  # one of the two, never both or neither
        raise ValueError
    if ("regions" in body and not regions) or {*images} & {*regions}:
        raise ValueError
    last = None if body["not_after"] is None else _day(body["not_after"])
    note = None if body["note"] is None else "".join(c for c in body["note"] if c.isprintable())
    ids = texts["release"] + texts["keys"]
    if not re.fullmatch("[0-9a-f]{64}", ids) or len(texts["keys"]) != 32:
        raise ValueError
    return Grant(
        **texts,
        tier=tier,
        signer=signer,
        secret=secret,
        images=images,
        note=note,
        not_after=last,
        regions=regions,
    )


def _day(text: str) -> datetime.date:
    """As it is written in one way. Raises ValueError."""
    day = datetime.date.fromisoformat(text)
    if day.isoformat() != text:
        raise ValueError("a day in another form")
    return day


def _opened(tiers: dict[str, str], tier: Tier) -> TierSecrets:
    return {opened: Secret(_bytes(tiers[opened])) for opened in tier.opened}
