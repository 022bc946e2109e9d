"""What becomes of each image of a job."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from primis.errors import PrimisError
from primis.keys.tier import Tier
from primis.metrics.fidelity import Quality


class Unfamiliar(NamedTuple):
    """An image of a kind that the model was not trained on. kind: DICOM's modality, or COLOUR;
    trained_on: what the model knows, in words."""

    kind: str
    trained_on: str


COLOUR = "colour"


@dataclass(frozen=True, slots=True)  # there may be many
class Result:
    """What became of one image that was to be shared or restored.

    name: the path that it is shared under, or the file that was restored. id: of its bundle, 32 hex
    digits. bytes: of the bundle or file, 0 where there is none. kept: S_x that it got when shared,
    less than was asked for where it has more detail than most, and more where it has less; None
    where it is sealed exactly. tier: at which it was restored. error: why there is none. resumed:
    done by an earlier run. notes: what a person should know of it, one line each. unfamiliar: that
    it is of a kind that the model was not trained on. quality: how near what a recipient sees is to
    what was shared; None where that was not measured, and at tier preview. texture: noise like the
    texture that was lost was added; the quality is that of the image without it.
    """

    name: str
    id: str
    bytes: int = 0
    kept: float | None = None
    tier: Tier | None = None
    error: PrimisError | None = None
    resumed: bool = False
    notes: tuple[str, ...] = ()
    unfamiliar: Unfamiliar | None = None
    quality: Quality | None = None
    texture: bool = False


OnResult = Callable[[Result, int, int], None]
"""(result, number done, number of all)."""

OnPart = Callable[[float, int], None]
"""(number done, with the share of the image at work, number of all)."""


def of_all(on_part: OnPart, before: int, total: int) -> Callable[[float], None]:
    """For one image, after `before` others: is told what share of it is done."""
    return lambda share: on_part(before + share, total)


def lost(tries: int) -> str:
    """What to say of an image whose worker process died each time."""
    return f"ended its worker process {tries} times: it may take more memory than there is"


def unexpected(error: Exception, done: str) -> str:
    """What to say of an error that nobody expected."""
    if isinstance(error, MemoryError):
        return "does not fit in memory"
    if os.environ.get("PRIMIS_DEBUG"):
        raise error
    return f"cannot be {done}: this is a defect of primis (PRIMIS_DEBUG=1 shows where)"
