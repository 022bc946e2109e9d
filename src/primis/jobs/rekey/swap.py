"""The new state in the place of the old one, which is then removed."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from functools import partial
from pathlib import Path

from primis.atomic import is_ours, reason, remove, remove_folder, sync_folder
from primis.errors import OutputError
from primis.jobs.work import Work
from primis.keys.identity import Signer
from primis.metrics.progress import Progress
from primis.release.grants import GRANTS
from primis.release.old_states import MANIFEST, OLD, left_behind
from primis.release.publish import parts_there, publish, remove_keys
from primis.release.reader import BUNDLES, PAGES, Release


def put(
    release: Release, signer: Signer, work: Work, *, carry_others: bool
) -> tuple[list[str], list[str]]:
    """Put the new state in the place of the old one: (what was left out, what is still there)."""
    path, still_there = release.folder, list[str]()
    work.keep_only((MANIFEST, PAGES, BUNDLES, GRANTS))  # an interrupted call may have carried more
    left_out = _carry(path, work.partial, wanted=carry_others)

    def replace(fresh: Path, _: Path) -> None:
        still_there.extend(_replace(fresh, path, release.manifest.release, signer))

    work.finish(0o755, put=replace)
    return left_out, still_there


def swap(release: Release, folder: Path, granted: set[str], progress: Progress) -> list[str]:
    """Send the new state to its host and remove the old one; what of that is still there. granted:
    labels that were renewed, or withdrawn. Raises OutputError where there are others by now."""
    store = release.store
    if new := set(release.labels()) - granted:
        raise OutputError(
            f'"{release.place}" was granted to "{sorted(new)[0]}" meanwhile: give it new secrets '
            "once more"
        )
    ours = {path.relative_to(folder).as_posix() for path in folder.glob("*/*")}
    old = parts_there(store) - ours  # an interrupted call may have sent some of ours
    publish(folder, store, over=release.tag, on_sent=partial(progress, "sending"))
    return [f"{release.place}/{key}" for key in remove_keys(store, old)]


def _carry(old: Path, new: Path, *, wanted: bool) -> list[str]:
    """Copy other files, if wanted; what is left out. Links are not followed: whoever stores the
    release may have laid them, and what they point to would be published."""
    others = sorted(
        path.name for path in old.iterdir() if path.name not in (MANIFEST, PAGES, BUNDLES, GRANTS)
    )
    if not wanted:
        return others
    left_out: list[str] = []

    def odd(folder: str, names: list[str]) -> list[str]:
        found = [name for name in names if _is_odd(Path(folder, name))]
        left_out.extend(str(Path(folder, name).relative_to(old)) for name in found)
        return found

    try:
        for name in sorted(set(others) - set(odd(str(old), others))):
            if (old / name).is_dir():
                shutil.copytree(old / name, new / name, ignore=odd)
            else:
                shutil.copy2(old / name, new / name, follow_symlinks=False)
    except (OSError, shutil.Error) as error:
        why = reason(error) if isinstance(error, OSError) and error.strerror else "see its files"
        raise OutputError(f'"{new}" cannot be written: {why}') from None
    return left_out


def _is_odd(path: Path) -> bool:
    """Whether it is neither a file nor a folder itself."""
    return path.is_symlink() or not (path.is_file() or path.is_dir())


def _replace(fresh: Path, path: Path, release_id: str, signer: Signer) -> list[str]:
    """Put the new state in the place of the old one; folders of old secrets that stay."""
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}{OLD}")
    try:
        os.rename(path, aside)
        try:
            os.rename(fresh, path)
        except BaseException:
            os.rename(aside, path)
            raise
    except OSError as error:
        raise OutputError(f'"{path}" cannot be replaced: {reason(error)}') from None
    sync_folder(path.parent)
    for old in left_behind(path, release_id):
        if old.signer == signer.public and is_ours(old.folder):
            _remove_state(old.folder)
    return [str(old.folder) for old in left_behind(path, release_id)]


def _remove_state(folder: Path) -> None:
    """Grants go first. The manifest goes last: what is cut off here can still be told for what it
    is."""
    with contextlib.suppress(OSError):
        for path in sorted(folder.iterdir(), key=lambda path: path.name != GRANTS):
            if path.name != MANIFEST:
                with contextlib.suppress(OSError):
                    remove(path)
        if [path.name for path in folder.iterdir()] == [MANIFEST]:
            remove_folder(folder)
