"""What every store must do: the same tests for a folder, a bucket and a web host."""

import os
import pickle
import ssl
import time
from pathlib import Path

import pytest
import trustme

from primis.bundle.ranged import RangedBytes, Span
from primis.errors import Changed, HostError, NotThere, OutputError, StoreError, UsageError
from primis.release.grants import is_grant
from primis.stores import web
from primis.stores.bucket import BucketStore
from primis.stores.local import LocalStore
from primis.stores.places import is_url, names_of, open_store
from primis.stores.store import Range, Store, ahead
from primis.stores.web import WebStore
from tests.hosts import WebHost, s3_host, web_host

BODY = bytes(range(256)) * 4


@pytest.fixture(params=["folder", "bucket"])
def written(request, tmp_path: Path, monkeypatch):
    if request.param == "folder":
        yield LocalStore(tmp_path / "release")
        return
    pytest.importorskip("obstore")
    with s3_host(monkeypatch) as url:
        yield open_store(f"{url}/some/release")


@pytest.fixture(params=["folder", "bucket", "web", "web without ranges"])
def read(request, tmp_path: Path, monkeypatch):
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages/one").write_bytes(BODY)
    if request.param == "folder":
        yield LocalStore(tmp_path)
    elif request.param == "bucket":
        pytest.importorskip("obstore")
        with s3_host(monkeypatch) as url:
            store = open_store(url)
            store.put("pages/one", BODY)
            yield store
    else:
        with web_host(tmp_path, ranges=request.param == "web") as host:
            yield open_store(host.url)


@pytest.fixture
def quick(monkeypatch) -> None:
    monkeypatch.setattr(web, "LONGEST_PAUSE", 0)


def test_files_are_read_whole_and_in_ranges(read: Store) -> None:
    assert read.get("pages/one", len(BODY)).data == BODY
    wanted = [Range(1000, 1024), Range(0, 3)]
    assert read.get_ranges("pages/one", wanted, len(BODY)) == [BODY[1000:], BODY[:3]]
    with pytest.raises(StoreError, match="has more than 1000 bytes"):
        read.get("pages/one", 1000)
    with pytest.raises(NotThere):
        read.get("pages/two", 10)
    with pytest.raises(NotThere):
        read.get_ranges("pages/two", wanted, len(BODY))


def test_a_range_beyond_the_end_is_an_error(read: Store, quick) -> None:
    with pytest.raises(StoreError):
        read.get_ranges("pages/one", [Range(1000, 1030)], len(BODY))


def test_files_are_written_listed_and_removed(written: Store) -> None:
    assert written.list("bundles") == {}
    written.put("bundles/a", BODY)
    written.put("bundles/a", b"other")
    written.put("bundles/below/b", b"")
    assert written.list("bundles") == {"a": 5}
    assert written.get("bundles/a", 5).data == b"other"
    written.delete("bundles/a")
    written.delete("bundles/a")
    assert written.list("bundles") == {}


def test_what_another_put_there_is_not_overwritten(written: Store) -> None:
    written.put_new("manifest.json", b"first")
    with pytest.raises(Changed, match="there already"):
        written.put_new("manifest.json", b"second")
    tag = written.get("manifest.json", 10).tag
    written.replace("manifest.json", b"second", tag)
    with pytest.raises(Changed, match="changed meanwhile"):
        written.replace("manifest.json", b"third", tag)
    assert written.get("manifest.json", 10).data == b"second"


@pytest.mark.skipif(os.name != "posix", reason="needs links")
def test_nothing_is_written_or_removed_through_a_link(tmp_path: Path) -> None:
    """Whoever stores the release may have laid one to a folder of its owner."""
    theirs, release = tmp_path / "theirs", tmp_path / "release"
    theirs.mkdir()
    (theirs / "index.json").write_text("no one's")
    release.mkdir()
    (release / "grants").symlink_to(theirs)
    store = LocalStore(release)
    for change in (
        lambda: store.put("grants/index.json", b""),
        lambda: store.put_new("grants/new", b""),
        lambda: store.delete("grants/index.json"),
    ):
        with pytest.raises((OutputError, StoreError), match="a link"):
            change()
    assert [path.name for path in theirs.iterdir()] == ["index.json"]
    assert (theirs / "index.json").read_text() == "no one's"


def test_a_store_travels_to_another_process(read: Store) -> None:
    again = pickle.loads(pickle.dumps(read))
    assert again.get("pages/one", len(BODY)).data == BODY


@pytest.mark.parametrize(
    "place", ["ftp://host/x", "s3://", "https://user:secret@host/x", "https://host/x?token=secret"]
)
def test_other_places_are_refused_without_their_secrets(place: str) -> None:
    with pytest.raises(UsageError) as raised:
        open_store(place)
    assert "secret" not in str(raised.value)


