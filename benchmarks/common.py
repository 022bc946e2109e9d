"""What the benchmarks share: the images, the machine, and where results go."""

from __future__ import annotations

import json
import math
import platform
import subprocess
from pathlib import Path
from typing import Any

from primis.datasets.files import collect
from primis.errors import UnreadableImage
from primis.imaging.files import read
from primis.imaging.image import Image

RESULTS = Path(__file__).parent / "results"


def load(folder: Path, every: int) -> list[tuple[str, Image]]:
    """Every n-th image of a folder, with its name; what cannot be read is named and left out."""
    images = []
    for path, name in collect([folder])[::every]:
        try:
            images.append((name, read(path)[0]))
        except UnreadableImage as error:
            print(f"left out: {error}")
    return images


def machine() -> dict[str, str]:
    """Where and on which commit this ran."""
    with open("/proc/cpuinfo") as file:
        model = next(
            (line.split(":")[1].strip() for line in file if line.startswith("model name")),
            platform.machine(),
        )
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {"cpu": model, "python": platform.python_version(), "commit": commit.stdout.strip()}


def save(name: str, result: dict) -> Path:
    """Write a result as JSON."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(_plain(result), indent=1, allow_nan=False) + "\n")
    return path


def _plain(value: Any) -> Any:
    """JSON knows no infinity: the PSNR of identical images becomes null."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
