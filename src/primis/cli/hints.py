"""What a person can do about an error."""

from __future__ import annotations

from primis import errors

_HINTS: list[tuple[type[errors.PrimisError], str]] = [
    (
        errors.NoMatchingGrant,
        "ask the owner for a grant to your public key, or offer another key with -i",
    ),
    (errors.GrantExpired, "ask the owner for a new grant"),
    (
        errors.TierTooLow,
        "ask the owner for a grant of that tier, or restore a lower one with --tier",
    ),
    (errors.NotCovered, "primis inspect RELEASE -i KEY shows what your grant covers"),
    (errors.WrongSigner, "make sure where the release came from before you trust it"),
    (
        errors.UnexpectedRelease,
        "ask the owner, by another way than the release's host; --trust-anew accepts what is there",
    ),
    (errors.DamagedSection, "the file was altered or damaged on its way; fetch it again"),
    (errors.BadBundle, "the file may be truncated or not part of this release; fetch it again"),
    (errors.BadManifest, "fetch the release again; if it persists, ask its owner"),
    (errors.BadGrant, "fetch the grant again, or ask the owner for a new one"),
    (
        errors.ModelError,
        "weights are a file, or one of those that come with primis: default, paper; a release names by digest what it needs",
    ),
    (errors.OutputError, "choose another place, or make room"),
]


def hint_for(error: errors.PrimisError) -> str | None:
    """One line, or None where the message says it all."""
    return next((hint for kind, hint in _HINTS if isinstance(error, kind)), None)
