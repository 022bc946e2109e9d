"""primis: medical images that anyone can fetch and only the people you chose can see.

The public list is loaded lazily: importing primis brings neither NumPy nor any other large library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Codec": "primis.codec",
    "Codes": "primis.sharing.codes",
    "Dataset": "primis.api.dataset",
    "Image": "primis.imaging.image",
    "OpenRelease": "primis.api.release",
    "PrimisError": "primis.errors",
    "Protection": "primis.bundle.settings",
    "Result": "primis.jobs.result",
    "Secret": "primis.keys.seal",
    "Settings": "primis.bundle.settings",
    "Tier": "primis.keys.tier",
    "ambiguate": "primis.codes.ambiguation",
    "decode": "primis.api.array",
    "encode": "primis.api.array",
    "grant": "primis.api.commands",
    "open": "primis.api.release",
    "purify": "primis.codes.ambiguation",
    "rekey": "primis.api.commands",
    "restore": "primis.api.commands",
    "share": "primis.api.commands",
}

__all__ = [
    "Codec",
    "Codes",
    "Dataset",
    "Image",
    "OpenRelease",
    "PrimisError",
    "Protection",
    "Result",
    "Secret",
    "Settings",
    "Tier",
    "ambiguate",
    "decode",
    "encode",
    "grant",
    "open",
    "purify",
    "rekey",
    "restore",
    "share",
]

if TYPE_CHECKING:
    from primis.api.array import decode, encode
    from primis.api.commands import grant, rekey, restore, share
    from primis.api.dataset import Dataset
    from primis.api.release import OpenRelease, open
    from primis.bundle.settings import Protection, Settings
    from primis.codec import Codec
    from primis.codes.ambiguation import ambiguate, purify
    from primis.errors import PrimisError
    from primis.imaging.image import Image
    from primis.jobs.result import Result
    from primis.keys.seal import Secret
    from primis.keys.tier import Tier
    from primis.sharing.codes import Codes


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'primis' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
