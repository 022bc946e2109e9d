"""One bundle to one image: the reconstruction phase, for who has its secrets.

1  verify the bundle against its header                            bundle/container
2  unseal what a restored image needs besides its code             sections/info
3  per record: unseal index and support, verify and unmask the     opened, protection/
   values, decode
4  decode the code; add noise like the texture that was lost, if   codec, texture,
   asked; put back what was padding, the name and the header of    imaging/padding
   the source
5  write a file of the source's kind                               imaging/files
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from primis.bundle.header import Header
from primis.codec import Codec, Done, Scale, silent, within
from primis.codes.sparse import SparseCode
from primis.errors import (
    DamagedSection,
    ModelError,
    NoCode,
    NoTexture,
    TierTooLow,
    TooManyPixels,
    UsageError,
)
from primis.imaging.files import render
from primis.imaging.image import (
    PER_BYTE_OF_BUNDLE,
    SERIES,
    Derivation,
    Image,
    NamedFile,
    pixel_limit,
    require_size,
)
from primis.imaging.padding import impose_padding
from primis.keys.tier import TIERS, Tier
from primis.metrics.fidelity import EXACT, Quality
from primis.sharing.codes import Codes
from primis.sharing.frames import each_frame, steps
from primis.sharing.groups import GroupCode, Touched, at_once, group_of, touched
from primis.sharing.opened import OpenedBundle, places, record_secrets, require_tier
from primis.sharing.protection import LEVELS
from primis.sharing.protection.level import OpenedRecord, PublicCode
from primis.sharing.sections.exact import unpack_exact
from primis.sharing.sections.info import Info
from primis.sharing.sections.source_header import SourceHeader, unpack_header, unpack_name
from primis.sharing.texture import add_texture

_TEXTURE_ADDED = (
    "with synthetic texture: noise like what was lost, for measuring texture, not for reading"
)

CodecFor = Callable[[str], Codec]
"""The codec for a model's digest; raises ModelError."""

Frames = int | slice
"""One frame or several, counted from 0 as in a list."""


@dataclass(frozen=True)
class Restored:
    """An image as a file, or a series as its files. name: the path it was shared under, None at
    tier preview. image: None at tier original, whose files are not looked at. quality: how near it
    is to what was shared, None at tier preview and where that was not measured. texture: noise like
    the texture that was lost was added; the quality is that of the image without it."""

    files: tuple[NamedFile, ...] = field(repr=False)
    name: str | None = field(repr=False)
    tier: Tier
    kind: str
    image: Image | None = field(default=None, repr=False)
    quality: Quality | None = field(default=None, repr=False)
    texture: bool = False

    @property
    def data(self) -> bytes:
        """Of what is one file."""
        [file] = self.files
        return file.data


def restore_image(
    bundle: OpenedBundle,
    tier: Tier,
    codec_for: CodecFor,
    *,
    group: str,
    texture: bool = False,
    frames: Frames | None = None,
    done: Done = silent,
) -> Restored:
    """A file of the source's kind, or the source itself. group: the release's id, for what a
    restored file records of its origin; texture: as of `read_image`; frames: those files of a
    series alone; done: is told how far it is. Raises DamagedSection, ModelError, TierTooLow."""
    tier = tier_of_texture(tier) if texture else tier
    if frames is not None and read_info(bundle).kind != SERIES:
        raise UsageError("frames have files of their own in a series alone")
    if tier == Tier.ORIGINAL:
        return _restore_original(bundle, frames)
    image, name = read_image(bundle, tier, codec_for, done, texture=texture, frames=frames)
    added = texture and not is_exact(bundle, tier)
    derivation = derivation_of(bundle, image, tier, group, texture=added)
    try:
        files = _files(image, name, derivation, bundle.header, frames)
    except Exception:  # whatever a writer meets in a header that is none
        raise DamagedSection('section "header" does not fit its image') from None
    return Restored(files, name, tier, image.kind, image, quality_at(bundle, tier), added)


def _files(
    image: Image, name: str | None, derivation: Derivation, header: Header, frames: Frames | None
) -> tuple[NamedFile, ...]:
    if image.kind == SERIES and image.header:
        from primis.imaging.dicom_series import write_series  # a large library

        numbers = chosen_frames(header, frames)
        return tuple(write_series(image, derivation, header.geometry.frames, numbers))
    return (NamedFile(name, render(image, derivation)),)


