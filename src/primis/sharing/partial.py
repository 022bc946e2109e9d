"""What a tier needs of a bundle, fetched in a few ranges: a preview beside an original of a hundred
times its size.

1  the beginning: head, and in most bundles `info`, `index` and the preview
2  the sections that the tier needs, by the sizes that follow from the head
3  tier preview: of the code only its own records, as the index says, which is sealed
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from primis.bundle.container import ParsedHeader, Profiles, read_header, read_sections
from primis.bundle.header import Header
from primis.bundle.ranged import RangedBytes, Span
from primis.bundle.settings import Protection
from primis.keys.seal import TierSecrets
from primis.keys.tier import Tier
from primis.sharing.opened import OpenedBundle, record_secrets

BEGINNING = 8192
"""Bytes: that much is on its way before a second request could be."""


def fetch_for(
    tier: Tier | None, file: RangedBytes, name: str, profiles: Profiles, secrets: TierSecrets
) -> None:
    """Fetch what restoring at a tier reads. tier: None for the highest that the secrets open and
    the bundle holds. Raises BadBundle, DamagedSection."""
    file.want([Span(0, min(BEGINNING, len(file)))])
    parsed = read_header(file, name, profiles)
    header = parsed.header
    wanted = tier or max(secrets)
    if wanted == Tier.ORIGINAL and "original" not in header.names:
        wanted = Tier.DIAGNOSTIC
    needed = _needed(header, wanted)
    spans = _spans(parsed)
    file.want([span for section, span in spans.items() if section in needed])
    if wanted == Tier.PREVIEW and header.settings.protection is Protection.KEYED:
        bundle = OpenedBundle(header, read_sections(file, name, parsed), secrets)
        start = spans["public"].start
        file.want([Span(start + run.start, start + run.end) for run in _preview_runs(bundle)])


def _needed(header: Header, tier: Tier) -> set[str]:
    """Sections that are read whole."""
    if tier == Tier.ORIGINAL:
        return {"info", "header", "original"}
    if tier == Tier.DIAGNOSTIC and header.settings.exact_bits:
        return {"info", "header", "exact"}
    code = {"info", "index"}
    if tier == Tier.DIAGNOSTIC:
        return code | {"public", "supports", "header"}
    keyed = header.settings.protection is Protection.KEYED
    return code if keyed else code | {"public", "supports"}


def _spans(parsed: ParsedHeader) -> dict[str, Span]:
    sections = parsed.header.sections
    starts = accumulate((section.bytes for section in sections), initial=parsed.start)
    return {
        section.name: Span(start, start + section.bytes)
        for section, start in zip(sections, starts, strict=False)
    }


def _preview_runs(bundle: OpenedBundle) -> Iterator[Span]:
    """Where in section `public` tier preview lies: values, and supports."""
    header = bundle.header
    for frame in range(header.geometry.frames):
        at = frame * header.code_budget
        secrets = record_secrets(header, bundle.secrets, frame, Tier.PREVIEW)
        for number, secret in enumerate(secrets):
            record = bundle.record(frame, number, secret)
            yield Span(at + record.at, at + record.at + record.length)
            yield Span(at + record.stream_at, at + record.stream_at + record.stream_length)
