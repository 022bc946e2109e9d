"""Compiles the coder's kernel: `make kernel`, or `python -m tests.build_kernel OUT`.

The compiler comes from PyPI (`ziglang`, pinned in constraints.txt), so that everyone gets the same
bytes.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "primis" / "codes" / "kernel" / "kernel.c"
_FLAGS = (
    "-target wasm32-freestanding -mcpu=generic+simd128+bulk_memory -O3 -std=c11 "
    "-Wall -Wextra -Werror -fno-strict-aliasing -fno-builtin "
    "-nostdlib -s -Wl,--no-entry -Wl,--export=__heap_base"
)


def build(out: Path) -> None:
    """Compile to `out`. Raises CalledProcessError."""
    command = [sys.executable, "-m", "ziglang", "cc", *_FLAGS.split(), "-o", str(out), str(SOURCE)]
    subprocess.run(command, check=True)
    out.chmod(0o644)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
