"""`primis view`: who gets what from the viewer's server, and how it begins and ends."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest

from primis.cli import main
from primis.errors import BadKey, InputError, OutputError
from primis.jobs.add import add
from primis.jobs.rekey.run import rekey
from primis.jobs.share import run as sharing
from primis.keys.identity import parse_recipient, read_signer
from primis.network.checkpoint import shipped
from primis.release.owner import grant
from primis.release.reader import Release
from primis.stores import web
from primis.viewer import assets, files, server
from primis.viewer.assets import export, viewer_files
from primis.viewer.files import ReleaseFiles
from primis.viewer.key import OneKey, read_for_viewer
from primis.viewer.server import HEADERS, Server, Site
from primis.viewer.start import browser_at, start_page
from tests.conftest import SETTINGS, TINY
from tests.core.test_recipients import armoured, locked_by_age
from tests.documented import ROOT, VIEWER_PAGE, commands, lay_out_images, reader
from tests.hosts import s3_host, web_host

posix = pytest.mark.skipif(os.name != "posix", reason="needs signals and modes of files")


def _has_other_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


other_loopback = pytest.mark.skipif(not _has_other_loopback(), reason="needs ::1")
RUNTIME = "ort-wasm-simd-threaded.wasm.gz"
SECRET = b"AGE-SECRET-KEY-1 of nobody"


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Browser:
    """Asks a server as a browser on this machine does, unless told otherwise."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.root = urlsplit(server.url).path

    def __call__(self, address: str = "", method: str = "GET", **headers: str) -> Answer:
        return self.raw(self.root + address, method, **headers)

    def raw(self, path: str, method: str = "GET", body: bytes | None = None, **given: str):
        headers = {name.replace("_", "-"): value for name, value in given.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=20)
        try:
            connection.putrequest(method, path, skip_host="Host" in headers)
            if body is not None:
                headers["Content-Length"] = str(len(body))
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()


@pytest.fixture(autouse=True)
def fixture_page(monkeypatch) -> None:
    monkeypatch.setattr(assets, "STATIC", VIEWER_PAGE)
    monkeypatch.setattr(web, "LONGEST_PAUSE", 0)


