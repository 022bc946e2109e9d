"""Releases in a bucket and on a web host, through the library and the command line."""

from __future__ import annotations

import json
import secrets
import shutil
from pathlib import Path

import numpy as np
import pytest

import primis
from primis.bundle.manifest import Entry
from primis.cli.main import main
from primis.errors import (
    BadBundle,
    BadGrant,
    BadManifest,
    DamagedSection,
    HostError,
    NoMatchingGrant,
    OutputError,
    UnexpectedRelease,
    UsageError,
)
from primis.jobs.add import add
from primis.jobs.rekey.run import rekey
from primis.jobs.restore import restore
from primis.jobs.share import run as sharing
from primis.keys.identity import parse_recipient, read_identities, read_signer
from primis.release.catalogue import Listed
from primis.release.owner import grant, owner_scope
from primis.release.reader import Release, bundle_key
from primis.release.verify import verify
from primis.release.writer import Contents, write_contents
from primis.stores import web
from primis.stores.places import open_store
from tests.conftest import SETTINGS, TINY
from tests.documented import commands, lay_out_images, reader
from tests.hosts import WebHost, s3_host, web_host

pytest.importorskip("obstore")


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PRIMIS_WORK", str(tmp_path / "work"))
    monkeypatch.setattr(web, "LONGEST_PAUSE", 0)


@pytest.fixture(scope="module")
def made(images, keys, tmp_path_factory) -> Path:
    """A release with originals, for alice up to all tiers and bob at tier preview."""
    out = tmp_path_factory.mktemp("remote") / "release"
    signer, alice = read_signer(keys["owner"]), parse_recipient(f"alice={keys['alice']}")
    sharing.share(
        [images], out, [alice], signer, SETTINGS, tier="original", with_original=True, model=TINY
    )
    grant(Release(out), parse_recipient(f"bob={keys['bob']}"), signer, tier="preview")
    return out


@pytest.fixture
def host(made: Path, tmp_path: Path):
    with web_host(Path(shutil.copytree(made, tmp_path / "www/release")).parent) as running:
        yield running


@pytest.fixture
def bucket(monkeypatch):
    with s3_host(monkeypatch) as url:
        yield f"{url}/release"


def share_to(place: str, images: Path, keys, **options) -> list:
    to = read_signer(keys["alice"]).recipient.text
    return primis.share(images, place, to=to, owner=keys["owner"], model=TINY, **options)


def restored(place, key: Path, out: Path, **options) -> list:
    return restore(Release(place), read_identities(key), out, models=(TINY,), **options)


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_release_is_restored_from_a_web_host_as_from_its_folder(host, made, keys, tmp_path):
    for tier in ("preview", "diagnostic", "original"):
        here, there = tmp_path / f"here-{tier}", tmp_path / f"there-{tier}"
        assert not [r for r in restored(made, keys["alice"], here, tier=tier) if r.error]
        restored(f"{host.url}/release", keys["alice"], there, tier=tier)
        assert files(there) == files(here)


def test_a_release_is_shared_to_a_bucket_and_opened_there(bucket, images, keys, tmp_path):
    assert [r.error for r in share_to(bucket, images, keys)] == [None, None]
    with primis.open(bucket, keys["alice"], models=[TINY]) as release:
        assert sorted(image.name for image in release) == ["chest-1.dcm", "chest-2.dcm"]
        assert release["chest-1.dcm"].read().pixels.shape == (1, 96, 96, 1)
    assert not list((tmp_path / "work").iterdir())
    with pytest.raises(NoMatchingGrant):
        primis.open(bucket, keys["bob"])
    primis.grant(bucket, to=read_signer(keys["bob"]).recipient.text, owner=keys["owner"])
    assert len(primis.open(bucket, keys["bob"])) == 2


def test_the_manifest_goes_up_last_and_grants_before_it(bucket, images, keys, monkeypatch):
    from primis.stores.bucket import BucketStore

    sent: list[str] = []
    plain = BucketStore._put
    monkeypatch.setattr(
        BucketStore, "_put", lambda self, key, *more: (sent.append(key), plain(self, key, *more))
    )
    share_to(bucket, images, keys)
    parts = [key.split("/")[0] for key in sent]
    assert list(dict.fromkeys(parts)) == ["bundles", "pages", "grants", "manifest.json"]


