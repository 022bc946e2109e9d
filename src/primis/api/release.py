"""A release that is open: its images, and what a key opens of each."""

from __future__ import annotations

import datetime
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

from primis.api.places import (
    Identities,
    Place,
    given_identities,
    identities_of,
    open_place,
    wherever,
)
from primis.errors import AccessError, NotCovered, UnexpectedRelease, UsageError
from primis.imaging.image import SERIES, Image, NamedFile
from primis.imaging.region import Region
from primis.jobs import restore as restoring
from primis.keys.grant import Grant, RegionSecrets
from primis.keys.identity import Identity
from primis.keys.tier import Tier
from primis.metrics.fidelity import Quality
from primis.release.catalogue import Catalogue, Listed, spacing_mm_of
from primis.release.grants import secrets_for
from primis.release.naming import ids_of, open_catalogue, read_names
from primis.release.reader import Release
from primis.sharing.codes import Codes
from primis.sharing.opened import OpenedBundle
from primis.sharing.region import read_region, require_decoded, restore_region
from primis.sharing.restore import (
    CodecFor,
    Frames,
    quality_at,
    read_codes,
    read_image,
    restore_image,
    slice_names,
    tier_of_texture,
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
    keys = tuple(
        key if isinstance(key, Identity) else wherever(key)
        for key in given_identities(identity, passphrase)
    )
    weights = tuple(wherever(model) for model in models)
    opening = Opening(wherever(release), keys, passphrase, signer, weights)
    return opening.open(release, remember=remember)


@dataclass(frozen=True)
class Opening:
    """How a release was opened, so that another process can open it again.

    A pickle holds the place and where the key files lie. It never holds a key or a passphrase:
    with one of those `pickle` raises UsageError.
    """

    place: str
    keys: tuple[str | Identity, ...] = field(repr=False)
    passphrase: str | None = field(repr=False)
    signer: str | None
    models: tuple[str, ...] = field(repr=False)

    def open(self, said: Place | None = None, *, remember: bool = False) -> OpenRelease:
        """said: the place as it was given, for messages. A process that another one started gets
        one thread: such processes share the cores."""
        release = open_place(said or self.place, self.signer, remember=remember)
        grants = release.open_grants(identities_of(self.keys, self.passphrase))
        threads = 1 if multiprocessing.parent_process() else 0
        codec_for = restoring.codecs([Path(model) for model in self.models], threads)
        return OpenRelease(release, grants, codec_for, self)

    def __getstate__(self) -> dict[str, Any]:
        if self.passphrase is not None or any(isinstance(key, Identity) for key in self.keys):
            raise UsageError(
                f'release "{self.place}" was opened with a key or passphrase, which no other '
                "process is sent: expected the path of a key file"
            )
        return dict(self.__dict__)


class OwnRelease:
    """A release that each process opens for itself when it first needs it: no session, connection
    or secret of one process is used in another. It is the one that was seen first, or a later
    version of it.
    """

    __slots__ = ("_opening", "_process", "_release", "_seen")

    def __init__(self, release: OpenRelease) -> None:
        self._opening = replace(release.opening, signer=release.signer)
        self._seen = release.state
        self._process, self._release = os.getpid(), release

    def get(self) -> OpenRelease:
        """This process's own. Raises as `open` does."""
        if self._process != os.getpid():
            release = self._opening.open()
            if release.state[0] != self._seen[0] or release.state[1] < self._seen[1]:
                raise UnexpectedRelease(
                    f'"{self._opening.place}" holds another release than before, or an older state '
                    "of it"
                )
            self._release, self._process = release, os.getpid()
        return self._release

    def __getstate__(self) -> tuple[Opening, tuple[str, int]]:
        return self._opening, self._seen

    def __setstate__(self, state: tuple[Opening, tuple[str, int]]) -> None:
        self._opening, self._seen = state
        self._process = 0


def own_release(
    release: OpenRelease | Place,
    identity: Identities | None,
    signer: str | None,
    models: Sequence[Place],
) -> OwnRelease:
    """Of one that is open, or opened as `open` does. Raises UsageError where both are given."""
    if not isinstance(release, OpenRelease):
        return OwnRelease(open(release, identity, signer=signer, models=models))
    if identity is not None or signer is not None or models:
        raise UsageError("identity, signer and models belong to primis.open, where one is open")
    return OwnRelease(release)


@dataclass(frozen=True, eq=False)
class ReleaseImage:
    """An image of an open release.

    id: 32 hex digits. name: the path that it was shared under, None where the grant opens tier
    preview alone.

    What the release's catalogue lists of it (kind, modality, frames, size, spacing and labels) is
    known without fetching the image. It is None where the key does not open the catalogue, for
    which it needs tier diagnostic of the whole release.
    """

    id: str
    name: str | None
    _release: OpenRelease = field(repr=False)

    @property
    def kind(self) -> str | None:
        """Kind of file that was shared: png, jpeg, webp, tiff, dicom, nifti, nifti-gz, or
        dicom-series for the slices of a series, which are one image."""
        return self._listed.kind if self._listed else None

    @property
    def modality(self) -> str | None:
        """DICOM's modality, such as CT; None for other kinds of file."""
        return (self._listed.modality or None) if self._listed else None

    @property
    def frames(self) -> int | None:
        """How many frames it has."""
        return self._listed.frames if self._listed else None

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) in pixels."""
        return (self._listed.height, self._listed.width) if self._listed else None

    @property
    def spacing_mm(self) -> tuple[float, float] | None:
        """Between rows and between columns; None where that is not known either."""
        return spacing_mm_of(self._listed.spacing) if self._listed else None

    @property
    def labels(self) -> dict[str, str] | None:
        """What the owner's table says of it, by column; empty where there is no row for it."""
        return dict(self._listed.labels) if self._listed else None

    @property
    def _listed(self) -> Listed | None:
        return self._release.listed(self.id)

    @property
    def slices(self) -> list[str]:
        """Of a DICOM series the name of each slice's file, in the order of frames; else nothing,
        as where the key opens tier preview alone. Raises GrantExpired, BadBundle, DamagedSection.
        """
        return [] if self.kind not in (None, SERIES) else self._release.slices(self.id)

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

    @property
    def region(self) -> tuple[int, ...] | None:
        """The part that the key opens: (x, y, width, height, first, last), pixels and frames from
        0, the last frame included. None where it opens all of the image."""
        keys = self._release.access(self.id, None)[1]
        return astuple(keys.region) if isinstance(keys, RegionSecrets) else None

    def read(
        self,
        tier: Tier | str | None = None,
        *,
        texture: bool = False,
        frames: int | slice | None = None,
        region: Sequence[int] | str | None = None,
    ) -> Image:
        """Decode the image: its pixels as they are stored in files of its kind, bit depth and
        spacing, and at tier diagnostic the header of its file.

        tier: preview or diagnostic; by default the higher of the two that the grant opens. texture:
        at tier diagnostic, add noise with the statistics of what was lost, the same at each call.
        Features of texture come back; the image is less like its source (`quality` is that without
        it). For measuring texture, never for reading images. frames: decode these alone, such as
        `slice(0, 10)` or `-1`, which saves the time of the others; the header stays that of all.
        region: decode these pixels alone, (x, y, width, height) from the upper left corner; from a
        host hardly more is fetched. It has no header. By default it is the region that the grant
        opens, where that is not all; the pixels at its edge then differ from those of the whole
        image.

        Raises NotCovered for what the grant does not open of the image, NoRegion for pixels that
        the image does not have, TierTooLow, GrantExpired, BadBundle, DamagedSection, ModelError,
        NoTexture where the owner did not measure the image, and UsageError for tier original, which
        is a file, for texture at tier preview, and for frames that are not there.
        """
        wanted = Tier(tier) if tier else None
        part = None if region is None else Region.of(region)
        return self._release.read(self.id, wanted, texture=texture, frames=frames, region=part)

    def codes(self, tier: Tier | str | None = None, *, frames: int | slice | None = None) -> Codes:
        """The true code Z of the image, which is what `read` decodes it from, to learn from.

        tier: preview or diagnostic; by default the higher of the two that the grant opens. frames:
        as of `read`. Raises NoCode for masks and label maps, which are sealed sample by sample,
        and what `read` raises.
        """
        return self._release.codes(self.id, Tier(tier) if tier else None, frames)

    def file(self, tier: Tier | str | None = None, *, texture: bool = False) -> bytes:
        """The bytes of a file of the kind that was shared, at tier original of the very file.

        tier: by default the highest that the grant opens. texture: as of `read`; the tier is then
        diagnostic by default. Raises as `read` does, and UsageError for a series, which is several
        files.
        """
        files = self.files(tier, texture=texture)
        if len(files) > 1:
            raise UsageError(
                f'image "{self.name}" is a series of {len(files)} files: files(tier) gives them'
            )
        return next(iter(files.values()))

    def files(
        self,
        tier: Tier | str | None = None,
        *,
        texture: bool = False,
        frames: int | slice | None = None,
    ) -> dict[str, bytes]:
        """The bytes of each file by the name that it was shared under: of a series one for each
        slice, of all else one. A name that the key does not open is the image's id. Names are as
        the owner sealed them: check one before you use it as a path.

        tier, texture: as of `file`. frames: those slices alone. Raises as `read` does."""
        wanted = Tier(tier) if tier else None
        files = self._release.files(self.id, wanted, texture=texture, frames=frames)
        return {file.name or self.id: file.data for file in files}


