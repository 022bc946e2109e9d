"""A release of many images: one result line each, resumable (`work`).

1  look at each file once: what its header needs decides the budgets of the release (`look`); where
   a PSNR is wanted, choose S_x (`quality`)
2  share each, in a random order (`batch`)
3  write grants, pages, catalogue and, last, the manifest

A share goes on only with what this owner began: anything else would decide what is signed, and
under which secrets (`begun`).

In shards, each call does 1 and 2 for its part of the files, on any machine, and one more call does
3. Which files are in a shard is drawn under the release secret. So budgets, which differ from shard
to shard, reveal nothing of the order of the files.
"""

from __future__ import annotations

import datetime
import hmac
import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from primis.atomic import keep_named, keep_only
from primis.bundle.settings import Settings
from primis.codec import Codec
from primis.datasets.files import Source, collect
from primis.datasets.labels import Labels, read_labels
from primis.errors import UsageError
from primis.jobs.begun import begin_release, release_begun
from primis.jobs.destination import Destination
from primis.jobs.executors.executor import Executor
from primis.jobs.executors.serial import Serial
from primis.jobs.journal import Journal
from primis.jobs.result import OnPart, OnResult, Result
from primis.jobs.shards import Shard, dealt, listed
from primis.jobs.share.batch import Batch
from primis.jobs.share.look import Identifying, Needs, Options, look
from primis.jobs.share.quality import MOST_TRIED, Chosen, OnChosen, Trials, with_sparsity
from primis.jobs.share.source import gather, key, stamp_of
from primis.jobs.work import Work
from primis.keys.identity import Recipient, Signer
from primis.keys.seal import derive
from primis.keys.tier import Tier
from primis.network.checkpoint import named, read_checkpoint, shipped
from primis.release.budgets import Budgets, Need
from primis.release.grants import (
    GRANTS,
    Scope,
    make_grant,
    require_free_label,
    write_grant,
    write_index,
)
from primis.release.old_states import MANIFEST
from primis.release.publish import OnSent
from primis.release.reader import BUNDLES, PAGES
from primis.release.writer import timestamp, write_contents
from primis.stores.local import LocalStore


def share(
    inputs: Sequence[Path],
    out: str | PathLike[str],
    to: Sequence[Recipient],
    signer: Signer,
    settings: Settings,
    *,
    tier: Tier = Tier.DIAGNOSTIC,
    with_original: bool = False,
    model: Path | None = None,
    max_pixels: int | None = None,
    measure: bool = True,
    psnr: float | None = None,
    exact: bool = False,
    lossless: bool = False,
    series: bool = True,
    minimal: bool = False,
    frames_alone: bool = False,
    labels: Path | None = None,
    executor: Executor | None = None,
    shard: Shard | None = None,
    finish: bool = False,
    on_result: OnResult = lambda result, done, total: None,
    on_part: OnPart = lambda done, total: None,
    on_gather: Callable[[int, int], None] = lambda done, total: None,
    on_look: Callable[[int, int], None] = lambda done, total: None,
    on_note: Callable[[str], None] = lambda said: None,
    on_identifying: Callable[[Identifying], None] = lambda found: None,
    on_chosen: OnChosen = lambda chosen: None,
    on_sent: OnSent = lambda done, total: None,
    on_wait: Callable[[str], None] = lambda said: None,
    now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
) -> list[Result]:
    """Make a release of images and grant it to recipients. A bad image is reported and skipped.

    What `settings` leave open is chosen for the release by a pass over its files, so that all of
    them fit. measure: seal what each image loses, and tell it in its result. psnr: share with the
    smallest S_x at which 95 % of the images reach it, in place of that of `settings`. exact: refuse
    files whose samples would be rounded. lossless: seal every sample as it is. series: slices of
    one DICOM series become one image; else each file is one. minimal: seal of headers only what is
    needed to show the image. frames_alone: code each frame by itself, so that a grant of some opens
    no others. labels: a table whose columns are sealed in the catalogue
    (`read_labels`). executor: what works on the images, by default this process. shard: share this
    part of the images alone, and make no release yet. finish: make the release once all shards are
    done. All else is the same in all these calls.

    on_gather: is told of the search for series; on_look: of the pass's progress; on_part: within an
    image; on_note: of a file that makes all bundles larger, of images without labels, and of those
    that `finish` leaves out; on_identifying: of what may identify patients; on_chosen: of the S_x
    that was chosen; on_sent: of files that are sent to a host; on_wait: who else works on the
    release, where a shard waits for it.

    Raises OutputError if `out` exists, is being made by another process or cannot be written; what
    was done stays in "<out>.partial". Raises UsageError if no image could be shared, if too few
    reach `psnr` at any S_x, or where shards have work left.
    """
    if shard is not None and finish:
        raise UsageError("one shard was asked for and the end of all, expected one of them")
    require_labels(to)
    destination = Destination.of(out)
    sources = gather(collect(inputs), series=series, on_file=on_gather)
    told = labels_of(labels, sources, on_note if shard is None else _ignore)
    codec = Codec(read_checkpoint(named(model) if model else shipped()))
    options = Options(
        settings, with_original, max_pixels, measure, psnr, exact, lossless, minimal, frames_alone
    )
    sharing = _Sharing(
        destination,
        codec,
        options,
        signer,
        executor or Serial(),
        told,
        series,
        _Telling(on_result, on_part, on_look, on_note, on_identifying, on_chosen),
    )
    if shard is not None:
        return sharing.share_shard(sources, shard, on_wait)
    with Work(destination.folder, "primis share") as work:
        batch, results = sharing.share_all(sources, work, finish=finish)
        good = [result.id for result in results if result.error is None]
        if not good:
            work.give_up()
            raise UsageError("no image could be shared")
        shown = destination.take_back(work) - {"owner"} - {recipient.label for recipient in to}
        if shown:
            on_note(
                f'a grant to "{min(shown)}" lay on the host when an earlier call was interrupted: '
                "whoever fetched it can open this release, unless it is given new secrets"
            )
        keep_only(work.partial / GRANTS, "owner.*.age")
        for recipient in to:
            made = make_grant(batch.scope, recipient, signer, Tier(tier))
            write_grant(LocalStore(work.partial), made, recipient, signer)
        write_index(LocalStore(work.partial))
        keep_named(work.partial / BUNDLES, {f"{bundle_id}.primis" for bundle_id in good})
        contents = batch.contents(good)
        write_contents(work.partial, contents, batch.scope, signer, 1, timestamp(now()))
        destination.finish(work, (MANIFEST, PAGES, BUNDLES, GRANTS), on_sent)
        return results