def test_a_place_that_is_taken_is_left_alone(bucket, images, keys) -> None:
    share_to(bucket, images, keys)
    before = Release(bucket).digest
    with pytest.raises(OutputError, match="holds a release already"):
        share_to(bucket, images, keys)
    assert Release(bucket).digest == before


def test_a_release_that_another_put_there_meanwhile_stays(bucket, images, keys, monkeypatch):
    store = open_store(bucket)
    plain = sharing.write_contents

    def and_another(*given):
        store.put("manifest.json", b"another's")
        return plain(*given)

    monkeypatch.setattr(sharing, "write_contents", and_another)
    with pytest.raises(OutputError, match="somebody else put a release"):
        share_to(bucket, images, keys)
    assert store.get("manifest.json", 100).data == b"another's"


def test_a_grant_that_was_sent_and_is_not_wanted_any_more_is_told(
    bucket, images, keys, monkeypatch, caplog
) -> None:
    from primis.stores.bucket import BucketStore

    plain = BucketStore.put_new

    def breaks(self, key: str, data: bytes) -> None:
        raise HostError(key, "the host cannot be reached")

    monkeypatch.setattr(BucketStore, "put_new", breaks)  # the manifest, which goes last
    with pytest.raises(HostError):
        share_to(bucket, images, keys)
    monkeypatch.setattr(BucketStore, "put_new", plain)
    primis.share(images, bucket, to=[], owner=keys["owner"], model=TINY)
    [said] = [record.getMessage() for record in caplog.records if record.name == "primis"]
    assert said.startswith('a grant to "age-')
    assert "lay on the host when an earlier call was interrupted" in said
    assert Release(bucket).labels() == ["owner"]


def test_an_upload_that_was_cut_off_goes_on(bucket, images, keys, monkeypatch) -> None:
    from primis.stores.bucket import BucketStore

    sent: list[str] = []
    plain = BucketStore.put

    def breaks(self, key: str, data: bytes) -> None:
        if key.startswith("pages"):
            raise HostError(key, "the host cannot be reached")
        sent.append(key)
        plain(self, key, data)

    monkeypatch.setattr(BucketStore, "put", breaks)
    with pytest.raises(HostError):
        share_to(bucket, images, keys)
    assert len(sent) == 2
    with pytest.raises(BadManifest, match="not a release"):
        Release(bucket)
    monkeypatch.setattr(
        BucketStore, "put", lambda s, key, data: (sent.append(key), plain(s, key, data))
    )
    results = share_to(bucket, images, keys)
    assert all(r.resumed for r in results)
    assert len([key for key in sent if key.startswith("bundles")]) == 2
    store, listed = open_store(bucket), Release(bucket)
    assert set(store.list("bundles")) == {f"{i}.primis" for i in listed.ids}
    assert len(store.list("grants")) == 3
    assert len(store.list("pages")) == 2


def test_rekey_on_a_bucket_leaves_nothing_that_old_keys_open(bucket, images, keys, tmp_path):
    share_to(bucket, images, keys)
    signer, before = read_signer(keys["owner"]), Release(bucket)
    assert len(before.ids) == 2
    grant(before, parse_recipient(f"bob={keys['bob']}"), signer)
    done = rekey(Release(bucket), signer, without=["bob"])
    assert (done.dropped, done.still_there) == (["bob"], [])
    after = Release(bucket)
    assert after.manifest.version == 2 and not set(after.ids) & set(before.ids)
    assert set(open_store(bucket).list("bundles")) == {f"{i}.primis" for i in after.ids}
    assert len(restored(bucket, keys["alice"], tmp_path / "a")) == 2
    with pytest.raises(NoMatchingGrant):
        after.open_grants(read_identities(keys["bob"]))
    with pytest.raises(BadManifest, match="was changed while it was read"):
        before.bundle(before.ids[0])
    assert not list((tmp_path / "work").iterdir())


