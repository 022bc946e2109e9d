"""Features are PyRadiomics' own, of the mask alone, at 1 mm; agreement is ICC(A,1)."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from scipy import ndimage

from primis.codec import Codec, OnnxEngine
from primis.errors import InputError, TextureUnavailable, UsageError
from primis.imaging.phantom import draw_phantom
from primis.metrics.part import Parts
from primis.network.checkpoint import read_checkpoint, shipped
from primis.study.report.document import Figure, Table, Text
from primis.study.texture import measure as texture
from primis.study.texture.measure import (
    ClassCounts,
    Masked,
    TextureResult,
    count_classes,
    features,
    icc,
    measure,
    relative_errors,
)
from primis.study.texture.report import section
from primis.study.versions import Versions, version_list

pytest.importorskip("radiomics")
pytest.importorskip("pingouin")

LISTED = version_list([2, 16], baselines=["lossless"], texture=True)


@pytest.fixture(scope="module")
def versions() -> Versions:
    checkpoint = read_checkpoint(shipped())
    return Versions(None, {"default": Codec(checkpoint, OnnxEngine(checkpoint, threads=1))}, LISTED)


def chest(seed: int, size: int = 96, *, spacing: tuple[float, float] | None = None) -> Masked:
    """A phantom, and an ellipse about where its lung is."""
    y, x = np.mgrid[0:size, 0:size] / size * 2 - 1
    mask = ((x - 0.43) / 0.28) ** 2 + ((y + 0.08) / 0.6) ** 2 < 1
    return Masked(
        f"chest {seed}", (draw_phantom(size, seed=seed) >> 4).astype(np.uint8), 8, mask, spacing
    )


@pytest.fixture(scope="module")
def part(versions) -> TextureResult:
    return measure((chest(seed) for seed in range(5)), versions, 5)


def test_there_are_the_papers_features_of_each_family() -> None:
    found = features(*chest(1)[1:4:2])
    counts = {
        family: sum(name.startswith(f"{family}_") for name in found) for family in texture.FAMILIES
    }
    assert counts == {
        "firstorder": 18,
        "glcm": 24,
        "glszm": 16,
        "ngtdm": 5,
        "glrlm": 16,
        "gldm": 14,
    }
    assert len(found) == 93
    assert np.isfinite(list(found.values())).all()


def test_first_order_features_are_those_of_the_pixels_in_the_mask() -> None:
    image = chest(2)
    found = features(image.pixels, image.mask)
    inside = image.pixels[image.mask].astype(float)
    binned = np.histogram(inside, bins=64)[0] / inside.size
    wanted = {
        "Mean": inside.mean(),
        "Median": np.median(inside),
        "Variance": inside.var(),
        "Maximum": inside.max(),
        "Energy": (inside**2).sum(),
        "90Percentile": np.percentile(inside, 90),
        "Uniformity": (binned**2).sum(),
    }
    assert {name: found[f"firstorder_{name}"] for name in wanted} == pytest.approx(wanted)


def test_what_lies_outside_the_mask_does_not_matter() -> None:
    image = chest(3)
    other = np.where(image.mask, image.pixels, 255 - image.pixels)
    assert features(image.pixels, image.mask) == features(other, image.mask)
    assert features(image.pixels, image.mask.astype(np.uint8) * 255) == features(
        image.pixels, image.mask
    )


def test_spacing_is_rows_then_columns_and_resampled_to_a_millimetre() -> None:
    fine = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(96, 96)), 4)
    fine = np.round(np.interp(fine, (fine.min(), fine.max()), (0, 4095))).astype(np.uint16)
    mask = np.zeros(fine.shape, bool)
    mask[16:80, 20:60] = True
    wanted = features(fine, mask, (1.0, 1.0))
    rows_apart = features(fine[::2], mask[::2], (2.0, 1.0))
    unknown = features(fine[::2], mask[::2])
    assert wanted == features(fine, mask)
    for name in (
        "firstorder_Mean",
        "glcm_Contrast",
        "glrlm_GrayLevelNonUniformity",
        "firstorder_Energy",
    ):
        assert rows_apart[name] == pytest.approx(wanted[name], rel=0.1)
    assert unknown["firstorder_Energy"] == pytest.approx(wanted["firstorder_Energy"] / 2, rel=0.1)
    assert abs(unknown["glcm_Contrast"] / wanted["glcm_Contrast"] - 1) > 0.5


def test_a_mask_that_does_not_fit_or_is_empty_is_refused() -> None:
    image = chest(1)
    with pytest.raises(InputError, match="a mask has 95 x 96 pixels, expected 96 x 96"):
        features(image.pixels, image.mask[1:])
    with pytest.raises(InputError, match="a mask of 0 pixels gives no features"):
        features(image.pixels, np.zeros_like(image.mask))


def test_without_pyradiomics_the_error_says_how_to_get_it(monkeypatch) -> None:
    texture._extractor.cache_clear()
    for name in ("radiomics", "radiomics.featureextractor"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(TextureUnavailable, match=r"pip install 'primis\[texture\]'"):
        features(*chest(1)[1:4:2])


def test_icc_is_absolute_agreement_of_single_measurements() -> None:
    rng = np.random.default_rng(1)
    one = rng.normal(10, 2, 25)
    two = one + rng.normal(0.8, 1, 25)
    x = np.stack([one, two], axis=1)
    n, k = x.shape
    rows, columns, mean = x.mean(axis=1, keepdims=True), x.mean(axis=0, keepdims=True), x.mean()
    between_images = k * ((rows - mean) ** 2).sum() / (n - 1)
    between_versions = n * ((columns - mean) ** 2).sum() / (k - 1)
    rest = ((x - rows - columns + mean) ** 2).sum() / ((n - 1) * (k - 1))
    wanted = (between_images - rest) / (
        between_images + (k - 1) * rest + k * (between_versions - rest) / n
    )
    value, low, high = icc(one, two)
    assert value == pytest.approx(wanted)
    assert low < value < high
    assert icc(one, one + 5)[0] < 0.5  # a shift is disagreement
    assert icc(one, one.copy()) == (1, 1, 1)
    assert np.isnan(icc(np.ones(25), two)).all()
    assert icc(np.append(one, np.nan), np.append(two, 3.0))[0] == pytest.approx(wanted)


def test_a_border_belongs_to_the_class_below() -> None:
    counts = count_classes([-0.2, 0.40, 0.41, 0.60, 0.61, 0.75, 0.751, 1.0, float("nan")])
    assert counts == ClassCounts(poor=2, fair=2, good=2, excellent=2)
    assert counts.share_excellent == 0.25 and count_classes([]).share_excellent is None


def test_errors_and_agreement_are_those_of_the_values(part) -> None:
    values, names, first = part.values, part.features, part.versions[0]
    assert values.shape == (6, 5, 93)
    place = names.index("glcm_Contrast")
    original, restored = values[0, :, place], values[1, :, place]
    relative = 100 * (restored - original) / original
    assert first.re[place] == pytest.approx(relative.mean())
    assert first.are[place] == pytest.approx(np.abs(relative).mean())
    assert first.icc[place] == pytest.approx(icc(original, restored)[0])
    assert [version.name for version in part.versions] == [
        "S_x = 2",
        "S_x = 16",
        "S_x = 2, with texture",
        "S_x = 16, with texture",
        "lossless",
    ]
    shares = [version.classes.share_excellent for version in part.versions]
    assert shares[0] < shares[1] < shares[-1] == 1
    assert not part.versions[-1].are.any()
    assert part.zeros.tolist() == [int((column == 0).sum()) for column in values[0].T]


def test_a_negative_original_keeps_the_sign_of_the_error_and_zero_is_left_out() -> None:
    original, other = np.array([[-2.0, 0.0], [-4.0, 1.0]]), np.array([[-1.0, 5.0], [-4.0, 1.5]])
    re, are = relative_errors(original, other)  # (images, features)
    assert re.tolist() == [25.0, 50.0] and are.tolist() == [25.0, 50.0]
    assert relative_errors(original, np.array([[-3.0, 0.0], [-4.0, 1.0]]))[0][0] == -25
    assert np.isnan(relative_errors(np.zeros((2, 1)), np.zeros((2, 1)))).all()


def test_a_stopped_run_goes_on_where_it_was(versions, part, tmp_path: Path, monkeypatch) -> None:
    parts = Parts(tmp_path, {"plan": 1})

    def stopped():
        yield from (chest(seed) for seed in range(3))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(stopped(), versions, 5, keep=parts.get)
    measured = []
    real = texture.features
    monkeypatch.setattr(texture, "features", lambda *args: measured.append(args) or real(*args))
    again = measure((chest(seed) for seed in range(5)), versions, 5, keep=parts.get)
    assert len(measured) == 2 * len(LISTED)
    assert np.array_equal(again.values, part.values)


def test_a_mask_without_a_lung_leaves_its_image_out(versions) -> None:
    images = [*(chest(seed) for seed in range(3)), chest(3)._replace(mask=np.zeros((96, 96), bool))]
    found = measure(images, versions, 4)
    assert found.left_out == ("chest 3",)
    assert found.n == 3
    with pytest.raises(UsageError, match=r"texture has 1 image\(s\)"):
        measure(images[2:], versions, 2)


def test_the_section_shows_classes_errors_and_every_feature(part, tmp_path: Path) -> None:
    parts = Parts(tmp_path, {})
    parts.get("texture", lambda: part, TextureResult)
    kept = parts.get("texture", lambda: pytest.fail("made again"), TextureResult)
    found = section(kept, {"data": "phantoms"})
    classes, errors = (block for block in found.blocks if isinstance(block, Table))
    assert all(len(row) == len(table.columns) for table in (classes, errors) for row in table.rows)
    all_of = next(name for name in classes.columns if name.startswith("all"))
    assert all_of == "all (93)"
    counted = [
        sum(int(x) for x in row[classes.columns.index(all_of)].split(" / ")) for row in classes.rows
    ]
    assert counted == [93 - int(np.isnan(version.icc).sum()) for version in part.versions]
    assert classes.rows[-1][-2:] == ("100 %", "93")
    assert [row[0] for row in errors.rows[::4]] == [version.name for version in part.versions]
    assert errors.rows[0][2] == f"{np.mean(part.versions[0].re[:18]):+.3g}"
    (figure,) = (block for block in found.blocks if isinstance(block, Figure))
    with Pillow.open(io.BytesIO(figure.png)) as picture:
        assert picture.height >= 1800  # 93 rows at 200 dpi
    text = " ".join(block.text for block in found.blocks if isinstance(block, Text))
    assert "spacing of these images is unknown" in text
    assert "With texture: restored with noise" in text


def test_texture_that_is_put_back_is_measured_beside_what_is_lost(versions) -> None:
    """Phantoms with grain, each of its own strength: the contrast of neighbours comes back, and
    with it the agreement of features."""
    images = []
    for seed in range(6):
        image = chest(seed)
        rng = np.random.default_rng(seed)
        grain = rng.normal(0, 3 + 3 * seed, image.pixels.shape)
        noisy = np.clip(image.pixels + grain, 0, 255).round().astype(np.uint8)
        images.append(image._replace(key=f"grain {seed}", pixels=noisy))
    found = measure(images, versions, len(images))
    place = found.features.index("glcm_Contrast")
    original, plain, textured = found.values[[0, 2, 4], :, place]
    assert (plain < 0.4 * original).all()
    assert (textured > 0.5 * original).all()
    assert (textured < 1.2 * original).all()
    lost, restored = found.versions[1], found.versions[3]
    assert restored.icc[place] > lost.icc[place] + 0.4
    assert restored.classes.share_excellent > 4 * lost.classes.share_excellent
