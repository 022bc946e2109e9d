"""Puts a release, or its next state, on a host: what nobody can open without the rest goes first.

1  bundles, in a random order: the host shows when each came
2  pages
3  grants, and their index
4  the manifest, and only if the one that is there is the one that was read, or none

Until step 4 the release is as it was, or is none. What is there already is not sent again, so the
same call goes on after an interruption.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path

from primis.bundle.manifest import MAX_MANIFEST
from primis.errors import Changed, HostError, NotThere, OutputError, StoreError
from primis.release.grants import GRANTS, write_index
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


_FORMS = {
    GRANTS: re.compile(r"[\w-]+\.[0-9a-f]{8}\.age"),
    BUNDLES: re.compile(r"[0-9a-f]{32}\.primis"),
    PAGES: re.compile(r"[0-9a-f]{64}"),
}
"""Names of what primis puts on a host; whatever else lies there is not touched."""


def parts_there(store: Store) -> set[str]:
    """Keys of what primis, or somebody who looks like it, has put on a host, but the manifest."""
    return {
        f"{part}/{name}"
        for part, form in _FORMS.items()
        for name in store.list(part)
        if form.fullmatch(name)
    }


def require_no_others(folder: Path, store: Store) -> None:
    """Raise OutputError where parts of another attempt lie: they would be published with ours, and
    may open with keys that nobody means to grant."""
    ours = {path.relative_to(folder).as_posix() for path in folder.glob("*/*")}
    if others := parts_there(store) - ours:
        raise OutputError(
            f'"{store.place}" holds {len(others)} files of another attempt to share, first '
            f'"{sorted(others)[0]}": remove them, or share to a new place'
        )


def publish(
    folder: Path,
    store: Store,
    *,
    over: str | None = None,
    on_sent: OnSent = lambda done, total: None,
) -> None:
    """Put what lies in a folder on a host. over: the tag of the manifest that it replaces, None
    where there must be none. Raises OutputError where another one is there, HostError; then nothing
    of a new state stays, unless the host does not let it go.
    """
    before = parts_there(store) if over is not None else set()
    try:
        _publish(folder, store, over, on_sent)
    except BaseException:
        if over is not None and _is_another(folder, store):
            ours = {path.relative_to(folder).as_posix() for path in folder.glob("*/*")}
            remove_keys(store, ours - before)
        raise


def _is_another(folder: Path, store: Store) -> bool:
    """Whether the manifest on the host surely is not the one in the folder: an answer may have been
    lost on its way."""
    try:
        return store.get(MANIFEST, MAX_MANIFEST).data != (folder / MANIFEST).read_bytes()
    except StoreError:
        return False


def _publish(folder: Path, store: Store, over: str | None, on_sent: OnSent) -> None:
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
        if store.get(MANIFEST, MAX_MANIFEST).data == manifest:  # an answer that was lost
            on_sent(total, total)
            return
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


def remove_keys(store: Store, keys: Iterable[str]) -> list[str]:
    """Remove files from a host; those that it does not let go, in order. The index of grants is
    written anew."""
    wanted = sorted(keys)
    gone = at_once(partial(_removed, store), wanted)
    left = [key for key, done in zip(wanted, gone, strict=True) if not done]
    with contextlib.suppress(StoreError):
        write_index(store)
    return left


def _removed(store: Store, key: str) -> bool:
    try:
        store.delete(key)
    except StoreError:
        return False
    return True
