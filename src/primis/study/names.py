"""The parts of a study, the mechanisms that it attacks, pairs of versions.

Imports nothing heavy.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class PartName(StrEnum):
    """A part of the study, in the order of the report."""

    FIDELITY = "fidelity"
    CLASSIFICATION = "classification"
    SEGMENTATION = "segmentation"
    TEXTURE = "texture"
    ATTACKS = "attacks"


class MechanismName(StrEnum):
    """A way of sharing that can be attacked: a key of `attacks.mechanism.MECHANISMS`."""

    KEYED = "keyed"
    SCA = "sca"
    PAPER = "paper"


PARTS = tuple(PartName)


class Pair(NamedTuple):
    """Names of the versions that networks were trained on and tested on."""

    trained_on: str
    tested_on: str
