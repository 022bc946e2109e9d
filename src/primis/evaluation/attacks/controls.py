"""Positive controls: mechanisms that are known to be broken, which the suite must find broken in every run.

loud decoys             drawn above the largest true value, as in the paper's published code: a threshold tells them
a keystream used twice  all images shared under the same secrets and id: a known image opens the others
open lengths            the parts as long as they come, without room to spare: sizes tell
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from primis.bundle.layout import Settings, read_bundle
from primis.codec import Codec
from primis.evaluation.attacks.judge import Finding, judge_images
from primis.evaluation.attacks.keys import pairs
from primis.evaluation.attacks.protocol import Case, World, open_case
from primis.evaluation.attacks.simple import Smallest
from primis.evaluation.attacks.suite import keystream_finding, lengths_finding, randomness_finding
from primis.imaging.image import Image
from primis.keys.seal import Secret
from primis.sharing.image_bundle import plain_records, share_image

_LOUDER = 1.1


def controls(codec: Codec, settings: Settings, images: Sequence[Image]) -> list[tuple[str, Callable[[], Finding]]]:
    """(name, control), all of which must be found broken. images: some of one geometry, nobody's."""

    @cache
    def twice() -> list[Case]:
        keys = _fresh()
        return [_share(image, replace(settings, protection="keyed"), codec, keys, "0" * 32) for image in images]

    def loud() -> Finding:
        sca = replace(settings, protection="sca", support_bits=max(settings.support_bits, 16.0))
        plain = [_share(image, sca, codec, _fresh(), secrets.token_hex(16)) for image in images]
        finding, _ = judge_images(Smallest(), World(codec, sca, plain, [_loud(case) for case in plain]))
        return replace(finding, gains=finding.gains[2:])  # the support alone: any open code gives the image gains

    found = {
        "control: decoys louder than the truth": loud,
        "control: a keystream used twice, one image known": lambda: keystream_finding(pairs(twice())),
        "control: a keystream used twice, bytes that repeat": lambda: randomness_finding(twice()),
        "control: parts as long as they come": lambda: lengths_finding([_bare(case) for case in twice()]),
    }
    return [(name, lambda name=name, make=make: replace(make(), attack=name)) for name, make in found.items()]  # type: ignore[misc]


def _bare(case: Case) -> tuple[object, dict[str, int]]:
    """The lengths that seals and room hide."""
    records = plain_records(*read_bundle(case.view.bundle, ""), case.secrets)
    return None, {"supports": sum(len(r[3]) for r in records), "values": sum(len(r[4]) for r in records)}


def _fresh() -> dict[str, Secret]:
    return {tier: Secret.new() for tier in ("preview", "diagnostic", "original")}


def _share(image: Image, settings: Settings, codec: Codec, keys: dict[str, Secret], bundle_id: str) -> Case:
    data = share_image(image, settings, keys, codec, bundle_id=bundle_id, name="control").data
    return open_case(data, keys, codec, image, name="control", patient="", judged=True)


def _loud(case: Case) -> Case:
    """Decoys moved above the largest true value of the image."""
    decoy = (case.view.public != 0) & (case.levels == 0)
    largest = int(np.abs(case.levels).max(initial=1))
    moved = np.where(decoy, np.sign(case.view.public) * round(_LOUDER * largest + 1), case.view.public).astype(np.int16)
    return replace(case, view=replace(case.view, public=moved))
