"""Every error that primis raises on purpose.

    PrimisError
    ├── UsageError                what was asked for makes no sense
    │   └── TextureUnavailable        needs PyRadiomics, which is not installed
    ├── InputError                a file given to primis
    │   ├── Rounded                   samples that 16 bits do not hold, where that was refused
    │   ├── UnreadableImage           cannot be decoded, or is not an image
    │   │   ├── NoPixels                  DICOM that is sound, but no image
    │   │   └── TooManyPixels             more than the reader takes; max_pixels allows others
    │   └── BadKey                    not a key of a kind that primis knows
    ├── OutputError               a place to write to: exists, is full, cannot be written
    ├── StoreError                a file of a release: cannot be read or written where it lies
    │   ├── NotThere                  there is no such file
    │   ├── Changed                   somebody else changed it meanwhile
    │   └── HostError                 the host does not answer, or refuses
    ├── FormatError               a release, byte for byte
    │   ├── BadManifest               manifest.json
    │   ├── BadBundle                 a bundle's layout
    │   ├── DamagedSection            a section of a bundle does not verify or decode
    │   └── BadGrant                  a grant
    ├── AccessError               the release is sound, not what was asked for with this key
    │   ├── NoMatchingGrant           no grant for any key offered
    │   │   └── OtherPassphrase           a grant for another passphrase
    │   ├── GrantExpired              its not-after date has passed
    │   ├── TierTooLow                the grant opens a lower tier
    │   ├── NotCovered                the grant does not cover this image
    │   ├── NoTexture                 texture was not measured when the image was shared
    │   ├── NoCode                    the image is sealed sample by sample
    │   ├── WrongSigner               signed, but not by whom was demanded
    │   └── UnexpectedRelease         another signer, an older or a forked state
    ├── ModelError                weights that are missing, damaged or not the ones named
    └── WorkerError               worker processes or a cluster that cannot be used

A message is one line: the thing, the value in quotes, what was expected. It never holds a secret, a
patient's data or a pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


class PrimisError(Exception):
    """Base of all errors that primis raises on purpose; `str()` is one line for people."""

    def __reduce__(self) -> tuple[Callable[..., PrimisError], tuple[Any, ...]]:
        """Pickled as it is, whatever its class takes to be made."""
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[PrimisError], args: tuple[Any, ...], fields: dict[str, Any]) -> PrimisError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


class UsageError(PrimisError):
    """What was asked for makes no sense."""


class TextureUnavailable(UsageError):
    """Texture needs PyRadiomics, which is not installed; the rest of a report does not."""


class InputError(PrimisError):
    """A file given to primis cannot be used."""


class OverBudget(InputError):
    """A part of an image does not fit the budget that the settings give it.

    setting: the field of Settings that would have to be larger, and value: what would do; "" and
    None where nothing would.
    """

    def __init__(self, what: str, setting: str, value: float | None) -> None:
        would_do = "no setting leaves enough"
        if value is not None:
            would_do = f"{setting} = {value:g} would do"
        super().__init__(f"{what}: {would_do}")
        self.setting, self.value = setting, value


class Rounded(InputError):
    """A file has samples that 16 bits do not hold as they are. by: the most by which one would be
    rounded, in units of its values."""

    def __init__(self, path: Path, by: float) -> None:
        super().__init__(f'image "{path}" has samples that would be rounded, by up to {by:.3g}')
        self.path, self.by = path, by


class UnreadableImage(InputError):
    """An input cannot be decoded, or is not an image."""


class NoPixels(UnreadableImage):
    """A sound DICOM object that is no image, such as a structure set or a report."""

    def __init__(self, modality: str, path: Path | None = None) -> None:
        of = "" if path is None else f'image "{path}" '
        super().__init__(f'{of}is DICOM without pixels (modality "{modality}")')
        self.modality, self.path = modality, path


class TooManyPixels(UnreadableImage):
    """An image or a bundle has more pixels than `max_pixels` allows."""


class BadKey(InputError):
    """Not a key of a kind that primis knows."""


class OutputError(PrimisError):
    """A place to write to exists already, is full or cannot be written."""


class StoreError(PrimisError):
    """A file cannot be read or written where a release lies. what: its path or URL; why: for
    people."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(what, why)
        self.what, self.why = what, why

    def __str__(self) -> str:
        return f'"{self.what}": {self.why}'


class NotThere(StoreError):
    """There is no such file."""


class Changed(StoreError):
    """Somebody else changed a file, or made it, meanwhile."""


class HostError(StoreError):
    """The host of a release does not answer or refuses: the next file would fail as well."""


class FormatError(PrimisError):
    """A release is not what docs/format.md says."""


class BadManifest(FormatError):
    """manifest.json is malformed or its signature does not verify."""


class BadBundle(FormatError):
    """A bundle's layout is malformed or it is not the bundle that the manifest lists."""


class DamagedSection(FormatError):
    """A section of a bundle does not verify or decode."""


class BadGrant(FormatError):
    """A grant is malformed, altered or belongs to another release."""


class AccessError(PrimisError):
    """The release is sound, but not what was asked for with this key."""


class NoMatchingGrant(AccessError):
    """No grant of the release is for any key that was offered."""


class OtherPassphrase(NoMatchingGrant):
    """The release has a grant for a passphrase, but not for the one that was offered."""


class GrantExpired(AccessError):
    """The grant's not-after date has passed."""


class TierTooLow(AccessError):
    """The grant opens a lower tier than the one asked for."""


class NotCovered(AccessError):
    """The grant does not cover this image."""


class NoRegion(AccessError):
    """A region that an image does not have, or of an image that is sealed as one part."""


class NoTexture(AccessError):
    """Texture was asked for, and not measured when the image was shared."""


class NoCode(AccessError):
    """A code was asked for, of an image whose samples are sealed exactly."""


class WrongSigner(AccessError):
    """The release is signed, but not by the signer that was demanded."""


class UnexpectedRelease(AccessError):
    """Another signer, an older state or a fork of what was seen of this release before."""


class ModelError(PrimisError):
    """Weights are missing, damaged or not the ones that a bundle names."""


class WorkerError(PrimisError):
    """Worker processes, or a cluster, cannot be started, reached or used."""
