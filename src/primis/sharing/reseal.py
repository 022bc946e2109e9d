"""The same image under new secrets and a new id, without decoding it: for `rekey`."""

from __future__ import annotations

import secrets as system
from dataclasses import replace
from itertools import pairwise

from primis.bundle.container import write_bundle
from primis.bundle.index import IndexRecord, run_digest
from primis.bundle.settings import Protection
from primis.errors import DamagedSection
from primis.keys.seal import TierSecrets, seal
from primis.sharing.opened import (
    OpenedBundle,
    Run,
    record_secrets,
    seal_record,
    seal_support,
    whole_secret,
)
from primis.sharing.protection import LEVELS


def reseal(bundle: OpenedBundle, new: TierSecrets, bundle_id: str, *, alone: bool = False) -> bytes:
    """The bundle anew. bundle: opened with the secrets of all tiers that it holds. alone: as
    in `write_bundle`.

    All values and supports stay where they lay; what lies between them is random again. Raises
    DamagedSection where two lie in the same place: one would overwrite the other.
    """
    before = bundle.header
    after = replace(before, id=bundle_id, sections=())
    level = LEVELS[before.settings.protection]
    keyed = before.settings.protection == Protection.KEYED
    old_public = bundle.parts["public"][:]
    public = bytearray(system.token_bytes(len(old_public)) if keyed else old_public)
    supports, index = bytearray(system.token_bytes(len(bundle.parts.get("supports", b"")))), []
    streams = public if keyed else supports
    taken: list[Run] = []
    for frame in range(before.geometry.frames):
        old_secrets, start = record_secrets(before, bundle.secrets, frame), bundle.part_of(frame).at
        records = [bundle.record(frame, number, was) for number, was in enumerate(old_secrets)]
        taken += _taken(records, start)
        new_secrets = record_secrets(after, new, frame)
        for record, was, now in zip(records, old_secrets, new_secrets, strict=True):
            digest = record.digest
            if keyed:
                run = level.reseal(bundle, frame, record, was, now)
                at = start + record.at
                public[at : at + record.length] = run
                digest = run_digest(run)
            stream = seal_support(bundle.support(frame, record, was), now, after)
            at = start + record.stream_at
            streams[at : at + len(stream)] = stream
            index.append(seal_record(record._replace(digest=digest), now, after))
    _require_apart(taken)
    parts = {"index": b"".join(index), "public": bytes(public)}
    if not keyed:
        parts["supports"] = bytes(supports)
    for name in bundle.sealed_whole:
        secret = whole_secret(name, new)
        parts[name] = seal(bundle.unseal_padded(name), secret, name, after.binding)
    return write_bundle(after, parts, alone=alone)


def _taken(records: list[IndexRecord], start: int) -> list[Run]:
    """Where values and supports of records lie in the section of the code. start: of the part of
    their group."""
    runs = [Run(start + record.at, record.length) for record in records]
    return runs + [Run(start + record.stream_at, record.stream_length) for record in records]


def _require_apart(runs: list[Run]) -> None:
    """Raise DamagedSection where two share bytes."""
    ordered = sorted(run for run in runs if run.length)
    for before, after in pairwise(ordered):
        if before.at + before.length > after.at:
            raise DamagedSection('section "index": two records point to the same bytes')
