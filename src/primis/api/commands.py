"""What the command line does with releases, from Python."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from primis.api.places import (
    Identities,
    Keys,
    Place,
    each_of,
    identities_of,
    open_place,
    recipients_of,
    signer_of,
)
from primis.bundle.settings import Settings
from primis.errors import UsageError
from primis.imaging.region import Region
from primis.jobs import restore as restoring
from primis.jobs.executors.choice import executor_for
from primis.jobs.rekey import run as rekeying
from primis.jobs.result import OnResult, Result
from primis.jobs.shards import Shard
from primis.jobs.share import run as sharing
from primis.keys.identity import Signer
from primis.keys.tier import HIGHEST, Tier
from primis.release import owner as owning
from primis.release.naming import ids_of

if TYPE_CHECKING:
    from distributed import Client

_LOG = logging.getLogger("primis")


def share(
    images: Place | Sequence[Place],
    out: Place,
    *,
    to: Keys,
    owner: Place | Signer | None = None,
    settings: Settings | None = None,
    tier: Tier | str | None = None,
    with_original: bool = False,
    model: Place | None = None,
    max_pixels: int | None = None,
    measure: bool = True,
    psnr: float | None = None,
    exact: bool = False,
    lossless: bool = False,
    series: bool = True,
    minimal: bool = False,
    frames_alone: bool = False,
    labels: Place | None = None,
    jobs: int | None = 1,
    dask: str | Client | None = None,
    dask_insecure: bool = False,
    shard: str | None = None,
    finish: bool = False,
    on_result: OnResult = lambda result, done, total: None,
) -> list[Result]:
    """Make a release of images and grant it to recipients.

    images: files and folders. out: the folder to make. to: public keys of the recipients. owner:
    the private key that signs, and that can grant later; by default the one in the configuration
    folder, made at first use. settings: S_x, level of protection and budgets. tier: the highest
    that recipients may open; by default all that the release holds, which is diagnostic, or
    original with `with_original`. with_original: seal the files themselves too. model: a file of
    other weights, or "paper". max_pixels: refuse images of more samples, all frames and channels
    counted; by default 600 million, fewer for small files. measure: compare each image with what a
    recipient of tier diagnostic sees of it; the `Quality` is in its `Result` and sealed with it.
    psnr: in dB, in place of the S_x of the settings: share with the smallest S_x at which 95 % of
    the images reach it, measured on at most 64 images, drawn at random. exact: refuse files whose
    samples would be rounded: NIfTI of real numbers. lossless: seal every sample as it is, so that
    tier diagnostic has no loss and an image takes as many bytes as uncompressed. series: the slices
    of one DICOM series and geometry are one image; else each file is one. minimal: seal of headers
    only what is needed to show the image; the whole header is then at tier original alone, if there
    is one. frames_alone: code each frame by itself, so that a grant of some opens no others.
    labels: a table (CSV) with a column `file`, whose other columns are sealed in the release's
    catalogue; a row belongs to the file it names, from the table's folder, or to the image of that
    name. jobs: processes that work at once, None for as many as cores. dask: in their place, the
    address of a Dask scheduler or a `distributed.Client`; image files must lie at the same path on
    all its machines. dask_insecure: allow a scheduler on another machine without TLS. shard: "3/8"
    works on the third of eight parts of the images alone; finish: makes the release of what all
    shards did. All else is to be given alike in these calls. on_result: is called after each image
    with its `Result`, the number done and the number of all.

    Returns a `Result` for each image, in order. One that cannot be shared has its `error` set, and
    the others are shared. A run that was interrupted goes on where it stopped.

    Raises OutputError if `out` exists or another process works on it, BadKey for a key that cannot
    be used, ModelError, WorkerError where processes or a cluster cannot be used, and UsageError if
    no image could be shared, if too few reach `psnr` at any S_x, where shards have work left, or
    for a table that names none of the images or one twice, or has over 4,096 bytes of labels for
    one.
    """
    granted = Tier(tier) if tier else HIGHEST if with_original else Tier.DIAGNOSTIC
    if granted == Tier.ORIGINAL and not with_original:
        raise UsageError('tier "original" was asked for, but with_original is False')
    with executor_for(jobs, dask, dask_insecure=dask_insecure) as executor:
        return sharing.share(
            [Path(path) for path in each_of(images)],
            out,
            recipients_of(to),
            signer_of(owner),
            settings or Settings(),
            tier=granted,
            with_original=with_original,
            model=None if model is None else Path(model),
            max_pixels=max_pixels,
            measure=measure,
            psnr=psnr,
            exact=exact,
            lossless=lossless,
            series=series,
            minimal=minimal,
            frames_alone=frames_alone,
            labels=None if labels is None else Path(labels),
            executor=executor,
            shard=None if shard is None else Shard.parse(shard),
            finish=finish,
            on_result=on_result,
            on_note=_LOG.warning,
        )


def grant(
    release: Place,
    *,
    to: Keys,
    tier: Tier | str = Tier.DIAGNOSTIC,
    images: Sequence[str] = (),
    region: Sequence[int] | str | None = None,
    note: str | None = None,
    not_after: datetime.date | None = None,
    owner: Place | Signer | None = None,
) -> list[str]:
    """Let more people open a release, some images of it, or a region of each of these.

    to: public keys of the recipients. tier: the highest that they may open. images: ids, starts of
    ids, or names; by default the whole release. region: (x, y, width, height) in pixels from the
    upper left corner, or with first and last frame, from 0, after them; it opens the tiles that it
    touches (`Settings.tile`), in these frames and in those that are coded with them, and nothing
    else of an image, at tier preview or diagnostic. note: a line for the recipient. not_after: the
    last day, UTC, on which primis opens the grant; a courtesy, since a recipient's copy of the
    secrets does not expire. owner: the private key that made the release, by default the one in the
    configuration folder.

    Returns where the new grants lie; nothing else of the release changes but their list.

    Raises WrongSigner or NoMatchingGrant if the key is not the owner's, UsageError for a label that
    is taken or an image that is not there, NoRegion for a region that an image does not have, and
    what `open` raises.
    """
    signer, opened = signer_of(owner, make=False), open_place(release, None, remember=True)
    grants = opened.open_grants([signer.identity], trust=signer.public)
    chosen = ids_of(opened, grants, images)
    return [
        owning.grant(
            opened,
            recipient,
            signer,
            tier=Tier(tier),
            images=chosen or None,
            region=None if region is None else Region.of(region),
            note=note,
            not_after=not_after,
        )
        for recipient in recipients_of(to)
    ]


def rekey(
    release: Place,
    *,
    without: Iterable[str] = (),
    owner: Place | Signer | None = None,
    jobs: int | None = 1,
    dask: str | Client | None = None,
    dask_insecure: bool = False,
    shard: str | None = None,
    finish: bool = False,
) -> rekeying.Rekeyed:
    """Give a release new secrets, ids and grants, without encoding an image again.

    without: labels of grants that are not renewed; all others to the same keys go too, and so do
    those to passphrases. owner: as of `grant`. jobs, dask, dask_insecure: as of `share`; the
    machines of a cluster need not see the release. shard: "3/8" works on the third of eight parts
    of the images alone, and leaves the release as it is; finish: does the rest once all shards are
    done, and only its `without` counts.

    A copy of the old release still opens with the old grants. A call that was interrupted goes on.
    Raises UsageError for a label that is not there or if shards have work left, OutputError if the
    folder cannot be replaced, WorkerError if processes or a cluster cannot be used or an image ends
    its process each time, and what `open` raises.
    """
    signer = signer_of(owner, make=False)
    with executor_for(jobs, dask, dask_insecure=dask_insecure) as executor:
        return rekeying.rekey(
            open_place(release, None, remember=True),
            signer,
            without=without,
            executor=executor,
            shard=None if shard is None else Shard.parse(shard),
            finish=finish,
        )


def restore(
    release: Place,
    out: Place,
    *,
    identity: Identities | None = None,
    passphrase: str | None = None,
    tier: Tier | str | None = None,
    images: Sequence[str] = (),
    signer: str | None = None,
    models: Sequence[Place] = (),
    max_pixels: int | None = None,
    texture: bool = False,
    region: Sequence[int] | str | None = None,
    jobs: int | None = 1,
    dask: str | Client | None = None,
    dask_insecure: bool = False,
    shard: str | None = None,
    on_result: OnResult = lambda result, done, total: None,
) -> list[Result]:
    """Restore images into a new folder, as files of the kinds that were shared.

    out: the folder to make. identity, passphrase, signer, models: as of `open`. tier: by default
    the highest that the grant opens. images: ids, starts of ids, or names; by default all that the
    grant opens. max_pixels, jobs, dask, dask_insecure, on_result: as of `share`. texture: as of
    `ReleaseImage.read`. region: restore this part of each image, as of `grant`, into files without
    the headers of the sources. shard: "3/8" restores the third of eight parts of the images, each
    part into a folder of its own.

    Returns a `Result` for each image, in order. One that cannot be restored has its `error` set,
    and the others are restored.

    Raises OutputError if `out` exists, AccessError if no image can be opened, ModelError,
    UsageError for an image that is not there, texture at another tier than diagnostic or of a
    region, and what `open` raises.
    """
    with executor_for(jobs, dask, dask_insecure=dask_insecure) as executor:
        return restoring.restore(
            open_place(release, signer, remember=True),
            identities_of(identity, passphrase),
            Path(out),
            tier=Tier(tier) if tier else None,
            images=images,
            models=tuple(Path(model) for model in models),
            max_pixels=max_pixels,
            texture=texture,
            region=None if region is None else Region.of(region),
            shard=None if shard is None else Shard.parse(shard),
            executor=executor,
            on_result=on_result,
        )
