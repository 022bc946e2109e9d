"""A release, file by file, as the page fetches it: only files that a release has, in parts.

A key is compared with the names that files of a release can have, so none leads out of it. The page
verifies what it gets. The manifest was verified here before it is handed on, and is never older
than the one before, so that the page sees what this command line has accepted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from threading import Lock

from primis.bundle.manifest import Entry
from primis.canonical import canonical
from primis.errors import BadManifest, NotThere, UnexpectedRelease, UsageError
from primis.release.grants import GRANTS, INDEX, GrantsFolder, is_grant
from primis.release.old_states import MANIFEST
from primis.release.reader import Release, bundle_key
from primis.stores.store import Range

OCTETS = "application/octet-stream"
"""What comes from a release is never taken for a page or a program of the viewer."""

_PAGE = re.compile("pages/[0-9a-f]{64}")
_BUNDLE = re.compile(r"bundles/([0-9a-f]{32})\.primis")
_MOST = 1 << 25
"""Bytes of a page of the catalogue or of a grant, and more than that."""

_PIECE = 1 << 23
"""Bytes that are held of a bundle at a time."""


@dataclass(frozen=True)
class Body:
    """What an address gives: so many bytes of a media type. read: the bytes from one position up to
    and without another."""

    size: int
    kind: str
    read: Callable[[int, int], bytes] = field(repr=False)

    @classmethod
    def of(cls, data: bytes, kind: str = OCTETS) -> Body:
        """Of bytes that are at hand."""
        return cls(len(data), kind, lambda start, end: data[start:end])

    def parts(self, start: int, end: int) -> Iterator[bytes]:
        """A range, piece by piece."""
        for at in range(start, end, _PIECE):
            yield self.read(at, min(at + _PIECE, end))


class ReleaseFiles:
    """The files of a release that was opened, and of its later states. tell: is called with each
    note for people, once."""

    def __init__(self, release: Release, tell: Callable[[str], None] = lambda said: None) -> None:
        self._release, self._tell = release, tell
        self._told = set(release.notes)
        self._listing, self._fetching = Lock(), Lock()
        self._whole = ("", b"")

    def body(self, key: str) -> Body:
        """A file of the release. Raises NotThere, StoreError, FormatError, AccessError."""
        try:
            return self._body(key)
        finally:
            self._pass_on(self._release)

    def _body(self, key: str) -> Body:
        if key == MANIFEST:
            return Body.of(self._again().signed)
        if bundle := _BUNDLE.fullmatch(key):
            return self._bundle(bundle[1])
        release = self._release
        if key == f"{GRANTS}/{INDEX}":  # in a folder it need not lie there
            names = GrantsFolder(release.store, release.manifest).names()
            return Body.of(canonical({"format": 1, "grants": names}))
        folder, _, name = key.partition("/")
        if _PAGE.fullmatch(key) or (folder == GRANTS and is_grant(name)):
            return Body.of(release.store.get(key, _MOST).data)
        raise NotThere("this address", "a release has no such file")

    def _again(self) -> Release:
        """The release as it is now, if it goes on from the state that was served so far."""
        before = self._release
        now = Release(before.place, signer=before.manifest.signer)
        with self._listing:
            _require_later(self._release, now)
            if now.digest != self._release.digest:
                self._release = now
        self._pass_on(now)
        return now

    def _bundle(self, bundle_id: str) -> Body:
        release = self._release
        try:
            entry = self._entry(release, bundle_id)
        except (UsageError, BadManifest):  # it may have come since, and old pages have gone
            release = self._again()
            try:
                entry = self._entry(release, bundle_id)
            except UsageError as error:
                raise NotThere("this bundle", str(error)) from None
        return Body(entry.size, OCTETS, partial(self._read, release, entry))

    def _entry(self, release: Release, bundle_id: str) -> Entry:
        with self._listing:  # pages that were read are kept, by one thread at a time
            return release.entry(bundle_id)

    def _read(self, release: Release, entry: Entry, start: int, end: int) -> bytes:
        store, key = release.store, bundle_key(entry.id)
        try:
            if getattr(store, "ranges", True):
                return store.get_ranges(key, [Range(start, end)], entry.size)[0]
            with self._fetching:  # the host knows no ranges: each would cost the whole file
                if self._whole[0] != key:
                    self._whole = (key, store.get(key, entry.size).data)
                return self._whole[1][start:end]
        finally:
            self._pass_on(release)

    def _pass_on(self, release: Release) -> None:
        for note in release.notes:
            if note not in self._told:
                self._told.add(note)
                self._tell(note)


def _require_later(before: Release, now: Release) -> None:
    """Raises UnexpectedRelease unless it is the same release, and no older or forked state."""
    if now.manifest.release != before.manifest.release:
        raise UnexpectedRelease(f'"{now.place}" holds another release than when it was opened')
    same = now.digest == before.digest
    if now.manifest.version < before.manifest.version or (
        now.manifest.version == before.manifest.version and not same
    ):
        raise UnexpectedRelease(
            f'release "{now.place}" has version {now.manifest.version} now, '
            f"expected the state that was opened or a later one than {before.manifest.version}"
        )
