"""What an image loses: measured as its recipient sees it, sealed, and told to nobody else."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest

import primis
from primis.bundle.container import read_bundle
from primis.bundle.settings import Settings
from primis.cli.fidelity import with_receipt
from primis.codec import Codec
from primis.datasets.files import Source
from primis.errors import InputError, UsageError
from primis.imaging.image import Image
from primis.imaging.phantom import draw_phantom, phantom_dicom
from primis.jobs.add import add
from primis.jobs.rekey.run import rekey
from primis.jobs.restore import restore
from primis.jobs.result import Result
from primis.jobs.share import quality as share_quality
from primis.jobs.share import run as sharing
from primis.jobs.share.quality import STEPS, Chosen, Trials, with_sparsity
from primis.jobs.share.source import Reading
from primis.keys.identity import parse_recipient, read_identities
from primis.keys.seal import Secret, image_secrets, release_secrets
from primis.keys.tier import Tier
from primis.metrics.fidelity import EXACT, Quality, gaussian_ssim
from primis.release.budgets import Budgets
from primis.release.owner import grant
from primis.release.reader import Release
from primis.sharing.opened import OpenedBundle
from primis.sharing.restore import quality_at, read_image
from primis.sharing.share import share_image
from tests.conftest import SETTINGS, TINY
from tests.core.test_padding import OUTSIDE, ct

BUNDLE_ID = "a" * 32
OPENED = image_secrets(release_secrets(Secret(bytes(32)), Tier.ORIGINAL), BUNDLE_ID)


def shared(image: Image, codec: Codec, *, measure: bool = True, **how: object) -> bytes:
    settings = replace(SETTINGS, header_bytes=4096)
    given = {"alone": True, "bundle_id": BUNDLE_ID, "name": "x", "measure": measure} | how
    return share_image(image, settings, OPENED, codec, **given).data


def sealed_quality(data: bytes) -> Quality | None:
    return quality_at(OpenedBundle.read(data, OPENED), Tier.DIAGNOSTIC)


def direct_ssim(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """At each pixel, from the definition: x, y of range 1."""
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    parts = [
        np.lib.stride_tricks.sliding_window_view(np.pad(z, 5, mode="symmetric"), (11, 11))
        for z in (x, y)
    ]
    a, b = (np.sum(part * window, (2, 3)) for part in parts)
    centred = [part - mean[..., None, None] for part, mean in zip(parts, (a, b), strict=True)]
    variance = [np.sum(part**2 * window, (2, 3)) for part in centred]
    covariance = np.sum(centred[0] * centred[1] * window, (2, 3))
    c1, c2 = 0.01**2, 0.03**2
    above = (2 * a * b + c1) * (2 * covariance + c2)
    return above / ((a**2 + b**2 + c1) * (variance[0] + variance[1] + c2))


def test_ssim_is_that_of_its_definition() -> None:
    rng = np.random.default_rng(1)
    for shape in ((150, 31), (4, 90), (64, 64)):
        x = rng.integers(-300, 500, shape).astype(np.int16)
        y = (x + rng.integers(-90, 90, shape)).astype(np.int16)
        inside = rng.random(shape) < 0.5
        wanted = direct_ssim((x + 300) / 800, (y + 300) / 800)
        assert gaussian_ssim(x, y, 800, black=-300) == pytest.approx(wanted.mean(), abs=1e-5)
        found = gaussian_ssim(x, y, 800, inside, black=-300)
        assert found == pytest.approx(wanted[inside].mean(), abs=1e-5)
        assert gaussian_ssim(x, x, 800, black=-300) == pytest.approx(1)


def noisy(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Tissue of 96 x 96, another for each frame and channel, and grain."""
    rng = np.random.default_rng(2)
    frames = [draw_phantom(96, seed=k).astype(np.int32) // 20 for k in range(shape[0] * shape[3])]
    pixels = np.stack(frames).reshape(shape[0], shape[3], 96, 96)
    pixels = np.moveaxis(pixels, 1, 3) + rng.integers(0, 9, (shape[0], 96, 96, shape[3]))
    return (pixels - (100 if dtype == "int16" else 0)).astype(dtype)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((1, 96, 96, 1), "uint8"), ((3, 96, 96, 1), "int16"), ((1, 96, 96, 3), "uint8")],
)
def test_what_is_sealed_is_what_a_recipient_would_measure(
    codec, shape: tuple[int, ...], dtype: str
) -> None:
    """Of frames, channels and signed samples alike, on the range that the image takes."""
    pixels = noisy(shape, dtype)
    meaning = "RGB" if shape[3] == 3 else "MONOCHROME2"
    image = Image(pixels, pixels.dtype.itemsize * 8, meaning, "tiff", None, b"{}")
    data = shared(image, codec)
    seen = read_image(OpenedBundle.read(data, OPENED), Tier.DIAGNOSTIC, lambda _: codec)[0].pixels
    low, span = int(pixels.min()), int(pixels.max()) - int(pixels.min())
    error = np.mean((seen.astype(float) - pixels.astype(float)) ** 2)
    units = [(np.moveaxis(p, 3, 1).astype(float) - low) / span for p in (pixels, seen)]
    planes = [x.reshape(-1, 96, 96) for x in units]
    each = [direct_ssim(x, y).mean() for x, y in zip(*planes, strict=True)]
    found = sealed_quality(data)
    assert found is not None
    assert found.psnr == pytest.approx(10 * math.log10(span**2 / error), abs=6e-4)
    assert found.ssim == pytest.approx(np.mean(each), abs=6e-4)
    assert 20 < found.psnr < 60
    assert found == (round(found.psnr, 3), round(found.ssim, 3))


