"""A release that is open: its images, and what a key opens of each."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any

from primis.api.opened import Opened
from primis.api.places import (
    Identities,
    Place,
    given_identities,
    identities_of,
    open_place,
    wherever,
)
from primis.errors import AccessError, UnexpectedRelease, UsageError
from primis.keys.identity import Identity
from primis.keys.tier import Tier
from primis.release.naming import ids_of, read_names

if TYPE_CHECKING:
    from primis.api.image import ReleaseImage

# all of the engine comes with `image`: a release is opened without it


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
        """said: the place as it was given, for messages."""
        release = open_place(said or self.place, self.signer, remember=remember)
        grants = release.open_grants(identities_of(self.keys, self.passphrase))
        return OpenRelease(Opened(release, grants, self.models), self)

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


class OpenRelease:
    """A release and what a key opens of it; made by `open`. A context manager.

    Iterating gives a `ReleaseImage` for each image that the key opens, and `len(release)` is their
    number. `release["chest.dcm"]` is one of them, by name, id, or the start of an id, and raises
    KeyError where there is no such image.
    """

    def __init__(self, opened: Opened, opening: Opening) -> None:
        self._opened, self.opening = opened, opening

    def __repr__(self) -> str:
        place = self._opened.release.place
        return f"OpenRelease({place!r}, {len(self)} images, tier {self.tier})"

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
        return (self._named(i, self._names.get(i)) for i in self._ids)

    def __getitem__(self, image: str) -> ReleaseImage:
        """By id, the start of an id, or name. Raises KeyError."""
        opened = self._opened
        if not opened.release.starting_with(image) and (whole := self._by_name.get(image)):
            return self._image(whole)
        try:
            [bundle_id] = ids_of(opened.release, opened.grants, [image])
        except (UsageError, AccessError) as error:
            raise KeyError(str(error)) from None
        return self._image(bundle_id)

    @property
    def tier(self) -> Tier:
        """The highest tier that the key opens, of any image."""
        return self._opened.grants[0].tier

    @property
    def signer(self) -> str:
        """The public key that signed the release: 64 hex digits."""
        return self._opened.release.manifest.signer

    @property
    def state(self) -> tuple[str, int]:
        """See Manifest: release, version."""
        manifest = self._opened.release.manifest
        return manifest.release, manifest.version

    @property
    def labels(self) -> dict[str, dict[str, str]]:
        """What the owner's table says of the images, by name and column; nothing where the key does
        not open the catalogue."""
        return {image.name: dict(image.labels) for image in self._opened.catalogue.values()}

    @property
    def notes(self) -> list[str]:
        """Lines for people: that a signer was remembered, grants that were passed over."""
        return self._opened.release.notes

    def _image(self, bundle_id: str) -> ReleaseImage:
        """Of one image no more of the catalogue is read than the page that lists it."""
        listed = self._opened.listed(bundle_id)
        return self._named(bundle_id, self._names.get(bundle_id) if listed is None else listed.name)

    def _named(self, bundle_id: str, name: str | None) -> ReleaseImage:
        from primis.api.image import ReleaseImage

        return ReleaseImage(bundle_id, name, self._opened)

    @cached_property
    def _ids(self) -> list[str]:
        opened = self._opened
        return [i for i in opened.release.ids if any(g.covers(i) for g in opened.grants)]

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
        opened = self._opened
        if opened.catalogue:
            return {image.id: image.name for image in opened.catalogue.values()}
        return dict(read_names(opened.release, opened.grants))
