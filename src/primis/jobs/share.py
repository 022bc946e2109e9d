"""Many images to one release: one result line each, resumable (`work`).

1  look at each file once: what its header needs decides the budgets of the release; where a PSNR
   is wanted, choose S_x (`share_quality`)
2  share each, in a random order; what is done is noted in the journal
3  write grants, pages, catalogue and, last, the manifest

What others may have laid where a share goes on is not gone on with: it would decide what is signed,
and under which secrets.
"""

from __future__ import annotations

import datetime
import hashlib
import secrets
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from primis.atomic import remove, remove_folder, write_new
from primis.bundle.manifest import Entry
from primis.bundle.settings import Profile, Settings
from primis.codec import Codec
from primis.datasets.files import collect
from primis.datasets.labels import Labels, read_labels
from primis.errors import InputError, OutputError, UsageError
from primis.imaging.apart import WORKERS, end
from primis.imaging.files import read
from primis.jobs.destination import Destination
from primis.jobs.executors.executor import Executor
from primis.jobs.executors.serial import Serial
from primis.jobs.result import (
    COLOUR,
    OnPart,
    OnResult,
    Result,
    Unfamiliar,
    unexpected,
)
from primis.jobs.share_quality import Chosen, OnChosen, Trials, with_sparsity
from primis.jobs.share_task import SharedFile, ShareTask, ShareWorker
from primis.jobs.work import Work
from primis.keys.grant import read_grant, split_grant
from primis.keys.identity import Recipient, Signer, verify
from primis.keys.seal import TierSecrets, image_secrets, release_secrets
from primis.keys.tier import HIGHEST, Tier
from primis.metrics.fidelity import Quality
from primis.network.checkpoint import named, read_checkpoint, shipped
from primis.release.budgets import Budgets, Need
from primis.release.catalogue import Listed
from primis.release.grants import (
    GRANTS,
    Scope,
    make_grant,
    owner_grant,
    require_free_label,
    write_grant,
)
from primis.release.old_states import MANIFEST
from primis.release.publish import OnSent
from primis.release.reader import BUNDLES, PAGES
from primis.release.writer import Contents, timestamp, write_contents
from primis.stores.local import LocalStore

_SOON = 0.05
"""Seconds."""

T = TypeVar("T")
File = tuple[Path, str]
"""Where a file is, and what it is shared as."""


