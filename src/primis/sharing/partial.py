"""What a tier needs of a bundle, fetched in a few ranges: a preview beside an original of a hundred
times its size.

1  the beginning: head, and in most bundles `info`, `index` and the preview
2  the sections that the tier needs, by the sizes that follow from the head
3  tier preview: of the code only its own records, as the index says, which is sealed
   a region: of index and code only the records of its tiles
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

from primis.bundle.container import ParsedHeader, Profiles, read_header, read_sections
from primis.bundle.header import RECORD, TAG, Header
from primis.bundle.index import IndexRecord
from primis.bundle.ranged import RangedBytes, Span
from primis.bundle.settings import Protection
from primis.imaging.region import Region
from primis.keys.grant import ImageKeys
from primis.keys.seal import TierSecrets
from primis.keys.tier import Tier
from primis.sharing.groups import touched
from primis.sharing.opened import OpenedBundle, record_secrets
from primis.sharing.region import Record, choose, decoded_box
from primis.sharing.restore import Frames, is_exact

BEGINNING = 8192
"""Bytes: that much is on its way before a second request could be."""

REGION_BEGINNING, REGION_SLACK, REGION_SPANS = 1024, 128, 2048
"""Of a region: bytes that are fetched first; bytes that are fetched rather than by a request more;
and requests beyond which all that lies between is fetched too."""


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


def fetch_region(
    tier: Tier,
    file: RangedBytes,
    name: str,
    profiles: Profiles,
    keys: ImageKeys,
    region: Region | None,
    frames: Frames | None,
) -> None:
    """Fetch what reading a region at tier preview or diagnostic reads. region, frames: as of
    `read_region`. Raises BadBundle, DamagedSection, and what `choose` raises."""
    file.want([Span(0, min(REGION_BEGINNING, len(file)))])
    parsed = read_header(file, name, profiles)
    header, spans = parsed.header, _spans(parsed)
    bundle = OpenedBundle.of(header, read_sections(file, name, parsed), keys)
    chosen = choose(bundle, region, frames)
    needed = set() if bundle.region else _needed(header, tier)
    in_parts = header.settings.protection is Protection.KEYED and not is_exact(bundle, tier)
    needed -= {"index", "public"} if in_parts else set()
    file.want([span for section, span in spans.items() if section in needed])
    if not in_parts:
        return
    records = decoded_box(bundle, chosen.region).records(header, tier)
    groups = touched(chosen.frames, bundle.group, header.geometry.frames)
    numbers = [frame for group in groups for frame in group.frames]
    each = [(frame, record) for frame in numbers for record in records]
    size, start = RECORD + TAG, spans["index"].start
    at = [start + size * (frame * header.records + record.number) for frame, record in each]
    file.want([Span(a, a + size) for a in at], REGION_SLACK, REGION_SPANS)
    start = spans["public"].start
    runs = _runs(bundle, each)
    file.want([Span(start + r.start, start + r.end) for r in runs], REGION_SLACK, REGION_SPANS)


def _runs(bundle: OpenedBundle, each: Sequence[tuple[int, Record]]) -> Iterator[Span]:
    """Where in section `public` records of frames lie: values, and supports."""
    geometry = bundle.header.geometry
    for frame, (tier, number, _) in each:
        tile = frame * geometry.tile_count + number % geometry.tile_count
        record = bundle.record(frame, number, bundle.tile_secret(tier, tile))
        yield from _run(bundle, frame, record)


def _run(bundle: OpenedBundle, frame: int, record: IndexRecord) -> Iterator[Span]:
    """Where a record's values and its support lie in section `public`."""
    at = bundle.part_of(frame).at
    yield Span(at + record.at, at + record.at + record.length)
    yield Span(at + record.stream_at, at + record.stream_at + record.stream_length)


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
        secrets = record_secrets(header, bundle.secrets, frame, Tier.PREVIEW)
        for number, secret in enumerate(secrets):
            record = bundle.record(frame, number, secret)
            yield from _run(bundle, frame, record)
