"""The library's front door: what `import primis` offers, in few names that take what people have.

    primis.share(["xrays"], "release", to=["partner.key.pub"])

    with primis.open("release", identity="partner.key") as release:
        for image in release:
            image.read("diagnostic").pixels

    bundle, key = primis.encode(array)
    primis.decode(bundle, key)

Places are paths or texts. Keys are what the command line takes: a public key as text or in a file
to share with, a file of private keys to open with. What goes wrong is a `PrimisError`.
"""

from __future__ import annotations

import datetime
import logging
import secrets as system
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from primis.bundle.settings import Settings
from primis.codec import Codec
from primis.errors import AccessError, BadKey, InputError, UsageError
from primis.imaging.image import MAX_CHANNELS, MEANING, Image
from primis.jobs import restore as restoring
from primis.jobs import share as sharing
from primis.jobs.executors.choice import executor_for
from primis.jobs.result import OnResult, Result
from primis.keys.grant import Grant
from primis.keys.home import config_folder, default_owner_key, known_releases_file
from primis.keys.identity import (
    Identity,
    Signer,
    generate,
    parse_recipients,
    passphrase_identity,
    read_identities,
    read_signer,
)
from primis.keys.key_file import wait_until_written, write_key_file
from primis.keys.recipient import Recipient
from primis.keys.seal import Secret, image_secrets, release_secrets
from primis.keys.tier import HIGHEST, Tier
from primis.metrics.fidelity import Quality
from primis.network.checkpoint import named, read_checkpoint, shipped
from primis.release import owner as owning
from primis.release import rekey as rekeying
from primis.release.grants import secrets_for
from primis.release.known import KnownReleases
from primis.release.naming import NamedImage, ids_of, read_names
from primis.release.reader import Release
from primis.sharing.opened import OpenedBundle
from primis.sharing.restore import (
    CodecFor,
    quality_at,
    read_image,
    restore_image,
    tier_of_texture,
)
from primis.sharing.share import share_image

if TYPE_CHECKING:
    from distributed import Client

Place = str | PathLike[str]
Keys = Place | Recipient | Sequence[Place | Recipient]
"""Public keys: as text, in a file, or parsed."""

Identities = Place | Identity | Sequence[Place | Identity]
"""Private keys: in a file, or parsed."""

_log = logging.getLogger("primis")


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
    jobs: int | None = 1,
    dask: str | Client | None = None,
    dask_insecure: bool = False,
    on_result: OnResult = lambda result, done, total: None,
) -> list[Result]:
    """Make a release of images and grant it to recipients.

    images: files and folders. out: the folder to make. to: public keys of the recipients. owner:
    the private key that signs, and that can grant later; by default the one in the configuration
    folder, made at first use. settings: S_x, level of protection and budgets. tier: the highest
    that recipients may open; by default all that the release holds, which is diagnostic, or
    original with `with_original`. with_original: seal the files themselves too. model: a file of
    other weights, or "paper". max_pixels: refuse images of more samples, all frames and channels
    counted; by default 300 million, fewer for small files. measure: compare each image with what a
    recipient of tier diagnostic sees of it; the `Quality` is in its `Result` and sealed with it.
    psnr: in dB, in place of the S_x of the settings: share with the smallest S_x at which 95 % of
    the images reach it, measured on at most 64 images, drawn at random. jobs: processes that work
    at once, None for as many as cores. dask: in their place, the address of a Dask scheduler or a
    `distributed.Client`; image files must lie at the same path on all its machines. dask_insecure:
    allow a scheduler on another machine without TLS. on_result: is called after each image with its
    `Result`, the number done and the number of all.

    Returns a `Result` for each image, in order. One that cannot be shared has its `error` set, and
    the others are shared. A run that was interrupted goes on where it stopped.

    Raises OutputError if `out` exists, BadKey for a key that cannot be used, ModelError,
    WorkerError where processes or a cluster cannot be used, and UsageError if no image could be
    shared, or if too few reach `psnr` at any S_x.
    """
    granted = Tier(tier) if tier else HIGHEST if with_original else Tier.DIAGNOSTIC
    if granted == Tier.ORIGINAL and not with_original:
        raise UsageError('tier "original" was asked for, but with_original is False')
    with executor_for(jobs, dask, dask_insecure=dask_insecure) as executor:
        return sharing.share(
            [Path(path) for path in _each(images)],
            Path(out),
            _recipients(to),
            _signer(owner),
            settings or Settings(),
            tier=granted,
            with_original=with_original,
            model=None if model is None else Path(model),
            max_pixels=max_pixels,
            measure=measure,
            psnr=psnr,
            executor=executor,
            on_result=on_result,
        )


