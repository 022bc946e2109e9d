"""The tables on hosts, processes, tiles and large releases."""

from __future__ import annotations

from markdown_tables import result, rows

_USUAL_TILE = 512


def processes() -> str:
    """Several against one."""
    facts = result("jobs")
    one, many = "1", str(facts["jobs"])
    head = ["", "one process, images/s", f"{many} processes, images/s", "times as many"]
    body = [
        [what, f"{rates[one]:.1f}", f"{rates[many]:.1f}", f"{facts['times'][what]:.2f}"]
        for what, rates in facts["images_per_second"].items()
    ]
    return rows(head, body)


def remote() -> str:
    """A bucket against a folder."""
    facts, preview = result("remote"), result("remote")["preview"]
    body = [
        ["share", f"{facts['share_to_folder_s']:.1f} s", f"{facts['share_to_bucket_s']:.1f} s"],
        [
            "restore",
            f"{facts['restore_from_folder_s']:.1f} s",
            f"{facts['restore_from_bucket_s']:.1f} s",
        ],
        [
            "one preview beside an original",
            "",
            f"{preview['requests']} requests, {preview['bytes'] / 1000:.1f} kB, "
            f"{preview['seconds']:.2f} s",
        ],
    ]
    return rows(["", "folder", "bucket"], body)


def loader() -> str:
    """Ways to read all images of a release."""
    rates = result("loader")["images_per_second"]
    return rows(["", "images/s"], [[way, f"{rate:.1f}"] for way, rate in rates.items()])


def tiles() -> str:
    """What small tiles cost, and what they save."""
    facts = result("tiles")
    usual = next(p for p in facts["points"] if p["tile"] == _USUAL_TILE)
    name = f"{facts['images']} chest radiographs of 1024 x 1024"
    head = ["tile, pixels", f"{name}: kB each", "PSNR, dB", "mammogram: kB", "PSNR, dB"]
    head += ["region, granted alone", "region, all granted"]
    body = []
    for point in facts["points"]:
        one, usual_one = point["mammogram"], usual["mammogram"]
        body.append(
            [
                str(point["tile"]),
                _against(point["bytes"], usual["bytes"]),
                f"{point['psnr']:.2f}",
                _against(one["bytes"], usual_one["bytes"]),
                f"{one['psnr']:.2f}",
                *(_fetched(one, who) for who in ("region", "whole")),
            ]
        )
    return rows(head, body)


def _against(size: float, usual: float) -> str:
    more = 100 * (size / usual - 1)
    return f"{size / 1000:.1f} ({more:+.1f} %)" if size != usual else f"{size / 1000:.1f}"


def _fetched(facts: dict[str, float], who: str) -> str:
    size, share = facts[f"{who}_bytes"], 100 * facts[f"{who}_bytes"] / facts["bytes"]
    return f"{size / 1000:.0f} kB, {share:.1f} % ({facts[f'{who}_requests']:.0f})"


def tile_edges() -> str:
    """How near a region that is granted alone comes to the whole."""
    head = ["tile, pixels", "anywhere: edge", "inside", "along tiles: edge", "inside"]
    names = [f"{w}_{p}" for w in ("anywhere", "along_tiles") for p in ("border", "inside")]
    body = [
        [str(point["tile"]), *(f"{point['mammogram'][name]:.1f}" for name in names)]
        for point in result("tiles")["points"]
    ]
    return rows(head, body)


def rehearsal() -> str:
    """What each step of a large release takes."""
    facts = result("rehearsal")
    steps = {name: step for name, step in facts.items() if isinstance(step, dict)}
    body = [
        [name, _time(step["seconds"]), f"{step['peak_mib']:.0f} MiB"]
        for name, step in steps.items()
        if "seconds" in step
    ]
    return rows(["", "time", "memory, at most"], body)


def rehearsal_rates() -> str:
    """How sharing goes on as the release grows."""
    facts = result("rehearsal")
    done = [row for part in ("share, half", "share, the rest") for row in facts[part]["rows"]]
    head = ["images done", *(f"{row['done']:,}" for row in done)]
    body = [
        ["images/s since the last", *(f"{row['rate']:.0f}" for row in done)],
        ["memory in use, MiB", *(f"{row['mib']:.0f}" for row in done)],
    ]
    return rows(head, body)


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.2g} s"
