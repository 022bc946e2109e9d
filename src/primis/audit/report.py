"""What an audit hands over: results, verdict and pictures; a page, a JSON and a few lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

from primis.atomic import write_new
from primis.attacks.result import FAMILY_ERROR_RATE, MARGINS, NUMBER_OF_TESTS, P_THRESHOLD, Result
from primis.audit.page import render
from primis.audit.pictures import Row
from primis.audit.verdict import Verdict, reach
from primis.audit.wording import shown

NOTED = ("left out", "budget not kept", "note")
"""Facts that a person must not miss."""


@dataclass(frozen=True, eq=False)
class Report:
    """facts: what was attacked and how; controls must be broken, results should not be; rows:
    images and what the best attackers saw of them; attacked, leaky: as of Verdict; every: images
    and what every attacker saw; public: what anyone sees of the release without any attack."""

    facts: dict[str, str]
    controls: Sequence[Result]
    results: Sequence[Result]
    rows: Sequence[Row]
    attacked: bool = True
    leaky: bool = False
    every: Sequence[Row] = ()
    public: dict[str, str] = field(default_factory=dict)

    @cached_property
    def verdict(self) -> Verdict:
        """May it be published?"""
        return reach(self.controls, self.results, leaky=self.leaky, attacked=self.attacked)

    def summary(self) -> str:
        """A line for each attack, and the verdict."""
        lines = [_line(result, "detected", "MISSED") for result in self.controls]
        lines += [_line(result, "LEARNED", "nothing") for result in self.results]
        notes = [f"note: {self.facts[name]}" for name in NOTED if name in self.facts]
        return "\n".join([*lines, *notes, self.verdict.sentence])

    def write(self, folder: Path) -> None:
        """index.html and audit.json."""
        verdict = asdict(self.verdict) | {
            "decision": self.verdict.decision,
            "sentence": self.verdict.sentence,
        }
        body = {
            "facts": self.facts,
            "public": self.public,
            "verdict": verdict,
            "family_error_rate": FAMILY_ERROR_RATE,
            "number_of_tests": NUMBER_OF_TESTS,
            "p_threshold": P_THRESHOLD,
            "margins": MARGINS,
            "controls": [result.as_dict() for result in self.controls],
            "results": [result.as_dict() for result in self.results],
        }
        folder.mkdir(0o700, parents=True, exist_ok=True)  # it shows patients' images
        text = json.dumps(body, indent=1, allow_nan=False) + "\n"
        write_new(folder / "audit.json", text.encode(), 0o600)
        write_new(folder / "index.html", self.page().encode(), 0o600)

    def page(self) -> str:
        """The page."""
        return render(
            self.verdict,
            facts=self.facts,
            public=self.public,
            controls=self.controls,
            results=self.results,
            rows=self.rows,
            every=self.every,
        )


def _line(result: Result, broken: str, sound: str) -> str:
    gain = max(result.gains, key=lambda g: (g.detected, -g.p))
    text = shown(gain)
    said = broken if result.broken else sound
    return f"  {said:<8} {result.attack:<52} {text.reached} (chance {text.chance})"