@dataclass(frozen=True)
class Options:
    """with_original: seal the files too. max_pixels: None for the reader's default. measure: seal
    what each image loses. psnr: that S_x is to be chosen for, None to take it from the settings.

    The last two are no settings: those are public.
    """

    settings: Settings
    with_original: bool
    max_pixels: int | None
    measure: bool = True
    psnr: float | None = None


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
    labels: Path | None = None,
    executor: Executor | None = None,
    on_result: OnResult = lambda result, done, total: None,
    on_part: OnPart = lambda done, total: None,
    on_look: Callable[[int, int], None] = lambda done, total: None,
    on_note: Callable[[str], None] = lambda said: None,
    on_chosen: OnChosen = lambda chosen: None,
    on_sent: OnSent = lambda done, total: None,
    now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
) -> list[Result]:
    """Make a release of images and grant it to recipients. A bad image is reported and skipped.

    What `settings` leave open is chosen for the release by a pass over its files, so that all of
    them fit. measure: seal what each image loses, and tell it in its result. psnr: share with the
    smallest S_x at which 95 % of the images reach it, in place of that of `settings`. labels: a
    table whose columns are sealed in the catalogue (`read_labels`). executor: what works on the
    images, by default this process. on_look: is told of the pass's progress; on_part: within an
    image; on_note: of a file that makes all bundles larger, and of images without labels;
    on_chosen: of the S_x that was chosen; on_sent: of files that are sent to a host. Raises
    OutputError if `out` exists, is being made by another process or cannot be written; what was
    done stays in "<out>.partial". Raises UsageError if no image could be shared, or if too few
    reach `psnr` at any S_x.
    """
    require_labels(to)
    destination = Destination.of(out)
    files = collect(inputs)
    told = labels_of(labels, files, on_note)
    codec = Codec(read_checkpoint(named(model) if model else shipped()))
    options = Options(settings, with_original, max_pixels, measure, psnr)
    with Work(destination.folder, "primis share") as work:
        begun = work.begin(_plan(options, codec, signer))
        destination.require_no_others(work)
        scope = _release_begun(work, signer) if begun else _begin_release(work, signer)
        work.count_only_ours(scope.secret)
        needs = look(files, work, options, on_look)
        sound = {name: n for (_, name), n in needs.items() if isinstance(n, Need)}
        budgets = Budgets.choose(settings, list(sound.values()))
        if settings.header_bytes is None and (said := budgets.outlier(sound)):
            on_note(said)
        if psnr is not None:
            chosen = _chosen(needs, work, options, budgets, codec, psnr, on_look)
            on_chosen(chosen)
            budgets = replace(budgets, settings=with_sparsity(budgets.settings, chosen.sparsity))
        batch = Batch(work, scope, budgets, options, told)
        results = batch.share_all(needs, codec, executor or Serial(), on_result, on_part)
        good = [result.id for result in results if result.error is None]
        if not good:
            work.give_up()
            raise UsageError("no image could be shared")
        destination.take_back(work)
        keep_only(work.partial / GRANTS, "owner.*.age")
        for recipient in to:
            made = make_grant(scope, recipient, signer, Tier(tier))
            write_grant(LocalStore(work.partial), made, recipient, signer)
        keep_only(work.partial / BUNDLES, *(f"{bundle_id}.primis" for bundle_id in good))
        contents = batch.contents(good)
        write_contents(work.partial, contents, scope, signer, 1, timestamp(now()))
        destination.finish(work, (MANIFEST, PAGES, BUNDLES, GRANTS), on_sent)
        return results


def labels_of(table: Path | None, files: Sequence[File], on_note: Callable[[str], None]) -> Labels:
    """What a table says of files, read before anything is encoded. Raises UsageError."""
    labels = Labels() if table is None else read_labels(table, files)
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


def _plan(options: Options, codec: Codec, signer: Signer) -> dict[str, Any]:
    return {
        "work": "share",
        "settings": asdict(options.settings),
        "model": codec.checkpoint.digest,
        "original": options.with_original,
        "measure": options.measure,
        "psnr": options.psnr,
        "signer": signer.public,
    }


def look(
    files: Sequence[File], work: Work, options: Options, on_look: Callable[[int, int], None]
) -> dict[File, Need | InputError]:
    """What each file needs, or why it cannot be shared: known before anything is encoded."""
    before = {_key(record): record for record in work.records if "need" in record}

    def need(file: Path, name: str) -> tuple[dict[str, Any], Need | InputError, bool]:
        """Its stamp, what it needs, and whether an earlier run knew."""
        stamp = _stamp(file)
        known = before.get(_key(stamp | {"name": name}))
        if known is not None:
            return stamp, Need(*known["need"]), True
        return stamp, _need(file, name, options), False

    needs: dict[File, Need | InputError] = {}
    with closing(_in_threads(need, files)) as looked:
        for (file, name), (stamp, found, known) in zip(files, looked, strict=True):
            if isinstance(found, Need) and not known:
                work.note(**stamp, name=name, need=[found.header_bytes, found.original_times])
            needs[file, name] = found
            on_look(len(needs), len(files))
    return needs


def _chosen(
    needs: dict[File, Need | InputError],
    work: Work,
    options: Options,
    budgets: Budgets,
    codec: Codec,
    psnr: float,
    on_look: Callable[[int, int], None],
) -> Chosen:
    """What an earlier run chose, or anew."""
    for record in work.records:
        if "chosen" in record:
            return Chosen(*record["chosen"])
    trials = Trials(budgets, codec, options.max_pixels)
    try:
        chosen = trials.choose([f for f, need in needs.items() if budgets.fit(need)], psnr, on_look)
    except UsageError:
        work.give_up()
        raise
    work.note(chosen=list(chosen))
    return chosen


