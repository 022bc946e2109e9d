"""Any size, no seams, any S_x; the preset's promise of never falling under the plain transform."""

from __future__ import annotations

import gc
import multiprocessing
import os
import tracemalloc
import weakref
from dataclasses import replace

import numpy as np
import pytest

import primis.codec as codec_module
from primis.codec import Codec, OnnxEngine
from primis.codes.sparse import SparseCode
from primis.imaging.phantom import draw_phantom
from primis.metrics.fidelity import psnr
from primis.network.checkpoint import read_checkpoint, shipped
from tests.conftest import TINY


def restored(codec: Codec, frame: np.ndarray, sparsity: float) -> np.ndarray:
    z, scale = codec.encode(frame)
    entries = max(1, round(sparsity * z.shape[0] * z.shape[2] * z.shape[3]))
    return codec.decode(codec.sparsify(z, entries), scale, frame.shape[:2], frame.dtype)


@pytest.fixture(scope="module")
def default() -> Codec:
    return Codec(read_checkpoint(shipped()))


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (16, 16), (97, 33), (200, 130)])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_any_size_and_number_of_channels(codec, size, channels) -> None:
    rng = np.random.default_rng(0)
    frame = np.cumsum(rng.normal(0, 3, (*size, channels)), axis=0).round().astype(np.int16)
    out = restored(codec, frame, 8)
    assert (out.shape, out.dtype) == (frame.shape, frame.dtype)
    assert out.min() >= frame.min()
    assert out.max() <= frame.max()


@pytest.mark.parametrize("value", [0, 7, 4095, -1024])
def test_a_flat_image_comes_back_exactly(codec, value) -> None:
    frame = np.full((40, 50, 1), value, np.int16)
    assert (restored(codec, frame, 4) == frame).all()


def test_quality_grows_with_sparsity(default) -> None:
    frame = draw_phantom(256, seed=4)[..., None]
    quality = [
        psnr(frame, restored(default, frame, s), 4095) for s in (0.5, 1, 2, 4, 8, 16, 32, 64)
    ]
    assert quality == sorted(quality)


@pytest.mark.parametrize("channels", [1, 4])
def test_windows_leave_no_seam(default, monkeypatch, channels) -> None:
    phantom = draw_phantom(256, seed=5)[:250, :237]
    frame = np.stack([np.roll(phantom, 9 * k, 0) for k in range(channels)], axis=-1)
    whole = restored(default, frame, 4).astype(int)
    monkeypatch.setattr(codec_module, "_WINDOW", 5)
    assert (restored(default, frame, 4) == whole).all()


class Blank:
    """An engine that takes no memory but its outcome's."""

    def encode(self, x: np.ndarray) -> np.ndarray:
        return np.full((1, 256, x.shape[2] // 16, x.shape[3] // 16), 0.5, np.float32)

    def decode(self, q: np.ndarray, threshold: float, opened: float) -> np.ndarray:
        return np.full((1, 1, 16 * q.shape[2], 16 * q.shape[3]), 0.25, np.float32)


def test_memory_is_a_few_bytes_a_pixel(codec, monkeypatch) -> None:
    """Beyond the frame and its code: both directions go window by window."""
    monkeypatch.setattr(codec_module, "_WINDOW", 3)
    blank = Codec(codec.checkpoint, Blank())
    frame = np.zeros((1024, 1024, 1), np.uint16)
    frame[0] = 1000
    levels = np.ones((1, 256, 64, 64), np.int16)
    tracemalloc.start()
    try:
        z, scale = blank.encode(frame)
        encoding = tracemalloc.get_traced_memory()[1] - z.nbytes
        del z
        tracemalloc.reset_peak()
        held = tracemalloc.get_traced_memory()[0]
        out = blank.decode(SparseCode(levels, 0.1), scale, frame.shape[:2], frame.dtype)
        decoding = tracemalloc.get_traced_memory()[1] - held
    finally:
        tracemalloc.stop()
    assert out.shape == frame.shape
    assert encoding < 4 * frame.size
    assert decoding < 6 * frame.size


def test_never_under_the_plain_transform(default) -> None:
    """The decoder's trunk only adds: at every S_x it is at least the inverse transform alone."""
    frame = draw_phantom(256, seed=6)[..., None]
    checkpoint = read_checkpoint(shipped())
    silent = {
        name: np.zeros_like(tensor)
        for name, tensor in checkpoint.network.items()
        if name.startswith(("decoder.coefficients.", "decoder.pixels."))
    }
    assert len(silent) == 4
    plain = Codec(replace(checkpoint, network=checkpoint.network | silent))
    for sparsity in (1, 4, 16, 32):
        with_trunk = psnr(frame, restored(default, frame, sparsity), 4095)
        assert with_trunk > psnr(frame, restored(plain, frame, sparsity), 4095) - 0.05


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("depth", [1, 2])
def test_a_forked_process_lets_go_of_a_session_that_it_inherited(depth: int) -> None:
    """ONNX Runtime would end threads there that did not come along."""
    held = [OnnxEngine(read_checkpoint(TINY), threads=3)]
    assert held[0].encode(np.zeros((1, 1, 64, 64), np.float32)).size

    def let_go(deeper: int) -> None:
        if deeper:
            run(deeper - 1)
        held.clear()

    def run(deeper: int) -> None:
        process = multiprocessing.get_context("fork").Process(target=let_go, args=(deeper,))
        process.start()
        process.join(60)
        process.kill()
        assert process.exitcode == 0

    run(depth - 1)
    alive = weakref.ref(held[0])
    held.clear()
    gc.collect()
    assert alive() is None, "the process itself ends what it lets go of"