class _Telling(NamedTuple):
    """Who is told of what, as of `share`."""

    on_result: OnResult
    on_part: OnPart
    on_look: Callable[[int, int], None]
    on_note: Callable[[str], None]
    on_identifying: Callable[[Identifying], None]
    on_chosen: OnChosen


@dataclass(frozen=True)
class _Sharing:
    """What a call was given."""

    destination: Destination
    codec: Codec
    options: Options
    signer: Signer
    executor: Executor
    labels: Labels
    series: bool
    telling: _Telling

    def share_all(
        self, sources: Sequence[Source], work: Work, *, finish: bool
    ) -> tuple[Batch, list[Result]]:
        """Work on all images. finish: on what shards left, all of which were run."""
        shards = self._shards_begun(work) if finish else None
        scope = self._begin(work, shards)
        if shards is not None:
            self._join(sources, work, scope, shards)
        needs = self._look(sources, work.journal)
        budgets = self._budgets(needs, tell=not finish)
        if self.options.psnr is not None:
            budgets = self._for_psnr(needs, budgets, work, len(sources))
        batch = self._batch(work, work.journal, scope, budgets, any_budget=finish)
        return batch, self._share_each(batch, needs)

    def _shards_begun(self, work: Work) -> int:
        """How many there are in all. Raises UsageError where there are none."""
        shards = work.planned().get("shards")
        if shards is None:
            raise UsageError(
                f'no shard of "{self.destination}" is shared in "{work.partial}", '
                "expected all shards to be run first"
            )
        return int(shards)

    def _join(self, sources: Sequence[Source], work: Work, scope: Scope, shards: int) -> None:
        """Have all that shards did count. Raises UsageError where one has work left."""
        journals = work.shards(shards)
        for journal in journals:
            journal.count_only_ours(scope.secret)
        work.journal.join(journals)
        _require_worked_on(sources, work.journal, scope, shards)
        if left_out := _left_out(sources, work.journal):
            self.telling.on_note(
                "images that shards shared are left out, as they are not among those given: "
                f'{len(left_out)}, first "{min(left_out)}"'
            )

    def share_shard(
        self, sources: Sequence[Source], shard: Shard, on_wait: Callable[[str], None]
    ) -> list[Result]:
        """Work on the images of a shard."""
        with ExitStack() as held:
            with Work(self.destination.folder, "primis share", on_wait=on_wait) as work:
                scope, sparsity = self._begin(work, shard.of), None
                if self.options.psnr is not None:
                    drawn = secrets.SystemRandom().sample(sources, min(len(sources), MOST_TRIED))
                    needs = look(drawn, work.journal, self.options)
                    budgets = self._budgets(needs, tell=False)
                    budgets = self._for_psnr(needs, budgets, work, len(sources))
                    sparsity = budgets.settings.sparsity
                journal = held.enter_context(work.shard(shard))
            journal.count_only_ours(scope.secret)
            numbers = _dealt(sources, scope, shard.of)
            ours = [s for s, number in zip(sources, numbers, strict=True) if number == shard.number]
            needs = self._look(ours, journal)
            budgets = self._budgets(needs, tell=True)
            if sparsity is not None:
                budgets = replace(budgets, settings=with_sparsity(budgets.settings, sparsity))
            return self._share_each(self._batch(work, journal, scope, budgets), needs)

    def _begin(self, work: Work, shards: int | None) -> Scope:
        work.require_same_shards("share", shards, "shared")
        begun = work.begin(self._plan(shards))
        self.destination.require_no_others(work)
        scope = (release_begun if begun else begin_release)(work, self.signer)
        work.journal.count_only_ours(scope.secret)
        return scope

    def _plan(self, shards: int | None) -> dict[str, Any]:
        plan = {
            "work": "share",
            "settings": asdict(self.options.settings),
            "model": self.codec.checkpoint.digest,
            "original": self.options.with_original,
            "measure": self.options.measure,
            "psnr": self.options.psnr,
            "exact": self.options.exact,
            "lossless": self.options.lossless,
            "minimal": self.options.minimal,
            "frames alone": self.options.frames_alone,
            "series": self.series,
            "signer": self.signer.public,
        }
        return plan if shards is None else plan | {"shards": shards}

    def _look(self, sources: Sequence[Source], journal: Journal) -> Needs:
        needs = look(sources, journal, self.options, self.telling.on_look)
        self.telling.on_identifying(Identifying.of_all(needs))
        return needs

    def _budgets(self, needs: Needs, *, tell: bool) -> Budgets:
        """tell: whether to tell of a file that makes all bundles larger."""
        settings = self.options.settings
        sound = {source.name: n for source, n in needs.items() if isinstance(n, Need)}
        budgets = Budgets.choose(settings, list(sound.values()), lossless=self.options.lossless)
        if tell and settings.header_bytes is None and (told := budgets.outlier(sound)):
            self.telling.on_note(told)
        return budgets

    def _for_psnr(self, needs: Needs, budgets: Budgets, work: Work, images: int) -> Budgets:
        """With the S_x that reaches the wanted PSNR, of so many images in all."""
        chosen = self._chosen(needs, budgets, work, images)
        self.telling.on_chosen(chosen)
        return replace(budgets, settings=with_sparsity(budgets.settings, chosen.sparsity))

    def _chosen(self, needs: Needs, budgets: Budgets, work: Work, images: int) -> Chosen:
        """What an earlier run chose, or anew."""
        for record in work.journal.records():
            if "chosen" in record:
                return Chosen(*record["chosen"])
        trials = Trials(budgets, self.codec, replace(self.options.reading, original=False))
        fitting = [source for source, need in needs.items() if budgets.fit(need)]
        try:
            chosen = trials.choose(fitting, self.options.psnr or 0, self.telling.on_look)
        except UsageError:
            work.give_up()
            raise
        if len(needs) < images:
            chosen = chosen._replace(images=images)
        work.journal.note(chosen=list(chosen))
        return chosen

    def _batch(
        self,
        work: Work,
        journal: Journal,
        scope: Scope,
        budgets: Budgets,
        *,
        any_budget: bool = False,
    ) -> Batch:
        bundles = work.partial / BUNDLES
        return Batch(bundles, journal, scope, budgets, self.options, self.labels, any_budget)

    def _share_each(self, batch: Batch, needs: Needs) -> list[Result]:
        told = self.telling
        return batch.share_all(needs, self.codec, self.executor, told.on_result, told.on_part)


