"""What anyone can see of a release, a bundle or a grant without a key, as plain dictionaries."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from primis.bundle.layout import Header, Manifest
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


def describe_manifest(manifest: Manifest) -> dict[str, Any]:
    """release, version, created, model, signer, and the number, bytes and ids of its bundles."""
    return {
        "format": 1,
        "release": manifest.release,
        "version": manifest.version,
        "created": manifest.created,
        "model": manifest.model,
        "signer": manifest.signer,
        "images": len(manifest.bundles),
        "bytes": sum(entry.bytes for entry in manifest.bundles),
        "bundles": [{"id": entry.id, "bytes": entry.bytes} for entry in manifest.bundles],
    }


def describe_grant(data: bytes, name: str) -> dict[str, Any]:
    """The kinds of recipients in the header of an age file; age hides which X25519 keys they are."""
    if not data.startswith(_AGE):
        raise BadGrant(f'grant "{name}" is not an age file')
    head = data[: data.find(b"\n---")].decode("ascii", "replace")
    kinds = [
        line.split()[1]
        for line in head.splitlines()
        if line.startswith("-> ") and len(line.split()) > 1
    ]
    return {"bytes": len(data), "recipients": [_KINDS[k] for k in kinds if k in _KINDS]}
