"""The pictures of the viewer in the documentation, of images of nobody.

    python -m tests.viewer.screenshots docs

Writes viewer-list.png and viewer-image.png. Needs Node.js and Chromium.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from PIL import Image as Pillow

from primis.imaging.phantom import phantom_dicom
from primis.keys.identity import generate, read_signer
from tests.viewer.browser import Page, driven
from tests.viewer.built import build
from tests.viewer.releases import Commands, draw_images

RELEASE = "chest-study"
VISITS = ("baseline", "follow-up", "baseline", "baseline", "follow-up", "baseline")
LIST, IMAGE = {"width": 900, "height": 560}, {"width": 1280, "height": 760, "dark": True}
COLOURS = 160


def main(out: Path) -> None:
    """Both pictures."""
    with tempfile.TemporaryDirectory() as name, driven() as browser:
        folder = Path(name)
        run = Commands(build(folder), folder / "config")
        key = lay_out(folder, run)
        with run.view(RELEASE, "-i", key, folder=folder) as url:
            page = browser.page(**LIST)
            open_list(page, url)
            picture(page, out / "viewer-list.png")
        with run.view(RELEASE, "-i", key, folder=folder) as url:
            page = browser.page(**IMAGE)
            open_list(page, url)
            page.show("patient-2.dcm")
            measure(page)
            picture(page, out / "viewer-image.png")


def lay_out(folder: Path, run: Commands) -> Path:
    """A release of radiographs and a CT series, with labels; the key that opens it."""
    keys = {name: folder / f"{name}.key" for name in ("owner", "reader")}
    for key in keys.values():
        key.write_text(generate())
        key.chmod(0o600)
    images = draw_images(folder / "images")
    for path in images.glob("*.*"):
        path.unlink()
    for number, _ in enumerate(VISITS, 1):
        (images / f"patient-{number}.dcm").write_bytes(phantom_dicom(512, seed=number))
    rows = [f"patient-{number}.dcm,{visit}" for number, visit in enumerate(VISITS, 1)]
    labels = folder / "labels.csv"
    labels.write_text("\n".join(["file,visit", *rows]) + "\n")
    to = f"reader={read_signer(keys['reader']).recipient.text}"
    owner = ("--owner", keys["owner"])
    run("share", images, "--to", to, "-o", folder / RELEASE, *owner, "--labels", labels)
    return keys["reader"]


def open_list(page: Page, url: str) -> None:
    """The list with its previews, without the note on the signer."""
    page.goto(url)
    page.wait_for(".thumbnail canvas")
    page.call("click", name="Close the notes")
    page.call("waitForNone", selector=".thumbnail.waiting")


def measure(page: Page) -> None:
    """A distance across the heart."""
    page.call("press", key="m")
    page.call("drag", selector=".stage", **{"from": [0.45, 0.66], "to": [0.63, 0.66]})
    page.call("point", selector=".stage", x=0.55, y=0.5)
    page.canvas()


def picture(page: Page, path: Path) -> None:
    """A screenshot of few colours, so that it stays small."""
    page.call("screenshot", path=str(path.resolve()))
    with Pillow.open(path) as shot:
        few = shot.convert("RGB").quantize(COLOURS, dither=Pillow.Dither.NONE)
    few.save(path, optimize=True)
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(Path(sys.argv[1]))
