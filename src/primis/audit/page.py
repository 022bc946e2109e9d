"""The results of an audit as one page that needs nothing else: no network, no script."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from primis.attacks.result import FAMILY_ERROR_RATE, MARGINS, NUMBER_OF_TESTS, Kind, Result
from primis.audit.pictures import Row
from primis.audit.verdict import Decision, Verdict
from primis.audit.wording import Shown, missed, shown

_SIDE = 256

QUESTIONS = {
    Kind.RECONSTRUCTION: "Can anyone see the image?",
    Kind.REIDENTIFICATION: "Can anyone tell whose image it is?",
    Kind.ATTRIBUTE: "Can anyone read a diagnosis or a trait?",
    Kind.MEMBERSHIP: "Can anyone tell which images the weights were trained on?",
    Kind.CRYPTOGRAPHIC: "Do keys, lengths or bytes give anything away?",
}

_CLASSES = {
    Decision.PUBLISH: "good",
    Decision.CANNOT_SAY: "part",
    Decision.DO_NOT_PUBLISH: "bad",
}


class Line(NamedTuple):
    """A row of a table. said: whether something was learned; look: its class."""

    measure: str
    shown: Shown
    said: str
    look: str


class Entry(NamedTuple):
    """An attack and its rows."""

    result: Result
    lines: list[Line]


class Picture(NamedTuple):
    """A picture as text for a page."""

    caption: str
    png: str


def render(
    verdict: Verdict,
    *,
    facts: Mapping[str, str],
    public: Mapping[str, str],
    controls: Sequence[Result],
    results: Sequence[Result],
    rows: Sequence[Row],
    every: Sequence[Row],
) -> str:
    """The page; every text is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("primis.audit", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("audit.html").render(
        verdict=verdict,
        look=_CLASSES[verdict.decision],
        missed=missed(verdict.limits),
        facts=facts,
        public=public,
        controls=[_control(result) for result in controls],
        kinds=_by_kind(results),
        rows=[_pictures(row) for row in rows],
        every=[_pictures(row) for row in every],
        error_rate=FAMILY_ERROR_RATE,
        tests=NUMBER_OF_TESTS,
        margins={unit.name: margin for unit, margin in MARGINS.items()},
    )


def _by_kind(results: Sequence[Result]) -> list[tuple[str, list[Entry]]]:
    groups = []
    for kind, question in QUESTIONS.items():
        of_kind = [_entry(result) for result in results if result.kind is kind]
        if of_kind:
            groups.append((question, of_kind))
    return groups


def _entry(result: Result) -> Entry:
    lines = []
    for gain in result.gains:
        said, look = ("yes", "yes") if gain.detected else ("no", "no")
        if gain.unclear:
            said, look = "not significant", "unclear"
        lines.append(Line(gain.what, shown(gain), said, look))
    return Entry(result, lines)


def _control(result: Result) -> Entry:
    """A control is broken when one of its gains is detected; the others are by the way."""
    lines = []
    for gain in result.gains:
        said, look = ("detected", "no") if gain.detected else ("not detected", "unclear")
        if not result.broken:
            said, look = "MISSED", "yes"
        lines.append(Line(gain.what, shown(gain), said, look))
    return Entry(result, lines)


def _pictures(row: Row) -> list[Picture]:
    return [Picture(caption, _png(picture, row)) for caption, picture in row.cells]


def _png(picture: np.ndarray, row: Row) -> str:
    from PIL import Image as Pillow

    scaled = (picture.astype(np.float64) - row.low) * (255 / (row.high - row.low))
    small = Pillow.fromarray(np.clip(scaled, 0, 255).astype(np.uint8))
    small.thumbnail((_SIDE, _SIDE), Pillow.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()