def test_padding_does_not_count(codec) -> None:
    """It comes back as it was, and would make any image look well restored."""
    image = ct(-2000)
    data = shared(image, codec)
    seen = read_image(OpenedBundle.read(data, OPENED), Tier.DIAGNOSTIC, lambda _: codec)[0]
    inside = ~OUTSIDE
    source, other = (x.pixels[0, ..., 0][inside].astype(float) for x in (image, seen))
    wanted = 10 * math.log10((source.max() - source.min()) ** 2 / np.mean((source - other) ** 2))
    found = sealed_quality(data)
    assert found is not None
    assert found.psnr == pytest.approx(wanted, abs=6e-4)
    assert sealed_quality(shared(ct(-32768), codec)) == found


def test_samples_that_are_moved_out_of_the_declared_range_count_as_moved(codec) -> None:
    pixels = noisy((1, 96, 96, 1), "uint8")
    declared = (int(np.percentile(pixels, 40)), int(np.percentile(pixels, 60)))
    image = Image(pixels, 8, "MONOCHROME2", "tiff", None, b"{}", declared)
    inside = (pixels < declared[0]) | (pixels > declared[1])
    roomy, how = replace(SETTINGS, header_bytes=1 << 14), {"alone": True, "measure": True}
    data = share_image(image, roomy, OPENED, codec, bundle_id=BUNDLE_ID, name="x", **how).data
    seen = read_image(OpenedBundle.read(data, OPENED), Tier.DIAGNOSTIC, lambda _: codec)[0].pixels
    source, other = (x[inside].astype(float) for x in (pixels, seen))
    wanted = 10 * math.log10((source.max() - source.min()) ** 2 / np.mean((source - other) ** 2))
    found = sealed_quality(data)
    assert found is not None
    assert found.psnr == pytest.approx(wanted, abs=6e-4)