def _in_threads(call: Callable[..., T], files: Sequence[File]) -> Generator[T, None, None]:
    """Of each file, in order, as many at once as there are processes that decode."""
    threads = ThreadPoolExecutor(WORKERS)
    asked = [threads.submit(call, *file) for file in files]
    try:
        for one in asked:
            yield one.result()
    except BaseException:  # an interruption ends the decoders, so no thread waits for one
        threads.shutdown(wait=False, cancel_futures=True)
        running = [one for one in asked if not one.cancelled()]
        end()
        while wait(running, _SOON).not_done:  # one that was about to read starts another decoder
            end()
        end()
        raise
    threads.shutdown()


def _need(file: Path, name: str, options: Options) -> Need | InputError:
    try:
        image, source = read(file, max_pixels=options.max_pixels)
        return Need.of(image, name, len(source) if options.with_original else 0)
    except InputError as error:
        return error
    except Exception as error:  # whatever it is, it must not stop the others
        return InputError(f'image "{file}" {unexpected(error, "read")}')


@dataclass(frozen=True)
class Batch:
    """Has files shared and keeps the journal."""

    work: Work
    scope: Scope = field(repr=False)
    budgets: Budgets
    options: Options
    labels: Labels = field(default_factory=Labels, repr=False)

    def share_all(
        self,
        needs: dict[File, Need | InputError],
        codec: Codec,
        executor: Executor,
        on_result: OnResult,
        on_part: OnPart = lambda done, total: None,
    ) -> list[Result]:
        """A result for each file, in their order. Told first: what an earlier run did, then those
        that cannot fit.

        The order of work is random: a folder may be listed as it was filled.
        """
        files = list(needs)
        results: dict[int, Result] = {}

        def tell(k: int, result: Result) -> None:
            results[k] = result
            on_result(result, len(results), len(files))

        before = self._before(codec)
        for k, file in enumerate(files):
            if known := before(file):
                tell(k, known)
        left = [k for k in range(len(files)) if k not in results]
        secrets.SystemRandom().shuffle(left)
        left.sort(key=lambda k: self.budgets.fit(needs[files[k]]))
        opened = release_secrets(self.scope.secret, HIGHEST)
        given: dict[int, tuple[ShareTask, dict[str, Any]]] = {}

        def tasks() -> Iterator[tuple[int, ShareTask]]:
            for k in left:
                task = self._task(files[k], needs[files[k]], opened)
                given[k] = task, _stamp(task.file)
                yield k, task

        def done(share: float) -> None:
            on_part(len(results) + share, len(files))

        worker = ShareWorker(codec)
        with closing(executor.run(worker, tasks(), len(left), done)) as outcomes:
            for k, outcome in outcomes:
                tell(k, self._keep(*given.pop(k), outcome, codec))
        return [results[k] for k in range(len(files))]

    def contents(self, good: Iterable[str]) -> Contents:
        """What the release lists of bundles that were shared."""
        by_id = {record["id"]: record for record in self.work.records if "id" in record}
        records = [by_id[bundle_id] for bundle_id in good]
        return Contents(
            [Entry(r["id"], r["bytes"], r["digest"]) for r in records],
            [self._listed(r) for r in records],
            [Profile.parse(r["profile"]) for r in records],
        )

    def _listed(self, record: dict[str, Any]) -> Listed:
        """With the labels that this run was given, whichever run shared the image."""
        labels = self.labels.of(Path(record["file"]), record["name"])
        return replace(Listed.parse(record["listed"]), labels=labels)

    def _task(self, file: File, need: Need | InputError, opened: TierSecrets) -> ShareTask:
        bundle_id = secrets.token_hex(16)
        return ShareTask(
            file=file[0],
            name=file[1],
            bundle_id=bundle_id,
            release=self.scope.release,
            secrets=image_secrets(opened, bundle_id),
            budgets=self.budgets,
            need=need,
            with_original=self.options.with_original,
            max_pixels=self.options.max_pixels,
            measure=self.options.measure,
        )

    def _before(self, codec: Codec) -> Callable[[File], Result | None]:
        """What an earlier run did with a file, as it is now, and the same budgets."""
        known = {
            _key(record): record
            for record in self.work.records
            if "id" in record and record["budget"] == self.budgets.record
        }

        def before(file: File) -> Result | None:
            record = known.get(_key(_stamp(file[0]) | {"name": file[1]}))
            if record is None or not _is_whole(self._path(record["id"]), record["digest"]):
                return None
            return result_of(record, codec, resumed=True)

        return before

    def _keep(
        self,
        task: ShareTask,
        stamp: dict[str, Any],
        outcome: SharedFile | InputError,
        codec: Codec,
    ) -> Result:
        """Write one bundle, and note it. stamp: of its file before it was read."""
        if not isinstance(outcome, SharedFile):
            return Result(task.name, task.bundle_id, error=outcome)
        write_new(self._path(task.bundle_id), outcome.data)
        self.work.note(
            **stamp,
            name=task.name,
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
        return result_of(self.work.records[-1], codec)

    def _path(self, bundle_id: str) -> Path:
        return self.work.partial / BUNDLES / f"{bundle_id}.primis"


def result_of(record: dict[str, Any], codec: Codec, *, resumed: bool = False) -> Result:
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


def _key(record: dict[str, Any]) -> tuple[Any, ...]:
    """Tells files apart, and states of a file."""
    return tuple(record[name] for name in ("file", "size", "mtime", "name"))


def _unfamiliar(listed: Listed, kept: float | None, codec: Codec) -> Unfamiliar | None:
    """What the model was not trained on. Masks are sealed exactly, without it: kept is None."""
    domain = codec.checkpoint.domain
    if domain is None or kept is None:
        return None
    if listed.modality and listed.modality not in ("unknown", *domain.modalities):
        return Unfamiliar(listed.modality, domain.images)
    return Unfamiliar(COLOUR, domain.images) if listed.channels >= 3 else None


def _begin_release(work: Work, signer: Signer) -> Scope:
    scope = Scope.new()
    remove_folder(work.partial / GRANTS)
    store = LocalStore(work.partial)
    write_grant(store, owner_grant(scope, signer), signer.recipient, signer)
    signature = signer.sign(_begun_message(work, scope.release, scope.keys))
    work.note(begun=scope.release, keys=scope.keys, signature=signature)
    return scope


def _begun_message(work: Work, release_id: str, keys: str) -> bytes:
    return f"primis/1 begun\n{work.out}\n{release_id}\n{keys}\n{work.head}".encode()


def _release_begun(work: Work, signer: Signer) -> Scope:
    """What was begun; a new start if it had not got that far.

    It must be what this owner began with here: under a secret that another knows all would be laid
    open to them.
    """
    files = list((work.partial / GRANTS).glob("owner.*.age"))
    if not files or not work.begun:
        return _begin_release(work, signer)
    begun, keys, signature = (
        str(work.begun[-1].get(name)) for name in ("begun", "keys", "signature")
    )
    sealed = signer.identity.decrypt(files[0].read_bytes()) or b""
    grant = read_grant(split_grant(sealed, str(files[0])), str(files[0]))
    said = (grant.release, grant.keys, grant.signer, grant.label, grant.tier)
    ours = said == (begun, keys, signer.public, "owner", HIGHEST)
    message = _begun_message(work, begun, keys)
    if grant.secret is None or not ours or not verify(signer.public, message, signature):
        raise OutputError(
            f'"{work.partial}" was not begun with your key: look what it is, and remove it'
        )
    return Scope(grant.release, grant.keys, grant.secret)


def _stamp(file: Path) -> dict[str, Any]:
    try:
        stat = file.stat()
        return {"file": str(file.resolve()), "size": stat.st_size, "mtime": stat.st_mtime_ns}
    except OSError:
        return {"file": str(file), "size": -1, "mtime": -1}  # reading it says why


def _is_whole(path: Path, digest: str) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == digest
    except OSError:
        return False


def keep_only(folder: Path, *patterns: str) -> None:
    """What an earlier, interrupted run left and this one does not name does not belong to the
    release."""
    kept = {path for pattern in patterns for path in folder.glob(pattern)}
    for path in folder.iterdir():
        if path not in kept:
            remove(path)
