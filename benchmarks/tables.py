"""Writes the tables of benchmarks/README.md, docs/evaluation.md and docs/how-to/regions.md from
results/.

    python benchmarks/tables.py

A table lies between `<!-- NAME -->` and `<!-- end -->`; a test holds the pages against the results.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import attack_tables
import numpy as np
import scale_tables
import study_tables
import viewer_tables
import volume_tables
from markdown_tables import HERE, number, result, rows, with_interval, with_sd

from primis.metrics.estimate import Estimate

_DOCS = HERE.parent / "docs"
PAGES = (HERE / "README.md", _DOCS / "evaluation.md", _DOCS / "how-to" / "regions.md")
LEVELS = (38.5, 42.0, 46.0)
"""PSNRs in dB at which codecs are compared."""
MODALITIES = (
    "ct-2d",
    "ultrasound-2d",
    "ct-head",
    "mr-t1",
    "dicom-chest",
    "dicom-radiograph",
)
_MEGAPIXELS = 0.262144
"""Of the images that speed was measured on."""

Point = dict[str, Any]
"""What was measured at one setting, by name."""


def at(points: Sequence[Point], wanted: float, name: str) -> float | None:
    """A field at a PSNR, between the measured points on a logarithmic scale; None outside them."""
    known = sorted((p["psnr"], p[name]) for p in points if p["psnr"] is not None)
    if len(known) < 2 or not known[0][0] <= wanted <= known[-1][0]:
        return None
    return float(np.exp(np.interp(wanted, [x for x, _ in known], [np.log(y) for _, y in known])))


def matched() -> str:
    """Image by image, at each image's own PSNR."""
    names = ("JPEG 2000", "JPEG XL")
    head = ["S_x", "mean PSNR, dB", "primis, key + values"]
    head += [f"{name}, ours against it" for name in names]
    head += ["whole release", "JPEG 2000 in age, a release against it", "JPEG XL in age"]
    body = []
    for sparsity, row in result("matched")["rows"].items():
        less = [100 * (row["bits"] / row[name] - 1) for name in names]
        beside = [f"{row[n]:.4f} ({x:+.1f} %)" for n, x in zip(names, less, strict=True)]
        more = 100 * (row["published"] / row["JPEG 2000 in age"] - 1)
        encrypted = [
            number(row["published"]),
            f"{row['JPEG 2000 in age']:.4f} ({more:+.1f} %)",
            number(row["JPEG XL in age"]),
        ]
        body.append([sparsity, number(row["psnr"], 2), number(row["bits"]), *beside, *encrypted])
    return rows(head, body)


def _numbers(point: Point, *names: str) -> list[str]:
    return [number(point[name]) for name in names]


def _psnr_and_ssim(point: Point) -> list[str]:
    return [
        with_sd(point["psnr"], point["psnr_sd"]),
        with_sd(point["ssim"], point["ssim_sd"], 3),
    ]


def presets() -> str:
    """Both presets on the same images, where both were measured."""
    head = ["preset", "S_x", "PSNR, dB", "SSIM", "key", "values", "key + values", "public, bytes"]
    body = []
    curves = [curve for curve in result("rate_distortion")["curves"] if "model" in curve]
    measured = [{point["setting"] for point in curve["points"]} for curve in curves]
    for curve in curves:
        preset = curve["codec"].removeprefix("primis ")
        for p in curve["points"]:
            if p["setting"] not in set.intersection(*measured):
                continue
            sizes = _numbers(p, "key", "values", "bits", "public_bytes")
            body.append([preset, f"{p['setting']:g}", *_psnr_and_ssim(p), *sizes])
    return rows(head, body)


def fidelity() -> str:
    """Preset default, S_x by S_x."""
    head = ["S_x", "PSNR, dB", "SSIM", "MS-SSIM", "preview, dB", "key", "values", "key + values"]
    head += ["public, bytes", "sealed", "bundle"]
    body = []
    [curve] = [c for c in result("rate_distortion")["curves"] if c["codec"] == "primis default"]
    for p in curve["points"]:
        seen = [*_psnr_and_ssim(p), number(p.get("ms_ssim")), number(p["psnr_preview"], 2)]
        sizes = _numbers(p, "key", "values", "bits", "public_bytes", "sealed", "bundle")
        body.append([f"{p['setting']:g}", *seen, *sizes])
    return rows(head, body)


def baselines() -> str:
    """Bits per pixel at three PSNRs."""
    curves = result("rate_distortion")["curves"]
    body = []
    for curve in curves:
        for name, title in _sizes(curve).items():
            values = [at(curve["points"], level, name) for level in LEVELS]
            if any(values):
                body.append([title, *(number(value) for value in values)])
    [lossless] = [curve for curve in curves if curve["codec"] == "JPEG XL, lossless"]
    bits = f"({lossless['points'][0]['bits']:.2f})"
    body.append(["JPEG XL, lossless", *[bits] * len(LEVELS)])
    return rows(["bits per pixel", *(f"{level:g} dB" for level in LEVELS)], body)


def _sizes(curve: dict[str, Any]) -> dict[str, str]:
    """Fields of a curve's points that are sizes, and what the table calls them."""
    codec, points = curve["codec"], curve["points"]
    titles = {"key": f"{codec}, key", "bits": codec, "bundle": f"{codec}, whole bundle"}
    titles["bits_in_age"] = f"{codec}, in an age file"
    if "model" in curve:
        titles["bits"] = f"{codec}, key + values"
    return {n: t for n, t in titles.items() if n in points[0]} if len(points) > 1 else {}