def grant(
    release: Place,
    *,
    to: Keys,
    tier: Tier | str = Tier.DIAGNOSTIC,
    images: Sequence[str] = (),
    note: str | None = None,
    not_after: datetime.date | None = None,
    owner: Place | Signer | None = None,
) -> list[Path]:
    """Let more people open a release, or some images of it.

    to: public keys of the recipients. tier: the highest that they may open. images: ids, starts of
    ids, or names; by default the whole release. note: a line for the recipient. not_after: the last
    day, UTC, on which primis opens the grant; a courtesy, since a recipient's copy of the secrets
    does not expire. owner: the private key that made the release, by default the one in the
    configuration folder.

    Returns the new files in `grants/`; nothing else of the release changes but their list.

    Raises WrongSigner or NoMatchingGrant if the key is not the owner's, UsageError for a label that
    is taken or an image that is not there, and what `open` raises.
    """
    signer, opened = _signer(owner, make=False), _release(release, None, remember=True)
    grants = opened.open_grants([signer.identity], trust=signer.public)
    chosen = ids_of(opened, grants, images)
    return [
        owning.grant(
            opened,
            recipient,
            signer,
            tier=Tier(tier),
            images=chosen or None,
            note=note,
            not_after=not_after,
        )
        for recipient in _recipients(to)
    ]


def rekey(
    release: Place, *, without: Iterable[str] = (), owner: Place | Signer | None = None
) -> rekeying.Rekeyed:
    """Give a release new secrets, ids and grants, without encoding an image again.

    without: labels of grants that are not renewed; all others to the same keys go too, and so do
    those to passphrases. owner: as of `grant`.

    Whoever copied the old release can still open that copy. Raises UsageError for a label that is
    not there, OutputError if the folder cannot be replaced, and what `open` raises.
    """
    signer = _signer(owner, make=False)
    return rekeying.rekey(_release(release, None, remember=True), signer, without=without)


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
    jobs: int | None = 1,
    dask: str | Client | None = None,
    dask_insecure: bool = False,
    on_result: OnResult = lambda result, done, total: None,
) -> list[Result]:
    """Restore images into a new folder, as files of the kinds that were shared.

    out: the folder to make. identity, passphrase, signer, models: as of `open`. tier: by default
    the highest that the grant opens. images: ids, starts of ids, or names; by default all that the
    grant opens. max_pixels, jobs, dask, dask_insecure, on_result: as of `share`. texture: as of
    `ReleaseImage.read`.

    Returns a `Result` for each image, in order. One that cannot be restored has its `error` set,
    and the others are restored.

    Raises OutputError if `out` exists, AccessError if no image can be opened, ModelError,
    UsageError for an image that is not there or texture at another tier than diagnostic, and what
    `open` raises.
    """
    with executor_for(jobs, dask, dask_insecure=dask_insecure) as executor:
        return restoring.restore(
            _release(release, signer, remember=True),
            _identities(identity, passphrase),
            Path(out),
            tier=Tier(tier) if tier else None,
            images=images,
            models=tuple(Path(model) for model in models),
            max_pixels=max_pixels,
            texture=texture,
            executor=executor,
            on_result=on_result,
        )


def open(
    release: Place,
    identity: Identities | None = None,
    *,
    passphrase: str | None = None,
    signer: str | None = None,
    models: Sequence[Place] = (),
    remember: bool = True,
) -> OpenRelease:
    """Open a release with a private key or a passphrase. Images are read when they are asked for.

    identity: files of private keys; by default the owner's key in the configuration folder.
    passphrase: opens a grant to a passphrase, in place of a key or besides. signer: the public key
    (64 hex digits) that must have signed the release. models: files of weights that do not come
    with primis. remember: compare signer and version with what was seen of the release before, as
    SSH does with hosts, and remember them.

    Raises NoMatchingGrant where the key opens nothing, BadManifest where this is no release,
    WrongSigner where another signed it, and UnexpectedRelease where it is not the release that was
    seen before.
    """
    opened = _release(release, signer, remember=remember)
    grants = opened.open_grants(_identities(identity, passphrase))
    codec_for = restoring.codecs(Path(model) for model in models)
    return OpenRelease(opened, grants, codec_for)


