"""A release as a read-only file system for fsspec, for tools that want paths.

    fsspec.open("primis://chest.dcm", release="release", identity="partner.key")

It needs fsspec (`pip install 'primis[fsspec]'`).
"""

from __future__ import annotations

import errno
import io
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from fsspec.spec import AbstractFileSystem

from primis.api.image import ReleaseImage
from primis.api.places import Place
from primis.api.release import OpenRelease, own_release
from primis.imaging.image import SERIES
from primis.jobs.names import FreeNames, kind_of, safe_name
from primis.keys.tier import Tier


class PrimisFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec ships no types
    """`primis://NAME` is the file that `primis restore` would write for the image of that name. The
    files of a series lie where they lay; which they are is read when their folder is listed.

    release, signer, models: as of `primis.open`. identity: files of private keys; by default the
    owner's key. tier: by default the highest that the key opens.

    A file is decoded when it is opened, and lies in memory alone; its size is not known before,
    and is None. Names are made safe as those of restored files are, and where the key opens none
    they are ids. fsspec's own caches of files (`filecache::`, `simplecache::`) and its `get` write
    what they are given to disk: do not use them here.
    """

    protocol = "primis"
    root_marker = ""

    def __init__(
        self,
        release: Place,
        identity: Place | Sequence[Place] | None = None,
        tier: Tier | str | None = None,
        signer: str | None = None,
        models: Sequence[Place] = (),
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._own, self._tier = own_release(release, identity, signer, models), tier
        self._listing: tuple[OpenRelease, _Tree] | None = None

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        """Files and folders in a folder, or a file. Raises FileNotFoundError."""
        path, tree = self._strip_protocol(path), self._tree()
        if path in tree.files:
            entries = [_file(path)]
        elif path in tree.folders:
            entries = [
                _file(name) if name in tree.files else _folder(name)
                for name in sorted(tree.folders[path])
            ]
        else:
            raise FileNotFoundError(errno.ENOENT, "no such image in the release", path)
        return entries if detail else [entry["name"] for entry in entries]

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        """The bytes of a file. Raises FileNotFoundError, and as `ReleaseImage.file` does."""
        path = self._strip_protocol(path)
        entry = self._tree().files.get(path)
        if entry is None:
            raise FileNotFoundError(errno.ENOENT, "no such image in the release", path)
        image, frame = entry
        [data] = image.files(self._tier, frames=frame).values()
        return data[start:end]

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> io.BytesIO:
        if mode != "rb":
            raise OSError(errno.EROFS, "a release is read-only", path)
        return io.BytesIO(self.cat_file(path))

    def _tree(self) -> _Tree:
        release = self._own.get()
        if self._listing is None or self._listing[0] is not release:
            self._listing = release, _Tree(release, self._tier)
        return self._listing[1]


class _Tree:
    """files: the image of each path, and its frame where it is of a series. folders: what lies in
    each, "" for the whole release."""

    def __init__(self, release: OpenRelease, tier: Tier | str | None) -> None:
        free = FreeNames()
        self.files: dict[str, tuple[ReleaseImage, int | None]] = {}
        self.folders: dict[str, set[str]] = {"": set()}
        for image in sorted(release, key=lambda image: (image.name or "", image.id)):
            slices = [] if tier == Tier.PREVIEW else image.slices
            if not slices:
                self._add(_path_of(image, free), image, None)
            for frame, name in enumerate(slices):
                path = free.take(safe_name(name, image.id, "dicom"), image.id, "dicom")
                self._add(path, image, frame)

    def _add(self, name: str, image: ReleaseImage, frame: int | None) -> None:
        self.files[name] = image, frame
        path = PurePosixPath(name)
        for parent in path.parents:
            self.folders.setdefault("" if parent.name == "" else str(parent), set()).add(str(path))
            path = parent


def _path_of(image: ReleaseImage, free: FreeNames) -> str:
    kind = "dicom" if image.kind == SERIES else image.kind or kind_of(image.name or "")
    if image.name is None or kind is None:
        return image.id
    return free.take(safe_name(image.name, image.id, kind), image.id, kind)


def _file(path: str) -> dict[str, Any]:
    return {"name": path, "size": None, "type": "file"}


def _folder(path: str) -> dict[str, Any]:
    return {"name": path, "size": 0, "type": "directory"}
