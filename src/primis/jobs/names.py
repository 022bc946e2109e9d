"""Names of restored files, whatever the sealed names say: those come from whoever made the release.

A name is a relative path below the output folder, of parts that no system and no program treats
specially: no device of Windows, nothing hidden, nothing that looks like an option, nothing that a
double click runs. The ending is that of an image of its kind.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

from primis.imaging.image import KINDS

_MAX_NAME = 200
_MAX_DEPTH = 16
_SPECIAL = frozenset("/\\:*?\"<>|$`;&%!^'")
"""To file systems and to shells."""

_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$"]
    + [f"{port}{number}" for port in ("com", "lpt") for number in "0123456789¹²³"]
)
_SUFFIXES = {
    "png": {".png"},
    "jpeg": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "webp": {".webp"},
    "tiff": {".tif", ".tiff", ".btf", ".tf8"},
    "dicom": {".dcm", ".dicom", ".dic", ".ima"},
    "nifti": {".nii"},
    "nifti-gz": {".nii.gz"},
}
_OURS = (".partial", ".old")
"""Endings of folders that primis itself makes and passes over."""

_MEDIA_NAME = re.compile(r"(?=.*[0-9])[A-Z0-9_]{1,8}|[0-9]+(\.[0-9]+)*", re.ASCII)
"""File IDs of DICOM media (PS3.10, 8.2) with a number in them, and UIDs."""


def safe_name(name: str | None, bundle_id: str, kind: str) -> str:
    """A relative path for a restored image of a kind; its id where the name is unusable."""
    plain = f"{bundle_id}{KINDS[kind]}"
    parts = [_safe_part(part) for part in (name or "").split("/")]
    parts = [part for part in parts if part]
    if not parts or len(parts) > _MAX_DEPTH:
        return plain
    parts[-1] = _with_suffix(parts[-1], kind)
    if any(len(part.encode()) > _MAX_NAME for part in parts):
        return plain
    return str(PurePosixPath(*parts))


def kind_of(name: str) -> str | None:
    """The kind of file that a name's ending stands for."""
    suffix = _suffix(name).lower()
    return next((kind for kind, known in _SUFFIXES.items() if suffix in known), None)


class FreeNames:
    """Gives each restored file a name that no other has, in whatever case: on many disks case does
    not tell names apart."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._files: set[str] = set()
        self._folders: set[str] = set()
        self._numbers = Counter[str]()
        for name in taken:
            self._add(PurePosixPath(name))

    def take(self, name: str, bundle_id: str, kind: str) -> str:
        """The name, or one with a part of the id, or the id alone, or that with a number, where
        it is taken: the files of a series have one id."""
        path = PurePosixPath(name)
        suffix = _suffix(path.name)
        stem = path.name[: len(path.name) - len(suffix)]
        with_id = path.with_name(f"{stem}-{bundle_id[:8]}{suffix}")
        plain = PurePosixPath(f"{bundle_id}{KINDS[kind]}")
        wished = next((x for x in (path, with_id, plain) if self._is_free(x)), None)
        chosen = wished or self._numbered(bundle_id, KINDS[kind])
        self._add(chosen)
        return str(chosen)

    def _numbered(self, stem: str, suffix: str) -> PurePosixPath:
        """The next that is free."""
        while True:
            self._numbers[stem] += 1
            path = PurePosixPath(f"{stem}-{self._numbers[stem]}{suffix}")
            if self._is_free(path):
                return path

    def _is_free(self, path: PurePosixPath) -> bool:
        folders = {str(parent).casefold() for parent in path.parents}
        name = str(path).casefold()
        return name not in self._files and name not in self._folders and not folders & self._files

    def _add(self, path: PurePosixPath) -> None:
        self._files.add(str(path).casefold())
        self._folders.update(str(parent).casefold() for parent in path.parents)


def _safe_part(part: str) -> str:
    """One part of a path, or nothing."""
    kept = unicodedata.normalize("NFC", part)
    kept = "".join("_" if c in _SPECIAL else c for c in kept if c.isprintable())
    kept = kept.strip().lstrip(".-~=+@ ").rstrip(". ")
    stem = kept.partition(".")[0].strip().casefold()
    kept = f"_{kept}" if stem in _DEVICES else kept
    return f"{kept}_" if kept.casefold().endswith(_OURS) else kept


def _suffix(name: str) -> str:
    """The ending of a name, that of a compressed file whole."""
    if name.lower().endswith(KINDS["nifti-gz"]):
        return name[-len(KINDS["nifti-gz"]) :]
    return PurePosixPath(name).suffix


def _with_suffix(name: str, kind: str) -> str:
    """A name whose ending is one of its kind. DICOM files may have the names of their media, which
    have none, or those of their UIDs."""
    suffix = _suffix(name).lower()
    if suffix in _SUFFIXES[kind] or (kind == "dicom" and _MEDIA_NAME.fullmatch(name)):
        return name
    if any(suffix in known for known in _SUFFIXES.values()):
        name = name[: -len(suffix)]
    return f"{name}{KINDS[kind]}"
