"""Fuzz target: whatever the bytes, a bundle or manifest is read or refused with a PrimisError.

`python -m tests.fuzz_bundle` with atheris installed (coverage-guided); the tests run it on
mutations.
"""

from __future__ import annotations

import sys

from primis.bundle.container import read_bundle, write_bundle
from primis.bundle.manifest import read_manifest, split_manifest
from primis.errors import PrimisError
from tests.conftest import VECTORS


def one_input(data: bytes) -> None:
    """Anything but a PrimisError is a defect; what is read writes back to the same bytes."""
    try:
        header, parts = read_bundle(data, "fuzz")
        assert write_bundle(header, parts, alone=True) == data
    except PrimisError as error:
        assert "\n" not in str(error)
    try:
        signed = split_manifest(data, "fuzz")
        assert signed.write() == data
        assert read_manifest(signed, "fuzz").write() == signed.body
    except PrimisError as error:
        assert "\n" not in str(error)


if __name__ == "__main__":
    import atheris

    atheris.instrument_all()
    atheris.Setup([*sys.argv, str(VECTORS / "bundles"), str(VECTORS / "manifests")], one_input)
    atheris.Fuzz()
