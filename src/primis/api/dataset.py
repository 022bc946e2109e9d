"""The images of a release as a data set for training: torch, MONAI, or anything that takes a
sequence. It needs none of them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, SupportsIndex

import numpy as np

from primis.api.image import ReleaseImage
from primis.api.places import Identities, Place
from primis.api.release import OpenRelease, OwnRelease, own_release
from primis.errors import UnexpectedRelease, UsageError
from primis.keys.tier import Tier

Transform = Callable[[dict[str, Any]], Any]


class Item(StrEnum):
    """What of an image is learnt from."""

    PIXELS = "pixels"
    CODES = "codes"


class Dataset:
    """The images of a release, for `torch.utils.data.DataLoader`, MONAI's, or a loop.

    An item is a dict. "image": float32, (channels, height, width), of several frames (channels,
    frames, height, width); grey levels as they are stored, or values of the code. "name": as it was
    shared. "labels": texts by column of the owner's table, "" where a cell is empty.

    release: a place or an `OpenRelease`. identity, signer, models: as of `open`. tier: preview or
    diagnostic. transform: is given the whole item, and what it returns is the item; MONAI's
    dictionary transforms fit. images: names or ids, in the order wanted; by default all that the
    key opens, sorted by name, which is the same order after a `rekey`. item: "pixels", or "codes"
    for (planes x atoms, rows, columns) of `Codes.values`.

    Images are fetched and decoded when they are asked for, and never written to disk. Each process
    opens the release for itself, so workers may be forked or spawned; one that another process
    started decodes with one thread. A pickle, which spawned workers are sent, holds the place, the
    signer, where the key files lie, and `images` and `transform` as they were given. It holds no
    key, so a release that was opened with a parsed key or a passphrase cannot be pickled; forked
    workers take it.

    Raises as `open` does, KeyError for an image that is not there, and when an item is read as
    `ReleaseImage.read` does, UnexpectedRelease where the release is no longer the one that was
    seen first, or has more images than it had.
    """

    def __init__(
        self,
        release: OpenRelease | Place,
        identity: Identities | None = None,
        *,
        tier: Tier | str = Tier.DIAGNOSTIC,
        transform: Transform | None = None,
        images: Sequence[str] | None = None,
        item: Item | str = Item.PIXELS,
        signer: str | None = None,
        models: Sequence[Place] = (),
    ) -> None:
        self.transform = transform
        self._tier, self._item = Tier(tier), Item(item)
        if self._tier == Tier.ORIGINAL:
            raise UsageError('tier "original" is files, expected "preview" or "diagnostic"')
        self._images = _Images(own_release(release, identity, signer, models), images)

    def __len__(self) -> int:
        return self._images.count

    def __getitem__(self, index: SupportsIndex) -> Any:
        image = self._images.get()[operator.index(index)]
        item = {
            "image": self._array(image),
            "name": image.name or image.id,
            "labels": self._labels(image),
        }
        return item if self.transform is None else self.transform(item)

    def __repr__(self) -> str:
        return f"Dataset({len(self)} images, tier {self._tier}, {self._item})"

    @property
    def names(self) -> list[str]:
        """Of the images, in order; ids where the key opens no names."""
        return [image.name or image.id for image in self._images.get()]

    @property
    def labels(self) -> list[dict[str, str]]:
        """Of the images, in order, as items have them: to draw or to split by, without decoding."""
        return [self._labels(image) for image in self._images.get()]

    def _array(self, image: ReleaseImage) -> np.ndarray:
        if self._item is Item.CODES:
            values = image.codes(self._tier).values()
            stacked = values.reshape(len(values), -1, *values.shape[3:]).swapaxes(0, 1)
        else:
            stacked = np.moveaxis(image.read(self._tier).pixels, 3, 0)
        array = stacked[:, 0] if stacked.shape[1] == 1 else stacked
        return np.ascontiguousarray(array, np.float32)

    def _labels(self, image: ReleaseImage) -> dict[str, str]:
        return dict.fromkeys(self._images.columns, "") | (image.labels or {})


class _Images:
    """The images of a data set in their order, as this process opened them."""

    __slots__ = ("_chosen", "_columns", "_opened", "_order", "_own", "count")

    _opened: OpenRelease | None
    _order: list[ReleaseImage]

    def __init__(self, own: OwnRelease, chosen: Sequence[str] | None) -> None:
        self._own = own
        self._chosen = None if chosen is None else tuple(chosen)
        self._arrange(own.get())
        self.count = len(self._order)

    def get(self) -> list[ReleaseImage]:
        """Raises UnexpectedRelease."""
        if (release := self._own.get()) is not self._opened:
            self._arrange(release)
        if len(self._order) != self.count:
            raise UnexpectedRelease(
                f"the release has {len(self._order)} images, expected {self.count}: it changed "
                "since the data set was made"
            )
        return self._order

    @property
    def columns(self) -> list[str]:
        """Of the labels of all images: batches need the same of each."""
        self.get()
        return self._columns

    def _arrange(self, release: OpenRelease) -> None:
        if self._chosen is None:
            self._order = sorted(release, key=lambda image: (image.name or "", image.id))
        else:
            self._order = [release[text] for text in self._chosen]
        labels = (image.labels or {} for image in self._order)
        self._columns = sorted(set().union(*labels))
        self._opened = release

    def __getstate__(self) -> tuple[OwnRelease, tuple[str, ...] | None, int]:
        return self._own, self._chosen, self.count

    def __setstate__(self, state: tuple[OwnRelease, tuple[str, ...] | None, int]) -> None:
        self._own, self._chosen, self.count = state
        self._opened, self._order = None, []
