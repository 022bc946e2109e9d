"""A release and what a key opens of it, as its images see it."""

from __future__ import annotations

import datetime
import multiprocessing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from primis.bundle.ranged import RangedBytes
from primis.imaging.region import Region
from primis.keys.grant import Grant, ImageKeys
from primis.keys.tier import Tier
from primis.release.catalogue import Catalogue, Listed
from primis.release.grants import secrets_for
from primis.release.naming import open_catalogue
from primis.release.reader import Release

if TYPE_CHECKING:
    from primis.sharing.restore import CodecFor, Frames


@dataclass(frozen=True, eq=False)
class Opened:
    """grants: those that a key opens. models: files of weights that do not come with primis."""

    release: Release
    grants: list[Grant] = field(repr=False)
    models: tuple[str, ...]

    def access(
        self, bundle_id: str, tier: Tier | None, region: Region | None = None
    ) -> tuple[Tier, ImageKeys]:
        """A tier and what opens an image. Raises AccessError."""
        today = datetime.datetime.now(datetime.UTC).date()
        return secrets_for(self.grants, bundle_id, tier, today, region)

    def bundle(
        self,
        bundle_id: str,
        tier: Tier,
        keys: ImageKeys,
        region: Region | None,
        frames: Frames | None,
    ) -> bytes | RangedBytes:
        """See `Release.bundle_for`."""
        return self.release.bundle_for(bundle_id, tier, keys, region, frames)

    def listed(self, bundle_id: str) -> Listed | None:
        """What the catalogue says of an image; None where the key does not open it."""
        if self._pages is None or "catalogue" in self.__dict__:
            return self.catalogue.get(bundle_id)
        return self._pages.find(bundle_id)

    @cached_property
    def catalogue(self) -> dict[str, Listed]:
        """By id; nothing where the key does not open it."""
        return {} if self._pages is None else {image.id: image for image in self._pages}

    @cached_property
    def _pages(self) -> Catalogue | None:
        return open_catalogue(self.release, self.grants)

    @cached_property
    def codec_for(self) -> CodecFor:
        """The codec of a model, by its digest. A process that another one started gets one thread:
        such processes share the cores."""
        from primis.jobs.restore import codecs  # with all of the engine

        threads = 1 if multiprocessing.parent_process() else 0
        return codecs([Path(model) for model in self.models], threads)
