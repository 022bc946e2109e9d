"""Writes the tables of benchmarks/README.md and docs/evaluation.md from results/: `python benchmarks/tables.py`.

A table lies between `<!-- NAME -->` and `<!-- end -->`; `tests/core/test_docs.py` holds the pages against the results.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import study_tables
from markdown_tables import HERE, MECHANISMS, estimate, number, result, rows

PAGES = (HERE / "README.md", HERE.parent / "docs" / "evaluation.md")
LEVELS = (38.5, 42.0, 46.0)
MODALITIES = (
    "ct-2d",
    "mri-2d",
    "ultrasound-2d",
    "ct-head",
    "mr-t1",
    "dicom-chest",
    "dicom-radiograph",
)


def at(points: list[dict], wanted: float, name: str) -> float | None:
    """A field at a PSNR, between the measured points on a logarithmic scale; None outside them."""
    known = sorted((p["psnr"], p[name]) for p in points if p["psnr"] is not None)
    if len(known) < 2 or not known[0][0] <= wanted <= known[-1][0]:
        return None
    return float(np.exp(np.interp(wanted, [x for x, _ in known], [np.log(y) for _, y in known])))


def matched() -> str:
    """Image by image, at each image's own PSNR."""
    names = ("JPEG 2000", "JPEG XL", "JPEG 2000 in age", "JPEG XL in age")
    body = []
    for sparsity, row in result("matched")["rows"].items():
        cells = [sparsity, number(row["psnr"], 2), number(row["bits"])]
        cells += [
            f"{row[name]:.4f} ({100 * (row['bits'] / row[name] - 1):+.1f} %)" for name in names[:2]
        ]
        body.append(cells + [number(row[name]) for name in names[2:]])
    return rows(
        [
            "S_x",
            "mean PSNR, dB",
            "primis, key + values",
            *(f"{n}, ours against it" for n in names[:2]),
            *names[2:],
        ],
        body,
    )


def presets() -> str:
    """Both presets on the same images."""
    head = ["preset", "S_x", "PSNR, dB", "SSIM", "key", "values", "key + values", "public, bytes"]
    body = []
    for curve in result("presets")["curves"]:
        for p in curve["points"]:
            cells = [
                curve["codec"].removeprefix("primis "),
                f"{p['setting']:g}",
                f"{p['psnr']:.2f} ± {p['psnr_sd']:.2f}",
            ]
            cells += [f"{p['ssim']:.3f} ± {p['ssim_sd']:.3f}"]
            body.append(cells + [number(p[k]) for k in ("key", "values", "bits", "public_bytes")])
    return rows(head, body)


def fidelity() -> str:
    """Preset default, S_x by S_x."""
    head = ["S_x", "PSNR, dB", "SSIM", "MS-SSIM", "preview, dB", "key", "values", "key + values"]
    head += ["public, bytes", "sealed", "bundle"]
    body = []
    for curve in result("rate_distortion")["curves"]:
        for p in curve["points"] if "model" in curve else []:
            cells = [f"{p['setting']:g}", f"{p['psnr']:.2f} ± {p['psnr_sd']:.2f}"]
            cells += [
                f"{p['ssim']:.3f} ± {p['ssim_sd']:.3f}",
                number(p.get("ms_ssim")),
                number(p["psnr_preview"], 2),
            ]
            cells += [
                number(p[k]) for k in ("key", "values", "bits", "public_bytes", "sealed", "bundle")
            ]
            body.append(cells)
    return rows(head, body)