def tier_of_texture(tier: Tier | None) -> Tier:
    """Where texture is wanted: diagnostic. Raises UsageError where another tier was asked for."""
    if tier not in (None, Tier.DIAGNOSTIC):
        raise UsageError(
            f'texture was asked for at tier "{tier}", expected tier "{Tier.DIAGNOSTIC}"'
        )
    return Tier.DIAGNOSTIC


def read_image(
    bundle: OpenedBundle,
    tier: Tier,
    codec_for: CodecFor,
    done: Done = silent,
    *,
    texture: bool = False,
    frames: Frames | None = None,
) -> tuple[Image, str | None]:
    """The image at tier preview or diagnostic, and its name, None at tier preview. texture: add
    noise like the texture that was lost, unless nothing was; for measuring texture alone. frames:
    decode these alone, None for all.

    Raises TooManyPixels beyond what is read at most (`reading_up_to`), NoTexture where it was not
    measured, UsageError for texture at tier preview and for frames that are not there.
    """
    tier = tier_of_texture(tier) if texture else tier
    require_few_pixels(bundle.header, sum(len(part) for part in bundle.parts.values()))
    chosen = chosen_frames(bundle.header, frames)
    exact = is_exact(bundle, tier)
    image = (
        exact_image(bundle, chosen)
        if exact
        else decode_image(bundle, tier, codec_for, done, texture=texture, frames=chosen)
    )
    if tier == Tier.PREVIEW:
        return image, None
    header = read_source_header(bundle, image.pixels.dtype)
    padding = header.padding and header.padding.of(chosen)
    try:
        return impose_padding(replace(image, header=header.source), padding), header.name
    except ValueError:
        raise DamagedSection('section "header": its padding does not fit its image') from None


def chosen_frames(header: Header, frames: Frames | None) -> range:
    """The numbers of the frames that are asked for. Raises UsageError where there are none."""
    count = header.geometry.frames
    if isinstance(frames, slice):
        chosen = range(count)[frames]
    elif frames is None:
        chosen = range(count)
    else:
        at = frames + count if frames < 0 else frames
        chosen = range(max(at, 0), min(at + 1, count))
    if not chosen:
        raise UsageError(f'frames "{frames}" are not in an image of {count}')
    return chosen


def require_few_pixels(header: Header, size: int) -> None:
    """Raise TooManyPixels where a bundle of `size` bytes claims more than `pixel_limit` allows."""
    limit = pixel_limit(None, size, PER_BYTE_OF_BUNDLE)
    try:
        require_size(header.geometry.shape, limit)
    except TooManyPixels as error:
        raise TooManyPixels(f'bundle "{header.id}" {error}') from None


def decode_image(
    bundle: OpenedBundle,
    tier: Tier,
    codec_for: CodecFor,
    done: Done = silent,
    *,
    texture: bool = False,
    frames: Sequence[int] | None = None,
) -> Image:
    """What the code holds at tier preview or diagnostic, without padding and source header. frames:
    the numbers of those that are decoded, None for all."""
    header = bundle.header
    codec = codec_of(header, codec_for)
    require_tier(bundle.secrets, tier)
    info = read_info(bundle)
    if texture and info.quality is None:
        raise NoTexture(f'bundle "{header.id}" holds no texture: it was shared without measuring')
    chosen = range(header.geometry.frames) if frames is None else frames
    pixels = np.empty((len(chosen), *header.geometry.shape[1:]), info.dtype)
    opened = 1 if tier == Tier.PREVIEW else None
    seed = bytes.fromhex(header.id)
    public = LEVELS[header.settings.protection].open(bundle)
    groups = touched(chosen, bundle.group, header.geometry.frames)
    require_grouped(bundle, codec)

    def decode(_: int, group: Touched, done: Done) -> None:
        code = _group_code(bundle, public, group.frames, tier, codec, within(done, 0, 0.5))
        for step, (number, frame) in steps(group.wanted, within(done, 0.5, 1)):
            at, size = frame - group.frames.start, pixels.shape[1:3]
            decoded = code.decode(at, codec, size, info.coded_dtype, opened, step)
            if texture:
                add_texture(decoded, info.textures[frame], code.scale, seed, frame)
            pixels[number] = info.unstretched(decoded)

    threads = at_once(bundle.group, header, codec)
    for _ in each_frame(decode, groups, len(groups), at_once=threads, done=done):
        pass
    return info.image(pixels)


