"""Where a new release goes: a folder, or a host, to which it is sent from a folder of our own."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from primis.atomic import own_folder
from primis.errors import UsageError
from primis.jobs.work import Work
from primis.keys.home import work_folder
from primis.release.grants import GRANTS, label_of
from primis.release.old_states import require_nothing_cut_off
from primis.release.publish import OnSent, publish, require_free, require_no_others, take_back
from primis.release.reader import Release
from primis.stores.local import LocalStore
from primis.stores.places import open_store
from primis.stores.store import Store
from primis.stores.web import WebStore


@dataclass(frozen=True)
class Destination:
    """folder: where the release is made. store: the host that it is then sent to, None where it
    stays."""

    folder: Path
    store: Store | None = None

    def __str__(self) -> str:
        return str(self.folder if self.store is None else self.store.place)

    @classmethod
    def of(cls, out: str | PathLike[str]) -> Destination:
        """Raises UsageError for a place that is only read, OutputError where a release lies."""
        store = open_store(out)
        if isinstance(store, LocalStore):
            require_nothing_cut_off(store.folder)
            return cls(store.folder)
        if isinstance(store, WebStore):
            raise UsageError(
                f'"{store.place}" is a web host, which is only read: share to a folder or a bucket '
                "and copy it there"
            )
        require_free(store)
        return cls(staging(store.place), store)

    def require_no_others(self, work: Work) -> None:
        """Raise OutputError where parts of another attempt lie on the host."""
        if self.store is not None:
            require_no_others(work.partial, self.store)

    def take_back(self, work: Work) -> set[str]:
        """Remove from a host what an interrupted call sent and this one makes anew; the labels of
        grants that were there for anyone to fetch."""
        if self.store is None:
            return set()
        labels = {label for name in self.store.list(GRANTS) if (label := label_of(name))}
        take_back(work.partial, self.store)
        return labels

    def finish(self, work: Work, keep: Collection[str], on_sent: OnSent) -> None:
        """Give the folder its name, or send it."""
        if self.store is None:
            work.finish(0o755, keep=keep)
            return
        publish(work.partial, self.store, on_sent=on_sent)
        work.give_up()


def beside(release: Release, ending: str) -> Path:
    """Where something is made that then goes into a release."""
    if isinstance(release.store, LocalStore):
        return release.folder.with_name(f"{release.folder.name}.{ending}")
    place = staging(release.place)
    return place.with_name(f"{place.name}.{ending}")


def staging(place: str) -> Path:
    """The folder in which a release for a host is made: always the same for a place."""
    folder = work_folder()
    own_folder(folder)
    return folder / f"host-{hashlib.sha256(place.encode()).hexdigest()[:16]}"
