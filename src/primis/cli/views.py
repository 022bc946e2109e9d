"""What `primis demo` makes: a phantom's releases, what each key restores, and a picture of it all.

The picture has a row for each level: what the owner has, what anyone makes of the public code, and
what recipients restore. Guesses are scored at their best brightness and contrast, and shown with
the contrast of the image.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from primis.attacks.harness import Harness, Sharer
from primis.attacks.reconstruction.simple import Everything, Likelihood
from primis.bundle.settings import Protection, Settings
from primis.cli.say import say
from primis.codec import Codec
from primis.errors import NoMatchingGrant, OutputError
from primis.imaging.files import parse
from primis.imaging.image import Image, display
from primis.imaging.phantom import phantom_dicom
from primis.jobs.restore import restore
from primis.jobs.share.run import share
from primis.keys.identity import Signer, generate, parse_recipient, read_identities, read_signer
from primis.keys.tier import TIERS, Tier
from primis.metrics.fidelity import best_fit, data_range, psnr
from primis.network.checkpoint import read_checkpoint, shipped
from primis.release.owner import grant
from primis.release.reader import Release

LEVELS = tuple(Protection)
_SPARSITY = 4.0
_KEYS = ("owner", "alice", "bob", "stranger")
_OTHERS = 4
"""Phantoms that the attackers learn from."""

_MARK = ".primis-demo"
_RELEASES = {"keyed": "release-keyed", "sca": "release-sca"}
_MADE = {_MARK, "chest.dcm", "keys", "release", "views.png", *TIERS, *_RELEASES.values()}
"""What a demo leaves in its folder."""

_CELL, _GAP, _ROW_TITLE, _CAPTION = 300, 8, 40, 48
_DARK, _LIGHT = 0, 90


class Guess(NamedTuple):
    """What an attacker makes of the public code: (H, W), and its PSNR in dB."""

    picture: np.ndarray
    psnr: float


@dataclass(frozen=True)
class Shown:
    """What a release of one level shows to whom. restored: by tier; guesses: by attacker."""

    level: str
    restored: dict[Tier, Image]
    guesses: dict[str, Guess]
    refused: str
    published_bits: float
    sealed_bits: float


def run_demo(out: Path, protection: str, *, force: bool) -> None:
    """Write releases, what recipients get, and views.png into a new folder; print a table."""
    _clear(out, force)
    keys = {name: _key(out, name) for name in _KEYS}
    (out / "chest.dcm").write_bytes(phantom_dicom())
    original = parse((out / "chest.dcm").read_bytes())
    shown = {level: _show(level, protection, out, keys, original) for level in LEVELS}
    _print_table(shown, original, (out / "chest.dcm").read_bytes(), out)
    _draw(list(shown.values()), original).save(out / "views.png")
    say(f'all views: "{out / "views.png"}"; the release: "{out / "release"}" ({protection})')


def _settings(level: str) -> Settings:
    return Settings(sparsity=_SPARSITY, protection=Protection(level))


def _show(level: str, protection: str, out: Path, keys: dict[str, Path], original: Image) -> Shown:
    """Share the phantom at one level, restore it with each key, and attack it."""
    chosen = level == protection
    folder = out / ("release" if chosen else _RELEASES[level])
    release = _share(out / "chest.dcm", folder, keys, _settings(level))
    restored = {}
    for tier in TIERS:
        key, place = keys["bob" if tier == "preview" else "alice"], out / tier
        restored[tier] = _restore(release, key, place if chosen else out / f"{tier}.other", tier)
    refused = _refused(release, keys["stranger"], out)
    header = release.header(release.ids[0])
    size, pixels = {s.name: s.bytes for s in header.sections}, original.pixels[0, ..., 0].size
    if not chosen:
        for tier in TIERS:
            shutil.rmtree(out / f"{tier}.other")
    return Shown(
        level,
        restored,
        _attack(level, original),
        refused,
        published_bits=8 * size["public"] / pixels,
        sealed_bits=8 * (size.get("supports", 0) + size["index"]) / pixels,
    )


def _share(source: Path, folder: Path, keys: dict[str, Path], settings: Settings) -> Release:
    """A release of one image, all of it for alice, a preview for bob."""
    signer = read_signer(keys["owner"])
    alice, bob = (parse_recipient(f"{name}={keys[name]}.pub") for name in ("alice", "bob"))
    share([source], folder, [alice], signer, settings, tier=Tier.ORIGINAL, with_original=True)
    release = Release(folder)
    grant(release, bob, signer, tier=Tier.PREVIEW, note="for the catalogue")
    return release


def _attack(level: str, original: Image) -> dict[str, Guess]:
    """What attackers make of the image, who have the software and images of their own."""
    codec = Codec(read_checkpoint(shipped()))
    sharer = Sharer(_settings(level), codec)
    others = [parse(phantom_dicom(seed=seed)) for seed in range(1, _OTHERS + 1)]
    owned = [sharer.owned(image, f"other {number}") for number, image in enumerate(others)]
    case = sharer.judged(original, "phantom")
    harness, guesses = Harness(codec, sharer.settings, owned, [case]), {}
    for attack in (Everything(), Likelihood()):
        world = harness.world(attack.holds)
        attack.fit(world)
        picture = best_fit(attack.guess(world, case.view), case.pixels)
        guesses[attack.name] = Guess(picture, psnr(case.pixels, picture, case.full))
    return guesses


def _clear(out: Path, force: bool) -> None:
    """Make the folder; with `force` remove one that a demo made and that holds nothing else."""
    if os.path.lexists(out):
        if not force or not _is_demo(out):
            raise OutputError(
                f'folder "{out}" exists, expected a new one (or one that a demo made, with --force)'
            )
        shutil.rmtree(out)
    (out / "keys").mkdir(parents=True)
    (out / _MARK).write_text("made by primis demo: --force removes this folder and all in it\n")


def _is_demo(out: Path) -> bool:
    if out.is_symlink() or not out.is_dir() or not (out / _MARK).is_file():
        return False
    return {path.name for path in out.iterdir()} <= _MADE


def _key(out: Path, name: str) -> Path:
    """A key file, and its public key beside it."""
    path = out / "keys" / f"{name}.key"
    path.touch(0o600)
    path.write_text(generate())
    signer: Signer = read_signer(path)
    path.with_name(f"{path.name}.pub").write_text(f"{signer.recipient.text}\n")
    return path


def _restore(release: Release, key: Path, folder: Path, tier: Tier) -> Image:
    results = restore(release, read_identities(key), folder, tier=tier)
    if results[0].error is not None:
        raise results[0].error
    return parse((folder / results[0].name).read_bytes())


def _refused(release: Release, key: Path, out: Path) -> str:
    try:
        restore(release, read_identities(key), out / "stranger")
    except NoMatchingGrant:
        return "opens nothing"
    return "OPENED THE RELEASE"


# The table


def _print_table(shown: dict[Protection, Shown], original: Image, source: bytes, out: Path) -> None:
    frame, depth = original.pixels[0, ..., 0], original.bit_depth
    flat = _of_flat_grey(original)
    same = (out / "original" / "chest.dcm").read_bytes() == source
    rows = [("", *(f"level {level}" for level in shown))]
    for tier in TIERS[:2]:
        rows.append((f"tier {tier}", *(_db(s.restored[tier], original) for s in shown.values())))
    exact = "the very file" if same else "DIFFERS"
    rows.append(("tier original", exact, exact))
    for name in next(iter(shown.values())).guesses:
        found = (f"{s.guesses[name].psnr:.2f} dB" for s in shown.values())
        rows.append((f"anyone: {name}", *found))
    rows.append(("a flat grey, for comparison", *[f"{flat:.2f} dB"] * len(shown)))
    rows.append(("a stranger's key", *(s.refused for s in shown.values())))
    bits = (f"{s.published_bits:.3f} + {s.sealed_bits:.3f}" for s in shown.values())
    rows.append(("bits per pixel, code + sealed", *bits))
    size = f"{frame.shape[0]} x {frame.shape[1]} pixels"
    say(f"phantom, {size}, {depth} bits, S_x = 4; level sca: S_n = 4")
    say("\n".join(f"  {name:<34}{keyed:<18}{sca}" for name, keyed, sca in rows))


def _db(restored: Image, original: Image) -> str:
    scale = data_range(original.pixels, original.bit_depth)
    return f"{psnr(original.pixels, restored.pixels, scale):.2f} dB"


def _of_flat_grey(original: Image) -> float:
    """PSNR of the mean grey, which whoever learns nothing reaches as well."""
    frame = original.pixels[0, ..., 0]
    scale = data_range(original.pixels, original.bit_depth)
    return psnr(frame, np.full(frame.shape, frame.mean()), scale)


# The picture


class _Cell(NamedTuple):
    title: str
    note: str
    pixels: np.ndarray


def _draw(shown: list[Shown], original: Image) -> Pillow.Image:
    """The paper's level first, then the one that mends it."""
    flat = _of_flat_grey(original)
    titles = {
        "sca": "Level sca, as in the paper: anyone can see the chest without a key",
        "keyed": "Level keyed, the default: without a key there is only noise",
    }
    rows = [(titles[s.level], _cells(s, original, flat)) for s in reversed(shown)]
    width = len(rows[0][1]) * (_CELL + _GAP) + _GAP
    height = _ROW_TITLE + _CAPTION + _CELL + _GAP
    sheet = Pillow.new("L", (width, len(rows) * height), 255)
    for number, (title, cells) in enumerate(rows):
        _draw_row(sheet, number * height, title, cells)
    return sheet


