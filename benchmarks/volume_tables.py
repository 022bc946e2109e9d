"""The tables on series and volumes."""

from __future__ import annotations

from markdown_tables import result, rows

_CASE = "ct-head"
_WINDOWS = ("plain", "stretch 2", "stretch 3", "stretch 4", "stretch 8")


def windows() -> str:
    """A CT head in the window that it is read in."""
    head = ["S_x", "as it is: window, whole", *_WINDOWS[1:], "clipped: window"]
    body = []
    for sparsity, found in result("windows")["cases"][_CASE].items():
        both = [f"{found[way]['window']:.2f}, {found[way]['full']:.2f}" for way in _WINDOWS]
        body.append([sparsity, *both, f"{found['clipped']['window']:.2f}"])
    return rows(head, body)


def groups() -> str:
    """What coding neighbouring slices together gains."""
    sizes = ("2", "4", "8")
    head = ["series, slices", "S_x", "bytes a slice", "alone, dB", *sizes, "chosen", "gained"]
    body = []
    for name, by_sparsity in result("groups")["series"].items():
        for sparsity, found in by_sparsity.items():
            psnr = found["psnr"]
            more = [f"{psnr[size] - psnr['1']:+.2f}" if size in psnr else "-" for size in sizes]
            gained = f"{found['gained']:+.2f} dB, {found['saved']:.1f} %"
            body.append(
                [
                    f"{name}, {found['slices']}",
                    sparsity,
                    f"{found['bytes']:,}",
                    f"{psnr['1']:.2f}",
                    *more,
                    str(found["chosen"]),
                    gained,
                ]
            )
    return rows(head, body)


def series() -> str:
    """One bundle against JPEG 2000 of its slices."""
    head = ["series, slices", "S_x", "PSNR, dB", "bundle, bytes", "its header"]
    head += ["JPEG 2000 in age", "bundle and header against it"]
    body = []
    for name, found in result("series")["series"].items():
        for sparsity, row in found["rows"].items():
            whole, rival = row["bundle"] + row["header"], row["JPEG 2000 in age"]
            body.append(
                [
                    f"{name}, {found['shape'][0]}",
                    sparsity,
                    f"{row['psnr']:.2f}",
                    f"{row['bundle']:,.0f}",
                    f"{row['header']:,.0f}",
                    f"{rival:,.0f}",
                    f"{whole / rival:.2f}",
                ]
            )
    return rows(head, body)


def long_series() -> str:
    """What sharing and restoring a long series takes."""
    facts = result("series")["long"]
    body = [
        [what, f"{facts[what]['seconds']:.0f} s", f"{facts[what]['peak_mib']:.0f} MiB"]
        for what in ("share", "restore")
    ]
    return rows([f"{facts['slices']} slices, {facts['cores']} cores", "time", "memory"], body)
