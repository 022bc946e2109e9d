"""A release on disk, read and verified.

    manifest.json                    signed: profiles, roots of the pages, id and version
    pages/<digest>                   bundles by id, with their digests; the sealed catalogue
    bundles/<id>.primis              one image each
    grants/<label>.<checksum>.age    one per recipient; index.json names them

A folder in the making ends in ".partial" and becomes the release, in one rename, when it is
complete.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from primis.atomic import read_regular, reason
from primis.bundle.container import Profiles, profiles_of, read_bundle, read_head, read_header
from primis.bundle.header import Header
from primis.bundle.manifest import (
    MAX_MANIFEST,
    BundlePages,
    Entry,
    SignedManifest,
    read_manifest,
    split_manifest,
)
from primis.errors import BadBundle, BadManifest, UsageError, WrongSigner
from primis.keys.grant import Grant
from primis.keys.identity import Identity, verify
from primis.release.grants import GrantFile, GrantsFolder
from primis.release.known import KnownReleases
from primis.release.old_states import MANIFEST, left_behind, not_a_release

BUNDLES = "bundles"
PAGES = "pages"


def _signed_manifest(path: Path) -> SignedManifest:
    """As its signer wrote it. Raises BadManifest."""
    file = path / MANIFEST
    try:
        data = read_regular(file, MAX_MANIFEST)
    except OSError as error:
        raise BadManifest(
            not_a_release(path)
            or f'"{path}" is not a release: {MANIFEST} cannot be read ({reason(error)})'
        ) from None
    signed = split_manifest(data, str(file))
    if not verify(signed.signer, signed.message, signed.signature):
        raise BadManifest(
            f'manifest "{file}" does not verify under its signer "{signed.signer[:16]}"'
        )
    return signed


class Release:
    """A release whose manifest is signed, well-formed, and signed by `signer` where that is given.

    known: what was seen of releases before; one that does not fit raises UnexpectedRelease, unless
    `anew`, or another signer was demanded by name. notes: what a person should hear about it.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        signer: str | None = None,
        known: KnownReleases | None = None,
        anew: bool = False,
    ) -> None:
        self._typed = path = Path(path)
        self._places = list(dict.fromkeys((os.path.abspath(path), str(path.resolve()))))
        self.path = path = path.resolve()
        self.notes: list[str] = []
        self._demanded, self._known, self._anew = signer, known, anew
        signed = _signed_manifest(path)
        if signer is not None and signer != signed.signer:
            raise WrongSigner(
                f'release "{path}" is signed by "{signed.signer}", expected "{signer}"'
            )
        self.manifest = read_manifest(signed, str(path / MANIFEST))
        self.digest = hashlib.sha256(signed.body).hexdigest()
        self.profiles: Profiles = profiles_of(self.manifest.profiles)
        self._pages = BundlePages(self.manifest.bundles, self.page)
        self._grants = GrantsFolder(path, self.manifest, signer, self.note)
        self.notes += [
            f'"{old.folder}" is an older state that a "primis rekey" left behind, and opens with '
            "withdrawn keys: remove it"
            for old in left_behind(path, self.manifest.release)
        ]
        if known is not None:
            self._recognise(known, anew=anew)

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

    def entry(self, bundle_id: str) -> Entry:
        """What the manifest lists of a bundle. Raises BadManifest, UsageError."""
        listed = self.__dict__.get("entries")
        entry = listed.get(bundle_id) if listed else self._pages.find(bundle_id)
        if entry is None:
            raise UsageError(f'image "{bundle_id}" is not in the release')
        return entry

    def page(self, digest: str, most: int) -> bytes:
        """A page as it lies there, not yet verified. Raises BadManifest."""
        path = self.path / PAGES / digest
        try:
            return read_regular(path, most)
        except OSError as error:
            raise BadManifest(f'page "{path}" cannot be read: {reason(error)}') from None

    def bundle_path(self, bundle_id: str) -> Path:
        """Where a bundle lies."""
        return self.path / BUNDLES / f"{bundle_id}.primis"

    def bundle(self, bundle_id: str) -> bytes:
        """A bundle's bytes, the very ones that are listed. Raises BadBundle."""
        entry, path = self.entry(bundle_id), self.bundle_path(bundle_id)
        try:
            data = read_regular(path, entry.size + 1)
        except OSError as error:
            raise BadBundle(f'bundle "{path}" cannot be read: {reason(error)}') from None
        if len(data) != entry.size:
            size = f"over {entry.size}" if len(data) > entry.size else len(data)
            raise BadBundle(f'bundle "{path}" has {size} bytes, the manifest lists {entry.size}')
        if hashlib.sha256(data).hexdigest() != entry.digest:
            raise BadBundle(
                f'bundle "{path}" was altered or damaged: it is not the one that the manifest lists'
            )
        if (own := read_head(data, bundle_id).id) != bundle_id:
            raise BadBundle(f'bundle "{bundle_id}" calls itself "{own}"')
        return data

    def header(self, bundle_id: str) -> Header:
        """A bundle's header. Raises BadBundle."""
        return read_header(self.bundle(bundle_id), bundle_id, self.profiles).header

    def sections(self, bundle_id: str) -> tuple[Header, dict[str, bytes]]:
        """A bundle's header and sections. Raises BadBundle."""
        return read_bundle(self.bundle(bundle_id), bundle_id, self.profiles)

    def resolve(self, prefix: str) -> str:
        """The id that starts with this. Raises UsageError unless there is exactly one."""
        matching = [i for i in self.ids if i.startswith(prefix)]
        if len(matching) != 1:
            raise UsageError(
                f'image "{prefix}" matches {len(matching)} images of the release, expected one'
            )
        return matching[0]

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