def rivals() -> str:
    """Bits per pixel at three PSNRs."""
    fields = {
        "key": "key",
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
                body.append(
                    [
                        f"{curve['codec']}{', ' if label else ''}{label}",
                        *(number(value) for value in values),
                    ]
                )
    lossless = next(
        c for c in result("rate_distortion")["curves"] if c["codec"] == "JPEG XL, lossless"
    )
    body.append(["JPEG XL, lossless", *[f"({lossless['points'][0]['bits']:.2f})"] * 3])
    return rows(["bits per pixel", *(f"{level:g} dB" for level in LEVELS)], body)


def modalities() -> str:
    """Other images, the chest model and the one trained on a mix; bits beside JPEG 2000 at the same PSNR."""
    head = [
        "data",
        "images",
        "model",
        *(f"S_x = {s}: PSNR, SSIM; key + values (JPEG 2000)" for s in (4, 8, 16)),
    ]
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
                cells.append(
                    f"{p['psnr']:.2f}, {p['ssim']:.3f}; {p['bits']:.3f} ({number(beside, 3)})"
                )
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
        cells = [
            name,
            f"{1e3 * value:.1f}",
            f"{value / 0.262144:.3f}",
            f"{ratio:.2f}",
            number(value / paper, 3) if paper else "",
        ]
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
        [name, f"{row['patches_per_second']:.1f}", f"{row['megapixels_per_second']:.2f}"]
        for name, row in data["presets"].items()
    ]
    return rows([f"preset, {data['device']}", "patches / s", "megapixels / s"], body)


def attacked(mechanism: str, kind: str) -> list[dict[str, Any]]:
    """Findings of a kind."""
    return [
        finding for finding in result(f"attacks-{mechanism}")["results"] if finding["kind"] == kind
    ]


def reconstructions(mechanism: str) -> str:
    """Every attack that draws an image; the authorised user above, the prior below."""
    data = result(f"attacks-{mechanism}")
    head = [
        "attack",
        "its attacker holds",
        "PSNR, dB",
        "SSIM",
        "gain over the best without the code, dB",
    ]
    head += [
        "over another image's code, dB",
        "own image told from another's, AUC",
        "support AUC",
        "found",
    ]
    ceiling, images = data["ceiling"], attacked(mechanism, "reconstruction")
    body = [
        [
            "*authorised*",
            "the key",
            *(
                f"{ceiling[m]['value']:.{d}f} ± {ceiling[m]['sd']:.{d}f}"
                for m, d in (("psnr", 2), ("ssim", 3))
            ),
        ]
    ]
    body[0] += [""] * 5
    for finding in images:
        drawn, gains = finding["reconstruction"], finding["gains"]
        f = drawn["fidelity"]
        cells = [
            finding["attack"],
            finding["holds"],
            *(f"{f[m]['value']:.{d}f} ± {f[m]['sd']:.{d}f}" for m, d in (("psnr", 2), ("ssim", 3))),
        ]
        cells += [
            estimate(drawn["over_floor"]) if len(gains) > 1 else "",
            estimate(gains[0]["estimate"]),
            estimate(gains[1]["estimate"]) if len(gains) > 1 else "",
        ]
        cells += [
            estimate(gains[2]["estimate"], 3) if len(gains) > 2 else "",
            "yes" if finding["broken"] else "no",
        ]
        body.append(cells)
    floor = images[0]["reconstruction"]["mean_image"]
    body.append(["*mean image*", "no code", f"{floor['value']:.2f} ± {floor['sd']:.2f}", *[""] * 6])
    return rows(head, body)


def other_attacks() -> str:
    """Links, labels, keys, lengths, bytes; mechanism by mechanism."""
    findings = {
        name: {
            f["attack"]: f
            for f in result(f"attacks-{name}")["results"]
            if f["kind"] != "reconstruction"
        }
        for name in MECHANISMS
    }
    body = []
    for attack in {name: None for part in findings.values() for name in part}:
        known = next(part[attack] for part in findings.values() if attack in part)
        gain = known["gains"][0]
        cells = [attack, known["holds"], gain["what"]]
        chances = {
            part[attack]["gains"][0]["chance"] for part in findings.values() if attack in part
        }
        cells.append(" / ".join(reached(gain["unit"], {"value": c}) for c in sorted(chances)))
        for part in findings.values():
            finding = part.get(attack)
            cells.append(
                ""
                if finding is None
                else reached(finding["gains"][0]["unit"], finding["gains"][0]["estimate"])
            )
        body.append(cells)
    return rows(["attack", "its attacker holds", "measure", "chance", *MECHANISMS.values()], body)


