"""Writes the tables of benchmarks/README.md from results/: `python benchmarks/tables.py`.

A table lies between `<!-- NAME -->` and `<!-- end -->`; `tests/test_docs.py` holds the page against the results.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
PAGE = HERE / "README.md"
LEVELS = (38.5, 42.0, 46.0)
MODALITIES = ("ct-2d", "mri-2d", "ultrasound-2d", "ct-head", "mr-t1", "dicom-chest", "dicom-radiograph")


def result(name: str) -> dict[str, Any]:
    """One file of results."""
    return json.loads((HERE / "results" / f"{name}.json").read_text())


def at(points: list[dict], wanted: float, name: str) -> float | None:
    """A field at a PSNR, between the measured points on a logarithmic scale; None outside them."""
    known = sorted((p["psnr"], p[name]) for p in points if p["psnr"] is not None)
    if len(known) < 2 or not known[0][0] <= wanted <= known[-1][0]:
        return None
    return float(np.exp(np.interp(wanted, [x for x, _ in known], [np.log(y) for _, y in known])))


def rows(head: list[str], body: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *body])


def number(value: float | None, digits: int = 4) -> str:
    """A number, or a dash."""
    return "-" if value is None else f"{value:.{digits}f}"


def matched() -> str:
    """Image by image, at each image's own PSNR."""
    names = ("JPEG 2000", "JPEG XL", "JPEG 2000 in age", "JPEG XL in age")
    body = []
    for sparsity, row in result("matched")["rows"].items():
        cells = [sparsity, number(row["psnr"], 2), number(row["bits"])]
        cells += [f"{row[name]:.4f} ({100 * (row['bits'] / row[name] - 1):+.1f} %)" for name in names[:2]]
        body.append(cells + [number(row[name]) for name in names[2:]])
    return rows(["S_x", "mean PSNR, dB", "primis, key + values", *(f"{n}, ours against it" for n in names[:2]), *names[2:]], body)


def presets() -> str:
    """Both presets on the same images."""
    head = ["preset", "S_x", "PSNR, dB", "SSIM", "key", "key given Z_p", "values", "key + values", "public, bytes"]
    body = []
    for curve in result("presets")["curves"]:
        for p in curve["points"]:
            cells = [curve["codec"].removeprefix("primis "), f"{p['setting']:g}", f"{p['psnr']:.2f} ± {p['psnr_sd']:.2f}"]
            cells += [f"{p['ssim']:.3f} ± {p['ssim_sd']:.3f}"]
            body.append(cells + [number(p[k]) for k in ("key", "key_given_public", "values", "bits", "public_bytes")])
    return rows(head, body)


def fidelity() -> str:
    """Preset default, S_x by S_x."""
    head = ["S_x", "PSNR, dB", "SSIM", "MS-SSIM", "preview, dB", "key", "key given Z_p", "values", "key + values"]
    head += ["public, bytes", "sealed", "bundle"]
    body = []
    for curve in result("rate_distortion")["curves"]:
        for p in curve["points"] if "model" in curve else []:
            cells = [f"{p['setting']:g}", f"{p['psnr']:.2f} ± {p['psnr_sd']:.2f}"]
            cells += [f"{p['ssim']:.3f} ± {p['ssim_sd']:.3f}", number(p.get("ms_ssim")), number(p["psnr_preview"], 2)]
            cells += [number(p[k]) for k in ("key", "key_given_public", "values", "bits", "public_bytes", "sealed", "bundle")]
            body.append(cells)
    return rows(head, body)


def rivals() -> str:
    """Bits per pixel at three PSNRs."""
    fields = {
        "key": "key",
        "key_given_public": "key given Z_p",
        "bits": "",
        "bundle": "whole bundle",
        "bits_in_age": "in an age file",
    }
    body = []
    for curve in result("rate_distortion")["curves"]:
        for name, label in fields.items():
            if name not in curve["points"][0] or len(curve["points"]) < 2:
                continue
            label = "key + values" if name == "bits" and "model" in curve else label  # noqa: PLW2901
            values = [at(curve["points"], level, name) for level in LEVELS]
            if any(values):
                body.append([f"{curve['codec']}{', ' if label else ''}{label}", *(number(value) for value in values)])
    lossless = next(c for c in result("rate_distortion")["curves"] if c["codec"] == "JPEG XL, lossless")
    body.append(["JPEG XL, lossless", *[f"({lossless['points'][0]['bits']:.2f})"] * 3])
    return rows(["bits per pixel", *(f"{level:g} dB" for level in LEVELS)], body)


def modalities() -> str:
    """Other images, the chest model and the one trained on a mix; bits beside JPEG 2000 at the same PSNR."""
    head = ["data", "images", "model", *(f"S_x = {s}: PSNR, SSIM; key + values (JPEG 2000)" for s in (4, 8, 16))]
    body = []
    for name in MODALITIES:
        data = result(f"modality-{name}")
        jpeg2000 = next((c["points"] for c in data["curves"] if c["codec"] == "JPEG 2000"), [])
        for curve in data["curves"]:
            if "model" not in curve:
                continue
            cells = [name, str(data["images"]), curve["codec"].removeprefix("primis ")]
            for p in curve["points"]:
                beside = at(jpeg2000, p["psnr"], "bits") if jpeg2000 else None
                cells.append(f"{p['psnr']:.2f}, {p['ssim']:.3f}; {p['bits']:.3f} ({number(beside, 3)})")
            body.append(cells)
    return rows(head, body)


def speed() -> str:
    """Medians, and ratios within the run."""
    data = result("speed")
    seconds = data["seconds"]
    body = []
    for name, value in seconds.items():
        out = any(word in name for word in ("decode", "restore", "write", "purify", "decrypt"))
        paper = seconds.get(f"preset paper: {name}")
        ratio = value / seconds[f"OpenJPEG: {'decode' if out else 'encode'}"]
        cells = [name, f"{1e3 * value:.1f}", f"{value / 0.262144:.3f}", f"{ratio:.2f}", number(value / paper, 3) if paper else ""]
        body.append(cells)
    peak = data["peak_mib"]
    table = rows(["stage", "ms", "s / megapixel", "x OpenJPEG", "x preset paper"], body)
    return (
        f"{table}\n\nPeak memory for one image of {peak['side']} x {peak['side']} and 12 bits, beyond the program at rest: "
        f"{peak['share']:.0f} MiB to share it, {peak['share_and_restore']:.0f} MiB when it is restored afterwards."
    )


def training_speed() -> str:
    """Patches and megapixels a second."""
    data = result("training_speed")
    body = [
        [name, f"{row['patches_per_second']:.1f}", f"{row['megapixels_per_second']:.2f}"] for name, row in data["presets"].items()
    ]
    return rows([f"preset, {data['device']}", "patches / s", "megapixels / s"], body)


TABLES = {
    "fidelity": fidelity,
    "presets": presets,
    "matched": matched,
    "rivals": rivals,
    "modalities": modalities,
    "speed": speed,
    "training_speed": training_speed,
}


def render(page: str) -> str:
    """The page with every table written anew."""
    for name, table in TABLES.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.S)
        if pattern.search(page):
            page = pattern.sub(lambda match, text=table(): f"{match[1]}{text}\n{match[2]}", page)
    return page


def main() -> None:
    PAGE.write_text(render(PAGE.read_text()))
    print(PAGE)


if __name__ == "__main__":
    main()