def _dealt(sources: Sequence[Source], scope: Scope, shards: int) -> list[int]:
    """The number of the shard of each image."""
    secret = derive(scope.secret, "shards").value

    def order(source: Source) -> bytes:
        told = f"{os.path.abspath(source.place)}\n{source.name}"  # however the folder was spelled
        return hmac.digest(secret, os.fsencode(told), "sha256")

    return dealt(sources, order, shards)


def _require_worked_on(
    sources: Sequence[Source], journal: Journal, scope: Scope, shards: int
) -> None:
    """Raise UsageError where a shard has work left. What failed is tried once more."""
    known = {key(r) for r in journal.records() if "id" in r or "failed" in r}
    left = [
        number
        for source, number in zip(sources, _dealt(sources, scope, shards), strict=True)
        if key(stamp_of(source) | {"name": source.name}) not in known
    ]
    if left:
        raise UsageError(
            f"{len(left)} of {len(sources)} images were not worked on yet, "
            f"expected shards {listed(left, shards)} to be run to their end"
        )


def _left_out(sources: Sequence[Source], journal: Journal) -> set[str]:
    """Names of images that shards shared, and that are not to be in the release."""
    given = {source.name for source in sources}
    return {r["name"] for r in journal.records() if "id" in r and r["name"] not in given}


def _ignore(said: str) -> None:
    pass


def labels_of(
    table: Path | None, sources: Sequence[Source], on_note: Callable[[str], None]
) -> Labels:
    """What a table says of images, read before anything is encoded. Raises UsageError."""
    labels = Labels() if table is None else read_labels(table, sources)
    if labels.note:
        on_note(labels.note)
    return labels


def require_labels(to: Sequence[Recipient]) -> None:
    """Raise UsageError where labels would clash, before anything is encoded."""
    labels = [recipient.label for recipient in to]
    for recipient in to:
        require_free_label(recipient)
        if labels.count(recipient.label) > 1:
            raise UsageError(f'label "{recipient.label}" is given to two recipients')