@pytest.fixture(scope="module")
def made(images, keys, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("view") / "release"
    signer, alice = read_signer(keys["owner"]), parse_recipient(f"alice={keys['alice']}")
    sharing.share([images], out, [alice], signer, SETTINGS, model=TINY)
    return out


@contextmanager
def serving(
    place: str | Path, key: bytes | None = None, tell: Callable[[str], None] = lambda said: None
) -> Iterator[Browser]:
    release = Release(place)
    site = Site(
        viewer_files([TINY]),
        ReleaseFiles(release, tell),
        place=str(place),
        signer=release.manifest.signer,
        key=key and OneKey(key),
    )
    with Server(site, tell=tell) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield Browser(server)
        finally:
            server.shutdown()


@pytest.fixture
def ask(made: Path) -> Iterator[Browser]:
    with serving(made, SECRET) as browser:
        yield browser


def bundle_of(release: Path) -> tuple[str, bytes]:
    path = min((release / "bundles").iterdir())
    return f"release/bundles/{path.name}", path.read_bytes()


# What is served


def test_the_page_gets_its_files_and_the_release_as_they_lie_there(ask, made) -> None:
    assert ask().body == (VIEWER_PAGE / "index.html").read_bytes()
    for path in (made / "manifest.json", *made.glob("*/*")):
        answer = ask(f"release/{path.relative_to(made).as_posix()}")
        assert (answer.status, answer.body) == (200, path.read_bytes())
        assert answer.headers["Content-Type"] == "application/octet-stream"


def test_the_configuration_names_the_release_its_signer_and_whether_there_is_a_key(
    ask, made
) -> None:
    assert json.loads(ask("config.json").body) == {
        "release": "release",
        "place": str(made),
        "signer": Release(made).manifest.signer,
        "key": True,
    }
    with serving(made) as without:
        assert json.loads(without("config.json").body)["key"] is False
        assert without("key").status == 404


def test_assets_come_from_the_package_and_from_model_files_by_digest(ask) -> None:
    package = ROOT / "src/primis"
    expected = {
        "kernel.wasm": package / "codes/kernel/kernel.wasm",
        "lapped-decode.onnx": package / "network/graphs/lapped-decode.onnx",
        "grouped-decode.onnx": package / "network/graphs/grouped-decode.onnx",
        RUNTIME: VIEWER_PAGE / "assets" / RUNTIME,
    }
    for path in (shipped(), shipped("paper"), TINY):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        expected[f"weights/{digest}.safetensors"] = path
    for name, path in expected.items():
        assert ask(f"assets/{name}").body == path.read_bytes(), name
    assert ask("assets/kernel.wasm").headers["Content-Type"] == "application/wasm"


def test_the_runtime_is_sent_as_it_lies_there_for_the_page_to_unpack(ask) -> None:
    headers = ask(f"assets/{RUNTIME}").headers
    assert headers["Content-Type"] == "application/gzip"
    assert "Content-Encoding" not in headers


def test_a_page_that_was_not_built_is_one_line(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(assets, "STATIC", tmp_path / "static")
    with pytest.raises(InputError, match="the viewer is not in this installation: make viewer"):
        viewer_files()


@pytest.mark.parametrize("address", ["", "viewer.js", "config.json", "release/manifest.json", "no"])
def test_every_answer_has_the_headers_that_shut_others_out(ask, address: str) -> None:
    given = ask(address).headers
    assert HEADERS.items() <= given.items()
    assert not [name for name in given if name.startswith("Access-Control")]
    assert given["Server"] == "primis"


def test_head_says_what_get_would_say(ask, made) -> None:
    bundle, data = bundle_of(made)
    for address in ("", "config.json", "release/manifest.json", bundle):
        got, asked = ask(address), ask(address, "HEAD")
        assert (asked.status, asked.body) == (200, b"")
        for name in ("Content-Length", "Content-Type"):
            assert asked.headers[name] == got.headers[name]
    assert ask(bundle, "HEAD").headers["Content-Length"] == str(len(data))
    assert ask("nothing", "HEAD")[::2] == (404, b"")


# Who gets nothing


@pytest.mark.parametrize("path", ["/", "", "/x/", "/%00/", "/favicon.ico", "/config.json", "//key"])
def test_without_the_token_there_is_nothing(ask, path: str) -> None:
    assert ask.raw(path or "*").status == 404
    assert ask.raw(ask.root[:-1]).status == 404
    assert ask.raw(ask.root[:-2] + "/").status == 404
    assert ask.raw(ask.root.upper().swapcase() + "config.json").status == 404


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "localhost:1", "", "[::1]:{port}"]
)
def test_a_name_that_leads_here_gets_nothing(ask, host: str) -> None:
    named = host.format(port=ask.server.server_port)
    assert ask(Host=named).status == 421
    assert ask("key", Host=named).status == 421
    assert ask("key").body == SECRET  # and has taken nothing


def test_loopback_is_named_in_two_ways_and_once(ask) -> None:
    port = ask.server.server_port
    assert ask(Host=f"localhost:{port}").status == 200
    request = f"GET {ask.root} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nHost: evil.example\r\n\r\n"
    for text in (request, f"GET {ask.root} HTTP/1.1\r\n\r\n", f"GET {ask.root}\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
            raw.sendall(text.encode())
            raw.shutdown(socket.SHUT_WR)
            said = raw.makefile("rb").read()
        assert said.endswith(b"expected the name of loopback as host\n")  # HTTP/0.9 has no status


@other_loopback
def test_nobody_else_can_listen_where_a_browser_looks_for_localhost(ask) -> None:
    port = ask.server.server_port
    assert urlsplit(ask.server.url).netloc == f"localhost:{port}"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("::1", port), timeout=20)
    with socket.socket(socket.AF_INET6) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for address in ("::1", "::") if sys.platform == "linux" else ("::1",):
            with pytest.raises(OSError):
                other.bind((address, port))
    by_name = http.client.HTTPConnection("localhost", port, timeout=20)
    by_name.request("GET", ask.root)
    assert by_name.getresponse().status == 200
    by_name.close()