def test_images_are_added_on_a_bucket(bucket, images, keys, tmp_path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, name in ((one, "chest-1.dcm"), (two, "chest-2.dcm")):
        folder.mkdir()
        shutil.copy(images / name, folder)
    share_to(bucket, one, keys)
    add(Release(bucket), [two], read_signer(keys["owner"]), models=(TINY,))
    assert len(restored(bucket, keys["alice"], tmp_path / "out")) == 2
    assert len(open_store(bucket).list("pages")) == 2


def test_two_who_change_a_bucket_at_once_lose_nothing(bucket, images, keys) -> None:
    share_to(bucket, images, keys)
    signer, stale = read_signer(keys["owner"]), Release(bucket)
    rekey(Release(bucket), signer)
    stale.again = lambda: stale
    with pytest.raises((OutputError, BadGrant, BadManifest)):
        rekey(stale, signer)
    assert Release(bucket).manifest.version == 2


def preview_of_one(place: str, key: Path) -> np.ndarray:
    release = primis.open(place, key, models=[TINY], remember=False)
    [*_, image] = release
    return image.read("preview").pixels


@pytest.mark.parametrize("ranges", [True, False])
def test_a_preview_beside_an_original_takes_few_requests(host, made, keys, ranges) -> None:
    for path in (made / "bundles").iterdir():
        assert path.stat().st_size > 1 << 14, "too small to be worth ranges"
    host.ranges = ranges
    there = preview_of_one(f"{host.url}/release", keys["bob"])
    assert np.array_equal(there, preview_of_one(str(made), keys["bob"]))
    assert len(host.asked) <= 8
    if ranges:
        assert host.sent < 24_000


@pytest.mark.parametrize(("count", "most"), [(1_000, 40_000), (160_000, 120_000)])
def test_a_preview_in_a_large_release_takes_few_requests(
    host, keys, signer, count: int, most: int
) -> None:
    folder = host.folder / "release"
    small = Release(folder)
    scope = owner_scope(small, signer)
    there = list(small.entries.values())
    others = [Entry(secrets.token_hex(16), 6000, secrets.token_hex(32)) for _ in range(count - 2)]
    entries = [*there, *others]
    listed = [Listed(e.id, f"{k}.dcm", "dicom", 1, 512, 512, 1) for k, e in enumerate(entries)]
    contents = Contents(entries, listed, small.manifest.profiles)
    write_contents(folder, contents, scope, signer, 2, "2026-01-01T00:00:00Z")
    wanted = there[0].id
    place = f"{host.url}/release"
    image = primis.open(place, keys["bob"], models=[TINY], remember=False)[wanted]
    assert image.read("preview").pixels.shape == (1, 96, 96, 1)
    assert len(host.asked) <= 8
    assert host.sent <= most


@pytest.mark.parametrize("at", [3, 30, 45, 60, 100, 300])
def test_a_flipped_byte_in_a_range_is_an_error_that_names_the_image(host, keys, at: int) -> None:
    release = primis.open(f"{host.url}/release", keys["bob"], models=[TINY])
    [image, _] = release

    def flipped(path: str, body: bytes) -> bytes:
        if not path.startswith("release/bundles"):
            return body
        return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]

    host.alter = flipped
    with pytest.raises((BadBundle, DamagedSection)) as raised:
        image.read("preview")
    assert image.id in str(raised.value)


def test_a_bundle_in_place_of_another_is_an_error(host, keys) -> None:
    release = primis.open(f"{host.url}/release", keys["bob"], models=[TINY])
    first, second = release
    other = (host.folder / "release" / bundle_key(second.id)).read_bytes()
    host.alter = lambda path, body: other if path.startswith("release/bundles") else body
    with pytest.raises((BadBundle, DamagedSection)):
        first.read("preview")


def test_a_web_host_is_not_shared_to(host, images, keys) -> None:
    with pytest.raises(UsageError, match="only read"):
        share_to(f"{host.url}/new", images, keys)


def test_an_older_state_on_a_host_is_refused(host, made, keys, signer, tmp_path) -> None:
    place = f"{host.url}/release"
    newer = Path(shutil.copytree(made, tmp_path / "newer"))
    rekey(Release(newer), signer)
    old = host.folder / "release"
    old.rename(host.folder / "old")
    newer.rename(old)
    primis.open(place, keys["alice"])
    old.rename(tmp_path / "away")
    (host.folder / "old").rename(old)
    with pytest.raises(UnexpectedRelease, match="older state"):
        primis.open(place, keys["alice"])


def run(capsys, *given: str) -> tuple[int, str, str]:
    import sys
    from unittest.mock import patch

    with patch.object(sys, "argv", ["primis", *given]), pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, *capsys.readouterr()


