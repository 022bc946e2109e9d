"""A release where it lies (`stores`), read and verified.

    manifest.json                    signed: profiles, roots of the pages, id and version
    pages/<digest>                   bundles by id, with their digests; the sealed catalogue
    bundles/<id>.primis              one image each
    grants/<label>.<checksum>.age    one per recipient; index.json names them

A folder in the making ends in ".partial" and becomes the release, in one rename, when it is
complete. In a bucket the manifest goes up last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import cached_property, partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from primis.bundle.container import (
    Parts,
    Profiles,
    profiles_of,
    read_bundle,
    read_head,
    read_header,
)
from primis.bundle.header import Header
from primis.bundle.manifest import (
    MAX_MANIFEST,
    BundlePages,
    Entry,
    SignedManifest,
    read_manifest,
    split_manifest,
)
from primis.bundle.ranged import RangedBytes, Span
from primis.errors import (
    BadBundle,
    BadManifest,
    HostError,
    StoreError,
    UsageError,
    WrongSigner,
)
from primis.imaging.region import Region
from primis.keys.grant import Grant, ImageKeys, RegionSecrets, highest
from primis.keys.identity import Identity, verify
from primis.keys.tier import Tier
from primis.release.grants import GrantFile, GrantsFolder
from primis.release.known import KnownReleases
from primis.release.lock import locked
from primis.release.old_states import MANIFEST, OldState, left_behind, not_a_release
from primis.stores.local import LocalStore
from primis.stores.places import names_of, open_store
from primis.stores.store import Found, Range, Store, ahead

if TYPE_CHECKING:
    from primis.sharing.restore import Frames

T = TypeVar("T")

_SMALL = 1 << 14
"""Bytes of a bundle that is fetched whole in any case."""

BUNDLES = "bundles"
PAGES = "pages"


def _manifest_of(store: Store) -> Found:
    """The file. Raises BadManifest, HostError."""
    try:
        return store.get(MANIFEST, MAX_MANIFEST)
    except HostError:
        raise
    except StoreError as error:
        known = not_a_release(store.folder) if isinstance(store, LocalStore) else None
        raise BadManifest(
            known or f'"{store.place}" is not a release: {MANIFEST} cannot be read ({error.why})'
        ) from None


def _signed(data: bytes, file: str) -> SignedManifest:
    """As its signer wrote it. Raises BadManifest."""
    signed = split_manifest(data, file)
    if not verify(signed.signer, signed.message, signed.signature):
        raise BadManifest(
            f'manifest "{file}" does not verify under its signer "{signed.signer[:16]}"'
        )
    return signed


def _now(call: Callable[[str], T], item: str) -> Future[T]:
    done: Future[T] = Future()
    try:
        done.set_result(call(item))
    except Exception as error:
        done.set_exception(error)
    return done


def bundle_key(bundle_id: str) -> str:
    """Where a bundle lies in its release."""
    return f"{BUNDLES}/{bundle_id}.primis"


def read_listed(store: Store, entry: Entry, on_missing: Callable[[], None] = lambda: None) -> bytes:
    """A bundle's bytes, the very ones that are listed. on_missing: is called where it cannot be
    read. Raises BadBundle, HostError."""
    key = bundle_key(entry.id)
    try:
        data = store.get(key, entry.size + 1).data
    except HostError:
        raise
    except StoreError as error:
        on_missing()
        raise BadBundle(f'bundle "{error.what}" cannot be read: {error.why}') from None
    path = f"{store.place}/{key}"
    if len(data) != entry.size:
        size = f"over {entry.size}" if len(data) > entry.size else len(data)
        raise BadBundle(f'bundle "{path}" has {size} bytes, the manifest lists {entry.size}')
    if hashlib.sha256(data).hexdigest() != entry.digest:
        raise BadBundle(
            f'bundle "{path}" was altered or damaged: it is not the one that the manifest lists'
        )
    if (own := read_head(data, entry.id).id) != entry.id:
        raise BadBundle(f'bundle "{entry.id}" calls itself "{own}"')
    return data


class Release:
    """A release whose manifest is signed, well-formed, and signed by `signer` where that is given.

    place: a folder or a URL. known: what was seen of releases before; one that does not fit raises
    UnexpectedRelease, unless `anew`, or another signer was demanded by name. notes: what a person
    should hear about it. tag: of the manifest that was read.
    """

    def __init__(
        self,
        place: str | PathLike[str],
        *,
        signer: str | None = None,
        known: KnownReleases | None = None,
        anew: bool = False,
    ) -> None:
        self._typed, self._places = place, names_of(place)
        self.store = open_store(place)
        if isinstance(self.store, LocalStore):
            self.store = LocalStore(self.store.folder.resolve())
        self.place = self.store.place
        self.notes: list[str] = []
        self.store.tell = self.note
        self._demanded, self._known, self._anew = signer, known, anew
        data, self.tag = _manifest_of(self.store)
        self._data = data
        file = f"{self.place}/{MANIFEST}"
        signed = _signed(data, file)
        if signer is not None and signer != signed.signer:
            raise WrongSigner(
                f'release "{self.place}" is signed by "{signed.signer}", expected "{signer}"'
            )
        self.manifest = read_manifest(signed, file)
        self.digest = hashlib.sha256(signed.body).hexdigest()
        self.profiles: Profiles = profiles_of(self.manifest.profiles)
        self._pages = BundlePages(self.manifest.bundles, self.page)
        self._grants = GrantsFolder(self.store, self.manifest, signer, self.note)
        self.notes += [
            f'"{old.folder}" is an older state that a "primis rekey" left behind, and opens with '
            "withdrawn keys: remove it"
            for old in self._left_behind()
        ]
        if known is not None:
            self._recognise(known, anew=anew)

    def _left_behind(self) -> list[OldState]:
        if not isinstance(self.store, LocalStore):
            return []
        return left_behind(self.store.folder, self.manifest.release)

    @property
    def signed(self) -> bytes:
        """Its manifest, as the file that was verified."""
        return self._data

    @property
    def folder(self) -> Path:
        """Where it lies, if that is a folder. Raises UsageError."""
        if not isinstance(self.store, LocalStore):
            raise UsageError(f'release "{self.place}" lies on a host, expected one in a folder')
        return self.store.folder

    @contextmanager
    def changing(self, doing: str, on_wait: Callable[[str], None]) -> Iterator[Release]:
        """The release as it is now, to be changed by nobody else meanwhile. A host has no locks:
        what is put there last goes by the state that was read (`Store.replace`)."""
        if not isinstance(self.store, LocalStore):
            yield self.again()
            return
        with locked(self.folder, doing, on_wait=on_wait):
            yield self.again()

    def _recognise(self, known: KnownReleases, *, anew: bool) -> None:
        manifest = self.manifest
        said = known.check(
            self._places,
            manifest.release,
            manifest.signer,
            manifest.version,
            self.digest,
            demanded=self._demanded is not None,
            anew=anew,
        )
        self.notes += [said] if said else []

    def again(self) -> Release:
        """The release as it is now."""
        return Release(self._typed, signer=self._demanded, known=self._known, anew=self._anew)

    def note(self, text: str) -> None:
        """Something that a person should hear, once."""
        if text not in self.notes:
            self.notes.append(text)

    def __len__(self) -> int:
        return self.manifest.bundles.count

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """All bundles by id, in order. Raises BadManifest."""
        return {entry.id: entry for entry in self._pages}

    @property
    def ids(self) -> list[str]:
        """Ids of all bundles."""
        return list(self.entries)

    def each_entry(self) -> Iterator[Entry]:
        """All bundles, in the order of their ids, a page at a time: for who holds many of them in a
        smaller form. Raises BadManifest."""
        return iter(self._pages)

    def entry(self, bundle_id: str) -> Entry:
        """What the manifest lists of a bundle. Raises BadManifest, UsageError."""
        listed = self.__dict__.get("entries")
        entry = listed.get(bundle_id) if listed else self._pages.find(bundle_id)
        if entry is None:
            raise UsageError(f'image "{bundle_id}" is not in the release')
        return entry

    def page(self, digest: str, most: int) -> bytes:
        """A page as it lies there, not yet verified. Raises BadManifest, HostError."""
        try:
            return self.store.get(f"{PAGES}/{digest}", most).data
        except HostError:
            raise
        except StoreError as error:
            self.require_same()
            raise BadManifest(f'page "{error.what}" cannot be read: {error.why}') from None

    def require_same(self) -> None:
        """Raise BadManifest where something is missing because its owner changed the release."""
        if _manifest_of(self.store).data != self._data:
            raise BadManifest(
                f'release "{self.place}" was changed while it was read: open it again'
            )

    def bundle(self, bundle_id: str) -> bytes:
        """A bundle's bytes, the very ones that are listed. Raises BadBundle, HostError."""
        return self.listed(self.entry(bundle_id))

    def listed(self, entry: Entry) -> bytes:
        """The same of a bundle whose entry is at hand."""
        return read_listed(self.store, entry, self.require_same)

    def bundle_for(
        self,
        bundle_id: str,
        tier: Tier | None,
        keys: ImageKeys,
        region: Region | None = None,
        frames: Frames | None = None,
    ) -> bytes | RangedBytes:
        """What a tier needs of a bundle: from a host not much more than that, in few requests.

        tier: None for the highest that the keys open and the bundle holds. region: None for all
        that they open; frames: of a region, in place of its own. Raises BadBundle, DamagedSection,
        HostError, and what `sharing.region.choose` raises.
        """
        from primis.sharing.partial import fetch_for, fetch_region  # with all of the engine

        wanted = tier or highest(keys)
        if region is not None or isinstance(keys, RegionSecrets):
            file = self.ranged(bundle_id)
            if isinstance(file, RangedBytes):
                tier = min(wanted, Tier.DIAGNOSTIC)
                fetch_region(tier, file, bundle_id, self.profiles, keys, region, frames)
            return file
        if wanted != Tier.PREVIEW and not self.has_originals:
            return self.bundle(bundle_id)
        file = self.ranged(bundle_id)
        if isinstance(file, RangedBytes):
            fetch_for(tier, file, bundle_id, self.profiles, keys)
        return file

    def ranged(self, bundle_id: str) -> bytes | RangedBytes:
        """A bundle of which a host is asked for what is read. Raises BadBundle, HostError."""
        size = self.entry(bundle_id).size
        if isinstance(self.store, LocalStore) or size <= _SMALL:
            return self.bundle(bundle_id)
        return RangedBytes(size, partial(self._ranges, bundle_id, size))

    def _ranges(self, bundle_id: str, size: int, spans: Sequence[Span]) -> list[bytes]:
        """Parts of a bundle. Raises BadBundle, HostError."""
        try:
            return self.store.get_ranges(bundle_key(bundle_id), [Range(*s) for s in spans], size)
        except HostError:
            raise
        except StoreError as error:
            self.require_same()
            raise BadBundle(f'bundle "{error.what}" cannot be read: {error.why}') from None

    def bundles(self, ids: Iterable[str]) -> Iterator[Future[bytes]]:
        """Bundles one after the other; `result()` gives the bytes and raises as `bundle` does."""
        return self.fetched(self.bundle, ids)

    def fetched(self, fetch: Callable[[str], T], ids: Iterable[str]) -> Iterator[Future[T]]:
        """What a call that fetches gives for each bundle, in order; from a host the next ones are
        on their way meanwhile. What it raises is raised by `result()`."""
        if not isinstance(self.store, LocalStore):
            return ahead(fetch, ids, lambda bundle_id: self.entry(bundle_id).size)
        return (_now(fetch, bundle_id) for bundle_id in ids)

    def header(self, bundle_id: str) -> Header:
        """A bundle's header. Raises BadBundle."""
        return read_header(self.bundle(bundle_id), bundle_id, self.profiles).header

    def sections(self, bundle_id: str) -> tuple[Header, Parts]:
        """A bundle's header and sections. Raises BadBundle."""
        return read_bundle(self.bundle(bundle_id), bundle_id, self.profiles)

    def starting_with(self, prefix: str) -> list[str]:
        """The ids that do. Reads no more pages than it must. Raises BadManifest."""
        return [entry.id for entry in self._pages.starting_with(prefix)]

    def resolve(self, prefix: str) -> str:
        """The id that starts with this. Raises UsageError unless there is exactly one."""
        matching = self.starting_with(prefix)
        if len(matching) != 1:
            raise UsageError(
                f'image "{prefix}" matches {len(matching)} images of the release, expected one'
            )
        return matching[0]

    def labels(self) -> list[str]:
        """Of all grants (`GrantsFolder.labels`)."""
        return self._grants.labels()

    def grants(self) -> list[GrantFile]:
        """All grants, by label (`GrantsFolder.files`)."""
        return self._grants.files()

    def open_grants(
        self, identities: Iterable[Identity], *, trust: str | None = None
    ) -> list[Grant]:
        """The grants that identities open (`GrantsFolder.open`)."""
        return self._grants.open(identities, trust=trust)

    @property
    def has_originals(self) -> bool:
        """Whether any bundle of the release holds the original file."""
        return any(profile.settings.original_bits for profile in self.manifest.profiles)
