"""The tables of docs/evaluation.md from the `report.json` of `primis evaluate all`:
results/evaluate.json."""

from __future__ import annotations

from typing import Any

from markdown_tables import number, result, rows, with_interval, with_sd

from primis.metrics.estimate import Estimate

Body = dict[str, Any]


def fidelity() -> str:
    """The paper's Table 1 on each corpus, beside JPEG 2000 at the same bits."""
    head = ["images", "n", "version", "bit per pixel", "PSNR, dB", "SSIM", "MAE", "R²"]
    body = []
    for corpus, part in result("evaluate")["fidelity"].items():
        for version, metrics in part["measures"].items():
            if version != "lossless":
                row = _fidelity_row(metrics, part["r_squared"][version])
                body.append([corpus, str(part["n"]), version, *row])
    return rows(head, body)


def _fidelity_row(metrics: Body, r_squared: float | None) -> list[str]:
    psnr, ssim, mae, bits = (Estimate(**metrics[m]) for m in ("psnr", "ssim", "mae", "bits"))
    return [
        number(bits.value, 3),
        with_sd(psnr.value, psnr.sd),
        with_sd(ssim.value, ssim.sd, 3),
        with_sd(mae.value, mae.sd),
        "" if r_squared is None else number(r_squared),
    ]


def classification() -> str:
    """The paper's Table 2: trained on originals, tested on each version; and the whole grid."""
    tasks = {n: t for n, t in result("evaluate")["classification"].items() if n != "facts"}
    tested = next(iter(tasks.values()))["tested"]
    head = ["task", "n", *(f"on {version}" for version in tested)]
    head += ["cells within the interval of originals", "significant losses"]
    return rows(head, [_task_row(name, task) for name, task in tasks.items()])


def _task_row(name: str, task: Body) -> list[str]:
    title, count = task["title"].replace(" | ", " / "), sum(task["counts"]["test"].values())
    cells = [with_interval(_auc(task, "original", version)) for version in task["tested"]]
    grid = [(a, b) for a in task["versions"] for b in task["versions"] if b != "original"]
    within = sum(_auc(task, a, b).value >= _auc(task, a, "original").low for a, b in grid)
    lost = sum(task[f"{a} -> {b}"]["difference"]["high"] < 0 for a, b in grid)
    return [f"{name}: {title}", str(count), *cells, f"{within} of {len(grid)}", str(lost)]


def _auc(task: Body, trained: str, tested: str) -> Estimate:
    return Estimate(**task[f"{trained} -> {tested}"]["auc"])


def segmentation() -> str:
    """The paper's Table 3: Dice of the whole grid."""
    data = result("evaluate")["segmentation"]
    body = []
    for version in data["versions"]:
        dice = [data[f"{version} -> {tested}"]["measures"]["dice"] for tested in data["tested"]]
        body.append([version, *(with_interval(Estimate(**one), 3) for one in dice)])
    return rows(["trained on", *(f"on {version}" for version in data["tested"])], body)


def texture() -> str:
    """The paper's Fig. 8 in numbers."""
    data = result("evaluate")["texture"]
    head = ["version", "excellent (ICC > 0.75)", "good", "fair", "poor", "share excellent"]
    body = []
    for version, counts, share in zip(
        data["versions"], data["classes"], data["share_excellent"], strict=True
    ):
        classes = [str(counts[name]) for name in ("excellent", "good", "fair", "poor")]
        body.append([version, *classes, f"{100 * share:.0f} %"])
    return rows(head, body)
