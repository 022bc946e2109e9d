"""The process that decodes: whatever happens in it is one line, and the next file is read."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from primis.errors import UnreadableImage
from primis.imaging import apart
from primis.imaging.files import parse
from primis.imaging.image import Image

STAND_IN = '''
"""A program in the place of the decoders: does what the file says."""
import os, sys, time, warnings
import numpy as np
from primis.errors import UnreadableImage
from primis.imaging import decoder
from primis.imaging.image import Image

class Panic(BaseException):
    pass

def deeper():
    return deeper()

def parse(data, max_pixels):
    what = data.decode()
    if what == "image":
        pixels = np.arange(24, dtype=np.int16).reshape(1, 4, 6, 1)
        rest = (0.5, 0.25), b"head", (-7, 65536), ("a", "b")
        return Image(pixels, 12, "MONOCHROME1", "dicom", *rest)
    if what == "noise":
        print("noise")
        os.write(1, b"noise")
        os.write(2, b"noise")
        warnings.warn("noise")
        return parse(b"image", max_pixels)
    if what == "environment":
        raise UnreadableImage(" ".join(sorted(os.environ)))
    if what == "process":
        raise UnreadableImage(str(os.getpid()))
    if what == "exit":
        raise SystemExit(3)
    if what == "panic":
        raise Panic("patient")
    if what == "signal":
        os.kill(os.getpid(), 9)
    if what == "memory":
        bytearray(1 << 46)
    if what == "keep":
        sys.kept = bytearray(1 << 29)
        raise UnreadableImage(str(os.getpid()))
    if what == "deep":
        deeper()
    if what == "sleep":
        time.sleep(600)
    if what == "lines":
        raise UnreadableImage("one\\ntwo\\x1b[31m")
    raise KeyError("patient")

decoder.serve(parse)
'''


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    paths = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setattr(apart, "_PROGRAM", "stand_in")
    apart.end()
    yield
    apart.end()


def why(what: str) -> str:
    with pytest.raises(UnreadableImage) as caught:
        parse(what.encode())
    return str(caught.value)


def test_an_image_comes_through_with_all_its_fields(stand_in) -> None:
    image = parse(b"image")
    assert (image.pixels == np.arange(24, dtype=np.int16).reshape(1, 4, 6, 1)).all()
    assert image.pixels.dtype == np.int16
    assert image.pixels.flags.writeable
    assert (image.bit_depth, image.photometric, image.kind) == (12, "MONOCHROME1", "dicom")
    assert (image.spacing_mm, image.header) == ((0.5, 0.25), b"head")
    assert (image.padding_range, image.notes) == ((-7, 65536), ("a", "b"))


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("exit", "the decoder ended by itself"),
        ("panic", "the decoder ended by itself"),
        ("signal", "the decoder ended by itself"),
        ("memory", "does not fit in"),
        ("deep", "damaged"),
        ("other", "damaged"),
    ],
)
def test_whatever_a_decoder_does_is_one_line_and_the_next_file_is_read(
    stand_in, what: str, line: str
) -> None:
    for _ in range(2):  # in a new process and in a used one
        said = why(what)
        assert said.startswith("cannot be decoded: ")
        assert line in said
        assert not {"\n", "patient", "Error", "Panic", "Exit"} & {said, *said.split()}
        assert isinstance(parse(b"image"), Image)


def test_a_decoder_that_never_returns_is_ended(stand_in, monkeypatch) -> None:
    parse(b"image")
    monkeypatch.setattr(apart, "SECONDS", 1)
    assert why("sleep") == "cannot be decoded: took longer than 1 s"
    assert isinstance(parse(b"image"), Image)


def test_an_ordinary_refusal_keeps_the_process_and_a_death_does_not(stand_in) -> None:
    first = why("process")
    assert why("process") == first
    why("signal")
    assert why("process") != first


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_a_process_that_keeps_memory_is_not_used_again(stand_in) -> None:
    first = why("keep")
    assert why("process") != first


def test_the_line_is_one_line_without_control_characters(stand_in) -> None:
    assert why("lines") == "one two [31m"


def test_what_decoders_print_goes_nowhere(stand_in, capfd) -> None:
    assert isinstance(parse(b"noise"), Image)
    assert capfd.readouterr() == ("", "")


def test_the_process_gets_no_secrets(stand_in, monkeypatch) -> None:
    for name in ("PRIMIS_PASSPHRASE", "AWS_SECRET_ACCESS_KEY", "HOME", "GITHUB_TOKEN"):
        monkeypatch.setenv(name, "secret")
    apart.end()
    names = set(why("environment").split())
    assert "PATH" in names
    assert not {n for n in names if n.startswith(("PRIMIS", "AWS", "GITHUB", "HOME"))}


def test_no_module_changes_filters_or_levels_when_it_is_imported() -> None:
    code = """
        import logging, warnings
        import imagecodecs, numpy, PIL.Image, tifffile
        before = list(warnings.filters)
        import primis.imaging.files, primis.imaging.raster, primis.imaging.tiff
        assert warnings.filters == before
        assert logging.root.manager.disable == logging.getLogger("tifffile").level == 0
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def in_threads(count: int, work: Callable[[], None]) -> list[threading.Thread]:
    threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def test_several_threads_share_a_few_processes(stand_in, monkeypatch) -> None:
    monkeypatch.setattr(apart, "WORKERS", 2)
    images: list[Image] = []
    processes: set[str] = set()

    def work() -> None:
        for _ in range(5):
            images.append(parse(b"image"))
            processes.add(why("process"))

    for thread in in_threads(6, work):
        thread.join()
    assert len(images) == 30
    assert all(image.pixels[0, 3, 5, 0] == 23 for image in images)
    assert len(processes) == 2


