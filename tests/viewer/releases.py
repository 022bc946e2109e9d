"""Releases and hosts as people make them: by commands, each in a process of its own."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image as Pillow

from primis.imaging.phantom import draw_phantom, phantom_dicom
from primis.keys.identity import generate, read_signer
from tests.core.test_series import slice_file

PASSPHRASE = "seven lamps of the north harbour"
SLICES = 6
_PROGRAM = """
import sys
from pathlib import Path
from primis.viewer import assets
assets.STATIC = Path(sys.argv.pop(1))
from primis.cli.main import main
main()
"""
"""`primis` with a viewer that was built elsewhere."""


@dataclass(frozen=True)
class Commands:
    """`primis` as a command. static: the built viewer; config: what it remembers."""

    static: Path
    config: Path

    def __call__(self, *words: object, status: int = 0, **env: str) -> tuple[str, str]:
        """Output and errors of a command that ends."""
        ended = subprocess.run(
            self._line(*words),
            env=self._environment(env),
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert ended.returncode == status, ended.stderr
        return ended.stdout, ended.stderr

    @contextmanager
    def view(self, *words: object, folder: Path | None = None) -> Iterator[str]:
        """`primis view` until the block ends, started in a folder; the address that it prints."""
        line = self._line("view", *words, "--no-browser")
        with subprocess.Popen(
            line,
            cwd=folder,
            env=self._environment({}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                assert process.stdout is not None and process.stderr is not None
                said = process.stdout.readline()
                assert said, process.stderr.read()
                yield said.rpartition(" ")[2].strip()
            finally:
                process.terminate()

    def _line(self, *words: object) -> list[str]:
        return [sys.executable, "-c", _PROGRAM, str(self.static), *map(str, words)]

    def _environment(self, more: dict[str, str]) -> dict[str, str]:
        return os.environ | {"XDG_CONFIG_HOME": str(self.config), "OMP_NUM_THREADS": "1"} | more


def draw_images(folder: Path) -> Path:
    """Radiographs, a CT series with two windows, a colour image and a mask."""
    (folder / "ct").mkdir(parents=True)
    (folder / "chest.dcm").write_bytes(phantom_dicom(256, seed=1))
    (folder / "negative.dcm").write_bytes(negative())
    for k in range(SLICES):
        (folder / "ct" / f"{k}.dcm").write_bytes(ct_slice(k))
    grey = (draw_phantom(120, seed=5) >> 4).astype(np.uint8)
    Pillow.fromarray(np.dstack([grey, grey.T, grey[::-1]])).save(folder / "colour.png")
    Pillow.fromarray((grey > 128).astype(np.uint8) * 255).save(folder / "mask.png")
    return folder


def negative() -> bytes:
    """A radiograph that is stored inverted."""
    data_set = pydicom.dcmread(io.BytesIO(phantom_dicom(128, seed=2)))
    data_set.PhotometricInterpretation = "MONOCHROME1"
    out = io.BytesIO()
    data_set.save_as(out)
    return out.getvalue()


def ct_slice(number: int) -> bytes:
    """One of a series, in Hounsfield units; each is brighter than the one before."""
    samples = draw_phantom(96, seed=7).astype(np.int32) // 4 + 150 * number - 500
    return slice_file(
        2.5 * number,
        size=96,
        PixelData=samples.astype("<i2").tobytes(),
        BitsAllocated=16,
        BitsStored=16,
        HighBit=15,
        PixelRepresentation=1,
        WindowCenter=["40", "300"],
        WindowWidth=["400", "2000"],
        WindowCenterWidthExplanation=["SOFT", "BONE"],
        RescaleSlope="1",
        RescaleIntercept="0",
        RescaleType="HU",
    )


@dataclass(frozen=True)
class Made:
    """A folder with `release`, `images` and key files."""

    folder: Path

    @property
    def release(self) -> Path:
        return self.folder / "release"

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.key"

    def bundle(self, name: str) -> Path:
        """Of an image."""
        import primis

        with primis.open(self.release, self.key("alice")) as opened:
            [found] = [image.id for image in opened if image.name == name]
        return self.release / "bundles" / f"{found}.primis"


def make_release(run: Commands, folder: Path) -> Made:
    """Alice has everything, a passphrase tier diagnostic; labels are in the catalogue."""
    made = Made(folder)
    for name in ("owner", "other", "alice", "stranger"):
        made.key(name).write_text(generate())
        made.key(name).chmod(0o600)
    images = draw_images(folder / "images")
    labels = folder / "labels.csv"
    labels.write_text("file,finding\nchest.dcm,effusion\ncolour.png,none\n")
    alice = read_signer(made.key("alice")).recipient.text
    owner = ("--owner", made.key("owner"))
    run(
        *("share", images, "--to", f"alice={alice}", "-o", made.release, *owner),
        *("--with-original", "--labels", labels),
    )
    run("grant", made.release, "--to", "passphrase", *owner, PRIMIS_PASSPHRASE=PASSPHRASE)
    return made


def message_of(errors: str) -> str:
    """The line that a command ends with."""
    [line] = re.findall(r"^primis: (.*)$", errors, re.MULTILINE)
    return line
