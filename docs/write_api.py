"""Writes docs/api.md from docstrings: `make api`."""

from __future__ import annotations

import enum
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import primis
from primis import errors
from primis.api.array import Encoded
from primis.api.image import ReleaseImage
from primis.jobs.rekey.run import Rekeyed
from primis.metrics.fidelity import Quality

PAGE = Path(__file__).with_name("api.md")
PARTS: dict[str, list[Any]] = {
    "Releases": [primis.share, primis.open, primis.restore, primis.grant, primis.rekey],
    "What they give": [
        primis.OpenRelease,
        ReleaseImage,
        primis.Image,
        primis.Codes,
        primis.Result,
        Quality,
        Rekeyed,
    ],
    "Training": [primis.Dataset],
    "One array": [primis.encode, Encoded, primis.decode],
    "Choices and keys": [primis.Settings, primis.Protection, primis.Tier, primis.Secret],
    "The mechanism": [primis.Codec, primis.ambiguate, primis.purify],
    "Errors": [primis.PrimisError],
}
MADE_FOR_YOU = (primis.OpenRelease, ReleaseImage, primis.Codes)
INSIDE = {"access", "analyse", "body", "listed", "of", "offset", "require_decided", "synthesise"}
HEAD = """# API reference

This page is made from docstrings by `make api`. What `import primis` offers, and what its functions
return, is here; all else may change.

- `Place` is a path: text or `pathlib.Path`.
- `Keys` are public keys: text such as `age1...` or `ssh-ed25519 ...`, a file of them, or a list of
  either.
- `Identities` are private keys: a file of age identities, an SSH key or RSA in PEM, or a list.
"""


CLEANED = {
    r"<([\w.]+): '\w+'>": r"\1",
    r"<function [\w.<>]+ at \w+>": "...",
    r"ForwardRef\('([\w |]+)'[^)]*\)": r"\1",
    r"(: |-> )'(.*?)'(?=[,) ]|$)": r"\1\2",
    r" -> None$": "",
    r"\(self(, )?": "(",
    r"\b\w+\.(?=[A-Z][a-z])": "",
}
"""What `inspect` shows of a signature, as it stands in the source; a module's name is left out."""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for title, listed in PARTS.items():
        parts += [f"## {title}\n", *(part for one in listed for part in entry(one))]
    return "\n".join(parts)


def entry(one: Any) -> Iterator[str]:
    """A function, or a class with what belongs to it."""
    yield f"### `{one.__name__}`\n"
    members = vars(one).items() if inspect.isclass(one) and not issubclass(one, tuple) else ()
    if inspect.isclass(one) and issubclass(one, enum.Enum):
        yield (
            described(one)
            + "".join(f'\n- `{one.__name__}.{name}`: "{m}"' for name, m in one.__members__.items())
            + "\n"
        )
    elif one is errors.PrimisError:
        tree = inspect.cleandoc((errors.__doc__ or "").split("\n\n")[1])
        yield f"{described(one)}\n```\n{tree}\n```\n"
    else:
        made = "" if one in MADE_FOR_YOU else f"```python\n{signature(one, one.__name__)}\n```\n\n"
        yield made + described(one)
        for name, member in members:
            said = getattr(member, "__doc__", None) or "See"
            if name.startswith("_") or name in INSIDE or said.startswith("See"):
                continue
            title, call = f"#### `{one.__name__}.{name}`\n\n", ""
            if inspect.isfunction(member):
                call = f"```python\n{signature(member, f'{one.__name__}.{name}')}\n```\n\n"
            if call or isinstance(member, property):
                yield title + call + described(member)


def signature(one: Any, name: str) -> str:
    """A parameter a line where it is long."""
    text = str(inspect.signature(one))
    for pattern, by in CLEANED.items():
        text = re.sub(pattern, by, text)
    if len(name + text) <= 90:
        return name + text
    inside, end = text[1:].rsplit(")", 1)
    lines = re.split(r", (?=[a-z_]+: |\*)", inside)
    return "\n    ".join([f"{name}(", *(f"{line}," for line in lines)]) + f"\n){end}"


def described(one: Any) -> str:
    """A docstring, its parameters as a list: they are written as "name: what it is."."""
    parts: list[str] = []
    for block in (inspect.getdoc(one) or "").split("\n\n"):
        names = r"(?:^|(?<=\. )|(?<=; ))((?:[a-z_]+, )*[a-z_]+): "
        lead, *pairs = re.split(names, " ".join(block.split()))
        parts += [textwrap.fill(lead.strip(), 100)] if lead else []
        for name, meaning in zip(pairs[::2], pairs[1::2], strict=True):
            said, stop, rest = meaning.strip(" ;").partition(". Raises")
            item = f"- `{name.replace(', ', '`, `')}`: {said.rstrip('.')}."
            parts.append(textwrap.fill(item, 100, subsequent_indent="  "))
            parts += [textwrap.fill(f"Raises{rest}", 100)] if stop else []
    return re.sub(r"(?m)^(- .*(?:\n  .*)*)\n\n(?=- )", r"\1\n", "\n\n".join(parts)) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
