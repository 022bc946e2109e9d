"""What was seen of releases before: trust on first use, as SSH does with hosts.

Whoever stores a release can replace all of it, grants too, or put back an older state. So signer
and highest version are remembered, by place and by release, and what does not fit is refused.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from primis.atomic import read_regular, reason, sweep, write_new
from primis.errors import OutputError, UnexpectedRelease
from primis.release.lock import locked

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

    @property
    def key(self) -> str:
        """A release under a signer: another's does not take its place."""
        return f"{self.release} {self.signer}"


class KnownReleases:
    """A file of sightings. A missing one is empty; a damaged one is an error, never empty.

    read_only: compare, and remember nothing, for where the file cannot be written.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path, self._read_only = path, read_only

    def check(
        self,
        places: Sequence[str],
        release: str,
        signer: str,
        version: int,
        digest: str,
        *,
        demanded: bool = False,
        anew: bool = False,
    ) -> str | None:
        """Compare a verified release with what is known, and remember it.

        places: all names of where it lies. demanded: this very signer was asked for. anew: accept
        whatever differs. Returns a line for people if the place is seen for the first time. Raises
        UnexpectedRelease, which says what was known since when.
        """
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        seen = Sighting(release, signer, version, digest, today, today)
        if self._read_only:
            return self._compare(places, seen, demanded, anew)
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f'"{self._path.parent}" cannot be made: {error.strerror}') from None
        with locked(self._path, "primis", on_wait=lambda said: None):
            return self._compare(places, seen, demanded, anew)

    def _compare(
        self, places: Sequence[str], seen: Sighting, demanded: bool, anew: bool
    ) -> str | None:
        known = self._read()
        there = [known.sightings[key] for p in places if (key := known.places.get(p))]
        same = [x for x in known.sightings.values() if x.release == seen.release]
        before = next((x for x in same if x.signer == seen.signer), None)
        if not (anew or demanded):
            for sighting in (*there, *same):
                _require_same_signer(places[0], sighting, seen.signer)
        if before is not None and not anew:
            _require_not_older(places[0], before, seen)
        seen = replace(seen, since=before.since if before else seen.seen)
        if anew:  # from here on this signer's is the release
            known = known.without([x.key for x in same if x.signer != seen.signer])
        if anew or seen != before or any(known.places.get(p) != seen.key for p in places):
            known.places.update(dict.fromkeys(places, seen.key))
            known.sightings[seen.key] = seen
            if not self._read_only:
                self._write(known)
        if not there:
            return f'"{places[0]}" is seen for the first time: signer {seen.signer} is remembered'
        if any(x.release == seen.release for x in there):
            return None
        return f'"{places[0]}" holds another release of the same signer than on {there[0].seen}'

    def _read(self) -> _Known:
        if not self._path.exists():
            return _Known({}, {})
        try:
            body = json.loads(read_regular(self._path, _MAX_BYTES))
            places = {str(place): str(key) for place, key in body["places"].items()}
            found = [_sighting(value) for value in body["releases"]]
        except OSError as error:
            raise OutputError(f'"{self._path}" cannot be read: {reason(error)}') from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise OutputError(
                f'"{self._path}", which remembers signers, is damaged: '
                "put back a copy, or remove it to remember them anew"
            ) from None
        sightings = {sighting.key: sighting for sighting in found}
        return _Known({p: key for p, key in places.items() if key in sightings}, sightings)

    def _write(self, known: _Known) -> None:
        releases = [asdict(sighting) for sighting in known.sightings.values()]
        body = {"places": known.places, "releases": releases}
        sweep(self._path.parent)
        write_new(self._path, json.dumps(body, indent=1, sort_keys=True).encode() + b"\n", 0o600)


class _Known(NamedTuple):
    """places: which sighting was the last at each; sightings: by key."""

    places: dict[str, str]
    sightings: dict[str, Sighting]

    def without(self, keys: Sequence[str]) -> _Known:
        """All but these sightings."""
        sightings = {key: s for key, s in self.sightings.items() if key not in keys}
        return _Known({p: key for p, key in self.places.items() if key in sightings}, sightings)


def _sighting(body: Any) -> Sighting:
    texts = {name: str(body[name]) for name in ("release", "signer", "digest", "since", "seen")}
    return Sighting(version=int(body["version"]), **texts)


def _require_same_signer(place: str, known: Sighting, signer: str) -> None:
    if known.signer != signer:
        raise UnexpectedRelease(
            f'release "{place}" is signed by "{signer}", but since {known.since} it was signed by '
            f'"{known.signer}"'
        )


def _require_not_older(place: str, known: Sighting, seen: Sighting) -> None:
    if seen.version < known.version:
        raise UnexpectedRelease(
            f'release "{place}" is an older state, version {seen.version}; '
            f"version {known.version} was seen on {known.seen}"
        )
    if seen.version == known.version and seen.digest != known.digest:
        raise UnexpectedRelease(
            f'release "{place}" has version {seen.version} with other content than on {known.seen}'
        )
