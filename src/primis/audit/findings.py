"""The findings of an audit as one page that needs nothing else, and as JSON."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from primis.atomic import write_new
from primis.attacks.judge import DOUBT, LOOKS, MARGINS, Finding, Gain
from primis.audit.pictures import Row

_SIDE = 256


@dataclass(frozen=True, eq=False)
class Report:
    """facts: what was attacked and how; controls must be broken, findings should not be; rows: images and what the best attackers
    saw of them. attacked: whether there were images enough for attackers that learn; leaks: whether the level is one that leaks,
    whatever was found; every: images and what every attacker saw."""

    facts: dict[str, str]
    controls: list[Finding]
    findings: list[Finding]
    rows: list[Row]
    attacked: bool = True
    leaks: bool = False
    every: list[Row] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against publishing."""
        return not (self.blind or self.broken or self.leaks)

    @property
    def blind(self) -> list[str]:
        """Controls that the attackers failed to break: the audit proves nothing."""
        return [finding.attack for finding in self.controls if not finding.broken]

    @property
    def broken(self) -> list[str]:
        """Attacks that learned something."""
        return [finding.attack for finding in self.findings if finding.broken]

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.blind:
            return f"This audit proves nothing: its attackers missed what they must find ({', '.join(self.blind)})."
        if self.broken:
            count = f"{len(self.broken)} of {len(self.findings)}"
            return f"{count} attacks learned something of the images. Do not publish this release."
        if self.leaks:
            return "Level sca leaks the image to anyone, also where this audit could not show it. Do not publish this release."
        none = f"None of {len(self.findings)} attacks learned anything of the images beyond doubt"
        return (
            f"{none}."
            if self.attacked
            else f"{none}, but they tried keys, lengths and bytes only: no image was attacked."
        )

    def summary(self) -> str:
        """A line for each attack, and the verdict."""
        lines = []
        for finding in (*self.controls, *self.findings):
            gain = max(finding.gains, key=lambda g: (g.found, -g.p))
            what = shown(gain)
            text = f"{what['reached']} (chance {what['chance']})"
            control = finding in self.controls
            said = (
                ("found" if control else "LEARNED")
                if finding.broken
                else ("MISSED" if control else "nothing")
            )
            lines.append(f"  {said:<8} {finding.attack:<52} {text}")
        notes = [f"note: {self.facts[name]}" for name in ("left out", "note") if name in self.facts]
        return "\n".join([*lines, *notes, self.verdict])

    def write(self, folder: Path) -> None:
        """index.html and audit.json."""
        body = {
            "facts": self.facts,
            "verdict": self.verdict,
            "broken": self.broken,
            "margins": MARGINS,
            "doubt": [DOUBT, LOOKS],
        }
        body |= {
            "controls": [f.as_dict() for f in self.controls],
            "findings": [f.as_dict() for f in self.findings],
        }
        folder.mkdir(0o700, parents=True, exist_ok=True)  # it shows patients' images
        write_new(
            folder / "audit.json",
            (json.dumps(body, indent=1, allow_nan=False) + "\n").encode(),
            0o600,
        )
        write_new(folder / "index.html", self.page().encode(), 0o600)

    def page(self) -> str:
        """The page."""
        import jinja2

        loader = jinja2.PackageLoader("primis.audit", "templates")
        environment = jinja2.Environment(
            loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True
        )
        rows, every = (
            [[(c, _png(picture, row)) for c, picture in row.cells] for row in part]
            for part in (self.rows, self.every)
        )
        return environment.get_template("audit.html").render(
            report=self,
            rows=rows,
            every=every,
            shown=shown,
            doubt=DOUBT,
            margins=MARGINS,
            kinds=_by_kind(self.findings),
        )


_KINDS = {
    "image": "Can anyone see the image?",
    "link": "Can anyone tell whose image it is?",
    "label": "Can anyone read a diagnosis or a trait?",
    "count": "Do keys, lengths or bytes give anything away?",
}


def _by_kind(findings: list[Finding]) -> list[tuple[str, list[Finding]]]:
    groups = (
        (question, [f for f in findings if f.kind == kind]) for kind, question in _KINDS.items()
    )
    return [(question, group) for question, group in groups if group]


def shown(gain: Gain) -> dict[str, Any]:
    """A gain for people: what was reached, between what, and what nothing would give."""
    e = gain.estimate
    if gain.unit == "share":
        texts = [f"{100 * x:.0f} %" for x in (e.value, e.low, e.high, gain.chance)]
    elif gain.unit == "count":
        return {"reached": f"{e.value:.0f}", "range": "", "chance": f"{gain.chance:.0f}"}
    else:
        texts = [
            f"{round(x, 2) + 0.0:+.2f} dB" if gain.unit == "dB" else f"{x:.3f}"
            for x in (e.value, e.low, e.high, gain.chance)
        ]
    return {"reached": texts[0], "range": f"{texts[1]} to {texts[2]}", "chance": texts[3]}


def _png(picture: np.ndarray, row: Row) -> str:
    from PIL import Image as Pillow

    grey = np.clip(
        (picture.astype(np.float64) - row.low) * (255 / (row.high - row.low)), 0, 255
    ).astype(np.uint8)
    small = Pillow.fromarray(grey)
    small.thumbnail((_SIDE, _SIDE), Pillow.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()
