"""Parts of an evaluation and versions of images, kept on disk: never unpickled, never another's,
made anew where damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from primis.errors import OutputError
from primis.imaging.phantom import draw_phantom
from primis.metrics.part import Part, Parts, as_file
from primis.metrics.typed import to_arrays
from primis.study.versions import Coded, Versions, version_list


def test_a_damaged_part_is_made_anew(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "kept", {"plan": 1})
    part = Part({"x": 1}, {"a": np.arange(4)})
    parts.get("p", lambda: part)
    (path,) = (tmp_path / "kept").iterdir()
    good = path.read_bytes()
    bad = [b"", good[:50], good[:-30], good[:40] + bytes(len(good)), good.replace(b"body", b"Body")]
    bad += [good[:k] + bytes([good[k] ^ 1]) + good[k + 1 :] for k in range(0, len(good), 7)]
    for data in bad:
        path.write_bytes(data)
        found = parts.get("p", lambda: part)
        assert found.body == {"x": 1}
        assert found.arrays["a"].tolist() == [0, 1, 2, 3]
    assert parts.get("p", lambda: pytest.fail("made again")).body == {"x": 1}


def test_pickled_arrays_are_not_taken(tmp_path: Path) -> None:
    class Planted:
        def __reduce__(self):
            return Path.touch, (tmp_path / "mark",)

    parts = Parts(tmp_path / "kept", {})
    parts.get("p", lambda: Part({"x": 1}))
    (path,) = (tmp_path / "kept").iterdir()
    other = to_arrays(Part({"x": 2}, {"a": np.arange(4)}))
    np.savez(path, **other | {"_0": np.array([Planted()], dtype=object)})
    assert parts.get("p", lambda: Part({"x": 1})).body == {"x": 1}
    assert not (tmp_path / "mark").exists()


def test_what_others_may_have_laid_there_is_not_taken(tmp_path: Path, codec) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept").chmod(0o777)
    versions = Versions(tmp_path / "kept", {"default": codec}, version_list([4.0]))
    pixels = draw_phantom(64)
    for work in (
        lambda: Parts(tmp_path / "kept", {}).get("p", lambda: Part({})),
        lambda: versions.get("x", pixels, 12, versions.list[1]),
    ):
        with pytest.raises(OutputError, match="others may write"):
            work()


def test_a_folder_that_others_may_write_in_is_not_read(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "kept", {})
    assert parts.kept("p") is None
    parts.get("p", lambda: Part({"x": 1}))
    assert parts.kept("p") is not None
    (tmp_path / "kept").chmod(0o777)
    with pytest.raises(OutputError, match="others may write in"):
        parts.kept("p")


def test_a_damaged_version_is_made_anew(tmp_path: Path, codec) -> None:
    versions = Versions(tmp_path / "kept", {"default": codec}, version_list([4.0]))
    pixels = draw_phantom(64)
    out, bits = versions.get("x", pixels, 12, versions.list[1])
    (path,) = (tmp_path / "kept").iterdir()
    good = path.read_bytes()
    others = tmp_path / "other.npz"
    others.write_bytes(as_file(Coded(np.zeros((3, 3)), 1.0)))
    for data in (b"", good[:60], good[:-9], others.read_bytes()):
        path.write_bytes(data)
        again, same = versions.get("x", pixels, 12, versions.list[1])
        assert (again == out).all()
        assert same == bits
