"""The tables on hosts, processes and large releases."""

from __future__ import annotations

from markdown_tables import result, rows


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
