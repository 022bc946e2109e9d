"""Puts a release, or its next state, on a host: what nobody can open without the rest goes first.

1  bundles, in a random order: the host shows when each came
2  pages
3  grants, and their index
4  the manifest, and only if the one that is there is the one that was read, or none

Until step 4 the release is as it was, or is none. What is there already is not sent again, so the
same call goes on after an interruption.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path

from primis.bundle.manifest import MAX_MANIFEST
from primis.errors import Changed, HostError, NotThere, OutputError, StoreError
from primis.release.grants import GRANTS, INDEX, write_index
from primis.release.old_states import MANIFEST
from primis.release.reader import BUNDLES, PAGES
from primis.stores.store import AT_ONCE, Store, at_once

OnSent = Callable[[int, int], None]
"""(files sent, of all)."""


def require_free(store: Store) -> None:
    """Raise OutputError where a release lies already."""
    try:
        store.get(MANIFEST, MAX_MANIFEST)
    except NotThere:
        return
    except HostError:
        raise
    except StoreError:  # something else has that name
        pass
    raise OutputError(f'"{store.place}" holds a release already: expected a new place')


def publish(
    folder: Path,
    store: Store,
    *,
    over: str | None = None,
    on_sent: OnSent = lambda done, total: None,
) -> None:
    """Put what lies in a folder on a host. over: the tag of the manifest that it replaces, None
    where there must be none. Raises OutputError where another one is there, HostError."""
    there = store.list(BUNDLES)
    bundles = [
        path
        for path in (folder / BUNDLES).glob("*.primis")
        if there.get(path.name) != path.stat().st_size
    ]
    steps = [
        secrets.SystemRandom().sample(bundles, len(bundles)),
        list((folder / PAGES).iterdir()),
        list((folder / GRANTS).glob("*.age")),
    ]
    total, done = sum(map(len, steps)) + 1, 0
    for paths in steps:
        for _ in _sent(paths, folder, store):
            done += 1
            on_sent(done, total)
    write_index(store)
    manifest = (folder / MANIFEST).read_bytes()
    try:
        if over is None:
            store.put_new(MANIFEST, manifest)
        else:
            store.replace(MANIFEST, manifest, over)
    except Changed:
        raise OutputError(
            f'somebody else put a release at "{store.place}" meanwhile: nothing of it was '
            "overwritten, and what was sent is not part of it"
        ) from None
    on_sent(total, total)


def _sent(paths: Sequence[Path], folder: Path, store: Store) -> Iterator[Path]:
    """Send files, several at once, and tell which are there. An interruption waits for those that
    are on their way, and no more."""

    def send(path: Path) -> None:
        store.put(path.relative_to(folder).as_posix(), path.read_bytes())

    threads = ThreadPoolExecutor(AT_ONCE)
    try:
        asked = {threads.submit(send, path): path for path in paths}
        for one in as_completed(asked):
            one.result()
            yield asked[one]
    finally:
        threads.shutdown(cancel_futures=True)


def take_back(folder: Path, store: Store) -> None:
    """Remove from a host what an earlier call sent and this one makes anew: pages and grants."""
    for path in [*(folder / PAGES).glob("*"), *(folder / GRANTS).glob("*.age")]:
        store.delete(path.relative_to(folder).as_posix())


def remove_others(
    store: Store, folder: Path, parts: Sequence[str] = (GRANTS, BUNDLES, PAGES)
) -> list[str]:
    """Remove what the state in `folder` has replaced; keys of what could not be removed."""
    left = []
    for part in parts:
        ours = {path.name for path in (folder / part).iterdir()}
        old = [f"{part}/{name}" for name in store.list(part) if name not in {*ours, INDEX}]
        removed = at_once(partial(_removed, store), old)
        left += [key for key, gone in zip(old, removed, strict=True) if not gone]
    write_index(store)
    return left


def _removed(store: Store, key: str) -> bool:
    try:
        store.delete(key)
    except StoreError:
        return False
    return True