@dataclass(frozen=True, eq=False)
class ReleaseImage:
    """An image of an open release.

    id: 32 hex digits. name: the path that it was shared under, None where the grant opens tier
    preview alone.
    """

    id: str
    name: str | None
    _release: OpenRelease = field(repr=False)

    @property
    def tier(self) -> Tier:
        """The highest tier that the key opens of this image. Raises GrantExpired."""
        return self._release.access(self.id, None)[0]

    @property
    def quality(self) -> Quality | None:
        """How near the image at tier diagnostic is to what was shared, as its owner measured it.

        None where the owner did not, and where the key opens tier preview alone. Raises
        GrantExpired, BadBundle, DamagedSection.
        """
        return self._release.quality(self.id)

    def read(self, tier: Tier | str | None = None, *, texture: bool = False) -> Image:
        """Decode the image: its pixels as they are stored in files of its kind, bit depth and
        spacing, and at tier diagnostic the header of its file.

        tier: preview or diagnostic; by default the higher of the two that the grant opens. texture:
        at tier diagnostic, add noise with the statistics of what was lost, the same at each call.
        Features of texture come back; the image is less like its source (`quality` is that without
        it). For measuring texture, never for reading images.

        Raises TierTooLow, GrantExpired, BadBundle, DamagedSection, ModelError, NoTexture where the
        owner did not measure the image, and UsageError for tier original, which is a file, and for
        texture at tier preview.
        """
        return self._release.read(self.id, Tier(tier) if tier else None, texture=texture)

    def file(self, tier: Tier | str | None = None, *, texture: bool = False) -> bytes:
        """The bytes of a file of the kind that was shared, at tier original of the very file.

        tier: by default the highest that the grant opens. texture: as of `read`; the tier is then
        diagnostic by default. Raises as `read` does.
        """
        return self._release.file(self.id, Tier(tier) if tier else None, texture=texture)


