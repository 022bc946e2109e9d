"""`primis demo`: one phantom through the whole system, with a table and one picture of all views."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from primis.attacks.harness import Harness, open_case
from primis.attacks.reconstruction.simple import SIMPLE, Everything
from primis.bundle.container import write_bundle
from primis.bundle.header import Header
from primis.bundle.settings import Protection, Settings
from primis.cli.say import say
from primis.codec import Codec
from primis.errors import NoMatchingGrant, OutputError
from primis.imaging.files import parse
from primis.imaging.image import Image, display
from primis.imaging.phantom import phantom_dicom
from primis.jobs.restore import restore
from primis.jobs.share import share
from primis.keys.identity import generate, parse_recipient, read_identities, read_signer
from primis.keys.seal import TierSecrets, image_secrets, release_secrets
from primis.keys.tier import TIERS, Tier
from primis.metrics.fidelity import best_fit, data_range, psnr
from primis.network.checkpoint import read_checkpoint, shipped
from primis.release.owner import grant, owner_scope
from primis.release.reader import Release

_SPARSITY = 4.0
_MARK = ".primis-demo"
_MADE = {_MARK, "chest.dcm", "keys", "release", "views.png", *TIERS}
"""What a demo leaves in its folder."""

_CELL, _CAPTION = 320, 46


def run_demo(out: Path, protection: str, *, force: bool) -> None:
    """Write the release, what the recipients get, and views.png into a new folder; print a table."""
    _clear(out, force)
    keys = {name: _key(out, name) for name in ("owner", "alice", "bob", "stranger")}
    source = out / "chest.dcm"
    source.write_bytes(phantom_dicom())
    original = parse(source.read_bytes())
    signer = read_signer(keys["owner"])
    settings = Settings(sparsity=_SPARSITY, protection=Protection(protection))
    recipients = [parse_recipient(f"alice={keys['alice']}")]
    share(
        [source],
        out / "release",
        recipients,
        signer,
        settings,
        tier=Tier.ORIGINAL,
        with_original=True,
    )
    release = Release(out / "release")
    grant(
        release,
        parse_recipient(f"bob={keys['bob']}"),
        signer,
        tier=Tier.PREVIEW,
        note="for the catalogue",
    )
    views = {
        tier: _restore(release, keys["bob" if tier == "preview" else "alice"], out / tier, tier)
        for tier in TIERS
    }
    refused = _refused(release, keys["stranger"], out)
    scale = data_range(original.pixels, original.bit_depth)
    header, parts = release.sections(release.ids[0])
    frame = original.pixels[0, ..., 0]
    opened = release_secrets(owner_scope(release, signer).secret, "original")
    bundle = write_bundle(header, parts, alone=True)
    attacks = _attacks(bundle, header, original, image_secrets(opened, header.id))
    none = psnr(frame, np.full(frame.shape, frame.mean()), scale)

    same = (out / "original" / "chest.dcm").read_bytes() == source.read_bytes()
    rows = [
        (f"{tier}, restored", f"{psnr(original.pixels, image.pixels, scale):.2f} dB")
        for tier, image in views.items()
    ]
    rows[-1] = (
        "original, restored",
        "byte for byte the input" if same else "DIFFERS FROM THE INPUT",
    )
    rows += [("no code: one grey level", f"{none:.2f} dB")]
    rows += [
        (f"attack: {name}", f"{psnr(frame, picture, scale):.2f} dB")
        for name, picture in attacks.items()
    ]
    rows.append(("a stranger's key", refused))
    size = {s.name: s.bytes for s in header.sections}
    sealed = 8 * (size["supports"] + size["index"]) / frame.size
    say(
        f"phantom, {frame.shape[0]} x {frame.shape[1]}, {original.bit_depth} bits; level {protection}, S_x = 4, S_n = 4"
    )
    say("\n".join(f"  {name:<34}{value}" for name, value in rows))
    say(
        f"  {'public code / sealed supports':<34}{8 * size['public'] / frame.size:.3f} / {sealed:.3f} bit per pixel"
    )
    _picture(
        out / "views.png",
        original,
        views,
        {name: (picture, psnr(frame, picture, scale)) for name, picture in attacks.items()},
        none,
    )
    say(f'all views: "{out / "views.png"}"; the release: "{release.path}"')
    if protection == "sca":
        say(
            "level sca is the paper's: these attacks are the weakest; stronger ones undo it (docs/threat-model.md)"
        )


def _attacks(
    bundle: bytes, header: Header, original: Image, secrets: TierSecrets
) -> dict[str, np.ndarray]:
    """What the simplest attackers make of the bundle, each (H, W), at its best brightness and contrast."""
    codec = Codec(read_checkpoint(shipped()))
    case = open_case(bundle, secrets, codec, original, name="phantom", patient="")
    harness = Harness(codec, header.settings, [], [case])
    attacks = [Everything(), *(kind() for kind in SIMPLE)]
    return {
        attack.name: best_fit(attack.guess(harness.world(attack.holds), case.view), case.pixels)
        for attack in attacks
    }


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
    path = out / "keys" / f"{name}.key"
    path.touch(0o600)
    path.write_text(generate())
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


def _picture(
    path: Path,
    original: Image,
    views: dict[Tier, Image],
    attacks: dict[str, tuple[np.ndarray, float]],
    floor: float,
) -> None:
    """Two rows of views under their captions."""
    (_, (world, reached)), *rest = attacks.items()
    none = f"no code: {floor:.1f}"
    cells = [
        ("the owner", "the image", display(original.pixels[0], original.photometric)),
        (
            "the world",
            f"public code, decoded: {reached:.1f} dB ({none})",
            _grey(_stretched(world, original), original),
        ),
        *(
            (f"attack: {name}", f"{db:.1f} dB ({none})", _grey(_stretched(x, original), original))
            for name, (x, db) in rest[:2]
        ),
        ("tier preview", "code map 1", _grey(views[Tier.PREVIEW].pixels[0, ..., 0], original)),
        (
            "tier diagnostic",
            "all code maps",
            _grey(views[Tier.DIAGNOSTIC].pixels[0, ..., 0], original),
        ),
        (
            "tier original",
            "the file itself",
            _grey(views[Tier.ORIGINAL].pixels[0, ..., 0], original),
        ),
        ("diagnostic - original", "difference, 8 x", _difference(views[Tier.DIAGNOSTIC], original)),
    ]
    sheet = Pillow.new("L", (4 * _CELL, 2 * (_CELL + _CAPTION)), 255)
    draw = ImageDraw.Draw(sheet)
    for k, (title, note, pixels) in enumerate(cells):
        x, y = (k % 4) * _CELL, (k // 4) * (_CELL + _CAPTION)
        sheet.paste(
            Pillow.fromarray(pixels).resize((_CELL - 8, _CELL - 8), Pillow.Resampling.LANCZOS),
            (x + 4, y + _CAPTION),
        )
        draw.text((x + 6, y + 4), title, 0, ImageFont.load_default(18))
        draw.text((x + 6, y + 26), note, 80, ImageFont.load_default(13))
    sheet.save(path)


def _stretched(picture: np.ndarray, original: Image) -> np.ndarray:
    """With the mean and the spread of the original, so that what there is can be seen."""
    frame = original.pixels[0, ..., 0]
    mean, spread = frame.mean(), frame.std()
    return np.asarray(
        mean + (picture - picture.mean()) * (spread / max(float(picture.std()), 1e-12))
    )


def _grey(pixels: np.ndarray, original: Image) -> np.ndarray:
    """On the grey scale of the original, so that views compare."""
    low, high = float(original.pixels.min()), float(original.pixels.max())
    return np.clip((pixels - low) * (255 / (high - low)), 0, 255).astype(np.uint8)


def _difference(restored: Image, original: Image) -> np.ndarray:
    error = restored.pixels[0, ..., 0].astype(np.float64) - original.pixels[0, ..., 0]
    return np.clip(
        128 + error * (8 * 255 / data_range(original.pixels, original.bit_depth)), 0, 255
    ).astype(np.uint8)