def test_a_place_is_remembered_by_one_name() -> None:
    assert names_of("HTTPS://Host.Example/Release/") == ["https://host.example/Release"]
    assert is_url("s3://bucket/x")
    assert not is_url("C:\\releases\\x") and not is_url(Path("s3:/bucket"))


def test_credentials_are_in_no_error_and_no_repr(monkeypatch) -> None:
    pytest.importorskip("obstore")
    with s3_host(monkeypatch) as url:
        store = open_store(url)
        with pytest.raises(HostError, match="no such bucket") as raised:
            open_store("s3://another/release").get("manifest.json", 10)
    said = f"{store!r} {raised.value!r} {raised.value}"
    assert "not-a-real-secret" not in said and "\n" not in said


def test_a_bucket_that_cannot_be_reached_is_one_line(monkeypatch) -> None:
    pytest.importorskip("obstore")
    monkeypatch.setattr("primis.stores.bucket.TRIES", 1)
    with s3_host(monkeypatch):
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:9")
        with pytest.raises(HostError, match="cannot be reached"):
            open_store("s3://bucket/x").get("manifest.json", 10)


@pytest.fixture
def host(tmp_path: Path):
    (tmp_path / "one").write_bytes(BODY)
    with web_host(tmp_path) as running:
        yield running


def test_a_redirect_to_another_host_is_refused(host: WebHost) -> None:
    def away(handler, path: str) -> bool:
        handler.answer(302, b"", {"Location": f"http://127.0.0.1:{host.port}/one"})
        return True

    host.misbehave = away
    with pytest.raises(HostError, match=r'redirects to "http://127.0.0.1:\d+", another host'):
        WebStore(host.url).get("one", 2000)


def test_a_redirect_within_the_host_is_followed(host: WebHost) -> None:
    def moved(handler, path: str) -> bool:
        if path != "old":
            return False
        handler.answer(301, b"", {"Location": "/one"})
        return True

    host.misbehave = moved
    assert WebStore(host.url).get("old", 2000).data == BODY
    host.misbehave = lambda handler, path: handler.answer(302, b"", {"Location": "/x"}) or True
    with pytest.raises(HostError, match="without end"):
        WebStore(host.url).get("old", 2000)


def test_a_host_that_stumbles_is_tried_again_and_told(host: WebHost, quick) -> None:
    answers = iter([503, 429, None])

    def busy(handler, path: str) -> bool:
        status = next(answers)
        if status:
            handler.answer(status, b"")
        return bool(status)

    host.misbehave = busy
    store, told = WebStore(host.url), []
    store.tell = told.append
    assert store.get("one", 2000).data == BODY
    assert [line.split(": ")[1] for line in told] == [
        "trying again (2 of 5)",
        "trying again (3 of 5)",
    ]


@pytest.mark.parametrize("way", ["goes away", "short range", "other range"])
def test_a_host_that_sends_something_else_is_an_error(host: WebHost, quick, way: str) -> None:
    def misbehave(handler, path: str) -> bool:
        if way == "goes away":
            handler.send_response(200)
            handler.send_header("Content-Length", "1024")
            handler.end_headers()
            handler.wfile.write(BODY[:100])
            handler.close_connection = True
        else:
            span = {"short range": "bytes 0-9/1024", "other range": "bytes 10-29/1024"}[way]
            handler.answer(206, BODY[:10], {"Content-Range": span})
        return True

    host.misbehave = misbehave
    with pytest.raises(HostError, match="5 tries"):
        WebStore(host.url).get_ranges("one", [Range(0, 20)], len(BODY))


def test_a_host_that_refuses_is_not_asked_again(host: WebHost) -> None:
    host.misbehave = lambda handler, path: handler.answer(403, b"") or True
    with pytest.raises(HostError, match="refuses it \\(403"):
        WebStore(host.url).get("one", 2000)
    assert len(host.asked) == 1


def test_a_host_without_ranges_is_told_once(host: WebHost) -> None:
    host.ranges = False
    store, told = WebStore(host.url), []
    store.tell = told.append
    for _ in range(2):
        store.get_ranges("one", [Range(0, 20), Range(100, 120)], len(BODY))
    assert told == [f'"{host.url}" serves no ranges: whole files are fetched']


def test_a_certificate_must_verify(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "one").write_bytes(BODY)
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with web_host(tmp_path, certificate=context) as host:
        with pytest.raises(HostError, match="certificate does not verify"):
            WebStore(host.url).get("one", 2000)
        with authority.cert_pem.tempfile() as trusted:
            monkeypatch.setenv("SSL_CERT_FILE", trusted)
            assert WebStore(host.url).get("one", 2000).data == BODY


def test_a_web_host_that_is_not_there_is_told(quick) -> None:
    with pytest.raises(HostError, match=r"cannot be reached \(5 tries\)"):
        WebStore("http://localhost:9").get("one", 10)


