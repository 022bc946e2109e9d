"""Measures of versions against a direct sum; pictures that hide no error; the report."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image as Pillow

from primis.codec import Codec, OnnxEngine
from primis.errors import UsageError
from primis.imaging.phantom import draw_phantom
from primis.metrics.fidelity import gaussian_ssim, ssim
from primis.metrics.part import Parts
from primis.network.checkpoint import read_checkpoint, shipped
from primis.study.fidelity.measure import (
    MEASURES,
    FidelityResult,
    Original,
    Restored,
    Values,
    measure,
)
from primis.study.fidelity.pictures import limit_of
from primis.study.fidelity.report import section
from primis.study.paper.printed import Errors, Printed
from primis.study.report.document import Figure, Section, Table, Text
from primis.study.versions import Versions, version_list

LISTED = version_list([4, 16], baselines=["JPEG 2000", "lossless"])


@pytest.fixture(scope="module")
def versions() -> Versions:
    checkpoint = read_checkpoint(shipped())
    return Versions(None, {"default": Codec(checkpoint, OnnxEngine(checkpoint, threads=1))}, LISTED)


@pytest.fixture(scope="module")
def one_version() -> Versions:
    checkpoint = read_checkpoint(shipped())
    codec = Codec(checkpoint, OnnxEngine(checkpoint, threads=1))
    return Versions(None, {"default": codec}, LISTED[:2])


def grey(size: int, seed: int, bits: int = 8) -> Original:
    pixels = draw_phantom(size, seed=seed)
    return Original(f"chest {seed}", (pixels >> 4).astype(np.uint8) if bits == 8 else pixels, bits)


@pytest.fixture(scope="module")
def part(versions) -> FidelityResult:
    images = [grey(128, 1), grey(128, 2), grey(160, 3, 12)]
    return measure(iter(images), versions, len(images), examples=2)


def version_of(part: FidelityResult, name: str) -> Restored:
    (found,) = (version for version in part.versions if version.name == name)
    return found


def of(part: FidelityResult, name: str) -> Values:
    return version_of(part, name).values


def test_measures_are_what_their_formulas_say(part, versions) -> None:
    image = grey(128, 2)
    out, bits = versions.get("x", image.pixels, 8, LISTED[1])
    error = out.astype(float) - image.pixels
    wanted = {
        "mae": np.abs(error).mean(),
        "me": error.mean(),
        "me_paper": np.abs(error).mean(),
        "rmse": (error**2).mean() ** 0.5,
        "psnr": 10 * np.log10(255**2 / (error**2).mean()),
        "ssim": ssim(image.pixels, out, 255),
        "bits": bits,
    }
    values = of(part, "S_x = 4")
    assert {m.name: m.of(values)[1] for m in MEASURES} == pytest.approx(wanted)
    assert wanted["me"] != pytest.approx(wanted["mae"])


def test_twelve_bits_are_measured_in_grey_levels_of_255(part, versions) -> None:
    image = grey(160, 3, 12)
    out, _ = versions.get("x", image.pixels, 12, LISTED[1])
    error = out.astype(float) - image.pixels
    assert of(part, "S_x = 4").mae[2] == pytest.approx(np.abs(error).mean() * 255 / 4095)
    assert of(part, "S_x = 4").psnr[2] == pytest.approx(10 * np.log10(4095**2 / (error**2).mean()))


def test_more_entries_come_nearer_and_lossless_is_identical(part) -> None:
    assert (of(part, "S_x = 16").rmse < of(part, "S_x = 4").rmse).all()
    assert (of(part, "JPEG 2000 at the bits of S_x = 16").bits <= of(part, "S_x = 16").bits).all()
    assert np.isinf(of(part, "lossless").psnr).all()
    assert not of(part, "lossless").mae.any()
    assert part.versions[-1].r_squared == pytest.approx(1, abs=1e-12)


def test_histogram_and_r_squared_are_of_all_pixels(one_version) -> None:
    images = [grey(96, 4), grey(96, 5)]
    part = measure(images, one_version, 2, examples=0)
    outs = [one_version.get("x", image.pixels, 8, LISTED[1])[0] for image in images]
    x, y = (
        np.concatenate([a.ravel() for a in some]) for some in ([i.pixels for i in images], outs)
    )
    wanted = np.histogram2d(x, y, bins=256, range=[[-0.5, 255.5]] * 2)[0]
    assert np.array_equal(part.versions[0].histogram, wanted)
    assert part.versions[0].r_squared == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2, rel=1e-9)


def test_signed_samples_are_measured_in_their_own_range(one_version) -> None:
    pixels = (draw_phantom(96, seed=6).astype(np.int32) // 2 - 1024).astype(np.int16)
    part = measure([Original("ct", pixels, 12)], one_version, 1)
    out, _ = one_version.get("x", pixels, 12, LISTED[1])
    error = np.abs(out.astype(float) - pixels)
    assert of(part, "S_x = 4").mae[0] == pytest.approx(
        error.mean() * 255 / np.ptp(pixels.astype(int))
    )
    assert (part.examples[0].original.min(), part.examples[0].original.max()) == (0, 255)
    assert part.versions[0].histogram.sum() == pixels.size


def test_examples_are_spread_over_all_images_and_small(one_version) -> None:
    images = [grey(64, seed) for seed in range(4)] + [grey(700, 9)]
    part = measure(images, one_version, 5, examples=2)
    assert [example.number for example in part.examples] == [0, 4]
    assert np.array_equal(part.examples[0].original, images[0].pixels)
    assert part.examples[1].original.shape == (350, 350)
    out, _ = one_version.get("x", images[4].pixels, 8, LISTED[1])
    error = np.abs(out.astype(float) - images[4].pixels)
    assert np.abs(part.examples[1].differences[0]).max() == error.max()


def test_nothing_to_measure_is_refused(versions) -> None:
    with pytest.raises(UsageError, match="nothing to measure"):
        measure([], versions, 0)


def shown(found: Section) -> tuple[list[Table], list[Figure], str]:
    tables = [block for block in found.blocks if isinstance(block, Table)]
    figures = [block for block in found.blocks if isinstance(block, Figure)]
    return (
        tables,
        figures,
        " ".join(block.text for block in found.blocks if isinstance(block, Text)),
    )


def test_the_section_has_every_table_and_figure(part, tmp_path) -> None:
    parts = Parts(tmp_path, {})
    parts.get("fidelity", lambda: part, FidelityResult)
    again = lambda: pytest.fail("made again")  # noqa: E731
    kept = parts.get("fidelity", again, FidelityResult)  # as a stopped run finds it
    paper = {"S_x = 4": Errors(*[Printed(9.35, 8.19, 9.31, 9.39)] * 5)}
    tables, figures, text = shown(section(kept, {"data": "phantoms"}, paper))
    assert all(len(row) == len(table.columns) for table in tables for row in table.rows)
    table_1, beside = tables
    mae = of(part, "S_x = 4").mae
    column = table_1.columns.index("MAE")
    assert [row[0] for row in table_1.rows] == ["S_x = 4", "", "", "S_x = 16", ""]
    assert table_1.rows[0][column] == f"{mae.mean():.2f} ± {mae.std(ddof=1):.2f}"
    assert table_1.rows[2][column] == "9.35 ± 8.19"
    assert [row[0] for row in beside.rows] == [
        "S_x = 4",
        "JPEG 2000 at the bits of S_x = 4",
        "S_x = 16",
        "JPEG 2000 at the bits of S_x = 16",
        "lossless",
    ]
    assert beside.rows[4][beside.columns.index("PSNR, dB")] == "∞"
    gain = (of(part, "S_x = 4").psnr - of(part, "JPEG 2000 at the bits of S_x = 4").psnr).mean()
    assert beside.rows[1][-1].startswith(f"{gain:+.2f} (")
    assert "equals its mean absolute error" in text
    assert (
        len(figures) == 4
    )  # examples of ours and of JPEG 2000, not of lossless; histograms; box plots
    assert ["colours end at" in figure.facts for figure in figures] == [True, True, False, False]
    for figure in figures:
        assert figure.facts.items() >= {"data": "phantoms"}.items()
        with Pillow.open(io.BytesIO(figure.png)) as picture:
            assert picture.width >= 600
            assert len(set(picture.convert("L").resize((64, 64)).tobytes())) > 10


@pytest.mark.parametrize("n", [1, 2])
def test_a_few_images_have_no_interval_and_the_report_says_how_many(versions, n) -> None:
    images = [grey(64, seed) for seed in range(n)]
    tables, _, text = shown(section(measure(images, versions, n), {}))
    assert set(tables[0].rows[1][2:]) == {"–"}
    assert f"n = {n}: too few images for an interval" in text
    assert not any(" to " in row[-1] for row in tables[1].rows)


def test_no_interval_goes_beyond_what_is_possible() -> None:
    values = Values(*[np.array([0.0, 0.0, 0.9])] * 6)  # Student's t reaches from -0.99 to 1.59
    for each in MEASURES:
        mean = each.mean(values)
        assert mean is not None
        assert each.least <= mean.low <= mean.value <= mean.high <= each.most
    (ssim_,) = (each.mean(values) for each in MEASURES if each.name == "ssim")
    (mae,) = (each.mean(values) for each in MEASURES if each.name == "mae")
    assert ssim_ is not None and ssim_.high == 1
    assert mae is not None and mae.low == 0


def test_differences_of_all_results_share_one_scale(versions) -> None:
    near, far = (measure([grey(64, 1)], versions, 1) for _ in range(2))
    for example in far.examples:
        example.differences[:] *= 10
    assert limit_of([far]) > limit_of([near])
    assert limit_of([near, far]) > limit_of([near])
    _, figures, _ = shown(section(near, {}, limit=limit_of([near, far])))
    ends = {figure.facts["colours end at"] for figure in figures if figure.facts}
    assert ends == {f"±{limit_of([near, far]):g} grey levels, in every such picture of the report"}


def test_padding_is_not_measured(one_version) -> None:
    image = grey(128, 2)
    inside = np.zeros(image.pixels.shape, bool)
    inside[30:90, 20:100] = True
    part = measure([image._replace(inside=inside)], one_version, 1)
    out, _ = one_version.get("x", image.pixels, 8, LISTED[1])
    error = (out.astype(float) - image.pixels)[inside]
    assert of(part, "S_x = 4").rmse[0] == pytest.approx((error**2).mean() ** 0.5)
    assert of(part, "S_x = 4").psnr[0] == pytest.approx(10 * np.log10(255**2 / (error**2).mean()))
    assert part.versions[0].histogram.sum() == inside.sum()
    cut = ssim(image.pixels[27:93, 17:103], out[27:93, 17:103], 255)
    assert of(part, "S_x = 4").ssim[0] == pytest.approx(cut, abs=1e-5)


@pytest.mark.parametrize("shape", [(40, 200), (300, 65)])
def test_the_gaussian_ssim_is_that_of_scikit_image(shape: tuple[int, int]) -> None:
    """Wang et al. 2004, of which scikit-image leaves the border out."""
    from skimage.metrics import structural_similarity

    rng = np.random.default_rng(3)
    x = (draw_phantom(300)[: shape[0], : shape[1]] // 16).astype(np.uint8)
    y = np.clip(x + rng.normal(0, 6, shape), 0, 255).astype(np.uint8)
    span = float(x.max()) - float(x.min())
    pair = [z.astype(np.float64) - float(x.min()) for z in (x, y)]
    theirs, everywhere = structural_similarity(
        *pair,
        data_range=span,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    assert 0.2 < theirs < 0.99
    border = np.ones(shape, bool)
    border[5:-5, 5:-5] = False
    ours = [gaussian_ssim(x, y, span, inside, black=x.min()) for inside in (~border, None)]
    assert ours == pytest.approx([theirs, everywhere.mean()], abs=1e-5)