def test_every_command_takes_a_url(bucket, images, keys, tmp_path, capsys) -> None:
    key, owner = str(keys["alice"]), str(keys["owner"])
    to, model = f"alice={keys['alice']}", str(TINY)
    shared = ("share", str(images), "--to", to, "-o", bucket, "--owner", owner, "--model", model)
    status, said, _ = run(capsys, *shared)
    assert (status, said.split(" (")[0]) == (0, f'shared 2 of 2 images in "{bucket}"')
    status, said, _ = run(capsys, "grant", bucket, "--to", f"bob={keys['bob']}", "--owner", owner)
    assert status == 0 and f'"{bucket}/grants/bob.' in said
    status, said, _ = run(capsys, "inspect", bucket, "-i", key, "--json")
    assert status == 0 and len(json.loads(said)["names"]) == 2
    out = str(tmp_path / "out")
    status, said, _ = run(capsys, "restore", bucket, "-i", key, "-o", out, "--model", model)
    assert status == 0 and "restored 2" in said
    status, said, _ = run(capsys, "rekey", bucket, "--owner", owner)
    assert status == 0 and "has new secrets" in said
    status, _, said = run(capsys, *shared)
    assert status == 1 and "holds a release already" in said
    assert "not-a-real-secret" not in said


@pytest.mark.parametrize(
    "place", ["https://localhost:9/x", "s3://no-such-bucket/x", "ftp://host/x", "https://"]
)
def test_a_place_that_is_none_is_one_line(bucket, place: str, keys, tmp_path, capsys) -> None:
    out = str(tmp_path / "o")
    status, _, said = run(capsys, "restore", place, "-i", str(keys["alice"]), "-o", out, "-q")
    assert status in (1, 2)
    assert "Traceback" not in said
    lines = [line for line in said.splitlines() if not line.startswith("warning: key file")]
    assert lines[0].startswith("primis: ") and len(lines) <= 2
    assert not Path(out).exists()


def test_a_host_that_goes_away_in_the_middle_ends_the_run_and_it_goes_on(
    host: WebHost, keys, tmp_path
) -> None:
    place, out = f"{host.url}/release", tmp_path / "out"
    gone: list[str] = []

    def away(handler, path: str) -> bool:
        if path.startswith("release/bundles") and (gone or not path.endswith(first)):
            gone.append(path)
            handler.answer(503, b"")
            return True
        return False

    first = Release(place).ids[0] + ".primis"
    host.misbehave = away
    with pytest.raises(HostError, match="answers 503"):
        restored(place, keys["alice"], out)
    host.misbehave = lambda handler, path: False
    results = restored(place, keys["alice"], out)
    assert [r.error for r in results] == [None, None]


def test_verify_reads_all_and_says_what_is_wrong(made, tmp_path) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "r"))
    sound = verify(Release(folder))
    assert (sound.bundles, sound.grants, sound.wrong, sound.unlisted) == (2, 3, [], [])
    first, second = sorted((folder / "bundles").iterdir())
    data = first.read_bytes()
    first.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    shutil.copy(second, folder / "bundles" / ("0" * 32 + ".primis"))
    (folder / "grants/index.json").write_text('{"format":1,"grants":[]}')
    found = verify(Release(folder))
    assert found.bundles == 1
    assert first.stem in found.wrong[0] and "index.json" in found.wrong[1]
    assert found.unlisted == ["0" * 32 + ".primis"]


def test_verify_needs_no_key_and_exits_with_1(host, capsys) -> None:
    place = f"{host.url}/release"
    status, said, _ = run(capsys, "verify", place)
    assert status == 0 and said.startswith("2 of 2 bundles")
    page = Release(place).manifest.catalogue.page
    host.alter = lambda path, body: body[:-1] + b"x" if path.endswith(page) else body
    status, said, told = run(capsys, "verify", place, "--json")
    assert status == 1 and json.loads(said)["bundles"] == 2
    assert "catalogue" in told


@pytest.fixture
def readers(tmp_path: Path, capsys, monkeypatch):
    """Somebody who follows a page, with a bucket and a web server in the folder."""
    (tmp_path / "www").mkdir()
    lay_out_images(tmp_path, count=2)
    with s3_host(monkeypatch), web_host(tmp_path / "www") as web, reader(tmp_path, capsys) as call:
        for name in ("alice", "bob"):
            call("keygen", "-o", f"{name}.key")
        yield lambda *words: call(*(w.replace("http://localhost:8000", web.url) for w in words))


def test_the_page_on_publishing_runs_as_it_stands(readers) -> None:
    listed = commands("docs/how-to/publish.md")
    assert len(listed) >= 8
    for command in listed:
        readers(*command.words)
