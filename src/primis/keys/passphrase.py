"""How easily a passphrase is guessed: whoever has the release can try as many as they like."""

from __future__ import annotations

from primis.errors import BadKey

MIN_CHARACTERS = 12
MIN_GUESSES = 10**8
"""What zxcvbn calls safe where guesses are slow, as with scrypt: a second and 256 MB for each."""

_LOOKED_AT = 40  # characters: beyond that zxcvbn can take minutes
_EXPECTED = "a longer one, such as five words drawn at random"
_KNOWN = ["primis", "hospital", "radiology", "dicom", "passphrase"]  # what is guessed first here


def require_strong(passphrase: str) -> None:
    """Raises BadKey for a passphrase that is short, or among the first that are guessed."""
    if len(passphrase) < MIN_CHARACTERS:
        why = f"is shorter than {MIN_CHARACTERS} characters, which anyone can try"
        raise BadKey(f"the passphrase {why}, expected {_EXPECTED}")
    parts = {passphrase[:_LOOKED_AT], passphrase[-_LOOKED_AT:]}
    if all(_guesses(part) < MIN_GUESSES for part in parts):
        why = "is among the first that are guessed (common words, repeats, rows of keys)"
        raise BadKey(f"the passphrase {why}, expected {_EXPECTED}")


def _guesses(passphrase: str) -> float:
    from zxcvbn import zxcvbn  # type: ignore[import-untyped]  # its word lists take a while to load

    return float(zxcvbn(passphrase, user_inputs=_KNOWN)["guesses"])
