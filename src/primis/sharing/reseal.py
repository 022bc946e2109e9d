"""The same image under new secrets and a new id, without decoding it: for `rekey`."""

from __future__ import annotations

import secrets as system
from dataclasses import replace

from primis.bundle.container import write_bundle
from primis.bundle.index import run_digest
from primis.bundle.settings import Protection
from primis.keys.seal import TierSecrets, seal
from primis.sharing.opened import (
    OpenedBundle,
    record_secrets,
    seal_record,
    seal_support,
    whole_secret,
)
from primis.sharing.protection import LEVELS


def reseal(bundle: OpenedBundle, new: TierSecrets, bundle_id: str, *, alone: bool = False) -> bytes:
    """The bundle anew. bundle: opened with the secrets of all tiers that it holds. alone: as
    in `write_bundle`.

    All values and supports stay where they lay; what lies between them is random again.
    """
    before = bundle.header
    after = replace(before, id=bundle_id, sections=())
    level = LEVELS[before.settings.protection]
    keyed = before.settings.protection == Protection.KEYED
    old_public = bundle.parts["public"]
    public = bytearray(system.token_bytes(len(old_public)) if keyed else old_public)
    supports, index = bytearray(system.token_bytes(len(bundle.parts.get("supports", b"")))), []
    streams = public if keyed else supports
    for frame in range(before.geometry.frames):
        pairs = zip(
            record_secrets(before, bundle.secrets, frame),
            record_secrets(after, new, frame),
            strict=True,
        )
        for number, (was, now) in enumerate(pairs):
            record = bundle.record(frame, number, was)
            if keyed:
                run = level.reseal(bundle, frame, record, was, now)
                at = frame * before.code_budget + record.at
                public[at : at + record.length] = run
                record = record._replace(digest=run_digest(run))
            stream = seal_support(bundle.support(frame, record, was), now, after)
            at = frame * before.code_budget + record.stream_at
            streams[at : at + len(stream)] = stream
            index.append(seal_record(record, now, after))
    parts = {"index": b"".join(index), "public": bytes(public)}
    if not keyed:
        parts["supports"] = bytes(supports)
    for name in bundle.sealed_whole:
        secret = whole_secret(name, new)
        parts[name] = seal(bundle.unseal_padded(name), secret, name, after.binding)
    return write_bundle(after, parts, alone=alone)