def test_one_thread_needs_one_process_and_another_does_not_wait_for_it(
    stand_in, monkeypatch
) -> None:
    monkeypatch.setattr(apart, "WORKERS", 2)
    monkeypatch.setattr(apart, "SECONDS", 3)
    said: list[str] = []
    (sleeper,) = in_threads(1, lambda: said.append(why("sleep")))
    assert len({why("process") for _ in range(9)}) == 1
    assert sleeper.is_alive()
    sleeper.join()
    assert said == ["cannot be decoded: took longer than 3 s"]
    assert isinstance(parse(b"image"), Image)


def test_who_waits_when_all_is_ended_is_told(stand_in) -> None:
    said: list[str] = []
    (sleeper,) = in_threads(1, lambda: said.append(why("sleep")))
    while not (busy := apart._pool()._busy) or busy[0]._process is None:
        time.sleep(0.01)
    apart.end()
    sleeper.join(10)
    assert said == ["cannot be decoded: the decoder ended by itself"]
    assert isinstance(parse(b"image"), Image)


def children() -> list[str]:
    """States of the processes that this one has started and not yet waited for."""
    states = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent, *_ = path.read_text().rpartition(")")[2].split()
            states += [state] * (int(parent) == os.getpid())
    return states


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("what", ["signal", "panic", "exit", "memory", "keep", "sleep"])
def test_no_zombie_stays(stand_in, monkeypatch, what: str) -> None:
    monkeypatch.setattr(apart, "SECONDS", 1)
    before = len(children())
    for _ in range(2):  # in a new process and in a used one
        why(what)
        assert "Z" not in children()
        parse(b"image")
    assert len(children()) == before + 1
    apart.end()
    assert len(children()) == before