def reached(unit: str, e: dict[str, Any]) -> str:
    """A gain in its unit."""
    if unit == "count" or "low" not in e:
        return f"{100 * e['value']:.1f} %" if unit == "share" else f"{e['value']:g}"
    if unit == "share":
        return f"{100 * e['value']:.0f} % ({100 * e['low']:.0f} to {100 * e['high']:.0f})"
    return estimate(e)


def table_4() -> str:
    """The paper's four attackers on the decoded public image and on the code, in the paper's measures."""
    head = [
        "attacker",
        "mechanism",
        "MAE",
        "ME",
        "RMSE",
        "PSNR, dB",
        "SSIM",
        "PSNR, CI 95 %",
        "SSIM, CI 95 %",
    ]
    digits = {"mae": 1, "me": 1, "rmse": 1, "psnr": 2, "ssim": 3}
    body = []
    for attack in [
        f["attack"] for f in attacked("keyed", "reconstruction") if f["source"].endswith("Table 4")
    ]:
        for mechanism, name in MECHANISMS.items():
            drawn = [f for f in attacked(mechanism, "reconstruction") if f["attack"] == attack]
            for f in [one["reconstruction"]["fidelity"] for one in drawn]:
                cells = [
                    attack,
                    name,
                    *(f"{f[m]['value']:.{d}f} ± {f[m]['sd']:.{d}f}" for m, d in digits.items()),
                ]
                body.append(
                    [
                        *cells,
                        *(
                            f"{f[m]['low']:.{digits[m]}f} to {f[m]['high']:.{digits[m]}f}"
                            for m in ("psnr", "ssim")
                        ),
                    ]
                )
    return rows(head, body)


def attack_summary() -> str:
    """The best of each kind of attack."""
    body = []

    def row(what: str, cell: Any) -> None:
        body.append([what, *(cell(name) for name in MECHANISMS)])

    def best(name: str) -> str:
        alone = [f for f in attacked(name, "reconstruction") if len(f["gains"]) > 1]
        top = max(alone, key=lambda f: f["reconstruction"]["fidelity"]["psnr"]["value"])
        return f"{estimate(top['reconstruction']['over_floor'])}: {top['attack']}"

    def likeliest(name: str, index: int, digits: int) -> str:
        found = [f for f in attacked(name, "reconstruction") if len(f["gains"]) > index]
        top = max(found, key=lambda f: f["gains"][index]["estimate"]["value"])
        gain = top["gains"][index]
        return f"{estimate(gain['estimate'], digits)}, p {gain['p']:.2g}: {top['attack']}, of {len(found)}"

    def recovered(name: str) -> str:
        found = [
            f
            for f in attacked(name, "reconstruction")
            if (f["reconstruction"]["support"] or {}).get("recovered")
            and "twice" not in f["attack"]
        ]
        if not found:
            return "no entries to see"
        supports = [f["reconstruction"]["support"] for f in found]
        top = max(supports, key=lambda s: s["recovered"]["value"])
        return f"{100 * top['recovered']['value']:.0f} % (chance {100 * top['by_chance']['value']:.0f} %)"

    def first(name: str, attack: str) -> str:
        found = next(
            (f for f in result(f"attacks-{name}")["results"] if f["attack"].startswith(attack)),
            None,
        )
        return (
            ""
            if found is None
            else reached(found["gains"][0]["unit"], found["gains"][0]["estimate"])
        )

    def label(name: str, which: str) -> str:
        found = [f for f in attacked(name, "attribute inference") if which in f["attack"]]
        return (
            reached(found[0]["gains"][0]["unit"], found[0]["gains"][0]["estimate"]) if found else ""
        )

    def ceiling(name: str, which: str) -> str:
        labels = [f for f in attacked(name, "attribute inference") if which in f["attack"]]
        return estimate(labels[0]["authorised"]) if labels else ""

    def controls(name: str) -> str:
        checks = result(f"attacks-{name}")["controls"]
        return f"{sum(c['broken'] for c in checks)} of {len(checks)}"

    def broken(name: str) -> str:
        findings = [
            f for f in result(f"attacks-{name}")["results"] if f["kind"] != "membership inference"
        ]
        return f"{sum(f['broken'] for f in findings)} of {len(findings)}"

    row(
        "authorised user, PSNR",
        lambda n: f"{result(f'attacks-{n}')['ceiling']['psnr']['value']:.2f} dB",
    )
    row("best reconstruction: gain over the best without the code, dB", best)
    row("own image told from another's, AUC: best", lambda n: likeliest(n, 1, 2))
    row("true entries told from others, AUC: best", lambda n: likeliest(n, 2, 3))
    row("support recovered, best without a second release", recovered)
    row("linkage: which of 100 images is it", lambda n: first(n, "linkage: the image as it is"))
    row(
        "linkage: bytes of another sharing of the image",
        lambda n: first(n, "linkage: bytes of another sharing"),
    )
    row(
        "normal or pneumonia, read from the public code, AUC",
        lambda n: label(n, ", read from the code"),
    )
    row("... from the true code", lambda n: ceiling(n, ", read from the code"))
    row("... from what a network sees", lambda n: label(n, ", read from what"))
    row("... from the image itself", lambda n: ceiling(n, ", read from what"))
    row("parts whose length depends on content", lambda n: first(n, "lengths"))
    row("attacks that learned something", broken)
    row("positive controls found broken", controls)
    return rows(["", *MECHANISMS.values()], body)