class OpenRelease:
    """A release and what a key opens of it; made by `open`. A context manager.

    Iterating gives a `ReleaseImage` for each image that the key opens, and `len(release)` is their
    number. `release["chest.dcm"]` is one of them, by name, id, or the start of an id, and raises
    KeyError where there is no such image.
    """

    def __init__(self, release: Release, grants: list[Grant], codec_for: CodecFor) -> None:
        self._release, self._grants, self._codec_for = release, grants, codec_for
        self._ids = [i for i in release.ids if any(grant.covers(i) for grant in grants)]
        self._names: dict[str, NamedImage] | None = None

    def __repr__(self) -> str:
        return f"OpenRelease({str(self._release.path)!r}, {len(self)} images, tier {self.tier})"

    def __enter__(self) -> OpenRelease:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing is held open."""

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[ReleaseImage]:
        return (self._image(bundle_id) for bundle_id in self._ids)

    def __getitem__(self, image: str) -> ReleaseImage:
        """By id, the start of an id, or name. Raises KeyError."""
        try:
            [bundle_id] = ids_of(self._release, self._grants, [image])
        except (UsageError, AccessError) as error:
            raise KeyError(str(error)) from None
        return self._image(bundle_id)

    @property
    def tier(self) -> Tier:
        """The highest tier that the key opens, of any image."""
        return self._grants[0].tier

    @property
    def signer(self) -> str:
        """The public key that signed the release: 64 hex digits."""
        return self._release.manifest.signer

    @property
    def notes(self) -> list[str]:
        """Lines for people: that a signer was remembered, grants that were passed over."""
        return self._release.notes

    def access(self, bundle_id: str, tier: Tier | None) -> restoring.Access:
        """A tier and the secrets of an image. Raises AccessError."""
        today = datetime.datetime.now(datetime.UTC).date()
        return secrets_for(self._grants, bundle_id, tier, today)

    def read(self, bundle_id: str, tier: Tier | None, *, texture: bool = False) -> Image:
        """See `ReleaseImage.read`."""
        if tier == Tier.ORIGINAL:
            raise UsageError("tier original is a file, not pixels: file(tier) gives its bytes")
        tier, bundle = self._opened(bundle_id, tier_of_texture(tier) if texture else tier)
        wanted = min(tier, Tier.DIAGNOSTIC)
        image, _ = read_image(bundle, wanted, self._codec_for, texture=texture)
        return image

    def quality(self, bundle_id: str) -> Quality | None:
        """See `ReleaseImage.quality`."""
        tier, bundle = self._opened(bundle_id, None)
        return quality_at(bundle, min(tier, Tier.DIAGNOSTIC))

    def file(self, bundle_id: str, tier: Tier | None, *, texture: bool = False) -> bytes:
        """See `ReleaseImage.file`."""
        tier = tier_of_texture(tier) if texture else tier
        wanted, bundle = self._opened(bundle_id, tier)
        if tier is None and wanted == Tier.ORIGINAL and "original" not in bundle.parts:
            wanted = Tier.DIAGNOSTIC
        group = self._release.manifest.release
        return restore_image(bundle, wanted, self._codec_for, group=group, texture=texture).data

    def _opened(self, bundle_id: str, tier: Tier | None) -> tuple[Tier, OpenedBundle]:
        wanted, secrets = self.access(bundle_id, tier)
        return wanted, OpenedBundle(*self._release.sections(bundle_id), secrets)

    def _image(self, bundle_id: str) -> ReleaseImage:
        if self._names is None:
            self._names = {image.id: image for image in read_names(self._release, self._grants)}
        known = self._names.get(bundle_id)
        return ReleaseImage(bundle_id, known.name if known else None, self)


class Encoded(NamedTuple):
    """What `encode` gives. bundle: the bytes, which anyone may see. key: opens every tier of it."""

    bundle: bytes
    key: Secret


def encode(
    pixels: np.ndarray,
    settings: Settings | None = None,
    *,
    bit_depth: int | None = None,
    spacing_mm: tuple[float, float] | None = None,
    model: Place | None = None,
) -> Encoded:
    """Turn one array into one bundle that needs no release, and its key.

    pixels: (H, W), (H, W, C) or (frames, H, W, C) of uint8, uint16, int8 or int16, with at most 16
    channels. settings: S_x, level of protection and budgets. bit_depth: bits of a sample that are
    used, by default all. spacing_mm: between rows and between columns. model: a file of other
    weights, or "paper".

    Raises InputError for other arrays, and where the code does not fit the budgets; ModelError.
    """
    key, bundle_id = Secret.new(), system.token_hex(16)
    opened = image_secrets(release_secrets(key, HIGHEST), bundle_id)
    image = _image_of(pixels, bit_depth, spacing_mm)
    codec = Codec(read_checkpoint(named(Path(model)) if model else shipped()))
    shared = share_image(
        image, settings or Settings(), opened, codec, bundle_id=bundle_id, name="", alone=True
    )
    return Encoded(shared.data, key)


def decode(
    bundle: bytes, key: Secret, tier: Tier | str = Tier.DIAGNOSTIC, *, models: Sequence[Place] = ()
) -> Image:
    """The image in a bundle that `encode` made.

    key: as `encode` gave it. tier: preview or diagnostic. models: files of weights that do not come
    with primis. Raises BadBundle, DamagedSection, ModelError.
    """
    from primis.bundle.container import read_head

    bundle_id, _ = read_head(bundle, "")
    secrets = image_secrets(release_secrets(key, HIGHEST), bundle_id)
    codec_for = restoring.codecs(Path(model) for model in models)
    return read_image(OpenedBundle.read(bundle, secrets), Tier(tier), codec_for)[0]


def _image_of(
    pixels: np.ndarray, bit_depth: int | None, spacing_mm: tuple[float, float] | None
) -> Image:
    array = np.asarray(pixels)
    if array.dtype.kind not in "ui" or array.dtype.itemsize > 2:
        raise InputError(f"pixels are {array.dtype}, expected uint8, uint16, int8 or int16")
    shaped = {2: array[None, ..., None], 3: array[None]}.get(array.ndim, array)
    if shaped.ndim != 4 or not shaped.size or shaped.shape[3] > MAX_CHANNELS:
        raise InputError(
            f"pixels have shape {array.shape}, expected (H, W), (H, W, C) or (frames, H, W, C) "
            f"with at most {MAX_CHANNELS} channels"
        )
    depth, most = bit_depth or 8 * array.dtype.itemsize, 8 * array.dtype.itemsize
    if not 1 <= depth <= most:
        raise InputError(f"bit_depth is {depth}, expected 1..{most}")
    return Image(shaped, depth, MEANING[shaped.shape[3]], "tiff", spacing_mm)


def _each(given: Place | Sequence[Place]) -> list[Place]:
    return [given] if isinstance(given, str | PathLike) else list(given)


def _recipients(to: Keys) -> list[Recipient]:
    each = [to] if isinstance(to, str | PathLike | Recipient) else to
    parsed: list[Recipient] = []
    for key in each:
        parsed += [key] if isinstance(key, Recipient) else parse_recipients(str(key))
    return list(dict.fromkeys(parsed))


def _identities(identity: Identities | None, passphrase: str | None) -> list[Identity]:
    if identity is None:
        given: Sequence[Place | Identity] = [] if passphrase else [default_owner_key()]
    else:
        given = [identity] if isinstance(identity, str | PathLike | Identity) else identity
    read: list[Identity] = [] if passphrase is None else [passphrase_identity(passphrase)]
    for key in given:
        read += [key] if isinstance(key, Identity) else read_identities(Path(key))
    if not read:
        raise BadKey("no private key was given")
    return read


def _signer(owner: Place | Signer | None, *, make: bool = True) -> Signer:
    """The owner's key; the default one is made at first use."""
    if isinstance(owner, Signer):
        return owner
    path = default_owner_key() if owner is None else Path(owner)
    if make and owner is None and not path.exists():
        try:
            write_key_file(path, generate().encode())
        except FileExistsError:  # another process was first: its key is the owner's
            pass
        else:
            _log.warning(
                'made your owner key "%s": keep a copy, without it no grant can be added', path
            )
    wait_until_written(path)
    return read_signer(path)


def _release(place: Place, signer: str | None, *, remember: bool) -> Release:
    known = None
    if remember:
        config_folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        known = KnownReleases(known_releases_file())
    return Release(Path(place), signer=signer, known=known)
