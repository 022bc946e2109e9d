"""What the benchmarks share: the images, the settings, the machine, and where results go."""

from __future__ import annotations

import json
import math
import platform
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from primis.bundle.settings import Settings
from primis.codec import Codec, OnnxEngine
from primis.datasets.files import collect
from primis.errors import UnreadableImage
from primis.imaging.files import read
from primis.imaging.image import Image
from primis.keys.seal import Secret, TierSecrets, image_secrets, release_secrets
from primis.keys.tier import HIGHEST
from primis.network.checkpoint import read_checkpoint, shipped
from primis.network.presets import DEFAULT
from primis.sharing.share import Shared, share_image
from primis.study.software import software

RESULTS = Path(__file__).parent / "results"
_CPUINFO = Path("/proc/cpuinfo")


def load(folder: Path, every: int = 1) -> list[tuple[str, Image]]:
    """Every n-th image of a folder, with its name; what cannot be read is named and left out."""
    images = []
    for path, name in collect([folder])[::every]:
        try:
            images.append((name, read(path)[0]))
        except UnreadableImage as error:
            print(f"left out: {error}")
    return images


def one_thread(preset: str = DEFAULT.name) -> Codec:
    """The codec of the shipped weights of a preset, on one core."""
    checkpoint = read_checkpoint(shipped(preset))
    return Codec(checkpoint, OnnxEngine(checkpoint, threads=1))


@dataclass(frozen=True)
class Keys:
    """The id of a bundle and fresh secrets of every tier."""

    bundle_id: str
    secrets: TierSecrets

    @classmethod
    def new(cls) -> Keys:
        """Never used before."""
        bundle_id = secrets.token_hex(16)
        release = release_secrets(Secret.new(), HIGHEST)
        return cls(bundle_id, image_secrets(release, bundle_id))

    def share(self, image: Image, settings: Settings, codec: Codec) -> Shared:
        """A bundle that stands alone."""
        return share_image(
            image, settings, self.secrets, codec, bundle_id=self.bundle_id, name="x", alone=True
        )


def machine() -> dict[str, str]:
    """Where this ran, and which primis it was: as its metadata have it, like reports."""
    return {"cpu": _cpu(), "python": platform.python_version(), "software": software()}


def _cpu() -> str:
    lines = _CPUINFO.read_text().splitlines() if _CPUINFO.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def save(name: str, result: dict[str, Any]) -> Path:
    """Write a result as JSON."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(_plain(result), indent=1, allow_nan=False) + "\n")
    return path


def _plain(value: Any) -> Any:
    """JSON has no infinity: the PSNR of identical images becomes null."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