def tradeoff() -> str:
    """Key and ambiguity at level sca."""
    head = [
        "preset",
        "S_x",
        "S_n",
        "decoys",
        "key, bit per pixel",
        "bits an entry",
        "support AUC",
        "recovered (chance)",
    ]
    head += ["PSNR, dB", "gain over the best without the code, dB", "authorised, dB"]
    body = []
    for preset in ("default", "paper"):
        for p in result(f"tradeoff-{preset}")["points"]:
            laid = "where likely" if p["likely"] else "evenly"
            cells = [
                preset,
                f"{p['sparsity']:g}",
                f"{p['decoys']:g}",
                laid,
                number(p["key"]),
                number(p["bits_per_entry"], 2),
            ]
            cells += [
                estimate(p["auc"], 3),
                f"{100 * p['recovered']['value']:.0f} % ({100 * p['chance']['value']:.0f} %)",
            ]
            body.append(
                [
                    *cells,
                    number(p["psnr"]["value"], 2),
                    estimate(p["gain"]),
                    number(p["authorised"], 2),
                ]
            )
    return rows(head, body)


def preview() -> str:
    """Who holds tier preview, and has the right code or another image's beside it."""
    body = []
    for name, label in MECHANISMS.items():
        for f in attacked(name, "reconstruction"):
            drawn = f["reconstruction"]
            if drawn["mean_image"] is None:
                cells = [
                    label,
                    number(drawn["fidelity"]["psnr"]["value"], 2),
                    number(drawn["other_code"]["value"], 2),
                ]
                body.append(
                    [*cells, estimate(f["gains"][0]["estimate"]), "yes" if f["broken"] else "no"]
                )
    return rows(
        ["", "PSNR, dB", "with another image's code, dB", "what the right code adds, dB", "found"],
        body,
    )


TABLES = {
    "study_fidelity": study_tables.fidelity,
    "study_classification": study_tables.classification,
    "study_segmentation": study_tables.segmentation,
    "study_texture": study_tables.texture,
    "attack_summary": attack_summary,
    "reconstructions_keyed": lambda: reconstructions("keyed"),
    "reconstructions_sca": lambda: reconstructions("sca"),
    "reconstructions_paper": lambda: reconstructions("paper"),
    "other_attacks": other_attacks,
    "table_4": table_4,
    "preview": preview,
    "tradeoff": tradeoff,
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
    for page in PAGES:
        page.write_text(render(page.read_text()))
        print(page)


if __name__ == "__main__":
    main()
