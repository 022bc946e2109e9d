"""The table on the viewer in a browser."""

from __future__ import annotations

from markdown_tables import result, rows

_MB = 1_000_000


def viewer() -> str:
    """Download, times and memory."""
    facts = result("viewer")
    sizes, first = facts["download_bytes"], facts["first_image_s"]
    warm, large = facts["warm_read_512"], facts["large"]
    height, width = large["shape"]
    megabytes = "{:.1f} MB".format
    body = [
        ["the viewer, gzipped, without weights", megabytes(sizes["without_weights"] / _MB)],
        ["with the weights of preset `default`", megabytes(sizes["with_weights"] / _MB)],
        ["first image: from the key to the list", f"{first['listed']:.2f} s"],
        ["to the preview", f"{first['preview']:.2f} s"],
        ["to the diagnostic image", f"{first['diagnostic']:.2f} s"],
        ["memory of its tab, at most", f"{facts['peak_bytes_of_a_tab_512'] / 2**20:.0f} MiB"],
        ["a warm read in the browser", f"{1000 * warm['browser_s']:.0f} ms"],
        ["the same in Python, one core", f"{1000 * warm['python_s']:.0f} ms"],
        ["times as long in the browser", f"{warm['ratio']:.1f}"],
        [
            f"{width} x {height}, 16 bits: from the key to the preview",
            f"{large['preview_s']:.1f} s",
        ],
        ["to the diagnostic image", f"{large['diagnostic_s']:.1f} s"],
        ["memory of its tab, at most", f"{large['peak_bytes_of_the_tab'] / 2**20:.0f} MiB"],
        ["requests to other hosts", str(facts["requests_elsewhere"])],
    ]
    return rows([f"{facts['browser']}, 512 x 512 unless told otherwise", ""], body)