SCRIPTS = {
    "a fork has a process of its own": """
        from primis.imaging import apart
        from primis.imaging.apart import decode
        from primis.errors import UnreadableImage
        apart._PROGRAM = "stand_in"
        def process():
            try:
                decode(b"process")
            except UnreadableImage as error:
                return str(error)
        import os
        first = process()
        read, write = os.pipe()
        if not (pid := os.fork()):
            os.write(write, process().encode())
            os._exit(0)
        os.waitpid(pid, 0)
        other = os.read(read, 99).decode()
        assert other.isdigit() and other != first, (other, first)
        assert process() == first
        print("well")
    """,
    "an interruption leaves no process": """
        import os, signal, threading
        from primis.imaging import apart
        apart._PROGRAM = "stand_in"
        def interrupt():
            global pid
            (worker,) = apart._pool()._busy
            pid = worker._process.pid
            os.kill(os.getpid(), signal.SIGINT)
        threading.Timer(1, interrupt).start()
        try:
            apart.decode(b"sleep")
        except KeyboardInterrupt:
            pass
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            print("well")
    """,
    "an interruption ends all processes, those of other threads too": """
        import os, signal, threading, time
        from primis.imaging import apart
        apart._PROGRAM, apart.WORKERS = "stand_in", 3
        def sleep():
            try:
                apart.decode(b"sleep")
            except Exception:
                pass
        for _ in range(2):
            threading.Thread(target=sleep, daemon=True).start()
        def interrupt():
            while len(workers := apart._pool()._busy) < 3 or not all(w._process for w in workers):
                time.sleep(0.01)
            pids[:] = [worker._process.pid for worker in workers]
            os.kill(os.getpid(), signal.SIGINT)
        pids = []
        threading.Thread(target=interrupt).start()
        try:
            apart.decode(b"sleep")
        except KeyboardInterrupt:
            apart.end()
        for pid in pids:
            try:
                os.kill(pid, 0)
                print("alive", pid)
            except ProcessLookupError:
                pass
        if len(pids) == 3:
            print("well")
    """,
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("name", SCRIPTS)
def test_in_a_process_of_its_own(stand_in, name: str) -> None:
    code = textwrap.dedent(SCRIPTS[name])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "well", done.stderr


FIELDS = {
    "shape": [1, 2, 3, 1],
    "dtype": "uint8",
    "bit_depth": 8,
    "photometric": "MONOCHROME2",
    "kind": "png",
    "spacing_mm": None,
    "padding_range": None,
    "notes": [],
    "rounding": 0.5,
    "identifying": ["PatientName"],
    "header_bytes": 2,
}


def reply(**changed: object) -> io.BytesIO:
    text = json.dumps(FIELDS | changed).encode()
    return io.BytesIO(b"+" + len(text).to_bytes(4, "big") + text + b"{}" + bytes(range(6)))


def test_a_reply_is_taken_as_it_is() -> None:
    image = apart._reply(reply(), 1000)
    assert isinstance(image, Image)
    assert image.pixels.ravel().tolist() == list(range(6))
    assert (image.header, image.rounding) == (b"{}", 0.5)


@pytest.mark.parametrize(
    "changed",
    [
        {"shape": [1, 2, 3]},
        {"shape": [1, 2, 3, 0]},
        {"shape": [1, -2, -3, 1]},
        {"shape": [1, 2.0, 3, 1]},
        {"shape": [True, 2, 3, 1]},
        {"shape": [1, 1 << 40, 1 << 40, 1]},
        {"shape": "1231"},
        {"dtype": "object"},
        {"dtype": "float64"},
        {"dtype": ["u1"]},
        {"bit_depth": 9},
        {"bit_depth": 0},
        {"photometric": "CMYK"},
        {"kind": "exe"},
        {"spacing_mm": [1]},
        {"spacing_mm": "no"},
        {"padding_range": [1]},
        {"padding_range": [0.5, 1]},
        {"notes": "no"},
        {"notes": [1]},
        {"identifying": "no"},
        {"identifying": [1]},
        {"rounding": -1.0},
        {"rounding": "0"},
        {"rounding": float("inf")},
        {"header_bytes": 1 << 40},
        {"header_bytes": -1},
        {"header_bytes": 3},  # then a sample is missing
        {"extra": 1},
    ],
    ids=str,
)
def test_a_reply_that_is_none_is_refused(changed: dict) -> None:
    with pytest.raises((apart._Died, ValueError, TypeError, UnreadableImage)):
        apart._reply(reply(**changed), 1000)


@pytest.mark.parametrize("data", [b"", b"+", b"+\xff\xff\xff\xff", b"x\0\0\0\0", b"+\0\0\0\2[]"])
def test_a_torn_reply_is_refused(data: bytes) -> None:
    with pytest.raises((apart._Died, ValueError, TypeError)):
        apart._reply(io.BytesIO(data), 1000)


def test_decoders_take_nothing_from_the_folder_one_stands_in(tmp_path: Path) -> None:
    for name in ("PIL", "numpy", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit")
    out = io.BytesIO()
    PIL.Image.new("L", (5, 4)).save(out, "png")
    (tmp_path / "x.png").write_bytes(out.getvalue())
    code = "import os, sys; sys.path = [p for p in sys.path if p not in ('', os.getcwd())]; "
    code += "from pathlib import Path; from primis.imaging.files import read; "
    code += "print(read(Path('x.png'))[0].shape)"
    environment = os.environ | {"PYTHONPATH": os.environ.get("PYTHONPATH", "") + os.pathsep}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "(1, 4, 5, 1)", done.stderr
