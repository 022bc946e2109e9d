"""What a part of the study adds to the report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from primis.study.paper.tables import Ours
from primis.study.report.document import Section
from primis.study.report.write import Csv


@dataclass(frozen=True, eq=False)
class Chapter:
    """data: for report.json; csvs: by name of file; ours: what stands beside the paper's tables."""

    sections: tuple[Section, ...]
    data: dict[str, Any] = field(default_factory=dict)
    csvs: dict[str, Csv] = field(default_factory=dict)
    ours: Ours = field(default_factory=Ours)
