"""The public list, what it does, and what importing it costs."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

import primis
from primis import errors
from primis.codec import OnnxEngine
from primis.imaging.phantom import draw_phantom
from primis.keys.identity import read_signer
from tests.conftest import TINY


def test_the_public_list_is_short_and_true() -> None:
    assert len(primis.__all__) <= 20
    assert primis.__all__ == sorted(primis.__all__)
    for name in primis.__all__:
        assert getattr(primis, name).__doc__


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys; print(' '.join(sys.modules))"
    return set(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
    )


def test_importing_primis_loads_nothing_large() -> None:
    assert not loaded_by("import primis") & {"torch", "numpy", "pydicom", "cryptography", "typer"}


def test_the_command_line_loads_no_torch_to_show_its_help() -> None:
    code = (
        "import sys; sys.argv = ['primis', '--help']\nfrom primis.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass"
    )
    assert not loaded_by(code) & {"torch", "numpy", "pydicom"}


def test_the_library_needs_no_torch() -> None:
    assert "torch" not in loaded_by(f"from primis import {', '.join(primis.__all__)}")


@pytest.fixture(scope="module")
def shared(images: Path, keys: dict[str, Path], tmp_path_factory) -> Path:
    """A release of two images for alice, made with texts throughout."""
    out = tmp_path_factory.mktemp("api") / "release"
    to = read_signer(keys["alice"]).recipient.text
    results = primis.share(str(images), str(out), to=to, owner=str(keys["owner"]), model=str(TINY))
    assert [result.error for result in results] == [None, None]
    return out


def test_a_release_is_read_image_by_image(shared: Path, images: Path, keys) -> None:
    with primis.open(str(shared), str(keys["alice"]), models=[TINY]) as release:
        assert len(release) == len(list(release)) == 2
        assert release.tier == primis.Tier.DIAGNOSTIC
        assert {image.name for image in release} == {"chest-1.dcm", "chest-2.dcm"}
        for image in release:
            pixels = image.read("diagnostic").pixels
            seed = int(image.name[6])
            assert pixels.shape == (1, 96, 96, 1)
            assert np.abs(pixels[0, ..., 0].astype(int) - draw_phantom(96, seed=seed)).mean() < 150
            assert image.read("preview").header == b""


def test_an_image_is_found_by_its_name_and_its_id(shared: Path, keys) -> None:
    release = primis.open(shared, keys["alice"], models=[TINY])
    one = release["chest-1.dcm"]
    assert release[one.id].name == release[one.id[:12]].name == "chest-1.dcm"
    assert one.file().startswith(bytes(128) + b"DICM")
    with pytest.raises(KeyError, match="chest-3"):
        release["chest-3.dcm"]


def test_the_catalogue_tells_of_an_image_without_fetching_it(shared: Path, keys) -> None:
    release = primis.open(shared, keys["alice"], models=[TINY])
    image = release["chest-1.dcm"]
    hidden = (shared / "bundles").rename(shared / "elsewhere")
    try:
        assert (image.kind, image.modality, image.frames) == ("dicom", "DX", 1)
        assert (image.size, image.labels) == ((96, 96), {})
        assert image.spacing_mm == pytest.approx((350 / 96, 350 / 96), rel=1e-4)
        assert release.labels == {"chest-1.dcm": {}, "chest-2.dcm": {}}
    finally:
        hidden.rename(shared / "bundles")


def test_a_code_is_what_pixels_are_decoded_from(shared: Path, keys) -> None:
    image = primis.open(shared, keys["alice"], models=[TINY])["chest-1.dcm"]
    codes, preview = image.codes(), image.codes("preview")
    assert codes.levels.dtype == np.int16
    assert codes.shape == (1, 1, 256, 6, 6)
    assert preview.shape == (1, 1, preview.atoms_per_map, 6, 6)
    assert (codes.levels[:, :, : preview.atoms_per_map] == preview.levels).all()
    small = codes.values()[0, 0, 0] / codes.stride + codes.centres[0]
    blocks = image.read().pixels.reshape(6, 16, 6, 16).mean((1, 3))
    assert np.corrcoef(small.ravel(), blocks.ravel())[0, 1] > 0.99
    assert np.abs(small - blocks).mean() < 0.05 * np.ptp(blocks)
    with pytest.raises(primis.PrimisError, match="file"):
        image.codes("original")


@pytest.fixture(scope="module")
def stacks(tmp_path_factory, keys) -> primis.OpenRelease:
    """A release of two images of four frames: of grey levels, with padding, and of labels."""
    folder = tmp_path_factory.mktemp("stacks")
    grey = np.stack([draw_phantom(64, seed=seed) for seed in range(4)]).astype(np.uint16)
    for frame in range(4):
        grey[frame, : 8 + frame] = 60000 + frame  # far outside: padding, another in each frame
    tifffile.imwrite(folder / "grey.tif", grey, photometric="minisblack")
    labels = np.zeros((4, 64, 64), np.uint8)
    for frame in range(4):
        labels[frame, :, : 9 * frame] = 1
    tifffile.imwrite(folder / "labels.tif", labels, photometric="minisblack")
    to = read_signer(keys["alice"]).recipient.text
    primis.share(folder, folder / "release", to=to, owner=keys["owner"], model=TINY)
    return primis.open(folder / "release", keys["alice"], models=[TINY])


@pytest.mark.parametrize("name", ["grey.tif", "labels.tif"])
@pytest.mark.parametrize("frames", [2, -1, slice(1, 3), slice(None, None, -1), slice(0, 4, 2)])
def test_only_the_frames_that_are_asked_for_are_read(stacks, name: str, frames) -> None:
    whole = stacks[name].read().pixels
    wanted = whole[frames] if isinstance(frames, slice) else whole[[frames]]
    assert len(np.unique(whole[:, 0, 0])) == (4 if name == "grey.tif" else 2)
    assert (stacks[name].read(frames=frames).pixels == wanted).all()


def test_a_frame_costs_its_own_decoding_alone(stacks, monkeypatch) -> None:
    decoded = []
    decode = OnnxEngine.decode
    monkeypatch.setattr(
        OnnxEngine, "decode", lambda self, *a: decoded.append(1) or decode(self, *a)
    )
    assert stacks["grey.tif"].read(frames=slice(1, 3)).shape == (2, 64, 64, 1)
    assert len(decoded) == 2
    assert stacks["grey.tif"].codes(frames=3).shape == (1, 1, 256, 4, 4)


@pytest.mark.parametrize("frames", [4, -5, slice(4, None)])
def test_frames_that_are_not_there_are_refused(stacks, frames) -> None:
    with pytest.raises(primis.PrimisError, match="not in an image of 4"):
        stacks["grey.tif"].read(frames=frames)


def test_masks_have_no_code(stacks) -> None:
    with pytest.raises(errors.NoCode, match="sealed exactly"):
        stacks["labels.tif"].codes()


def test_a_preview_grant_opens_no_name_and_no_more(shared: Path, keys, signer) -> None:
    bob = read_signer(keys["bob"]).recipient.text
    [path] = primis.grant(shared, to=bob, tier="preview", images=["chest-2.dcm"], owner=signer)
    assert Path(path).parent.name == "grants"
    release = primis.open(shared, keys["bob"], models=[TINY])
    [image] = release
    assert (len(release), image.name, image.tier) == (1, None, "preview")
    assert image.read().pixels.shape == (1, 96, 96, 1)
    assert image.codes().shape == (1, 1, image.codes().atoms_per_map, 6, 6)
    assert image.kind is image.modality is image.frames is image.size is image.labels is None
    assert (image.spacing_mm, release.labels) == (None, {})
    with pytest.raises(primis.PrimisError, match="diagnostic"):
        image.read("diagnostic")


def test_no_secret_shows_in_a_repr(shared: Path, keys) -> None:
    release = primis.open(shared, keys["alice"], models=[TINY])
    _, key = primis.encode(draw_phantom(64), model=TINY)
    shown = f"{release!r} {next(iter(release))!r} {key!r}"
    assert key.value.hex() not in shown
    assert "chest" not in repr(release)
    assert len(shown) < 300


@pytest.mark.parametrize("shape", [(40, 56), (40, 56, 3), (2, 40, 56, 1)])
@pytest.mark.parametrize("dtype", ["uint8", "int16"])
def test_one_array_goes_to_one_bundle_and_back(shape: tuple[int, ...], dtype: str) -> None:
    pixels = np.linspace(-100 if dtype == "int16" else 0, 200, int(np.prod(shape)))
    pixels = pixels.reshape(shape).astype(dtype)
    bundle, key = primis.encode(pixels, primis.Settings(sparsity=16), model=TINY)
    image = primis.decode(bundle, key, models=[TINY])
    assert image.pixels.dtype == pixels.dtype
    assert np.abs(image.pixels.reshape(shape).astype(int) - pixels).mean() < 3
    assert primis.decode(bundle, key, "preview", models=[TINY]).shape == image.shape
    again = pickle.loads(pickle.dumps(key))
    assert (primis.decode(bundle, again, models=[TINY]).pixels == image.pixels).all()
    with pytest.raises(primis.PrimisError, match="does not verify"):
        primis.decode(bundle, primis.Secret.new(), models=[TINY])


@pytest.mark.parametrize(
    ("pixels", "why"),
    [
        (np.zeros((4, 4)), "float64"),
        (np.zeros((4, 4), np.int32), "int32"),
        (np.zeros(4, np.uint8), "shape"),
        (np.zeros((0, 4), np.uint8), "shape"),
        (np.zeros((4, 4, 17), np.uint8), "at most 16 channels"),
    ],
)
def test_other_arrays_are_refused_with_what_they_are(pixels: np.ndarray, why: str) -> None:
    with pytest.raises(primis.PrimisError, match=why):
        primis.encode(pixels, model=TINY)


def test_settings_have_defaults_and_bounds() -> None:
    settings = primis.Settings()
    assert (settings.sparsity, settings.decoys) == (8, 0)
    assert settings.protection is primis.Protection.KEYED
    assert primis.Settings(protection="sca").decoys == 8
    with pytest.raises(ValueError, match="expected 0 at level keyed"):
        primis.Settings(decoys=8)
    with pytest.raises(ValueError, match="none"):
        primis.Settings(protection="none")


def test_the_default_owner_key_is_made_once(images, keys, tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.setenv("PRIMIS_OWNER_KEY", str(tmp_path / "mine" / "owner.key"))
    to = read_signer(keys["alice"]).recipient.text
    for name in ("one", "two"):
        primis.share(images, tmp_path / name, to=to, model=TINY)
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    signers = {
        primis.open(tmp_path / n, remember=False, models=[TINY]).signer for n in ("one", "two")
    }
    assert signers == {read_signer(tmp_path / "mine" / "owner.key").public}


def test_a_place_that_is_no_release_says_so(keys, tmp_path) -> None:
    with pytest.raises(primis.PrimisError, match="is not a release"):
        primis.open(tmp_path, keys["alice"])
