"""A model's file is numbers: one with more is refused, and what runs them comes with primis."""

from __future__ import annotations

import json
import os
import random
import struct
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from primis.codec import Codec
from primis.codes.probabilities import TABLE_LIMIT
from primis.codes.sparse import SparseCode
from primis.errors import ModelError
from primis.network import checkpoint as checkpoint_module
from primis.network.architecture import WIDEST
from primis.network.checkpoint import (
    find_checkpoint,
    read_checkpoint,
    shipped,
    write_checkpoint,
)
from primis.network.presets import PRESETS
from tests.conftest import TINY


def parts_of(data: bytes) -> tuple[dict, dict[str, np.ndarray]]:
    """(manifest, tensors) of a file."""
    head = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    return json.loads(head["__metadata__"]["primis"]), dict(load(data))


def refused(path: Path, data: bytes) -> str:
    """What is said of a file with these bytes."""
    path.write_bytes(data)
    with pytest.raises(ModelError) as error:
        read_checkpoint(path)
    return str(error.value)


def bad_records(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What a checkpoint tells of itself, wrong in one way each."""
    return {
        "format_2": manifest | {"format": 2},
        "format_true": manifest | {"format": True},
        "field_more": manifest | {"comment": "x"},
        "no_training": without(manifest, "training"),
        "training_is_a_list": manifest | {"training": [1]},
        "training_is_a_number": manifest | {"training": 7},
        "training_nested": manifest | {"training": {"a": {"b": 1}}},
        "training_list_of_lists": manifest | {"training": {"a": [[1]]}},
        "training_list_of_text": manifest | {"training": {"a": ["x"]}},
        "training_long_text": manifest | {"training": {"a": "x" * 256}},
        "training_escape": manifest | {"training": {"a": "\x1b[2J"}},
        "training_many_keys": manifest | {"training": {str(k): k for k in range(65)}},
        "training_long_list": manifest | {"training": {"a": [0] * 65}},
        "training_huge_number": manifest | {"training": {"a": 1 << 70}},
        **{name: manifest | {"preset": p} for name, p in bad_presets(manifest["preset"]).items()},
    }


def bad_presets(preset: dict[str, Any]) -> dict[str, Any]:
    """A preset, wrong in one way each."""
    return {
        "preset_is_text": "default",
        "preset_field_more": preset | {"depth": 3},
        "preset_field_less": without(preset, "blocks"),
        "preset_escape": preset | {"name": "\x1b[2J"},
        "preset_name_long": preset | {"name": "x" * 65},
        "preset_name_number": preset | {"name": 7},
        "architecture_unknown": preset | {"architecture": "onnx"},
        "architecture_is_a_list": preset | {"architecture": ["lapped"]},
        "grouped": preset | {"architecture": "grouped"},
        "stride_0": preset | {"stride": 0},
        "stride_8": preset | {"stride": 8},
        "blocks_many": preset | {"blocks": 1 << 40},
        "blocks_true": preset | {"blocks": True},
        "code_maps_32": preset | {"code_maps": 32},
        "maps_cut_a_group": preset | {"code_maps": 128, "atoms_per_map": 2},
        "width_other": preset | {"widths": [8, 9]},
        "width_huge": preset | {"widths": [8, 1 << 62]},
        "width_negative": preset | {"widths": [8, -8]},
        "width_fraction": preset | {"widths": [8, 8.0]},
        "widths_one": preset | {"widths": [8]},
        "widths_none": preset | {"widths": []},
        "widths_text": preset | {"widths": "88"},
    }


def bad_tensors(tensors: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """The tensors of a checkpoint, wrong in one way each."""
    bias = tensors["network.decoder.join.bias"]
    not_finite = bias.copy()
    not_finite[3] = np.nan
    return {
        "tensor_more": tensors | {"network.decoder.more": bias},
        "tensor_of_no_kind": tensors | {"more": bias},
        "tensor_less": without(tensors, "network.decoder.join.bias"),
        "table_less": without(tensors, "tables.bias"),
        "table_more": tensors | {"tables.more": tensors["tables.bias"]},
        "table_float": tensors | {"tables.bias": tensors["tables.bias"].astype(np.float32)},
        "table_without_axes": tensors | {"tables.logarithm": np.array(4, np.int32)},
        "table_too_large": tensors | {"tables.outer": tensors["tables.outer"] + (1 << 21)},
        "shape_other": tensors | {"network.decoder.join.bias": bias[:, None]},
        "float64": tensors | {"network.decoder.join.bias": bias.astype(np.float64)},
        "float16": tensors | {"network.decoder.join.bias": bias.astype(np.float16)},
        "not_a_number": tensors | {"network.decoder.join.bias": not_finite},
        "infinite": tensors | {"network.decoder.join.bias": bias + np.float32(np.inf)},
    }


def bad_bytes(manifest: dict[str, Any], tensors: dict[str, np.ndarray]) -> dict[str, bytes]:
    """A checkpoint that is wrong below what a writer of the format can say."""
    good, text = TINY.read_bytes(), json.dumps(manifest)

    def told_as(manifest: str) -> bytes:
        return save(tensors, {"primis": manifest})

    return {
        "metadata_more": save(tensors, {"primis": text, "note": "x"}),
        "metadata_none": save(tensors, {}),
        "training_not_finite": told_as(text.replace('"phantoms"', "Infinity")),
        "key_twice": told_as(text[:-1] + ', "format": 1}'),
        "deeply_nested": told_as("[" * 100_000),
        "longest_number": told_as(text[:-1] + ', "x": ' + "9" * 9999 + "}"),
        "header_too_long": told_as(text + " " * (1 << 20)),
        "header_longer_than_file": b"\xff" * 8 + good[8:],
        "data_more": good + b"\0",
        "data_less": good[:-1],
        "not_utf8": good.replace(b"phantoms", b"phantom\xff"),
        "empty": b"",
    }


@cache
def bad_checkpoints() -> dict[str, bytes]:
    """The tiny model, wrong in one way each, by what is wrong."""
    manifest, tensors = parts_of(TINY.read_bytes())
    text = json.dumps(manifest)
    bad = bad_bytes(manifest, tensors)
    for name, record in bad_records(manifest).items():
        bad[name] = save(tensors, {"primis": json.dumps(record)})
    for name, held in bad_tensors(tensors).items():
        bad[name] = save(held, {"primis": text})
    return bad


def without(whole: dict, key: str) -> dict:
    return {name: value for name, value in whole.items() if name != key}


@pytest.mark.parametrize("name", bad_checkpoints())
def test_what_is_not_a_presets_numbers_is_refused(name: str, tmp_path: Path) -> None:
    said = refused(tmp_path / "m", bad_checkpoints()[name])
    assert "damaged or not a primis model of format 1" in said
    assert said.isprintable()


def test_flips_and_cuts_raise_model_errors_only(tmp_path: Path) -> None:
    good, path, rng = TINY.read_bytes(), tmp_path / "m", random.Random(0)
    end = 8 + struct.unpack("<Q", good[:8])[0]
    outcomes = {True: 0, False: 0}
    for number in range(600):
        data = bytearray(good)
        if number % 10 == 0:
            data = data[: rng.randrange(end + 2000)]
        else:
            for _ in range(rng.choice((1, 1, 3, 20))):
                data[rng.randrange(end)] = rng.choice((rng.randrange(256), *b'[]{}",:0192-eE.\\'))
        path.write_bytes(data)
        try:
            read_checkpoint(path)
            outcomes[True] += 1
        except ModelError:
            outcomes[False] += 1
    assert outcomes[False] > 400


def test_only_bounded_files_are_read(tmp_path: Path, monkeypatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "large").open("wb") as file:
        file.truncate((256 << 20) + 1)
    said = {"pipe": "is not a file", "large": "larger than 256 MiB"}
    for name, words in (said | {"": "cannot be read", "missing": "cannot be read"}).items():
        for reads in (read_checkpoint, lambda path: find_checkpoint("0" * 64, (path,))):
            with pytest.raises(ModelError, match=words):
                reads(tmp_path / name)
    with pytest.raises(ModelError, match="is not a file"):
        read_checkpoint(Path("/dev/zero"))
    monkeypatch.setattr(checkpoint_module, "_MOST_BYTES", TINY.stat().st_size)
    assert read_checkpoint(TINY).preset.name == "tiny"


def test_the_digest_is_that_of_what_was_read(tmp_path: Path) -> None:
    found = read_checkpoint(TINY)
    assert find_checkpoint(found.digest, (TINY,)).digest == found.digest
    again = write_checkpoint(found, tmp_path / "m")
    assert (again, (tmp_path / "m").read_bytes()) == (found.digest, TINY.read_bytes())
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_what_nobody_could_read_is_not_written(tmp_path: Path) -> None:
    found = read_checkpoint(TINY)
    bias = {"decoder.join.bias": np.full(8, np.nan, np.float32)}
    wide = replace(found.preset, widths=(WIDEST + 1, 8))
    cases = {
        "not finite": replace(found, network=found.network | bias),
        "widths are not two of at most": replace(found, preset=wide),
        "record of the training": replace(found, training={"a": {}}),
    }
    for words, bad in cases.items():
        with pytest.raises(ModelError, match=words):
            write_checkpoint(bad, tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_a_planted_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / ".m.partial").symlink_to(tmp_path / "precious")
    (tmp_path / "m").symlink_to(tmp_path / "precious")
    write_checkpoint(read_checkpoint(TINY), tmp_path / "m")
    assert (tmp_path / "precious").read_text() == "precious"
    assert read_checkpoint(tmp_path / "m").preset.name == "tiny"


def test_weights_that_compute_no_number_are_an_error() -> None:
    found = read_checkpoint(TINY)
    huge = {name: np.full_like(tensor, 3e38) for name, tensor in found.network.items()}
    codec = Codec(replace(found, network=huge))
    frame = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32, 1)
    with pytest.raises(ModelError, match="not finite"):
        codec.encode(frame)
    z, scale = Codec(found).encode(frame)
    code = SparseCode(np.ones(z.shape, np.int16), 0.1)
    with pytest.raises(ModelError, match="not finite"):
        codec.decode(code, scale, (32, 32), frame.dtype)


@pytest.mark.parametrize("name", ["default", "paper"])
def test_the_shipped_weights_hold_no_more_than_a_preset(name: str) -> None:
    found = read_checkpoint(shipped(name))
    assert found.preset == PRESETS[name]
    assert found.training["steps"] == {"default": 16000, "paper": 3000}[name]
    assert {key.split(".")[0] for key in load(shipped(name).read_bytes())} == {"network", "tables"}


@pytest.mark.parametrize("name", ["default", "paper"])
def test_no_weight_of_the_shipped_tables_was_cut_at_its_limit(name: str) -> None:
    """One that is cut codes otherwise than it was fitted to."""
    tables = read_checkpoint(shipped(name)).tables
    for weights in (tables.linear, tables.present, tables.inner, tables.signs):
        assert np.abs(weights).max() < TABLE_LIMIT
