"""The viewer's files: what `make viewer` built, and what it loads from the rest of the package.

Kernel, graphs and weights lie in the package once, where Python reads them; the built files hold no
copies. Here they get the addresses that the viewer requests.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from primis.atomic import finish_folder, reason, remove_folder
from primis.codes.kernel import FILE as KERNEL
from primis.errors import InputError, OutputError
from primis.network.checkpoint import WEIGHTS, named, read_checkpoint
from primis.network.program import GRAPHS

STATIC = Path(__file__).parent / "static"
INDEX = "index.html"


def viewer_files(models: Iterable[Path] = ()) -> dict[str, Path]:
    """Every file of the viewer, by its address below the page's. models: weights besides those that
    come with primis. Raises InputError where the viewer was not built, ModelError."""
    if not (STATIC / INDEX).is_file():
        raise InputError("the viewer is not in this installation: make viewer builds it")
    built = (path for path in STATIC.rglob("*") if path.is_file() and not path.is_symlink())
    found = {path.relative_to(STATIC).as_posix(): path for path in built}
    found["assets/kernel.wasm"] = KERNEL
    for graph in GRAPHS.glob("*-decode.onnx"):
        found[f"assets/{graph.name}"] = graph
    for weights in WEIGHTS.glob("*.safetensors"):
        found[_weights(hashlib.sha256(weights.read_bytes()).hexdigest())] = weights
    for model in map(named, models):
        found[_weights(read_checkpoint(model).digest)] = model
    return found


def _weights(digest: str) -> str:
    return f"assets/weights/{digest}.safetensors"


def export(files: Mapping[str, Path], out: Path) -> None:
    """A new folder of these files, for a web host: all of them or none. Raises OutputError."""
    if out.exists() or out.is_symlink():
        raise OutputError(f'folder "{out}" exists, expected a new one')
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".primis-view-", dir=out.parent))
        try:
            for address, path in files.items():
                (partial / address).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, partial / address)
            partial.chmod(0o755)
            finish_folder(partial, out)
        finally:
            remove_folder(partial)
    except OSError as error:
        raise OutputError(f'"{out}" cannot be written: {reason(error)}') from None
