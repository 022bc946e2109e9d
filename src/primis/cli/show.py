"""What a release, a bundle or a grant is: for programs, and for people."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from primis.atomic import read_regular, reason
from primis.bundle.container import read_bundle, read_head, stands_alone
from primis.bundle.describe import describe_bundle, describe_grant, describe_manifest
from primis.bundle.header import MAGIC
from primis.cli.known import open_release, require_release
from primis.cli.say import plain
from primis.errors import BadGrant, InputError, NoMatchingGrant
from primis.keys.grant import Grant
from primis.keys.identity import Identity
from primis.release.grants import GrantFile
from primis.release.naming import open_catalogue, read_names
from primis.release.reader import Release

_MAX_FILE = 1 << 32
_MOST_LINES = 20


def inspect_path(
    place: str,
    identities: list[Identity],
    *,
    anew: bool = False,
    as_json: bool,
) -> str:
    """Text or JSON about a release folder, a bundle or a grant."""
    is_file = os.path.lexists(place) and not os.path.isdir(place)
    facts = _file(Path(place)) if is_file else _release(place, identities, anew=anew)
    return json.dumps(facts, indent=2) if as_json else "\n".join(_lines(_explained(facts)))


def _file(path: Path) -> dict[str, Any]:
    try:
        data = read_regular(path, _MAX_FILE)
    except OSError as error:
        raise InputError(f'"{path}" cannot be read: {reason(error)}') from None
    if path.name == "manifest.json":
        return _release(str(path.parent), [], anew=False)
    if data.startswith(b"age-encryption.org/"):
        return {"kind": "grant"} | describe_grant(data, str(path))
    if data.startswith(MAGIC[:6]):
        return {"kind": "bundle"} | _bundle(path, data)
    raise InputError(f'"{path}" is neither a release, a bundle nor a grant')


def _release(place: str, identities: list[Identity], *, anew: bool) -> dict[str, Any]:
    require_release(place)
    release = open_release(place, anew=anew) if identities else Release(place)
    grants = [_grant(file) for file in release.grants()]
    facts = {"kind": "release"} | describe_manifest(release.manifest, release.entries.values())
    facts["grants"] = grants
    if release.notes:
        facts["notes"] = release.notes
    if identities:
        opened = _open(release, identities)
        facts["opened"] = [_opened(g) for g in opened]
        if any(g.tier != "preview" for g in opened):
            facts["names"] = _named(release, opened)
    return facts


def _named(release: Release, grants: list[Grant]) -> list[dict[str, Any]]:
    """Names, and where the grants open the catalogue the number of frames where there are several,
    and labels where it has some."""
    catalogue = open_catalogue(release, grants)
    if catalogue is None:
        return [image._asdict() for image in read_names(release, grants)]
    named = []
    for image in catalogue:
        frames = {"frames": image.frames} if image.frames > 1 else {}
        labels = {"labels": image.labels} if image.labels else {}
        named.append({"id": image.id, "name": image.name, **frames, **labels})
    return named


def _bundle(path: Path, data: bytes) -> dict[str, Any]:
    """A bundle's header; its release tells its profile, unless it brings its own."""
    head = read_head(data, path.name)
    place = path.absolute().parent.parent
    if stands_alone(data):
        return describe_bundle(read_bundle(data, path.name)[0])
    if (place / "manifest.json").is_file():
        return describe_bundle(Release(place).header(head.id))
    return {
        "id": head.id,
        "profile": head.profile.hex(),
        "note": "size and settings are in its release: look at it where it lies there",
    }


def _grant(file: GrantFile) -> dict[str, Any]:
    try:
        return {"label": file.label} | describe_grant(file.data, file.label)
    except BadGrant as error:
        return {"label": file.label, "error": str(error)}


def _open(release: Release, identities: list[Identity]) -> list[Grant]:
    try:
        return release.open_grants(identities)
    except NoMatchingGrant:
        return []


def _opened(grant: Grant) -> dict[str, Any]:
    regions = {i: str(opened.region) for i, opened in sorted(grant.regions.items())}
    return ({"regions": regions} if regions else {}) | {
        "label": grant.label,
        "tier": grant.tier,
        "images": "all" if grant.secret is not None else sorted(grant.images),
        "note": grant.note,
        "not_after": grant.not_after.isoformat() if grant.not_after else None,
    }


def _explained(facts: dict[str, Any]) -> dict[str, Any]:
    """The same for people: whose the keys are that a grant is sealed to."""
    if "recipients" in facts:
        whose = _whose(facts["recipients"], owner=facts.get("label") == "owner")
        facts = {key: facts[key] for key in facts if key != "recipients"} | {"opens with": whose}
    names = {named["id"]: named for named in facts.get("names", [])}
    if names:
        bundles = [bundle | names.get(bundle["id"], {}) for bundle in facts["bundles"]]
        facts = {key: facts[key] for key in facts if key != "names"} | {"bundles": bundles}
    if "grants" in facts:
        facts = facts | {"grants": [_explained(grant) for grant in facts["grants"]]}
    return facts


def _whose(kinds: list[str], *, owner: bool) -> str:
    """A grant to a key is sealed to the owner too, whose `rekey` must be able to renew it."""
    if not kinds:
        return "a key of a kind that primis does not know"
    if owner:
        return f"the owner's key ({kinds[0]})"
    if kinds == ["passphrase"]:
        return "a passphrase"
    keys = f"the recipient's key ({kinds[0]})"
    return keys if len(kinds) == 1 else f"{keys}, or the owner's ({kinds[1]})"


def _lines(facts: dict[str, Any], indent: str = "") -> list[str]:
    lines: list[str] = []
    for key, value in facts.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}:", *_lines(value, indent + "  ")]
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            lines += [f"{indent}{key}:", *_items(value, indent + "  ")]
        else:
            lines.append(f"{indent}{key}: {_short(value)}")
    return lines


def _items(values: list[dict[str, Any]], indent: str) -> list[str]:
    """A line for each of the first, and one for the rest."""
    lines = [
        indent + ", ".join(f"{key} {_short(x)}" for key, x in item.items() if x is not None)
        for item in values[:_MOST_LINES]
    ]
    if len(values) > _MOST_LINES:
        lines.append(f"{indent}... and {len(values) - _MOST_LINES} more (--json lists all)")
    return lines


def _short(value: Any) -> str:
    """In one line: names and labels come from others, and could pass for lines of ours."""
    if isinstance(value, list):
        return ", ".join(_short(v) for v in value) or "none"
    if isinstance(value, dict):
        return "(" + ", ".join(f"{plain(key)} {_short(x)}" for key, x in value.items()) + ")"
    return "-" if value is None else plain(str(value))
