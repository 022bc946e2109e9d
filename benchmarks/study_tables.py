"""The paper's tables as `primis evaluate all` made them: results/evaluate.json is its report.json."""

from __future__ import annotations

from markdown_tables import estimate, number, result, rows


def fidelity() -> str:
    """The paper's Table 1 on each corpus, beside JPEG 2000 at the same bits."""
    body = []
    for corpus, part in result("evaluate")["fidelity"].items():
        for version, m in part["measures"].items():
            if version != "lossless":
                cells = [
                    f"{m[name]['value']:.{d}f} ± {m[name]['sd']:.{d}f}"
                    for name, d in (("psnr", 2), ("ssim", 3), ("mae", 2))
                ]
                r2 = (
                    ""
                    if part["r_squared"][version] is None
                    else f"{part['r_squared'][version]:.4f}"
                )
                body.append(
                    [corpus, str(part["n"]), version, number(m["bits"]["value"], 3), *cells, r2]
                )
    return rows(["images", "n", "version", "bit per pixel", "PSNR, dB", "SSIM", "MAE", "R²"], body)


def classification() -> str:
    """The paper's Table 2: trained on originals, tested on each version; and how the whole grid fares."""
    tasks = {
        name: task for name, task in result("evaluate")["classification"].items() if name != "facts"
    }
    tested = next(iter(tasks.values()))["tested"]
    body = []
    for name, task in tasks.items():
        cells = [estimate(task[f"original -> {version}"]["auc"]) for version in tested]
        grid = [(a, b) for a in task["versions"] for b in task["versions"] if b != "original"]
        within = sum(
            task[f"{a} -> {b}"]["auc"]["value"] >= task[f"{a} -> original"]["auc"]["low"]
            for a, b in grid
        )
        lost = sum(task[f"{a} -> {b}"]["difference"]["high"] < 0 for a, b in grid)
        body.append(
            [
                f"{name}: {task['title'].replace(' | ', ' / ')}",
                str(sum(task["counts"]["test"].values())),
                *cells,
                f"{within} of {len(grid)}",
                str(lost),
            ]
        )
    return rows(
        [
            "task",
            "n",
            *(f"on {v}" for v in tested),
            "cells within the interval of originals",
            "significant losses",
        ],
        body,
    )


def segmentation() -> str:
    """The paper's Table 3: Dice of the whole grid."""
    data = result("evaluate")["segmentation"]
    body = []
    for version in data["versions"]:
        cells = [data[f"{version} -> {tested}"]["measures"]["dice"] for tested in data["tested"]]
        body.append([version, *(estimate(e, 3) for e in cells)])
    return rows(["trained on", *(f"on {v}" for v in data["tested"])], body)


def texture() -> str:
    """The paper's Fig. 8 in numbers."""
    data = result("evaluate")["texture"]
    body = [
        [
            version,
            *(str(counts[name]) for name in ("excellent", "good", "fair", "poor")),
            f"{100 * share:.0f} %",
        ]
        for version, counts, share in zip(
            data["versions"], data["classes"], data["share_excellent"], strict=True
        )
    ]
    return rows(
        ["version", "excellent (ICC > 0.75)", "good", "fair", "poor", "share excellent"], body
    )
