"""What a person can do about an error."""

from __future__ import annotations

from primis import errors

_HINTS: list[tuple[type[errors.PrimisError], str]] = [
    (
        errors.OtherPassphrase,
        "type the passphrase again; PRIMIS_PASSPHRASE, where it is set, is used without asking",
    ),
    (
        errors.NoMatchingGrant,
        "ask the owner for a grant to your public key; -i offers a key, --passphrase a passphrase",
    ),
    (errors.GrantExpired, "ask the owner for a new grant"),
    (
        errors.TierTooLow,
        "ask the owner for a grant of that tier, or restore a lower one with --tier",
    ),
    (errors.TooManyPixels, "--max-pixels N allows more, as far as your memory holds them"),
    (
        errors.Rounded,
        "without --exact it is shared as it is rounded, with --with-original the file comes back",
    ),
    (errors.NoRegion, "a region is x,y,width,height in pixels, from the image's upper left corner"),
    (errors.NotCovered, "primis inspect RELEASE -i KEY shows what your grant covers"),
    (
        errors.WrongSigner,
        "make sure where the release came from; --from SIGNER names the one whom you trust",
    ),
    (
        errors.UnexpectedRelease,
        "ask the owner, by another way than the release's host; --trust-anew accepts what is there",
    ),
    (
        errors.HostError,
        "check the place and your rights to it; the same command again goes on where it stopped",
    ),
    (errors.WorkerError, "what was done is kept; the same command goes on, also with --jobs alone"),
    (errors.DamagedSection, "the file was altered or damaged on its way: fetch it again"),
    (errors.BadBundle, "the file may be cut off or not part of this release: fetch it again"),
    (
        errors.BadManifest,
        "check the place; if it is right, the release was altered or damaged on its way: "
        "fetch it again",
    ),
    (errors.BadGrant, "fetch the grant again, or ask the owner for a new one"),
    (
        errors.ModelError,
        "--model takes a file, or one of those that come with primis: default, paper; "
        "a release names by its digest the model that it needs",
    ),
]


def in_options(error: errors.PrimisError) -> str:
    """An error in the words of the command line: a setting is an option here."""
    if not isinstance(error, errors.OverBudget) or error.value is None:
        return str(error)
    setting = f"{error.setting} = {error.value:g}"
    return str(error).replace(setting, f"--{error.setting.replace('_', '-')} {error.value:g}")


def hint_for(error: errors.PrimisError) -> str | None:
    """One line, or None where the message says it all."""
    return next((hint for kind, hint in _HINTS if isinstance(error, kind)), None)
