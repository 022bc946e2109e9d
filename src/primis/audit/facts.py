"""What an audit was of, in words: the facts of its page."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from primis.attacks.harness import Harness
from primis.audit.cases import LEAST_JUDGED
from primis.audit.course import Ran
from primis.bundle.geometry import Geometry
from primis.bundle.header import Header
from primis.bundle.settings import Settings
from primis.release.reader import Release


def public(release: Release, headers: Mapping[str, Header]) -> dict[str, str]:
    """What anyone reads of a release without a key."""
    manifest = release.manifest
    shapes = Counter(_shape(header.geometry) for header in headers.values())
    settings = dict.fromkeys(_settings(header.settings) for header in headers.values())
    labels = release.labels()
    return {
        "images": f"{len(headers)}",
        "dimensions": ", ".join(f"{count} of {shape}" for shape, count in shapes.most_common()),
        "labels of recipients": ", ".join(labels) or "none",
        "dates": f"last changed {manifest.created}, version {manifest.version}",
        "signer": manifest.signer,
        "model": ", ".join(manifest.models),
        "settings": "; ".join(settings),
    }


def _shape(geometry: Geometry) -> str:
    shape = f"{geometry.width} x {geometry.height}"
    frames = f", {geometry.frames} frames" if geometry.frames > 1 else ""
    return shape + frames + (f", {geometry.channels} channels" if geometry.channels > 1 else "")


def _settings(s: Settings) -> str:
    return f"level {s.protection}, S_x = {s.sparsity:g}, S_n = {s.decoys:g}"


def facts(
    release: Release,
    harness: Harness,
    originals: Path | None,
    unknown: int,
    done: Ran,
    *,
    enough: bool,
) -> dict[str, str]:
    own, judged, manifest = len(harness.owned), len(harness.judged), release.manifest
    apart = "patients apart"
    if unknown:
        apart += f", but {unknown} files of unknown patients count as one each"
    attackers = f"attackers own {own}, judged on {judged}, {apart}"
    now = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC"
    steps, schedule = done.budget.steps, done.schedule
    budget = f"{steps} steps of {done.budget.batch} images for each network"
    if schedule:
        budget += f", for a budget of {schedule.minutes:g} minutes"
    facts = {
        "release": f"{manifest.release}, signed {manifest.created} by {manifest.signer[:16]}…",
        "level": _settings(harness.settings).removeprefix("level "),
        "images": f"{len(release.ids)} in the release; {attackers}",
        "truth": "the originals" if originals else "the images as restored at tier diagnostic",
        "budget": budget,
        "made with": f"primis {version('primis')}, {now}",
    }
    if left_out := len(release.ids) - own - judged:
        facts["left out"] = (
            f"{left_out} {'image is' if left_out == 1 else 'images are'} left out: blank, in "
            "colour, too small, of another shape or other settings, or more than an audit takes"
        )
    if schedule and schedule.note:
        facts["budget not kept"] = schedule.note
    if not enough:
        facts["note"] = (
            "too few images for attackers that learn, patients apart: at least "
            f"{LEAST_JUDGED} to learn from and {LEAST_JUDGED} to be judged on"
        )
    return facts
