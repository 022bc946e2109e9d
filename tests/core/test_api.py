"""The public list, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import primis


def test_the_public_list_is_short_and_true() -> None:
    assert len(primis.__all__) <= 15
    for name in primis.__all__:
        assert getattr(primis, name).__doc__


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys; print(' '.join(sys.modules))"
    return set(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
    )


def test_importing_primis_loads_nothing_large() -> None:
    assert not loaded_by("import primis") & {"torch", "numpy", "pydicom", "cryptography", "typer"}


def test_the_command_line_loads_no_torch_to_show_its_help() -> None:
    code = (
        "import sys; sys.argv = ['primis', '--help']\n"
        "from primis.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass"
    )
    assert not loaded_by(code) & {"torch", "numpy", "pydicom"}


def test_keys_bundles_and_grants_need_no_torch() -> None:
    assert "torch" not in loaded_by(
        "from primis import Release, read_signer, grant, rekey, parse_recipient, ambiguate, purify"
    )
