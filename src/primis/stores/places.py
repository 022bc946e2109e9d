"""From what people name a place by, a path or a URL, to its store."""

from __future__ import annotations

import os
import re
from os import PathLike
from pathlib import Path
from urllib.parse import urlsplit

from primis.errors import UsageError
from primis.stores.local import LocalStore
from primis.stores.store import Store

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)
WEB, BUCKETS = ("http", "https"), ("s3", "gs", "az")


def is_url(place: str | PathLike[str]) -> bool:
    """Whether a place is named by a URL."""
    return isinstance(place, str) and _SCHEME.match(place) is not None


def open_store(place: str | PathLike[str]) -> Store:
    """The store of a place; nothing is asked of it yet. Raises UsageError, StoreError."""
    named = _SCHEME.match(place) if isinstance(place, str) else None
    if named is None:
        return LocalStore(Path(place))
    scheme, rest = named[1].lower(), named[2]
    if scheme not in (*WEB, *BUCKETS) or not rest.strip("/"):
        raise UsageError(
            f'place "{without_secrets(str(place))}" is of no kind that primis knows, '
            "expected a folder, https://, s3://, gs:// or az://"
        )
    if "@" in rest.partition("/")[0] or set("?#") & set(rest):
        raise UsageError(
            f'place "{without_secrets(str(place))}" has a user, a query or a fragment: '
            "credentials come from the environment"
        )
    try:
        split = urlsplit(f"{scheme}://{rest}")
        host = split.hostname or ""
        sound = bool(host) and host.isascii() and split.port != 0
    except ValueError:
        sound = False
    odd = any(c.isspace() or not c.isprintable() for c in rest)
    if not sound or odd or "%" in rest or ".." in rest.split("/"):
        raise UsageError(
            f'place "{without_secrets(str(place))}" is no sound URL, expected '
            f"{scheme}://HOST/PATH of plain characters"
        )
    if scheme in WEB:
        from primis.stores.web import WebStore

        return WebStore(f"{scheme}://{rest}")
    from primis.stores.bucket import BucketStore

    return BucketStore(f"{scheme}://{rest}")


def without_secrets(url: str) -> str:
    """A URL without its user, query and fragment, where people put what nobody should read."""
    return re.sub(r"://[^/@]*@", "://", re.split(r"[?#]", url)[0])


def names_of(place: str | PathLike[str]) -> list[str]:
    """All names by which signers of a place are remembered."""
    if is_url(place):
        scheme, rest = str(place).split("://", 1)
        host, _, path = rest.partition("/")
        return [f"{scheme.lower()}://{host.lower()}/{path}".rstrip("/")]
    return list(dict.fromkeys((os.path.abspath(place), os.path.realpath(place))))
