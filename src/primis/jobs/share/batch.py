"""Each image of a batch to a bundle; what is done is noted in a journal, and not done again."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from primis.atomic import is_whole, write_new
from primis.bundle.manifest import Entry
from primis.bundle.settings import Profile
from primis.codec import Codec
from primis.datasets.files import Source
from primis.datasets.labels import Labels
from primis.errors import InputError
from primis.jobs.executors.executor import Executor
from primis.jobs.journal import Journal, Record
from primis.jobs.result import COLOUR, OnPart, OnResult, Result, Unfamiliar
from primis.jobs.share.look import Needs, Options
from primis.jobs.share.source import key, stamp_of
from primis.jobs.share.task import SharedFile, ShareTask, ShareWorker
from primis.keys.seal import TierSecrets, image_secrets, release_secrets
from primis.keys.tier import HIGHEST
from primis.metrics.fidelity import Quality
from primis.release.budgets import Budgets, Need
from primis.release.catalogue import Listed
from primis.release.grants import Scope
from primis.release.writer import Contents


@dataclass(frozen=True)
class Batch:
    """bundles: the folder they are written into. any_budget: what was shared before counts whatever
    its budgets were."""

    bundles: Path
    journal: Journal
    scope: Scope = field(repr=False)
    budgets: Budgets
    options: Options
    labels: Labels = field(default_factory=Labels, repr=False)
    any_budget: bool = False

    def share_all(
        self,
        needs: Needs,
        codec: Codec,
        executor: Executor,
        on_result: OnResult,
        on_part: OnPart = lambda done, total: None,
    ) -> list[Result]:
        """A result for each image, in their order, then for each file that a series was shared
        without. Told first: what an earlier run did, then those that cannot fit.

        The order of work is random: a folder may be listed as it was filled.
        """
        sources = list(needs)
        results: dict[int, Result] = {}
        left_out: list[Result] = []

        def tell(k: int, result: Result) -> None:
            results[k] = result
            on_result(result, len(results), len(sources))

        before = self._before(codec)
        for k, source in enumerate(sources):
            if known := before(source):
                tell(k, known)
        del before  # of many images it is large
        left = [k for k in range(len(sources)) if k not in results]
        secrets.SystemRandom().shuffle(left)
        left.sort(key=lambda k: self.budgets.fit(needs[sources[k]]))
        opened = release_secrets(self.scope.secret, HIGHEST)
        given: dict[int, tuple[ShareTask, Record]] = {}

        def tasks() -> Iterator[tuple[int, ShareTask]]:
            for k in left:
                task = self._task(sources[k], needs[sources[k]], opened)
                given[k] = task, stamp_of(task.source)
                yield k, task

        def done(share: float) -> None:
            on_part(len(results) + share, len(sources))

        worker = ShareWorker(codec)
        with closing(executor.run(worker, tasks(), len(left), done)) as outcomes:
            for k, outcome in outcomes:
                task, stamp = given.pop(k)
                tell(k, self._keep(task, stamp, outcome, codec))
                if isinstance(outcome, SharedFile):
                    for name, error in outcome.left_out:
                        left_out.append(Result(name, task.bundle_id, error=error))
                        on_result(left_out[-1], len(results), len(sources))
        return [*(results[k] for k in range(len(sources))), *left_out]

    def contents(self, good: Iterable[str]) -> Contents:
        """What the release lists of bundles that were shared."""
        wanted, profiles = set(good), dict[Profile, None]()
        entries, images = [], []
        for record in self.journal.records():
            if record.get("id") in wanted:
                entries.append(Entry(record["id"], record["bytes"], record["digest"]))
                images.append(self._listed(record))
                profiles.setdefault(Profile.parse(record["profile"]))
        return Contents(entries, images, profiles)

    def _listed(self, record: Record) -> Listed:
        """With the labels that this run was given, whichever run shared the image."""
        labels = self.labels.of(Path(record["file"]), record["name"])
        return replace(Listed.parse(record["listed"]), labels=labels)

    def _task(self, source: Source, need: Need | InputError, opened: TierSecrets) -> ShareTask:
        bundle_id = secrets.token_hex(16)
        return ShareTask(
            source=source,
            bundle_id=bundle_id,
            release=self.scope.release,
            secrets=image_secrets(opened, bundle_id),
            budgets=self.budgets,
            need=need,
            reading=self.options.reading,
            measure=self.options.measure,
            frames_alone=self.options.frames_alone,
        )

    def _before(self, codec: Codec) -> Callable[[Source], Result | None]:
        """What an earlier run did with an image, as its files are now."""
        known = {
            key(record): (record["digest"], _result_of(record, codec, resumed=True))
            for record in self.journal.records()
            if "id" in record and (self.any_budget or record["budget"] == self.budgets.record)
        }

        def before(source: Source) -> Result | None:
            found = known and known.get(key(stamp_of(source) | {"name": source.name}))
            if not found or not is_whole(self._path(found[1].id), found[0]):
                return None
            return found[1]

        return before

    def _keep(
        self, task: ShareTask, stamp: Record, outcome: SharedFile | InputError, codec: Codec
    ) -> Result:
        """Write one bundle, and note it. stamp: of its file before it was read."""
        if not isinstance(outcome, SharedFile):
            self.journal.note(**stamp, name=task.source.name, failed=True)
            return Result(task.source.name, task.bundle_id, error=outcome)
        write_new(self._path(task.bundle_id), outcome.data, sync=False)  # `Work.finish` does
        record = self.journal.note(
            **stamp,
            name=task.source.name,
            budget=task.budgets.record,
            id=task.bundle_id,
            bytes=outcome.entry.size,
            digest=outcome.entry.digest,
            kept=outcome.kept,
            notes=list(outcome.notes),
            quality=outcome.quality,
            profile=outcome.profile.body,
            listed=asdict(outcome.listed),
        )
        return _result_of(record, codec)

    def _path(self, bundle_id: str) -> Path:
        return self.bundles / f"{bundle_id}.primis"


def _result_of(record: Record, codec: Codec, *, resumed: bool = False) -> Result:
    """What the journal says of an image that was shared."""
    return Result(
        record["name"],
        record["id"],
        record["bytes"],
        record["kept"],
        resumed=resumed,
        notes=tuple(record["notes"]),
        unfamiliar=_unfamiliar(Listed.parse(record["listed"]), record["kept"], codec),
        quality=record["quality"] and Quality(*record["quality"]),
    )


def _unfamiliar(listed: Listed, kept: float | None, codec: Codec) -> Unfamiliar | None:
    """What the model was not trained on. Masks are sealed exactly, without it: kept is None."""
    domain = codec.checkpoint.domain
    if domain is None or kept is None:
        return None
    if listed.modality and listed.modality not in ("unknown", *domain.modalities):
        return Unfamiliar(listed.modality, domain.images)
    return Unfamiliar(COLOUR, domain.images) if listed.channels >= 3 else None
