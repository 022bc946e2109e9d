"""Reads a release to its last byte and compares it with what its owner signed; needs no key.

1  the manifest: its signature, when the release is opened                    reader
2  the pages of bundles and of the catalogue, down to their leaves            bundle/pages
3  every bundle: size, digest, id, layout                                     reader
4  the grants: names, checksums, and their index
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

from primis.bundle.container import read_bundle
from primis.errors import BadGrant, BadManifest, FormatError, HostError, NotThere
from primis.release.catalogue import Catalogue
from primis.release.grants import GRANTS, index_names, is_grant
from primis.release.reader import BUNDLES, Release


@dataclass
class Verified:
    """What was compared. bundles, bytes: those that are as signed; grants: that are not damaged;
    wrong: what is not as it should be, a line each; unlisted: bundles that no page lists."""

    bundles: int = 0
    bytes: int = 0
    grants: int = 0
    wrong: list[str] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)


def verify(release: Release, on_bundle: Callable[[int], None] = lambda done: None) -> Verified:
    """Compare everything, whatever is wrong with some of it. Raises BadManifest where the pages of
    bundles are not as signed, HostError."""
    found = Verified()
    ids = release.ids
    try:
        Catalogue.require_pages(release.manifest.catalogue, release.page)
    except BadManifest as error:
        found.wrong.append(str(error))
    for number, (bundle_id, fetched) in enumerate(zip(ids, release.bundles(ids), strict=True), 1):
        try:
            data = fetched.result()
            read_bundle(data, bundle_id, release.profiles)
            found.bundles, found.bytes = found.bundles + 1, found.bytes + len(data)
        except FormatError as error:
            found.wrong.append(str(error))
        on_bundle(number)
    _grants(release, found)
    listed = {f"{bundle_id}.primis" for bundle_id in ids}
    with contextlib.suppress(HostError):  # which lists nothing, or not to us
        found.unlisted = sorted(set(release.store.list(BUNDLES)) - listed)
    return found


def _grants(release: Release, found: Verified) -> None:
    before = len(release.notes)
    try:
        found.grants = len(release.grants())
    except BadGrant as error:
        found.wrong.append(str(error))
        return
    found.wrong += release.notes[before:]
    if _index_differs(release):
        found.wrong.append(
            f'"{release.place}/grants/index.json" does not list the grants that are there: '
            "primis grant and primis rekey write it anew"
        )


def _index_differs(release: Release) -> bool:
    """Where the folder can be listed: readers elsewhere go by the index."""
    try:
        there = sum(map(is_grant, release.store.list(GRANTS)))
        return len(index_names(release.store)) != there
    except HostError:
        return False
    except (BadGrant, NotThere):
        return True