def _cells(shown: Shown, original: Image, flat: float) -> list[_Cell]:
    image = display(original.pixels[0], original.photometric)
    cells = [_Cell("the owner: the image", "12 bits, nobody's chest", image)]
    for name, guess in shown.guesses.items():
        note = f"{guess.psnr:.1f} dB (a flat grey: {flat:.1f} dB)"
        picture = _grey(_stretched(guess.picture, original), original)
        cells.append(_Cell(f"anyone: {name}", note, picture))
    for tier in TIERS[:2]:
        restored = shown.restored[tier]
        picture = _grey(restored.pixels[0, ..., 0], original)
        cells.append(_Cell(f"a recipient: tier {tier}", _db(restored, original), picture))
    return cells


def _draw_row(sheet: Pillow.Image, top: int, title: str, cells: list[_Cell]) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, top + 8), title, _DARK, ImageFont.load_default(24))
    for number, cell in enumerate(cells):
        left, below = _GAP + number * (_CELL + _GAP), top + _ROW_TITLE
        draw.text((left, below + 2), cell.title, _DARK, ImageFont.load_default(19))
        draw.text((left, below + 25), cell.note, _LIGHT, ImageFont.load_default(16))
        size = (_CELL, _CELL)
        picture = Pillow.fromarray(cell.pixels).resize(size, Pillow.Resampling.LANCZOS)
        sheet.paste(picture, (left, below + _CAPTION))


def _stretched(picture: np.ndarray, original: Image) -> np.ndarray:
    """With the mean and the spread of the original, so that what there is can be seen."""
    frame = original.pixels[0, ..., 0]
    spread = float(frame.std()) / max(float(picture.std()), 1e-12)
    return np.asarray(frame.mean() + (picture - picture.mean()) * spread)


def _grey(pixels: np.ndarray, original: Image) -> np.ndarray:
    """On the grey scale of the original, so that views compare."""
    low, high = float(original.pixels.min()), float(original.pixels.max())
    return np.clip((pixels - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