def test_an_image_of_few_levels_has_no_loss(codec) -> None:
    pixels = (np.mgrid[:90, :70][0] // 30)[None, ..., None].astype(np.uint8)
    image = Image(pixels, 8, "MONOCHROME2", "tiff", None, b"{}")
    for measure in (True, False):
        assert sealed_quality(shared(image, codec, measure=measure)) == EXACT


def test_only_the_sealed_info_differs_where_it_is_measured(codec) -> None:
    """No size, and not a byte of what anyone sees."""
    pixels = noisy((1, 96, 96, 1), "uint8")
    image = Image(pixels, 8, "MONOCHROME2", "tiff", None, b"{}")
    draws = [itertools.count(), itertools.count()]

    def draw_of(counter: itertools.count):  # the same bytes, call for call
        return lambda n: np.random.default_rng(next(counter)).bytes(n)

    measured, plain = (
        shared(image, codec, measure=measure, draw=draw_of(counter))
        for measure, counter in zip((True, False), draws, strict=True)
    )
    assert len(measured) == len(plain)
    assert sealed_quality(plain) is None
    (one, its), (other, others) = read_bundle(measured, "x"), read_bundle(plain, "x")
    assert one.head == other.head
    assert {name for name in its if its[name] != others[name]} == {"info"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two radiographs and a mask."""
    folder = tmp_path / "in"
    folder.mkdir()
    for seed in (1, 2):
        (folder / f"chest-{seed}.dcm").write_bytes(phantom_dicom(64, seed=seed))
    mask = np.zeros((40, 40), np.uint8)
    mask[10:20, 10:30] = 255
    PIL.Image.fromarray(mask).save(folder / "mask.png")
    return folder


@pytest.fixture
def share(folder, keys, signer, tmp_path):
    def run(out: str = "r", settings: Settings = SETTINGS, **how) -> dict[str, Result]:
        to = [parse_recipient(f"alice={keys['alice']}")]
        results = sharing.share([folder], tmp_path / out, to, signer, settings, model=TINY, **how)
        return {result.name: result for result in results}

    return run


def restored(release: Path, key: Path, out: Path, **how) -> dict[str, Quality | None]:
    results = restore(Release(release), read_identities(key), out, models=(TINY,), **how)
    return {result.name: result.quality for result in results}


def test_recipients_are_told_what_the_owner_measured(share, keys, signer, tmp_path) -> None:
    told = {name: result.quality for name, result in share().items()}
    assert told["mask.png"] == EXACT
    assert 20 < told["chest-1.dcm"].psnr != told["chest-2.dcm"].psnr
    assert restored(tmp_path / "r", keys["alice"], tmp_path / "out") == told
    with primis.open(tmp_path / "r", keys["alice"], models=[TINY]) as release:
        assert {image.name: image.quality for image in release} == told
    (tmp_path / "more.dcm").write_bytes(phantom_dicom(64, seed=3))
    more = [tmp_path / "more.dcm"]
    [added] = add(Release(tmp_path / "r"), more, signer, models=(TINY,))
    rekey(Release(tmp_path / "r"), signer)
    told |= {"more.dcm": added.quality}
    assert added.quality is not None
    assert restored(tmp_path / "r", keys["alice"], tmp_path / "anew") == told


def test_at_tier_preview_nothing_is_told_and_a_file_itself_is_exact(
    share, keys, signer, tmp_path
) -> None:
    share(with_original=True, tier=Tier.ORIGINAL)
    grant(Release(tmp_path / "r"), parse_recipient(f"bob={keys['bob']}"), signer, tier="preview")
    previews = restored(tmp_path / "r", keys["bob"], tmp_path / "previews")
    assert list(previews.values()) == [None] * 3
    with primis.open(tmp_path / "r", keys["bob"], models=[TINY]) as release:
        assert [image.quality for image in release] == [None] * 3
    files = restored(tmp_path / "r", keys["alice"], tmp_path / "files")
    assert list(files.values()) == [EXACT] * 3


def test_nothing_is_told_where_nothing_was_measured(share, keys, tmp_path) -> None:
    told = {name: result.quality for name, result in share(measure=False).items()}
    assert told == {"chest-1.dcm": None, "chest-2.dcm": None, "mask.png": EXACT}
    assert restored(tmp_path / "r", keys["alice"], tmp_path / "out") == told


def test_what_was_measured_is_in_no_public_file(share, tmp_path) -> None:
    """Nor does any file's size or the public settings say whether it was."""
    share("measured")
    share("plain", measure=False)
    words = (b'"psnr', b'"ssim', b'"quality', b'"measure', b'"fidelity')
    sizes = []
    for name in ("measured", "plain"):
        out = tmp_path / name
        files = [path for path in out.rglob("*") if path.is_file()]
        assert not [w for w in words if any(w in path.read_bytes() for path in files)]
        bound = [path for path in files if path.suffix != ".age"]  # age varies theirs at random
        sizes.append(sorted((str(p.parent.relative_to(out)), p.stat().st_size) for p in bound))
    assert sizes[0] == sizes[1]
    profiles = [Release(tmp_path / name).manifest.profiles for name in ("measured", "plain")]
    assert profiles[0] == profiles[1]


def test_who_goes_on_is_told_the_same(share, folder, keys, tmp_path) -> None:
    seen: dict[str, Quality | None] = {}

    def stop(result: Result, done: int, total: int) -> None:
        seen[result.name] = result.quality
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        share(on_result=stop)
    results = share()
    assert sum(result.resumed for result in results.values()) == 2
    assert seen.items() <= {name: r.quality for name, r in results.items()}.items()
    with pytest.raises(KeyboardInterrupt):
        restored(tmp_path / "r", keys["alice"], tmp_path / "out", on_result=stop)
    again = restored(tmp_path / "r", keys["alice"], tmp_path / "out")
    assert again == {name: r.quality for name, r in results.items()}


def test_a_receipt_says_of_how_many_images_it_speaks() -> None:
    good = [Result(f"{k}.png", "0" * 32, quality=Quality(k, k / 100)) for k in (40.0, 44.0)]
    failed = Result("bad.png", "0" * 32, error=InputError("too large"))
    unmeasured = Result("preview.png", "0" * 32)
    two = (
        'PSNR 42.0 dB on average, 40.0 dB at worst ("40.0.png"); '
        "SSIM 0.420 on average, 0.400 at worst"
    )
    assert with_receipt("done", [*good, failed]) == f"done\nfidelity: {two}"
    assert with_receipt("done", [*good, unmeasured]) == f"done\nfidelity of 2 of 3 images: {two}"
    assert with_receipt("done", good[:1]) == "done\nfidelity: PSNR 40.0 dB, SSIM 0.400"
    exact = Result("mask.png", "0" * 32, quality=EXACT)
    told = "done\nfidelity: PSNR 40.0 dB, SSIM 0.400; 1 exact"
    assert with_receipt("done", [good[0], exact]) == told
    assert with_receipt("done", [unmeasured]) == "done"


# --- the S_x that a PSNR takes ---


def trials(monkeypatch, psnr_of) -> tuple[Trials, list[tuple[str, float]]]:
    """Images that have the PSNR `psnr_of(name, S_x)`, and all that is measured of them."""
    measured: list[tuple[str, float]] = []

    def fake_share(image, settings, *what, name, **how):
        measured.append((name, settings.sparsity))
        return SimpleNamespace(quality=Quality(psnr_of(name, settings.sparsity), 0.9))

    monkeypatch.setattr(share_quality, "read_source", lambda source, how: (source, b""))
    monkeypatch.setattr(share_quality, "share_image", fake_share)
    budgets = Budgets.choose(SETTINGS, [])
    return Trials(budgets, None, Reading()), measured  # type: ignore[arg-type]


@pytest.mark.parametrize(("count", "spared"), [(1, 0), (19, 0), (20, 1), (64, 3)])
def test_the_smallest_s_x_at_which_95_percent_reach_the_psnr(
    monkeypatch, count: int, spared: int
) -> None:
    """Against a trial of every step, with far fewer trials."""
    rng = np.random.default_rng(count)
    at_one = {str(k): float(v) for k, v in enumerate(rng.normal(36, 2.5, count))}

    def psnr_of(name: str, sparsity: float) -> float:
        return at_one[name] + 3.3 * math.log2(sparsity)

    choosing, measured = trials(monkeypatch, psnr_of)
    chosen = choosing.choose(
        [Source.of((Path(n), n)) for n in at_one], 42, lambda done, total: None
    )
    reached = {s: sum(psnr_of(n, s) >= 42 for n in at_one) for s in STEPS}
    assert chosen == (min(s for s in STEPS if reached[s] >= count - spared), count, count)
    assert count - reached[chosen.sparsity] <= 0.05 * count
    assert len(measured) <= 9 * count
    assert count < 64 or len(measured) < 4 * count


def test_of_many_images_some_are_drawn(monkeypatch) -> None:
    choosing, measured = trials(monkeypatch, lambda name, sparsity: 40 + sparsity)
    looked: list[tuple[int, int]] = []
    sources = [Source.of((Path(str(k)), str(k))) for k in range(500)]
    chosen = choosing.choose(sources, 42, lambda done, total: looked.append((done, total)))
    assert chosen == (2.0, 64, 500)
    assert looked == [(k, 64) for k in range(1, 65)]
    drawn = {name for name, _ in measured}
    assert len(drawn) == 64
    assert drawn != {str(k) for k in range(64)}


def test_a_psnr_out_of_reach_says_how_far_it_is(monkeypatch) -> None:
    choosing, _ = trials(monkeypatch, lambda name, sparsity: 30 + sparsity / 2)
    with pytest.raises(UsageError, match=r'of 60 dB: at S_x = 32, .* "7" has 46.0 dB'):
        choosing.choose([Source.of((Path("7"), "7"))], 60, lambda done, total: None)


def test_an_image_that_cannot_be_shared_chooses_nothing(monkeypatch) -> None:
    def psnr_of(name: str, sparsity: float) -> float:
        if name == "bad":
            raise InputError("too large")
        return 40 + sparsity

    choosing, _ = trials(monkeypatch, psnr_of)
    sources = [Source.of((Path(name), name)) for name in ("bad", "good")]
    assert choosing.choose(sources, 42, lambda done, total: None) == (2.0, 1, 2)
    unchanged = (SETTINGS.sparsity, 0, 1)
    assert choosing.choose(sources[:1], 42, lambda done, total: None) == unchanged


def test_s_n_follows_s_x_where_it_is_the_default() -> None:
    for protection in primis.Protection:
        default = Settings(sparsity=6.0, protection=protection)
        anew = Settings(sparsity=12.0, protection=protection)
        assert with_sparsity(default, 12.0) == anew
    given = Settings(sparsity=6.0, protection="sca", decoys=5.0)
    assert with_sparsity(given, 12.0) == replace(given, sparsity=12.0)


def test_a_release_for_a_psnr_reaches_it_and_goes_on_with_the_s_x_chosen(
    share, folder, tmp_path, monkeypatch
) -> None:
    chosen: list[Chosen] = []
    wanted = min(r.quality.psnr for r in share("as given").values() if r.quality.psnr) + 1

    def stop(result: Result, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        share(psnr=wanted, on_chosen=chosen.append, on_result=stop)
    with monkeypatch.context() as patch:
        patch.setattr(Trials, "choose", None)  # whoever goes on does not choose again
        results = share(psnr=wanted, on_chosen=chosen.append)
    assert chosen[0] == chosen[1]
    assert (chosen[0].tried, chosen[0].images) == (3, 3)
    measured = [r.quality.psnr for r in results.values() if r.quality.psnr is not None]
    assert len(measured) == 2
    assert min(measured) >= wanted
    [sparsity] = {p.settings.sparsity for p in Release(tmp_path / "r").manifest.profiles}
    assert sparsity == chosen[0].sparsity > SETTINGS.sparsity
    below = replace(SETTINGS, sparsity=STEPS[STEPS.index(sparsity) - 1])
    fewer = share("fewer", with_sparsity(below, below.sparsity))
    assert min(r.quality.psnr for r in fewer.values() if r.quality.psnr) < wanted


def test_a_release_for_a_psnr_out_of_reach_leaves_nothing(share, tmp_path) -> None:
    with pytest.raises(UsageError, match="too few images reach a PSNR of 99 dB"):
        share(psnr=99)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_the_journal_s_choice_counts_only_if_it_is_ours(share, tmp_path) -> None:
    def stop(result: Result, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        share(psnr=25, on_result=stop)
    journal = tmp_path / "r.partial.journal"
    lines = journal.read_text().splitlines()
    [at] = [k for k, line in enumerate(lines) if '"chosen"' in line]
    lines[at] = json.dumps(json.loads(lines[at]) | {"chosen": [32.0, 3, 3]})
    journal.write_text("\n".join(lines))
    chosen: list[Chosen] = []
    share(psnr=25, on_chosen=chosen.append)
    assert chosen[0].sparsity < 32
