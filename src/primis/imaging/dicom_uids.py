"""UIDs of restored DICOM objects: the same for the same source, bundle and tier."""

from __future__ import annotations

import hashlib


def derived_uid(*parts: str) -> str:
    """A UID under 2.25 (PS3.5, B.2) that is the same for the same parts."""
    digest = hashlib.sha256("\0".join(("primis", *parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def instance_uid(bundle_id: str, tier: str) -> str:
    """SOP Instance UID of an image that is restored from a bundle at a tier."""
    return derived_uid("instance", f"{bundle_id} {tier}")


def series_uid(source: str, release: str, tier: str) -> str:
    """Series Instance UID of images restored from a release, whose source's series had that UID."""
    return derived_uid("series", source, f"{release} {tier}")