class OpenRelease:
    """A release and what a key opens of it; made by `open`. A context manager.

    Iterating gives a `ReleaseImage` for each image that the key opens, and `len(release)` is their
    number. `release["chest.dcm"]` is one of them, by name, id, or the start of an id, and raises
    KeyError where there is no such image.
    """

    def __init__(
        self, release: Release, grants: list[Grant], codec_for: CodecFor, opening: Opening
    ) -> None:
        self._release, self._grants, self._codec_for = release, grants, codec_for
        self.opening = opening

    def __repr__(self) -> str:
        return f"OpenRelease({self._release.place!r}, {len(self)} images, tier {self.tier})"

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
        return (ReleaseImage(i, self._names.get(i), self) for i in self._ids)

    def __getitem__(self, image: str) -> ReleaseImage:
        """By id, the start of an id, or name. Raises KeyError."""
        if not self._release.starting_with(image) and (whole := self._by_name.get(image)):
            return self._image(whole)
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
    def state(self) -> tuple[str, int]:
        """See Manifest: release, version."""
        return self._release.manifest.release, self._release.manifest.version

    @property
    def labels(self) -> dict[str, dict[str, str]]:
        """What the owner's table says of the images, by name and column; nothing where the key does
        not open the catalogue."""
        return {image.name: dict(image.labels) for image in self._catalogue.values()}

    @property
    def notes(self) -> list[str]:
        """Lines for people: that a signer was remembered, grants that were passed over."""
        return self._release.notes

    def access(
        self, bundle_id: str, tier: Tier | None, region: Region | None = None
    ) -> restoring.Access:
        """A tier and what opens an image. Raises AccessError."""
        today = datetime.datetime.now(datetime.UTC).date()
        return secrets_for(self._grants, bundle_id, tier, today, region)

    def read(
        self,
        bundle_id: str,
        tier: Tier | None,
        *,
        texture: bool = False,
        frames: Frames | None = None,
        region: Region | None = None,
    ) -> Image:
        """See `ReleaseImage.read`."""
        tier = tier_of_texture(tier) if texture else tier
        wanted, bundle = self._decoded(bundle_id, tier, region, frames)
        if region is not None or bundle.region is not None:
            require_decoded(wanted, texture=texture)
            return read_region(bundle, wanted, self._codec_for, region, frames)[0]
        image, _ = read_image(bundle, wanted, self._codec_for, texture=texture, frames=frames)
        return image

    def codes(self, bundle_id: str, tier: Tier | None, frames: Frames | None = None) -> Codes:
        """See `ReleaseImage.codes`."""
        wanted, bundle = self._decoded(bundle_id, tier)
        if bundle.region is not None:
            raise NotCovered(
                f'image "{bundle_id}" is opened in part, expected a grant of all of it'
            )
        return read_codes(bundle, wanted, self._codec_for, frames)

    def listed(self, bundle_id: str) -> Listed | None:
        """What the catalogue says of an image; None where the key does not open it."""
        if self._pages is None or "_catalogue" in self.__dict__:
            return self._catalogue.get(bundle_id)
        return self._pages.find(bundle_id)

    def slices(self, bundle_id: str) -> list[str]:
        """See `ReleaseImage.slices`."""
        tier, bundle = self._opened(bundle_id, None)
        return [] if bundle.region or tier == Tier.PREVIEW else slice_names(bundle)

    def quality(self, bundle_id: str) -> Quality | None:
        """See `ReleaseImage.quality`."""
        tier, bundle = self._opened(bundle_id, None)
        return None if bundle.region else quality_at(bundle, min(tier, Tier.DIAGNOSTIC))

    def files(
        self,
        bundle_id: str,
        tier: Tier | None,
        *,
        texture: bool = False,
        frames: Frames | None = None,
    ) -> tuple[NamedFile, ...]:
        """See `ReleaseImage.files`."""
        tier = tier_of_texture(tier) if texture else tier
        wanted, bundle = self._opened(bundle_id, tier)
        if tier is None and wanted == Tier.ORIGINAL and "original" not in bundle.parts:
            wanted = Tier.DIAGNOSTIC
        group = self._release.manifest.release
        if bundle.region is not None:
            require_decoded(wanted, texture=texture)
            return restore_region(bundle, wanted, self._codec_for, None, group=group).files
        return restore_image(
            bundle, wanted, self._codec_for, group=group, texture=texture, frames=frames
        ).files

    def _decoded(
        self,
        bundle_id: str,
        tier: Tier | None,
        region: Region | None = None,
        frames: Frames | None = None,
    ) -> tuple[Tier, OpenedBundle]:
        """Of what is decoded and is no file."""
        if tier == Tier.ORIGINAL:
            raise UsageError("tier original is a file, not pixels: file(tier) gives its bytes")
        wanted, bundle = self._opened(bundle_id, tier, region, frames)
        return min(wanted, Tier.DIAGNOSTIC), bundle

    def _opened(
        self,
        bundle_id: str,
        tier: Tier | None,
        region: Region | None = None,
        frames: Frames | None = None,
    ) -> tuple[Tier, OpenedBundle]:
        wanted, keys = self.access(bundle_id, tier, region)
        decoded = min(wanted, Tier.DIAGNOSTIC)
        data = self._release.bundle_for(bundle_id, decoded, keys, region, frames)
        return wanted, OpenedBundle.read(data, keys, self._release.profiles, bundle_id)

    def _image(self, bundle_id: str) -> ReleaseImage:
        """Of one image no more of the catalogue is read than the page that lists it."""
        listed = self.listed(bundle_id)
        name = self._names.get(bundle_id) if listed is None else listed.name
        return ReleaseImage(bundle_id, name, self)

    @cached_property
    def _ids(self) -> list[str]:
        return [i for i in self._release.ids if any(g.covers(i) for g in self._grants)]

    @cached_property
    def _pages(self) -> Catalogue | None:
        return open_catalogue(self._release, self._grants)

    @cached_property
    def _catalogue(self) -> dict[str, Listed]:
        """By id; nothing where the key does not open it."""
        return {} if self._pages is None else {image.id: image for image in self._pages}

    @cached_property
    def _by_name(self) -> dict[str, str | None]:
        """Ids; None where several images have the name."""
        ids: dict[str, str | None] = {}
        for bundle_id, name in self._names.items():
            ids[name] = None if name in ids else bundle_id
        return ids

    @cached_property
    def _names(self) -> dict[str, str]:
        """By id."""
        if self._catalogue:
            return {image.id: image.name for image in self._catalogue.values()}
        return dict(read_names(self._release, self._grants))
