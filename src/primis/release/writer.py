"""Writes what lies around the bundles of a release: pages, catalogue and manifest."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from primis.atomic import remove, write_new
from primis.bundle.manifest import (
    Entry,
    Listing,
    Manifest,
    SignedManifest,
    list_bundles,
    manifest_message,
    read_manifest,
)
from primis.bundle.settings import Profile
from primis.keys.identity import Signer
from primis.keys.seal import release_secrets
from primis.keys.tier import HIGHEST, Tier
from primis.release.catalogue import Listed, seal_catalogue
from primis.release.grants import Scope
from primis.release.old_states import MANIFEST
from primis.release.reader import PAGES


@dataclass(frozen=True)
class Contents:
    """What a release holds, besides the bundles themselves; each is gone through once."""

    entries: Iterable[Entry]
    images: Iterable[Listed] = field(repr=False)
    profiles: Iterable[Profile]


def write_contents(
    folder: Path, contents: Contents, scope: Scope, signer: Signer, version: int, created: str
) -> Manifest:
    """Pages, then the manifest, which goes last; pages that it does not name are removed after."""
    diagnostic = release_secrets(scope.secret, HIGHEST)[Tier.DIAGNOSTIC]
    bundles = list_bundles(contents.entries)
    catalogue, sealed = seal_catalogue(contents.images, diagnostic, scope.release)
    pages = bundles.pages | sealed.pages
    for digest, data in pages.items():
        write_new(folder / PAGES / digest, data)
    manifest = Manifest(
        release=scope.release,
        version=version,
        keys=scope.keys,
        created=created,
        profiles=tuple(dict.fromkeys(contents.profiles)),
        bundles=Listing(bundles.count, bundles.root),
        catalogue=catalogue,
        signer=signer.public,
    )
    write_manifest(folder, manifest, signer)
    for path in (folder / PAGES).iterdir():
        if path.name not in pages:
            remove(path)
    return manifest


def write_manifest(folder: Path, manifest: Manifest, signer: Signer) -> None:
    """Sign and write manifest.json; it is read back, so that no unreadable release comes about."""
    body = replace(manifest, signer=signer.public).write()
    signature = signer.sign(manifest_message(signer.public, body))
    signed = SignedManifest(signer.public, signature, body)
    read_manifest(signed, str(folder / MANIFEST))
    write_new(folder / MANIFEST, signed.write())


def timestamp(now: datetime.datetime) -> str:
    """A manifest's `created`."""
    return now.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
