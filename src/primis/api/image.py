"""An image of an open release: what is known of it, its pixels, codes and files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field

from primis.api.opened import Opened
from primis.errors import NotCovered, UsageError
from primis.imaging.image import SERIES, Image
from primis.imaging.region import Region
from primis.keys.grant import RegionSecrets
from primis.keys.tier import Tier
from primis.metrics.fidelity import Quality
from primis.release.catalogue import Listed, spacing_mm_of
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
    _release: Opened = field(repr=False)

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
        if self.kind not in (None, SERIES):
            return []
        tier, bundle = self._opened(None)
        return [] if bundle.region or tier == Tier.PREVIEW else slice_names(bundle)

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
        tier, bundle = self._opened(None)
        return None if bundle.region else quality_at(bundle, min(tier, Tier.DIAGNOSTIC))

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
        asked = Tier(tier) if tier else None
        part = None if region is None else Region.of(region)
        asked = tier_of_texture(asked) if texture else asked
        wanted, bundle = self._decoded(asked, part, frames)
        if part is not None or bundle.region is not None:
            require_decoded(wanted, texture=texture)
            return read_region(bundle, wanted, self._codec_for, part, frames)[0]
        image, _ = read_image(bundle, wanted, self._codec_for, texture=texture, frames=frames)
        return image

    def codes(self, tier: Tier | str | None = None, *, frames: int | slice | None = None) -> Codes:
        """The true code Z of the image, which is what `read` decodes it from, to learn from.

        tier: preview or diagnostic; by default the higher of the two that the grant opens. frames:
        as of `read`. Raises NoCode for masks and label maps, which are sealed sample by sample,
        and what `read` raises.
        """
        wanted, bundle = self._decoded(Tier(tier) if tier else None)
        if bundle.region is not None:
            raise NotCovered(f'image "{self.id}" is opened in part, expected a grant of all of it')
        return read_codes(bundle, wanted, self._codec_for, frames)

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
        asked = Tier(tier) if tier else None
        asked = tier_of_texture(asked) if texture else asked
        wanted, bundle = self._opened(asked)
        if asked is None and wanted == Tier.ORIGINAL and "original" not in bundle.parts:
            wanted = Tier.DIAGNOSTIC
        if bundle.region is not None:
            require_decoded(wanted, texture=texture)
            restored = restore_region(bundle, wanted, self._codec_for, None, group=self._group)
        else:
            restored = restore_image(
                bundle, wanted, self._codec_for, group=self._group, texture=texture, frames=frames
            )
        return {file.name or self.id: file.data for file in restored.files}

    @property
    def _codec_for(self) -> CodecFor:
        return self._release.codec_for

    @property
    def _group(self) -> str:
        """Names the release in UIDs that are derived."""
        return self._release.release.manifest.release

    def _decoded(
        self, tier: Tier | None, region: Region | None = None, frames: Frames | None = None
    ) -> tuple[Tier, OpenedBundle]:
        """Of what is decoded and is no file."""
        if tier == Tier.ORIGINAL:
            raise UsageError("tier original is a file, not pixels: file(tier) gives its bytes")
        wanted, bundle = self._opened(tier, region, frames)
        return min(wanted, Tier.DIAGNOSTIC), bundle

    def _opened(
        self, tier: Tier | None, region: Region | None = None, frames: Frames | None = None
    ) -> tuple[Tier, OpenedBundle]:
        wanted, keys = self._release.access(self.id, tier, region)
        decoded = min(wanted, Tier.DIAGNOSTIC)
        data = self._release.bundle(self.id, decoded, keys, region, frames)
        return wanted, OpenedBundle.read(data, keys, self._release.release.profiles, self.id)
