"""Older states of a release: what a `rekey` put aside and could not remove."""

from __future__ import annotations

import os
from glob import escape as glob_escape
from pathlib import Path
from typing import NamedTuple

from primis.atomic import PARTIAL, read_regular
from primis.bundle.manifest import MAX_MANIFEST, read_manifest, split_manifest
from primis.errors import BadManifest, OutputError
from primis.keys.identity import verify

MANIFEST = "manifest.json"
OLD = ".old"


class OldState(NamedTuple):
    """A folder that `rekey` put aside and could not remove. version: of its manifest."""

    folder: Path
    release: str
    signer: str
    version: int


def left_behind(path: Path, release: str | None = None) -> list[OldState]:
    """Older states of what lies or lay at a path, of that release if one is named, the newest
    first. Only what has a sound manifest counts: a folder of that name may be anything."""
    pattern = f"{glob_escape(path.name)}.{'[0-9a-f]' * 8}{OLD}"
    states = [state for folder in path.parent.glob(pattern) if (state := _old_state(folder))]
    chosen = [state for state in states if release in (None, state.release)]
    return sorted(chosen, key=lambda state: (-state.version, state.folder))


def _old_state(folder: Path) -> OldState | None:
    file = folder / MANIFEST
    if folder.is_symlink():
        return None
    try:
        signed = split_manifest(read_regular(file, MAX_MANIFEST), str(file))
        if not verify(signed.signer, signed.message, signed.signature):
            return None
        manifest = read_manifest(signed, str(file))
    except (OSError, BadManifest):
        return None
    return OldState(folder, manifest.release, signed.signer, manifest.version)


def require_nothing_cut_off(path: Path) -> None:
    """Raise OutputError where a release would take the place of one that `rekey` had put aside."""
    if not os.path.lexists(path) and (why := _cut_off(path)):
        raise OutputError(why)


def _cut_off(path: Path) -> str | None:
    aside = left_behind(path)
    if not aside or os.path.lexists(path):
        return None
    return (
        f'release "{path}" was cut off in "primis rekey": '
        f'rename "{aside[0].folder}" to "{path.name}" to have the old one again'
    )


def not_a_release(path: Path) -> str | None:
    """What a folder without a manifest may be, or None."""
    if (partial := path.with_name(path.name + PARTIAL)).is_dir():
        return (
            f'release "{path}" is incomplete: "{partial}" waits for "primis share" to be run again'
        )
    return _cut_off(path)
