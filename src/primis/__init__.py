"""primis: medical images that anyone can fetch and only the people you chose can see.

The public list is loaded lazily: importing primis brings neither torch nor any other large library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Codec": "primis.codec",
    "Image": "primis.imaging.image",
    "PrimisError": "primis.errors",
    "Release": "primis.release.reader",
    "Settings": "primis.bundle.settings",
    "ambiguate": "primis.codes.ambiguation",
    "grant": "primis.release.owner",
    "parse_recipient": "primis.keys.identity",
    "purify": "primis.codes.ambiguation",
    "read_identities": "primis.keys.identity",
    "read_signer": "primis.keys.identity",
    "rekey": "primis.release.rekey",
    "restore": "primis.jobs.restore",
    "share": "primis.jobs.share",
}

__all__ = [
    "Codec",
    "Image",
    "PrimisError",
    "Release",
    "Settings",
    "ambiguate",
    "grant",
    "parse_recipient",
    "purify",
    "read_identities",
    "read_signer",
    "rekey",
    "restore",
    "share",
]

if TYPE_CHECKING:
    from primis.bundle.settings import Settings
    from primis.codec import Codec
    from primis.codes.ambiguation import ambiguate, purify
    from primis.errors import PrimisError
    from primis.imaging.image import Image
    from primis.jobs.restore import restore
    from primis.jobs.share import share
    from primis.keys.identity import parse_recipient, read_identities, read_signer
    from primis.release.owner import grant
    from primis.release.reader import Release
    from primis.release.rekey import rekey


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'primis' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
