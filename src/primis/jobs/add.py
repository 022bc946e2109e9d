"""More images for a release: shared beside it, then moved in under its next version.

1  share each file into a folder beside the release, with a journal, as `share` does
2  under the release's lock: move the bundles in, then write pages, catalogue and manifest

Until the manifest is written the release is as it was; bundles that it does not list are removed by
the next call.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from primis.atomic import keep_named, level, reason, remove, sweep_all, sync_folder
from primis.codec import Codec
from primis.datasets.files import collect
from primis.errors import InputError, OutputError, UsageError
from primis.jobs.destination import beside
from primis.jobs.executors.executor import Executor
from primis.jobs.executors.serial import Serial
from primis.jobs.result import OnPart, OnResult, Result
from primis.jobs.share.batch import Batch
from primis.jobs.share.look import Identifying, Needs, Options, look
from primis.jobs.share.run import labels_of
from primis.jobs.share.source import gather
from primis.jobs.work import Work
from primis.keys.identity import Signer
from primis.keys.seal import release_secrets
from primis.keys.tier import HIGHEST, Tier
from primis.network.checkpoint import find_checkpoint
from primis.release.budgets import Budgets, Need
from primis.release.catalogue import Catalogue, Listed
from primis.release.grants import Scope
from primis.release.owner import owner_scope
from primis.release.publish import OnSent, parts_there, publish, remove_keys
from primis.release.reader import BUNDLES, PAGES, Release
from primis.release.writer import Contents, timestamp, write_contents
from primis.stores.local import LocalStore


def add(
    release: Release,
    inputs: Sequence[Path],
    signer: Signer,
    *,
    models: tuple[Path, ...] = (),
    max_pixels: int | None = None,
    measure: bool = True,
    lossless: bool = False,
    series: bool = True,
    minimal: bool = False,
    frames_alone: bool = False,
    labels: Path | None = None,
    executor: Executor | None = None,
    on_result: OnResult = lambda result, done, total: None,
    on_part: OnPart = lambda done, total: None,
    on_gather: Callable[[int, int], None] = lambda done, total: None,
    on_look: Callable[[int, int], None] = lambda done, total: None,
    on_note: Callable[[str], None] = lambda said: None,
    on_identifying: Callable[[Identifying], None] = lambda found: None,
    on_sent: OnSent = lambda done, total: None,
    on_wait: Callable[[str], None] = lambda said: None,
    now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
) -> list[Result]:
    """Share more images with the settings of a release, for all who have a grant for the whole of
    it.

    A name that the release has already is reported and skipped. measure, lossless, series, minimal,
    labels and executor are as of `share`; labels that the release has stay.

    Raises UsageError if no image could be shared, and what `share` raises.
    """
    scope = owner_scope(release, signer)
    sources = gather(collect(inputs), series=series, on_file=on_gather)
    told = labels_of(labels, sources, on_note)
    profile = release.manifest.profiles[0]
    codec = Codec(find_checkpoint(profile.model, models))
    settings = replace(profile.settings, header_bytes=None, exact_bits=None)
    if release.has_originals:
        settings = replace(settings, original_bits=None)
    options = Options(
        settings,
        release.has_originals,
        max_pixels,
        measure,
        lossless=lossless,
        minimal=minimal,
        frames_alone=frames_alone,
    )
    with Work(beside(release, "add"), "primis add") as work:
        plan = {"work": "add", "release": release.manifest.release, "keys": scope.keys}
        work.begin(
            plan
            | {
                "measure": measure,
                "lossless": lossless,
                "series": series,
                "minimal": minimal,
                "frames alone": frames_alone,
            }
        )
        work.journal.count_only_ours(scope.secret)
        looked = look(sources, work.journal, options, on_look)
        on_identifying(Identifying.of_all(looked))
        needs = _without_known(looked, _listed(release, scope))
        budgets = _budgets(release, options, needs)
        batch = Batch(work.partial / BUNDLES, work.journal, scope, budgets, options, told)
        results = batch.share_all(needs, codec, executor or Serial(), on_result, on_part)
        good = [result.id for result in results if result.error is None]
        if not good:
            work.give_up()
            raise UsageError("no image could be added")
        level(work.partial / BUNDLES, 0o755)
        with release.changing("primis add", on_wait) as now_there:
            if owner_scope(now_there, signer).keys != scope.keys:
                raise OutputError(
                    f'"{release.place}" was given new secrets meanwhile: add the images again'
                )
            added, created = batch.contents(good), timestamp(now())
            if isinstance(release.store, LocalStore):
                _move_in(now_there, scope, work, added, signer, created)
            else:
                _send_in(now_there, scope, work, added, signer, created, on_sent)
        work.give_up()
    release.again()  # remembers the new version
    return results


def _listed(release: Release, scope: Scope) -> list[Listed]:
    """What the release has already."""
    diagnostic = release_secrets(scope.secret, HIGHEST)[Tier.DIAGNOSTIC]
    manifest = release.manifest
    return list(Catalogue(manifest.catalogue, release.page, diagnostic, manifest.release))


def _without_known(needs: Needs, listed: Sequence[Listed]) -> Needs:
    known = {image.name for image in listed}
    return {
        source: InputError(f'the release has an image "{source.name}" already')
        if source.name in known
        else need
        for source, need in needs.items()
    }


def _budgets(release: Release, options: Options, needs: Needs) -> Budgets:
    """At least those that the release has."""
    sound = [need for need in needs.values() if isinstance(need, Need)]
    chosen = Budgets.choose(options.settings, sound, lossless=options.lossless)
    all_of = [chosen.settings, *(p.settings for p in release.manifest.profiles)]
    wide = max(s.header_bytes or 0 for s in all_of)
    each = max(s.frame_header_bytes for s in all_of)
    settings = replace(chosen.settings, header_bytes=wide, frame_header_bytes=each)
    return replace(chosen, settings=settings, fits_all=wide)


def _move_in(
    release: Release, scope: Scope, work: Work, added: Contents, signer: Signer, created: str
) -> None:
    """The release is as it was until the manifest is written."""
    folder = release.folder
    sweep_all(folder)
    listed = {f"{bundle_id}.primis" for bundle_id in release.ids}
    for path in (folder / BUNDLES).glob("*.primis"):
        if path.name not in listed:  # of a call that was killed here
            remove(path)
    try:
        for entry in added.entries:
            name = f"{entry.id}.primis"
            os.replace(work.partial / BUNDLES / name, folder / BUNDLES / name)
    except OSError as error:
        raise OutputError(f'"{folder}" cannot be written: {reason(error)}') from None
    sync_folder(folder / BUNDLES)
    contents, version = _joined(release, scope, added), release.manifest.version + 1
    write_contents(folder, contents, scope, signer, version, created)


def _send_in(
    release: Release,
    scope: Scope,
    work: Work,
    added: Contents,
    signer: Signer,
    created: str,
    on_sent: OnSent,
) -> None:
    """The same on a host."""
    keep_named(work.partial / BUNDLES, {f"{entry.id}.primis" for entry in added.entries})
    contents, version = _joined(release, scope, added), release.manifest.version + 1
    write_contents(work.partial, contents, scope, signer, version, created)
    old = {key for key in parts_there(release.store) if key.startswith(PAGES)}
    publish(work.partial, release.store, over=release.tag, on_sent=on_sent)
    remove_keys(
        release.store, old - {f"{PAGES}/{p.name}" for p in (work.partial / PAGES).iterdir()}
    )


def _joined(release: Release, scope: Scope, added: Contents) -> Contents:
    return Contents(
        [*release.entries.values(), *added.entries],
        [*_listed(release, scope), *added.images],
        [*release.manifest.profiles, *added.profiles],
    )