def test_a_web_host_is_only_read(host: WebHost) -> None:
    store = WebStore(host.url)
    for call in (store.put, store.put_new):
        with pytest.raises(StoreError, match="only read"):
            call("one", b"")
    with pytest.raises(HostError, match="lists no files"):
        store.list("bundles")


def test_what_is_fetched_ahead_comes_in_order_and_fails_in_its_place() -> None:
    def call(number: int) -> int:
        if number == 40:
            raise NotThere("x", "gone")
        return number

    fetched = list(ahead(call, range(100)))
    assert [one.result() for k, one in enumerate(fetched) if k != 40] == [
        k for k in range(100) if k != 40
    ]
    with pytest.raises(NotThere):
        fetched[40].result()


def test_obstore_is_named_where_it_is_missing(monkeypatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(StoreError, match=r"primis\[remote\]"):
        BucketStore("s3://bucket/x")


@pytest.mark.parametrize("status", [200, 404])
def test_an_answer_that_never_ends_is_given_up(host: WebHost, quick, monkeypatch, status) -> None:
    monkeypatch.setattr(web, "READ_SECONDS", 0.2)
    monkeypatch.setattr(web, "_SLOWEST", 10**9)
    monkeypatch.setattr(web, "TRIES", 1)

    def trickle(handler, path: str) -> bool:
        handler.send_response(status)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        for _ in range(40):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.05)
        return True

    host.misbehave = trickle
    start = time.monotonic()
    with pytest.raises(StoreError):
        WebStore(host.url).get("one", 2_000_000)
    assert time.monotonic() - start < 30  # it would be hours


def test_a_redirect_to_no_url_is_an_error(host: WebHost) -> None:
    host.misbehave = lambda handler, path: (
        handler.answer(302, b"", {"Location": "http://["}) or True
    )
    with pytest.raises(HostError, match="no URL"):
        WebStore(host.url).get("one", 2000)


def test_a_host_without_ranges_sends_a_file_once(host: WebHost) -> None:
    host.ranges = False
    spans = [Range(k, k + 4) for k in range(0, 400, 8)]
    parts = WebStore(host.url).get_ranges("one", spans, len(BODY))
    assert parts == [BODY[k : k + 4] for k in range(0, 400, 8)]
    assert len(host.asked) == 2


def test_more_than_a_range_is_not_read(host: WebHost, quick) -> None:
    def generous(handler, path: str) -> bool:
        handler.answer(206, bytes(50_000), {"Content-Range": "bytes 0-9/1024"})
        return True

    host.misbehave = generous
    with pytest.raises(HostError, match="11 bytes came for bytes 0 to 9"):
        WebStore(host.url).get_ranges("one", [Range(0, 10)], 1 << 30)


@pytest.mark.parametrize(
    "place",
    ["http://[::1/x", "http://host:abc/x", "https://exa mple/x", "s3://b/../x", "s3://b/a%20"],
)
def test_what_is_no_url_is_refused_before_anything_is_asked(place: str) -> None:
    with pytest.raises(UsageError, match="no sound URL"):
        open_store(place)


def test_a_proxy_is_taken_from_the_environment(host: WebHost, monkeypatch) -> None:
    monkeypatch.setenv("http_proxy", f"user:word@localhost:{host.port}")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(NotThere):
        WebStore("http://far.example/release").get("one", 10)
    assert host.asked == ["http://far.example/release/one"]
    monkeypatch.setenv("http_proxy", "socks5://localhost:1")
    with pytest.raises(StoreError, match="HTTP_PROXY"):
        WebStore("http://far.example/release")


def test_a_bucket_that_lists_without_end_is_given_up(monkeypatch) -> None:
    pytest.importorskip("obstore")
    with s3_host(monkeypatch) as url:
        store = open_store(url)
        for k in range(5):
            store.put(f"grants/{k}", b"")
        with pytest.raises(HostError, match="more than 3 files"):
            store.list("grants", 3)


def test_many_parts_are_fetched_as_one() -> None:
    asked: list[int] = []
    data = bytes(range(256)) * 8000

    def fetch(spans):
        asked.append(len(spans))
        return [data[s.start : s.end] for s in spans]

    file = RangedBytes(len(data), fetch)
    file.want([Span(k, k + 1) for k in range(0, len(data), 5000)])
    assert asked == [1] and file[10_000:10_001] == data[10_000:10_001]


def test_a_hostile_index_of_grants_names_none(tmp_path: Path) -> None:
    names = ["a.\x01\x02aaaaaa.age", "../../x.12345678.age", "b.1234567g.age", "c.12345678.age"]
    for name in [*names, names[-1]]:
        assert is_grant(name) == (name == names[-1])
