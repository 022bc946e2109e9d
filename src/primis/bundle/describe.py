"""What anyone can see of a release, a bundle or a grant without a key, as plain dictionaries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from primis.bundle.header import Header
from primis.bundle.manifest import Entry, Manifest
from primis.errors import BadGrant

_AGE = b"age-encryption.org/v1\n"
_KINDS = {
    "X25519": "age X25519",
    "ssh-ed25519": "SSH ed25519",
    "ssh-rsa": "SSH RSA",
    "scrypt": "passphrase",
}


def describe_bundle(header: Header) -> dict[str, Any]:
    """id, geometry, settings, model, sections (name and bytes each)."""
    return {
        "format": 1,
        "id": header.id,
        "geometry": asdict(header.geometry),
        "settings": asdict(header.settings),
        "model": header.model,
        "sections": [{"name": s.name, "bytes": s.bytes} for s in header.sections],
    }


def describe_manifest(manifest: Manifest, entries: Iterable[Entry]) -> dict[str, Any]:
    """release, version, created, models, signer, and the number, bytes and ids of its bundles."""
    listed = [{"id": entry.id, "bytes": entry.size} for entry in entries]
    return {
        "format": 1,
        "release": manifest.release,
        "version": manifest.version,
        "created": manifest.created,
        "models": list(manifest.models),
        "settings": [asdict(profile.settings) for profile in manifest.profiles],
        "signer": manifest.signer,
        "images": manifest.bundles.count,
        "bytes": sum(entry["bytes"] for entry in listed),
        "bundles": listed,
    }


def describe_grant(data: bytes, name: str) -> dict[str, Any]:
    """The kinds of recipients in an age file's header; age hides which X25519 keys they are."""
    if not data.startswith(_AGE):
        raise BadGrant(f'grant "{name}" is not an age file')
    head = data[: data.find(b"\n---")].decode("ascii", "replace")
    stanzas = [line.split() for line in head.splitlines() if line.startswith("-> ")]
    kinds = [stanza[1] for stanza in stanzas if len(stanza) > 1]
    return {"bytes": len(data), "recipients": [_KINDS[k] for k in kinds if k in _KINDS]}
