"""The sealed catalogue: name, kind and labels of each image, so that a release can be listed
without opening its bundles (docs/format.md, section 3).

Its pages follow those of the bundles. Each is sealed under a key of its own, for whoever holds tier
diagnostic of the whole release, and padded for each image to the same length.
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from primis.bundle.header import DEFLATE, TAG
from primis.bundle.manifest import CatalogueListing
from primis.bundle.pages import FANOUT, Fetch, Leaf, Pages, Tree, build, in_leaves
from primis.canonical import canonical, parse_canonical
from primis.errors import BadManifest, DamagedSection
from primis.keys.seal import LENGTH_BYTES, Secret, pad, page_secret, seal, unpad, unseal

_PAGE_ID = _ID = 16
_LEAST_PER_IMAGE = 32
_MOST_PLAIN = 1 << 24
"""Bytes of a page, at most, before it is compressed."""

_PER_MM = 10**9
_PURPOSE = "catalogue"


@dataclass(frozen=True, slots=True)  # there may be many
class Listed:
    """An image as the catalogue lists it. spacing: between rows and columns, in 10^-9 mm; modality,
    study, series, instance: of DICOM as it is restored at tier diagnostic, else empty. labels: what
    the owner's table says of it, by column."""

    id: str
    name: str
    kind: str
    frames: int
    height: int
    width: int
    channels: int
    spacing: tuple[int, int] | None = None
    modality: str = ""
    study: str = ""
    series: str = ""
    instance: str = ""
    labels: dict[str, str] = field(default_factory=dict, hash=False)

    @classmethod
    def parse(cls, body: Any) -> Listed:
        """From JSON; fields that it does not know are ignored. Raises ValueError."""
        try:
            texts = ("id", "name", "kind", "modality", "study", "series", "instance")
            known = {name: str(body[name]) for name in texts}
            sizes = {name: int(body[name]) for name in ("frames", "height", "width", "channels")}
            spacing = body["spacing"]
            pair = None if spacing is None else (int(spacing[0]), int(spacing[1]))
            labels = {str(name): str(text) for name, text in body["labels"].items()}
        except (KeyError, TypeError, IndexError, AttributeError):
            raise ValueError("the catalogue lists something that is no image") from None
        return cls(**known, **sizes, spacing=pair, labels=labels)  # type: ignore[arg-type]


def spacing_of(spacing_mm: tuple[float, float] | None) -> tuple[int, int] | None:
    """Millimetres -> 10^-9 mm."""
    if spacing_mm is None:
        return None
    return round(spacing_mm[0] * _PER_MM), round(spacing_mm[1] * _PER_MM)


def spacing_mm_of(spacing: tuple[int, int] | None) -> tuple[float, float] | None:
    """Inverse of `spacing_of`."""
    return None if spacing is None else (spacing[0] / _PER_MM, spacing[1] / _PER_MM)


def seal_catalogue(
    images: Iterable[Listed], diagnostic: Secret, release: str
) -> tuple[CatalogueListing, Tree]:
    """diagnostic: the release secret of that tier. release: the release's id.

    There may be many images: each is held as its JSON alone, which is smaller.
    """
    ordered = sorted(map(_packed, images))
    parts = in_leaves(ordered)
    plain = [Leaf(len(part), part[0][:_ID].hex(), _pack(part)) for part in parts]
    del ordered, parts
    need = max(-(-(len(page.data) + LENGTH_BYTES) // page.count) for page in plain)
    each = max(_LEAST_PER_IMAGE, 1 << (need - 1).bit_length())
    leaves = [
        replace(page, data=_seal(page.data, each * page.count, diagnostic, release))
        for page in plain
    ]
    tree = build(leaves)
    return CatalogueListing(each, tree.count, tree.root), tree


def _packed(image: Listed) -> bytes:
    """Its id, by which images are sorted, then its JSON."""
    return bytes.fromhex(image.id) + canonical(asdict(image))


def _pack(packed: Sequence[bytes]) -> bytes:
    """A page: canonical, as its images are."""
    listed = b",".join(image[_ID:] for image in packed)
    return zlib.compress(b'{"images":[' + listed + b"]}", 9, DEFLATE)


def _unpack(packed: bytes) -> list[Listed]:
    """Raises ValueError."""
    inflater = zlib.decompressobj(DEFLATE)
    try:
        data = inflater.decompress(packed, _MOST_PLAIN)
    except zlib.error:
        raise ValueError("a page is not compressed as it should be") from None
    if not inflater.eof or inflater.unused_data:
        raise ValueError("a page is too large, or goes on after its end")
    return [Listed.parse(item) for item in parse_canonical(data)["images"]]


def _seal(plain: bytes, size: int, diagnostic: Secret, release: str) -> bytes:
    page_id = secrets.token_bytes(_PAGE_ID)
    secret = page_secret(diagnostic, page_id)
    return page_id + seal(pad(plain, size), secret, _PURPOSE, bytes.fromhex(release))


def _most(listing: CatalogueListing) -> int:
    """Bytes of a page."""
    return _PAGE_ID + FANOUT * listing.bytes_per_image + TAG


class Catalogue:
    """Reads the catalogue page by page. fetch: gets a page by its digest. Raises BadManifest."""

    def __init__(
        self, listing: CatalogueListing, fetch: Fetch, diagnostic: Secret, release: str
    ) -> None:
        self._pages = Pages(listing.page, listing.count, fetch, _most(listing))
        self._diagnostic, self._release = diagnostic, release

    def __iter__(self) -> Iterator[Listed]:
        """All images, by id."""
        for _, data in self._checked(self._pages.leaves):
            yield from self._open(data)

    def find(self, bundle_id: str) -> Listed | None:
        """One image."""
        [(_, data)] = self._checked(lambda: [self._pages.leaf_of(bundle_id)])
        return next((image for image in self._open(data) if image.id == bundle_id), None)

    @staticmethod
    def require_pages(listing: CatalogueListing, fetch: Fetch) -> None:
        """Read every page and compare it with its digest; needs no secret. Raises BadManifest."""
        most = _most(listing)
        try:
            for _ in Pages(listing.page, listing.count, fetch, most).leaves():
                pass
        except ValueError as error:
            raise BadManifest(f"catalogue: {error}") from None

    def _checked(self, walk: Callable[[], Iterable[Any]]) -> Iterator[Any]:
        try:
            yield from walk()
        except ValueError as error:
            raise BadManifest(f"catalogue: {error}") from None

    def _open(self, data: bytes) -> Sequence[Listed]:
        secret = page_secret(self._diagnostic, data[:_PAGE_ID])
        try:
            sealed, release = data[_PAGE_ID:], bytes.fromhex(self._release)
            return _unpack(unpad(unseal(sealed, secret, _PURPOSE, release)))
        except (ValueError, KeyError, TypeError, DamagedSection):
            raise BadManifest("a page of the catalogue cannot be opened") from None