def codec_of(header: Header, codec_for: CodecFor) -> Codec:
    """The codec that decodes a bundle. Raises ModelError."""
    codec = codec_for(header.model)
    preset, geometry = codec.preset, header.geometry
    shape, wanted = ((g.stride, g.code_maps, g.atoms_per_map) for g in (geometry, preset))
    if shape != wanted:
        raise ModelError(
            f'model "{header.model[:12]}" has stride, code maps and atoms {wanted}, '
            f"the bundle {shape}"
        )
    return codec


def require_grouped(bundle: OpenedBundle, codec: Codec) -> None:
    """Raise DamagedSection where frames are said to be coded together that cannot be."""
    if bundle.group > 1 and not codec.architecture.over_image:
        raise DamagedSection('section "info": this model codes each frame alone')


def open_codes(bundle: OpenedBundle, codec: Codec) -> list[tuple[SparseCode, Scale]]:
    """The true code Z of each frame and the range of its grey levels, stretched if they are; of
    frames that are coded together, each frequency along them in place of a frame."""
    frames = range(bundle.header.geometry.frames)
    return list(_codes(bundle, Tier.DIAGNOSTIC, codec, frames))


def open_group(bundle: OpenedBundle, codec: Codec, frame: int = 0) -> GroupCode:
    """The true code of a frame and of those that are coded with it."""
    frames = group_of(frame, bundle.group, bundle.header.geometry.frames)
    public = LEVELS[bundle.header.settings.protection].open(bundle)
    return _group_code(bundle, public, frames, Tier.DIAGNOSTIC, codec, silent)


def read_codes(
    bundle: OpenedBundle, tier: Tier, codec_for: CodecFor, frames: Frames | None = None
) -> Codes:
    """The true code at tier preview or diagnostic, as arrays. frames: as of `read_image`.

    Raises NoCode where the samples are sealed exactly, and what `read_image` raises.
    """
    header = bundle.header
    require_few_pixels(header, sum(len(part) for part in bundle.parts.values()))
    if header.settings.exact_bits:
        raise NoCode(
            f'bundle "{header.id}" has no code to learn from: its samples are sealed exactly, '
            "as those of masks and label maps are"
        )
    codec = codec_of(header, codec_for)
    require_tier(bundle.secrets, tier)
    chosen = chosen_frames(header, frames)
    atoms = header.geometry.atoms_per_map if tier == Tier.PREVIEW else header.geometry.atoms
    require_grouped(bundle, codec)
    opened = list(_codes(bundle, tier, codec, chosen))
    return Codes.of(opened, codec, atoms, bundle.group)


def read_info(bundle: OpenedBundle) -> Info:
    """Section `info`. Raises DamagedSection."""
    return bundle.info


def quality_at(bundle: OpenedBundle, tier: Tier) -> Quality | None:
    """How near to what was shared an image is at a tier. Raises DamagedSection."""
    if tier == Tier.ORIGINAL:
        return EXACT
    return read_info(bundle).quality if tier == Tier.DIAGNOSTIC else None


def read_name(bundle: OpenedBundle) -> str:
    """The path under which an image was shared. Raises TierTooLow."""
    return unpack_name(bundle.unseal("header"))


def read_source_header(bundle: OpenedBundle, dtype: np.dtype) -> SourceHeader:
    """Name, padding and header of the source. Raises DamagedSection, TierTooLow."""
    return unpack_header(bundle.unseal("header"), bundle.header.geometry, dtype)


def slice_names(bundle: OpenedBundle) -> list[str]:
    """Of a series the names of its files, in the order of its frames; of all else none. Raises
    DamagedSection, TierTooLow."""
    info = read_info(bundle)
    if info.kind != SERIES:
        return []
    from primis.imaging.dicom_series import unpack_files  # a large library

    source = read_source_header(bundle, info.dtype).source
    try:
        files, _ = unpack_files(source, bundle.header.geometry.frames)
    except ValueError:
        raise DamagedSection('section "header" does not fit its image') from None
    return [file.name for file in files if file.name is not None]


