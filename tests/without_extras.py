"""A pytest plugin: nothing that only an extra brings can be imported, as in a plain installation.

python -m pytest -p tests.without_extras tests/core
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

EXTRAS = frozenset(
    {
        "fsspec",
        "dask",
        "distributed",
        "jinja2",
        "lightning",
        "matplotlib",
        "monai",
        "msgspec",
        "onnx",
        "onnxscript",
        "pandas",
        "pingouin",
        "radiomics",
        "scipy",
        "skimage",
        "sklearn",
        "tensorboard",
        "torch",
        "torchmetrics",
        "torchvision",
        "weasyprint",
    }
)


class Refusal:
    """A finder that is asked first and refuses them."""

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] in EXTRAS:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """pytest calls it before it loads anything of ours."""
    sys.meta_path.insert(0, Refusal)