def modalities() -> str:
    """Other images, the chest model and the one trained on a mix; bits beside JPEG 2000 at the same
    PSNR."""
    head = ["data", "images", "model"]
    head += [f"S_x = {s}: PSNR, SSIM; key + values (JPEG 2000)" for s in (4, 8, 16)]
    body = []
    for name in MODALITIES:
        data = result(f"modality-{name}")
        points = {curve["codec"]: curve["points"] for curve in data["curves"]}
        jpeg_2000 = points.get("JPEG 2000", [])
        for curve in data["curves"]:
            if "model" in curve:
                model = curve["codec"].removeprefix("primis ")
                cells = [_modality_cell(point, jpeg_2000) for point in curve["points"]]
                body.append([name, str(data["images"]), model, *cells])
    return rows(head, body)


def _modality_cell(point: Point, jpeg_2000: Sequence[Point]) -> str:
    beside = number(at(jpeg_2000, point["psnr"], "bits"), 3)
    return f"{point['psnr']:.2f}, {point['ssim']:.3f}; {point['bits']:.3f} ({beside})"


def is_restoring(stage: str) -> bool:
    """Whether a stage turns codes into files, and is to be compared with decoding."""
    words = ("decode", "restore", "write", "purify", "decrypt")
    return any(word in stage for word in words)


def speed() -> str:
    """Medians, and ratios within the run."""
    data = result("speed")
    seconds, peak = data["seconds"], data["peak_mib"]
    head = ["stage", "ms", "s / megapixel", "x OpenJPEG", "x preset paper"]
    body = []
    for stage, value in seconds.items():
        other = seconds[f"OpenJPEG: {'decode' if is_restoring(stage) else 'encode'}"]
        paper = seconds.get(f"preset paper: {stage}")
        ratio = number(value / paper, 3) if paper else ""
        cells = [f"{1e3 * value:.1f}", f"{value / _MEGAPIXELS:.3f}", f"{value / other:.2f}"]
        body.append([stage, *cells, ratio])
    return (
        f"{rows(head, body)}\n\n"
        f"Peak memory for one image of {peak['side']} x {peak['side']} and 12 bits, "
        f"beyond the program at rest: {peak['share']:.0f} MiB to share it, "
        f"{peak['share_and_restore']:.0f} MiB when it is restored afterwards."
    )


def training_speed() -> str:
    """Patches and megapixels a second."""
    data = result("training_speed")
    body = []
    for name, row in data["presets"].items():
        patches, megapixels = row["patches_per_second"], row["megapixels_per_second"]
        body.append([name, f"{patches:.1f}", f"{megapixels:.2f}"])
    return rows([f"preset, {data['device']}", "patches / s", "megapixels / s"], body)


def tradeoff() -> str:
    """Key and ambiguity at level sca."""
    head = ["preset", "S_x", "S_n", "decoys", "key, bit per pixel", "bits an entry", "support AUC"]
    head += ["recovered (chance)", "PSNR, dB", "gain over the best without the code, dB"]
    head += ["authorised, dB"]
    body = []
    for preset in ("default", "paper"):
        points = result(f"tradeoff-{preset}")["points"]
        body += [[preset, *_tradeoff_row(point)] for point in points]
    return rows(head, body)


def _tradeoff_row(p: Point) -> list[str]:
    recovered, chance = (100 * p[name]["value"] for name in ("recovered", "chance"))
    return [
        f"{p['sparsity']:g}",
        f"{p['decoys']:g}",
        "where likely" if p["likely"] else "evenly",
        number(p["key"]),
        number(p["bits_per_entry"], 2),
        with_interval(Estimate(**p["auc"]), 3),
        f"{recovered:.0f} % ({chance:.0f} %)",
        number(p["psnr"]["value"], 2),
        with_interval(Estimate(**p["gain"])),
        number(p["authorised"], 2),
    ]


TABLES: dict[str, Callable[[], str]] = {
    "study_fidelity": study_tables.fidelity,
    "study_classification": study_tables.classification,
    "study_segmentation": study_tables.segmentation,
    "study_texture": study_tables.texture,
    "attack_summary": attack_tables.attack_summary,
    "reconstructions_keyed": partial(attack_tables.reconstructions, "keyed"),
    "reconstructions_sca": partial(attack_tables.reconstructions, "sca"),
    "reconstructions_paper": partial(attack_tables.reconstructions, "paper"),
    "other_attacks": attack_tables.other_attacks,
    "table_4": attack_tables.table_4,
    "preview": attack_tables.preview,
    "tradeoff": tradeoff,
    "fidelity": fidelity,
    "presets": presets,
    "matched": matched,
    "baselines": baselines,
    "modalities": modalities,
    "speed": speed,
    "training_speed": training_speed,
    "processes": scale_tables.processes,
    "remote": scale_tables.remote,
    "viewer": viewer_tables.viewer,
    "loader": scale_tables.loader,
    "tiles": scale_tables.tiles,
    "tile_edges": scale_tables.tile_edges,
    "windows": volume_tables.windows,
    "groups": volume_tables.groups,
    "series": volume_tables.series,
    "long_series": volume_tables.long_series,
    "rehearsal": scale_tables.rehearsal,
    "rehearsal_rates": scale_tables.rehearsal_rates,
}

_TABLE = re.compile(r"(<!-- (?!end )(\w+) -->\n).*?(?=<!-- end -->)", re.S)


def render(page: str) -> str:
    """The page with every table written anew."""
    return _TABLE.sub(lambda match: f"{match[1]}{TABLES[match[2]]()}\n", page)


def main() -> None:
    for page in PAGES:
        page.write_text(render(page.read_text()))
        print(page)


if __name__ == "__main__":
    main()
