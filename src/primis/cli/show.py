"""`primis inspect`: what a path is, and what anyone can see of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from primis.atomic import read_regular, reason
from primis.bundle.container import profiles_of, read_bundle, read_head, stands_alone
from primis.bundle.describe import describe_bundle, describe_grant, describe_manifest
from primis.bundle.header import MAGIC
from primis.cli.known import open_release, require_release
from primis.errors import BadBundle, BadGrant, InputError, NoMatchingGrant
from primis.keys.grant import Grant
from primis.keys.identity import Identity
from primis.release.grants import GrantFile
from primis.release.naming import open_catalogue
from primis.release.reader import Release
from primis.sharing.opened import OpenedBundle
from primis.sharing.restore import read_name

_MAX_FILE = 1 << 32


def inspect_path(
    path: Path,
    identities: list[Identity],
    *,
    anew: bool = False,
    as_json: bool,
) -> str:
    """Text or JSON about a release folder, a bundle or a grant."""
    is_file = os.path.lexists(path) and not os.path.isdir(path)
    facts = _file(path) if is_file else _release(path, identities, anew=anew)
    return json.dumps(facts, indent=2) if as_json else "\n".join(_lines(facts))


def _file(path: Path) -> dict[str, Any]:
    try:
        data = read_regular(path, _MAX_FILE)
    except OSError as error:
        raise InputError(f'"{path}" cannot be read: {reason(error)}') from None
    if path.name == "manifest.json":
        return _release(path.parent, [], anew=False)
    if data.startswith(b"age-encryption.org/"):
        return {"kind": "grant"} | describe_grant(data, str(path))
    if data.startswith(MAGIC[:6]):
        return {"kind": "bundle"} | _bundle(path, data)
    raise InputError(f'"{path}" is neither a release, a bundle nor a grant')


def _release(path: Path, identities: list[Identity], *, anew: bool) -> dict[str, Any]:
    require_release(path)
    release = open_release(path, anew=anew) if identities else Release(path)
    grants = [_grant(file) for file in release.grants()]
    facts = {"kind": "release"} | describe_manifest(release.manifest, release.entries.values())
    facts["grants"] = grants
    if release.notes:
        facts["notes"] = release.notes
    if identities:
        opened = _open(release, identities)
        facts["opened"] = [_opened(g) for g in opened]
        if any(g.tier != "preview" for g in opened):
            facts["names"] = _names(release, opened)
    return facts


def _bundle(path: Path, data: bytes) -> dict[str, Any]:
    """A bundle's header; its release tells its profile, unless it brings its own."""
    bundle_id, digest = read_head(data, path.name)
    place = path.absolute().parent.parent
    if (place / "manifest.json").is_file():
        profiles = profiles_of(Release(place).manifest.profiles)
        return describe_bundle(read_bundle(data, path.name, profiles)[0])
    try:
        return describe_bundle(read_bundle(data, path.name)[0])
    except BadBundle:
        if stands_alone(data):
            raise
    return {
        "id": bundle_id,
        "profile": digest.hex(),
        "note": "its release tells size and settings: look at it where it lies in its release",
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
    return {
        "label": grant.label,
        "tier": grant.tier,
        "images": "all" if grant.secret is not None else sorted(grant.images),
        "note": grant.note,
        "not_after": grant.not_after.isoformat() if grant.not_after else None,
    }


def _names(release: Release, grants: list[Grant]) -> list[dict[str, Any]]:
    """The sealed names of the images that the grants open."""
    catalogue = open_catalogue(release, grants)
    if catalogue is not None:
        return [{"id": image.id, "name": image.name} for image in catalogue]
    named = []
    for bundle_id in release.ids:
        opened = next(
            (
                g.image_secrets(bundle_id)
                for g in grants
                if g.covers(bundle_id) and g.tier != "preview"
            ),
            None,
        )
        if opened is not None:
            bundle = OpenedBundle(*release.sections(bundle_id), opened)
            named.append({"id": bundle_id, "name": read_name(bundle)})
    return named


def _lines(facts: Any, indent: str = "") -> list[str]:
    lines = []
    for key, value in facts.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}:", *_lines(value, indent + "  ")]
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            shown = [", ".join(f"{k} {_short(v)}" for k, v in item.items()) for item in value[:20]]
            more = (
                [f"{indent}  ... and {len(value) - 20} more (--json lists all)"]
                if len(value) > 20
                else []
            )
            lines += [f"{indent}{key}:", *(f"{indent}  {text}" for text in shown), *more]
        else:
            lines.append(f"{indent}{key}: {_short(value)}")
    return lines


def _short(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_short(v) for v in value) or "none"
    return "-" if value is None else str(value)
