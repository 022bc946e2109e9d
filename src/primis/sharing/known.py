"""What was seen of releases before: trust on first use, as SSH does with hosts.

Whoever stores a release can replace all of it, grants too, or put back an older state. So signer
and highest version are remembered, by place and by release, and what does not fit is refused.
"""

from __future__ import annotations

import datetime
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from primis.atomic import write_new
from primis.errors import OutputError, UnexpectedRelease
from primis.sharing.lock import locked

_MAX_BYTES = 1 << 26


@dataclass(frozen=True)
class Sighting:
    """A release as it was last seen. digest: SHA-256 of its signed manifest, hex. since, seen:
    days of the first and the latest sighting, UTC."""

    release: str
    signer: str
    version: int
    digest: str
    since: str
    seen: str


class KnownReleases:
    """A file of sightings. A missing one is empty; a damaged one is an error, never empty."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(
        self,
        place: str,
        release: str,
        signer: str,
        version: int,
        digest: str,
        *,
        demanded: bool = False,
        anew: bool = False,
    ) -> str | None:
        """Compare a verified release with what is known, and remember it.

        demanded: this very signer was asked for. anew: accept whatever differs. Returns a line for
        people if the place is seen for the first time. Raises UnexpectedRelease, which says what
        was known since when.
        """
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f'"{self._path.parent}" cannot be made: {error.strerror}') from None
        with locked(self._path, "primis", on_wait=lambda said: None):
            places, releases = self._read()
            known = releases.get(release)
            there = releases.get(places.get(place, ""))
            if not (anew or demanded):
                _require_same_signer(place, there, signer)
                _require_same_signer(place, known, signer)
            if not anew:
                _require_not_older(place, known, signer, version, digest)
            today = datetime.datetime.now(datetime.UTC).date().isoformat()
            since = known.since if known and known.signer == signer else today
            seen = Sighting(release, signer, version, digest, since, today)
            if places.get(place) != release or known != seen:
                places[place], releases[release] = release, seen
                self._write(places, releases)
        if there is not None and there.release == release:
            return None
        if there is None:
            return f'"{place}" is seen for the first time: signer {signer} is remembered'
        return f'"{place}" holds another release of the same signer than on {there.seen}'

    def _read(self) -> tuple[dict[str, str], dict[str, Sighting]]:
        if not self._path.exists():
            return {}, {}
        try:
            if self._path.stat().st_size > _MAX_BYTES:
                raise ValueError
            body = json.loads(self._path.read_bytes())
            places = {str(place): str(release) for place, release in body["places"].items()}
            releases = {str(key): _sighting(value) for key, value in body["releases"].items()}
        except OSError as error:
            raise OutputError(f'"{self._path}" cannot be read: {error.strerror}') from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise OutputError(
                f'"{self._path}", which remembers signers, is damaged: '
                "put back a copy, or remove it to remember them anew"
            ) from None
        return places, releases

    def _write(self, places: dict[str, str], releases: dict[str, Sighting]) -> None:
        body = {"places": places, "releases": {key: asdict(x) for key, x in releases.items()}}
        write_new(self._path, json.dumps(body, indent=1, sort_keys=True).encode() + b"\n", 0o600)


def _sighting(body: Any) -> Sighting:
    texts = {name: str(body[name]) for name in ("release", "signer", "digest", "since", "seen")}
    return Sighting(version=int(body["version"]), **texts)


def _require_same_signer(place: str, known: Sighting | None, signer: str) -> None:
    if known is not None and known.signer != signer:
        raise UnexpectedRelease(
            f'release "{place}" is signed by "{signer}", but since {known.since} it was signed by '
            f'"{known.signer}"'
        )


def _require_not_older(
    place: str, known: Sighting | None, signer: str, version: int, digest: str
) -> None:
    if known is None or known.signer != signer:
        return
    if version < known.version:
        raise UnexpectedRelease(
            f'release "{place}" is an older state, version {version}; '
            f"version {known.version} was seen on {known.seen}"
        )
    if version == known.version and digest != known.digest:
        raise UnexpectedRelease(
            f'release "{place}" has version {version} with other content than on {known.seen}'
        )
