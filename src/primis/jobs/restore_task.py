"""One bundle to restore: a picklable task and a worker that depends on nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field

from primis.bundle.container import Profiles, read_header, read_sections
from primis.bundle.ranged import RangedBytes
from primis.codec import Done, silent
from primis.errors import AccessError, BadBundle, FormatError, ModelError, TooManyPixels
from primis.imaging.image import reading_up_to
from primis.jobs.result import unexpected
from primis.keys.seal import TierSecrets
from primis.keys.tier import Tier
from primis.sharing.opened import OpenedBundle
from primis.sharing.restore import CodecFor, Restored, require_few_pixels, restore_image


@dataclass(frozen=True)
class RestoreTask:
    """data: the bundle's bytes. tier: None for the highest that the secrets open and the bundle
    holds. release: its id. max_pixels: None for the default. texture: as of `read_image`."""

    bundle_id: str
    data: bytes | RangedBytes = field(repr=False)
    profiles: Profiles = field(repr=False)
    secrets: TierSecrets = field(repr=False)
    tier: Tier | None
    release: str
    max_pixels: int | None
    texture: bool = False


def restore_bundle(
    task: RestoreTask, codec_for: CodecFor, done: Done = silent
) -> Restored | FormatError | AccessError | ModelError | TooManyPixels:
    """The file, or why there is none: whatever it is, it must not stop the others."""
    try:
        with reading_up_to(task.max_pixels):
            return _restore(task, codec_for, done)
    except (FormatError, AccessError, ModelError, TooManyPixels) as error:
        return error
    except Exception as error:
        return BadBundle(f'bundle "{task.bundle_id}" {unexpected(error, "restored")}')


def _restore(task: RestoreTask, codec_for: CodecFor, done: Done) -> Restored:
    parsed = read_header(task.data, task.bundle_id, task.profiles)
    require_few_pixels(parsed.header, len(task.data))
    parts = read_sections(task.data, task.bundle_id, parsed)
    bundle = OpenedBundle(parsed.header, parts, task.secrets)
    tier = task.tier or max(task.secrets)
    if task.tier is None and tier == Tier.ORIGINAL and "original" not in parts:
        tier = Tier.DIAGNOSTIC
    return restore_image(
        bundle, tier, codec_for, group=task.release, texture=task.texture, done=done
    )