def derivation_of(
    bundle: OpenedBundle, image: Image, tier: Tier, group: str, *, texture: bool = False
) -> Derivation:
    """What a restored file records of its origin. texture: noise like it was added, which makes
    another instance of another series."""
    header, exact = bundle.header, is_exact(bundle, tier)
    stride = header.geometry.stride
    text = (
        f"primis: S_x = {header.settings.sparsity:g} non-zeros per {stride} x {stride} block, "
        f"tier {tier}, model {header.model[:12]}"
    )
    sections = {"exact"} if exact else {"info", "index", "public", "supports"}
    sizes = (len(part) for name, part in bundle.parts.items() if name in sections)
    ratio = header.geometry.samples * image.pixels.dtype.itemsize / sum(sizes)
    text = "primis: exact samples" if exact else text
    kind = str(tier)
    if texture:
        text, kind = f"{text}, {_TEXTURE_ADDED}", f"{tier} texture"
    return Derivation(text, ratio, f"{header.id} {kind}", f"{group} {kind}", lossless=exact)


def is_exact(bundle: OpenedBundle, tier: Tier) -> bool:
    """Whether a tier's samples are sealed as they are, and there is nothing to decode."""
    return tier == Tier.DIAGNOSTIC and bool(bundle.header.settings.exact_bits)


def exact_image(bundle: OpenedBundle, frames: Sequence[int]) -> Image:
    """An image of few grey levels; no model is needed."""
    require_tier(bundle.secrets, Tier.DIAGNOSTIC)
    info = read_info(bundle)
    pixels = unpack_exact(bundle.unseal("exact"), bundle.header, info.dtype)
    whole = list(frames) == list(range(len(pixels)))
    return info.image(pixels if whole else pixels[list(frames)])


def _codes(
    bundle: OpenedBundle, tier: Tier, codec: Codec, frames: Sequence[int]
) -> Iterator[tuple[SparseCode, Scale]]:
    public, info = LEVELS[bundle.header.settings.protection].open(bundle), read_info(bundle)
    for frame in frames:
        levels = _purify(bundle, public, frame, tier, codec, silent)
        yield SparseCode(levels, info.frames[frame].threshold, codec.offset), info.scale(frame)


def _group_code(
    bundle: OpenedBundle,
    public: PublicCode,
    frames: range,
    tier: Tier,
    codec: Codec,
    done: Done,
) -> GroupCode:
    """Of frames that are coded together."""
    each = [_purify(bundle, public, f, tier, codec, step) for step, f in steps(frames, done)]
    return group_code(each, read_info(bundle), frames.start, codec)


def group_code(levels: Sequence[np.ndarray], info: Info, first: int, codec: Codec) -> GroupCode:
    """Of frames that are coded together, from the levels (c, LM, h, w) of each. first: the number
    of the first in info."""
    whole = levels[0] if len(levels) == 1 else np.concatenate(levels)
    code = SparseCode(whole, info.frames[first].threshold, codec.offset)
    return GroupCode(code, len(levels), info.scale(first))


def _purify(
    bundle: OpenedBundle, public: PublicCode, frame: int, tier: Tier, codec: Codec, done: Done
) -> np.ndarray:
    """The true levels (c, LM, h, w) of a frame that the tier opens, zero elsewhere."""
    geometry = bundle.header.geometry
    levels = np.zeros((geometry.channels, geometry.atoms, *geometry.grid), np.int16)
    secrets = record_secrets(bundle.header, bundle.secrets, frame, tier)
    for number, (place, secret) in enumerate(zip(places(bundle.header), secrets, strict=False)):
        record = bundle.record(frame, number, secret)
        tile = levels[place.plane][:, place.rows, place.columns]
        opened = OpenedRecord(secret, bundle.support(frame, record, secret), tile, codec)
        tile[:] = public.levels(frame, number, record, place, opened)
        done((number + 1) / len(secrets))
    return levels


def _restore_original(bundle: OpenedBundle, frames: Frames | None) -> Restored:
    if "original" not in bundle.parts:
        raise TierTooLow(f'bundle "{bundle.header.id}" has no original: it was shared without')
    require_tier(bundle.secrets, TIERS[-1])
    kind = read_info(bundle).kind
    data, name = bundle.unseal("original"), read_name(bundle)
    files = [NamedFile(name, data)]
    if kind == SERIES:
        from primis.imaging.dicom_series import unpack_files  # a large library

        try:
            whole, _ = unpack_files(data, bundle.header.geometry.frames)
        except ValueError:
            raise DamagedSection('section "original" holds no series') from None
        files = [whole[number] for number in chosen_frames(bundle.header, frames)]
    return Restored(tuple(files), name, Tier.ORIGINAL, kind, quality=EXACT)