@other_loopback
def test_a_port_of_the_other_loopback_that_somebody_has_is_refused(made) -> None:
    release = Release(made)
    site = Site({}, ReleaseFiles(release), place="x", signer=release.manifest.signer)
    with socket.socket(socket.AF_INET6) as other:
        other.bind(("::1", 0))
        other.listen()
        with pytest.raises(OutputError, match="is not available"):
            Server(site, other.getsockname()[1])


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_of_another_site_gets_nothing_even_with_the_token(ask, site: str) -> None:
    for address in ("key", "config.json", "release/manifest.json", ""):
        assert ask(address, Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors").status == 403
    opened = ask(Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate")  # as the page that starts it does
    assert opened.status == 200
    assert ask("key", Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate").status == 403
    assert ask("key", Sec_Fetch_Site="same-origin", Sec_Fetch_Mode="cors").body == SECRET


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"])
def test_other_methods_are_refused(ask, method: str) -> None:
    answer = ask.raw(ask.root + "key", method, body=b"GET /")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert answer.body == b"expected GET or HEAD\n"


def test_a_request_with_a_body_is_refused_and_the_connection_closed(ask) -> None:
    answer = ask.raw(ask.root, body=f"GET {ask.root}key HTTP/1.1\r\n\r\n".encode())
    assert (answer.status, answer.headers["Connection"]) == (400, "close")


@pytest.mark.parametrize(
    "key",
    [
        "../manifest.json",
        "pages/../manifest.json",
        "..",
        "%2e%2e/owner.key",
        "pages/%2e%2e/manifest.json",
        "pages%2f..%2fmanifest.json",
        "/etc/passwd",
        "//etc/passwd",
        "bundles/..\\..\\owner.key",
        "C:\\key",
        "bundles/" + "0" * 32 + ".primis%00.html",
        "grants/owner.key",
        "grants/../../owner.key",
        "grants/a/b.01234567.age",
        "manifest.json/",
        "manifest.json%0d%0aX:y",
        "release.lock",
        "bundles/",
        "",
    ],
)
def test_nothing_but_files_of_a_release_is_given_out(made, tmp_path, key: str) -> None:
    copy = Path(shutil.copytree(made, tmp_path / "release"))
    (tmp_path / "owner.key").write_text("no one's")
    (copy / "grants/owner.key").write_text("no one's")
    (copy / "release.lock").write_text("no one's")
    with serving(copy) as ask:
        for address in (f"release/{key}", f"assets/{key}", key):
            if address not in ("", "manifest.json/"):
                answer = ask(address)
                assert answer.status in (400, 404), address
                assert answer.body.count(b"\n") == 1


@posix
@pytest.mark.parametrize("part", ["a file", "a folder"])
def test_a_link_in_a_release_leads_to_no_file_of_the_person(made, tmp_path, part: str) -> None:
    """A release that a stranger made may come with links to whatever one guesses."""
    copy = Path(shutil.copytree(made, tmp_path / "release"))
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    page = next((copy / "pages").iterdir()).name
    for name in ("friend.01234567.age", page):
        (theirs / name).write_text("no one's")
    bundle = next((copy / "bundles").iterdir())
    shutil.copy(bundle, theirs / bundle.name)
    for name in ("grants", "pages", "bundles"):
        if part == "a folder":
            shutil.rmtree(copy / name)
            (copy / name).symlink_to(theirs)
    if part == "a file":
        bundle.unlink()
        bundle.symlink_to(theirs / bundle.name)
        (copy / "pages" / page).unlink()
        (copy / "pages" / page).symlink_to(theirs / page)
        (copy / "grants/friend.01234567.age").symlink_to(theirs / "friend.01234567.age")
    with serving(copy) as ask:
        for address in ("grants/friend.01234567.age", f"pages/{page}", f"bundles/{bundle.name}"):
            answer = ask(f"release/{address}")
            assert answer.status == 502, address
            assert b"a link" in answer.body


def test_the_key_is_given_away_once(ask) -> None:
    assert ask("key", "HEAD").status == 200
    assert ask("key").body == SECRET
    again = ask("key")
    assert (again.status, again.body.count(b"\n")) == (410, 1)
    assert ask("key", "HEAD").status == 410
    assert SECRET not in repr(ask.server.site.__dict__).encode()


def test_one_of_many_who_ask_at_once_gets_the_key(ask) -> None:
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(ask("key").status)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [200, *[410] * 19]


def test_connections_that_are_held_open_are_bounded(made, monkeypatch) -> None:
    monkeypatch.setattr(server, "_MOST_CONNECTIONS", 3)
    with serving(made) as ask:
        place = ("127.0.0.1", ask.server.server_port)
        held = [socket.create_connection(place, timeout=20) for _ in range(4)]
        assert held[3].recv(1) == b""  # closed at once, and the others are not
        held[0].close()
        held[1].sendall(f"GET {ask.root} HTTP/1.1\r\nHost: {place[0]}:{place[1]}\r\n\r\n".encode())
        assert held[1].recv(12) == b"HTTP/1.1 200"
        for one in held:
            one.close()


def test_nothing_is_logged(ask, capfd) -> None:
    ask("key")
    ask.raw("/nothing")
    ask.raw("/", "POST")
    assert capfd.readouterr() == ("", "")


# Ranges


def test_a_range_is_answered_with_its_bytes(ask, made) -> None:
    bundle, data = bundle_of(made)
    size = len(data)
    for asked, start, end in (
        ("0-99", 0, 100),
        ("100-", 100, size),
        ("-10", size - 10, size),
        (f"{size - 1}-{size + 99}", size - 1, size),
        (f"-{size + 5}", 0, size),
    ):
        answer = ask(bundle, Range=f"bytes={asked}")
        assert (answer.status, answer.body) == (206, data[start:end])
        assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{size}"
        assert answer.headers["Content-Length"] == str(end - start)


@pytest.mark.parametrize("asked", ["{size}-", "9-3", "-0", "-", "0-1,5-6", "a-b", "9" * 19 + "-"])
def test_what_is_no_range_of_the_file_is_refused(ask, made, asked: str) -> None:
    bundle, data = bundle_of(made)
    answer = ask(bundle, Range=f"bytes={asked.format(size=len(data))}")
    assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{len(data)}")
    assert answer.body == f"expected one range within {len(data)} bytes\n".encode()
    assert ask(bundle, Range="lines=0-1").status == 416


def test_ranges_of_other_files_and_large_files_in_pieces(ask, made, monkeypatch) -> None:
    monkeypatch.setattr(files, "_PIECE", 100)
    manifest = (made / "manifest.json").read_bytes()
    assert ask("release/manifest.json", Range="bytes=5-9").body == manifest[5:10]
    assert ask("viewer.js", Range="bytes=0-7").body == b"document"
    bundle, data = bundle_of(made)
    assert ask(bundle).body == data
    assert ask(bundle, Range="bytes=1-450").body == data[1:451]


# Releases on hosts


@pytest.mark.parametrize("ranges", [True, False])
def test_a_release_on_a_web_host_is_fetched_in_parts(made, tmp_path, ranges: bool) -> None:
    bundle, data = bundle_of(made)
    name = bundle.removeprefix("release/")
    said: list[str] = []
    with web_host(made, ranges=ranges) as host, serving(host.url, tell=said.append) as ask:
        host.forget()
        assert ask(bundle, Range="bytes=10-19").body == data[10:20]
        assert host.sent < (20_000 if ranges else 3 * len(data))
        for start in range(0, 100, 10):
            assert ask(bundle, Range=f"bytes={start}-{start + 9}").body == data[start : start + 10]
        assert host.asked.count(name) == (11 if ranges else 3)  # without ranges kept from then on
        assert ask(bundle).body == data
        assert json.loads(ask("release/grants/index.json").body)["grants"]
    assert bool(said) is not ranges
    assert all("serves no ranges" in line for line in said)


def test_a_release_in_a_bucket_is_fetched_in_parts(images, keys, monkeypatch) -> None:
    pytest.importorskip("obstore")
    import primis

    with s3_host(monkeypatch) as bucket:
        place = f"{bucket}/release"
        to = read_signer(keys["alice"]).recipient.text
        primis.share(images, place, to=to, owner=keys["owner"], model=TINY)
        entry = next(iter(Release(place).entries.values()))
        with serving(place) as ask:
            answer = ask(f"release/bundles/{entry.id}.primis", Range="bytes=0-9")
            assert (answer.status, len(answer.body)) == (206, 10)
            assert answer.headers["Content-Range"] == f"bytes 0-9/{entry.size}"
            whole = ask(f"release/bundles/{entry.id}.primis").body
            assert hashlib.sha256(whole).hexdigest() == entry.digest
            assert ask(f"release/pages/{'0' * 64}").status == 404


def test_a_release_that_goes_away_is_an_answer_of_one_line(made, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(web, "TRIES", 1)
    copy = Path(shutil.copytree(made, tmp_path / "release"))
    bundle, data = bundle_of(copy)
    with web_host(copy) as host, serving(host.url) as ask:
        assert ask(bundle, Range="bytes=0-9").body == data[:10]
        host.misbehave = lambda handler, path: not handler.answer(503, b"<html>\nmine")
        for address in (bundle, "release/manifest.json", "release/grants/index.json"):
            answer = ask(address)
            assert (answer.status, answer.body.count(b"\n")) == (502, 1)
            assert answer.headers["Content-Type"].startswith("text/plain")
            assert b"mine" not in answer.body
        host.misbehave = lambda handler, path: False
        (copy / bundle.removeprefix("release/")).unlink()
        assert ask(bundle).status == 404
    with serving(made) as ask:
        assert ask(f"release/pages/{'0' * 64}").status == 404


def test_a_host_that_goes_away_in_the_middle_of_a_file_leaves_it_short(
    made, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(files, "_PIECE", 100)
    monkeypatch.setattr(web, "TRIES", 1)
    bundle, data = bundle_of(made)
    said: list[str] = []
    with web_host(made) as host, serving(host.url, tell=said.append) as ask:
        ask(bundle, "HEAD")
        host.forget()
        host.misbehave = lambda handler, path: len(host.asked) > 2 and not handler.answer(503, b"")
        with pytest.raises(http.client.IncompleteRead) as error:
            ask(bundle)
    assert error.value.partial == data[:200]
    assert len(said) == 1 and "answers 503" in said[0]


# What changes while it is open


def test_a_page_that_is_loaded_again_sees_images_that_were_added(
    made, images, keys, tmp_path
) -> None:
    copy = Path(shutil.copytree(made, tmp_path / "release"))
    one = Path(shutil.copy(images / "chest-1.dcm", tmp_path / "another.dcm"))
    with serving(copy) as ask:
        before = set((copy / "bundles").iterdir())
        add(Release(copy), [one], read_signer(keys["owner"]), models=(TINY,))
        [new] = set((copy / "bundles").iterdir()) - before
        assert ask(f"release/bundles/{new.name}").body == new.read_bytes()
        assert ask("release/manifest.json").body == (copy / "manifest.json").read_bytes()


def test_another_signer_or_an_older_state_is_never_handed_on(made, images, keys, tmp_path) -> None:
    copy = Path(shutil.copytree(made, tmp_path / "release"))
    old = (copy / "manifest.json").read_bytes()
    signer = read_signer(keys["owner"])
    with serving(copy) as ask:
        rekey(Release(copy), signer)
        assert ask("release/manifest.json").status == 200
        (copy / "manifest.json").write_bytes(old)
        answer = ask("release/manifest.json")
        assert (answer.status, answer.body.count(b"\n")) == (409, 1)
        shutil.rmtree(copy)
        alice = parse_recipient(f"alice={keys['alice']}")
        other = read_signer(keys["stranger"])
        sharing.share([images], copy, [alice], other, SETTINGS, model=TINY)
        assert ask("release/manifest.json").status == 409
        shutil.rmtree(copy)
        sharing.share([images], copy, [alice], signer, SETTINGS, model=TINY)
        assert b"another release" in ask("release/manifest.json").body


def test_a_new_grant_is_listed_at_once(made, keys, tmp_path) -> None:
    copy = Path(shutil.copytree(made, tmp_path / "release"))
    with serving(copy) as ask:
        grant(Release(copy), parse_recipient(f"bob={keys['bob']}"), read_signer(keys["owner"]))
        (copy / "grants/index.json").unlink()  # a folder can be listed
        names = json.loads(ask("release/grants/index.json").body)["grants"]
        assert [name.split(".")[0] for name in names] == ["alice", "bob", "owner"]


# Keys


def test_an_age_identity_is_handed_over_as_text(keys, tmp_path) -> None:
    assert read_for_viewer(keys["alice"]).take() == keys["alice"].read_bytes()
    wide = tmp_path / "utf16.key"
    wide.write_bytes(keys["alice"].read_text().encode("utf-16"))
    assert read_for_viewer(wide).take() == keys["alice"].read_bytes()


@pytest.mark.parametrize("wrapped", [bytes, armoured])
def test_a_locked_identity_is_handed_over_as_it_is(keys, tmp_path, wrapped) -> None:
    data = wrapped(locked_by_age(keys["alice"].read_text()))
    (tmp_path / "locked.age").write_bytes(data)
    assert read_for_viewer(tmp_path / "locked.age").take() == data


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2Vw\n-----END PRIVATE KEY-----\n", "PEM"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END OPENSSH PRIVATE KEY-----\n", "SSH"),
        ("age1" + "q" * 58, "public key"),
        ("", "no private key"),
    ],
)
def test_a_key_that_no_page_can_use_is_one_line(tmp_path, text: str, what: str) -> None:
    path = tmp_path / "k"
    path.write_text(text)
    with pytest.raises(BadKey) as error:
        read_for_viewer(path)
    assert what in str(error.value) and "\n" not in str(error.value)
    assert "expected an age identity" in str(error.value)


# The browser


@posix
def test_what_a_browser_is_started_with_holds_no_token(monkeypatch) -> None:
    given: list[str] = []
    shown = threading.Event()
    monkeypatch.setattr(webbrowser, "open", lambda url: bool(given.append(url)) or shown.set())
    url, none = "http://127.0.0.1:1/token/", threading.Event()
    with browser_at(url, none.set):
        assert shown.wait(20) and none.wait(20)  # it gave nothing back: no browser
        [page] = given
        assert page.startswith("file:") and "token" not in page
        path = Path(url2pathname(urlsplit(page).path))
        assert url in path.read_text()
        for each, mode in ((path, 0o600), (path.parent, 0o700)):
            assert stat.S_IMODE(each.stat().st_mode) == mode
    assert not path.parent.exists()


@posix
def test_a_place_where_others_could_put_another_start_page_is_refused(
    tmp_path, monkeypatch
) -> None:
    tmp_path.chmod(0o777)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(OutputError, match="anybody may write"), start_page("http://x/"):
        pass


def test_no_desktop_is_no_failure(monkeypatch) -> None:
    none = threading.Event()

    def fail(url: str) -> bool:
        raise webbrowser.Error

    monkeypatch.setattr(webbrowser, "open", fail)
    with browser_at("http://127.0.0.1:1/", none.set):
        assert none.wait(20)


def test_an_address_cannot_leave_its_place_in_the_page() -> None:
    with start_page('http://x/"><script>') as page:
        text = Path(url2pathname(urlsplit(page).path)).read_text()
    assert "<script" not in text


# The command


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """Commands in this process; gives (status, output, errors)."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["primis", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main.main()
        return (int(ended.value.code or 0), *capsys.readouterr())

    return call


@posix
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_command_serves_until_it_is_ended(made, keys, tmp_path, ending) -> None:
    code = (
        "import pathlib, sys\nfrom primis.cli.main import main\nfrom primis.viewer import assets\n"
        f"assets.STATIC = pathlib.Path({str(VIEWER_PAGE)!r})\n"
        f"sys.argv = ['primis', 'view', {str(made)!r}, '-i', {str(keys['alice'])!r}]\nmain()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path), "BROWSER": "true %s"},
    )
    said = process.stdout.readline()
    url = re.search(r"http://localhost:(\d+)(/[\w-]{22}/)", said)
    connection = http.client.HTTPConnection("127.0.0.1", int(url[1]), timeout=20)
    connection.request("GET", f"{url[2]}key")
    assert connection.getresponse().read() == keys["alice"].read_bytes()
    assert list(tmp_path.glob("primis-view-*"))
    process.send_signal(ending)  # while the connection is open
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "")
    assert "AGE-SECRET" not in err and url[2] not in err
    assert "Traceback" not in err
    assert not list(tmp_path.glob("primis-view-*"))


def test_a_port_that_is_taken_is_one_line(here, made) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, _, said = here("view", made, "--no-browser", "--port", port)
        assert status == 1
        assert f'primis: port "{port}" of 127.0.0.1 is not available' in said
    release = Release(made)
    site = Site({}, ReleaseFiles(release), place="x", signer=release.manifest.signer)
    with Server(site) as one, pytest.raises(OutputError):
        Server(site, one.server_port)


@pytest.mark.parametrize(
    ("words", "status", "line"),
    [
        ([], 2, "no release: expected RELEASE, or --export FOLDER"),
        (["nowhere"], 1, 'folder "nowhere" does not exist, expected a release'),
        (["x", "--export", "y"], 2, "--export only writes the viewer, expected no RELEASE"),
        (["--port", "70000", "x"], 2, '--port is "70000", expected 1 to 65535'),
        (["{made}", "-i", "{made}"], 1, "cannot be read"),
        (["{made}", "--from", "0" * 64], 1, "expected"),
    ],
)
def test_what_is_wrong_is_one_line(here, made, words, status: int, line: str) -> None:
    ended, out, said = here("view", *(word.format(made=made) for word in words))
    assert (ended, out) == (status, "")
    assert line in next(x for x in said.splitlines() if x.startswith("primis: "))


def test_an_installation_without_the_page_says_so(here, made, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(assets, "STATIC", tmp_path / "none")
    said = here("view", made)
    line = "primis: the viewer is not in this installation: make viewer builds it\n"
    assert said == (1, "", line)
    assert here("view", "--export", "www")[0] == 1
    assert not (tmp_path / "www").exists()


def test_the_viewer_is_exported_whole_or_not_at_all(here, made, tmp_path, monkeypatch) -> None:
    assert here("view", "--export", "www", "--model", TINY)[0] == 0
    there = {p.relative_to(tmp_path / "www").as_posix() for p in (tmp_path / "www").rglob("*.*")}
    assert there == set(viewer_files([TINY]))
    assert "assets/kernel.wasm" in there and "config.json" not in there
    assert "exists, expected a new one" in here("view", "--export", "www")[2]
    assert "would lie in the release" in here("view", "--export", made / "www")[2]
    broken = {"index.html": VIEWER_PAGE / "index.html", "a/b": tmp_path / "missing"}
    with pytest.raises(OutputError):
        export(broken, tmp_path / "half")
    assert not [p for p in tmp_path.iterdir() if p.name not in ("www", "config")]


def test_the_page_on_the_viewer_runs_as_it_stands(tmp_path, capsys) -> None:
    listed = commands("docs/how-to/view.md")
    assert len(listed) >= 5
    lay_out_images(tmp_path, count=2)
    (tmp_path / "www").mkdir()
    with web_host(tmp_path / "www") as host, reader(tmp_path, capsys) as call:
        for name in ("alice", "bob"):
            call("keygen", "-o", f"{name}.key")
        for command in listed:
            call(*(w.replace("http://localhost:8000", host.url) for w in command.words))
