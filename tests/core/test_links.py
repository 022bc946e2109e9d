"""`primis grant --link`: what a link opens, for whom, and where its secrets go."""

from __future__ import annotations

import io
import json
import re
import secrets
import shutil
import sys
from pathlib import Path

import pyrage
import pytest

import primis
from primis.cli import arguments, main
from primis.cli.arguments import parse_viewer
from primis.errors import NoMatchingGrant, OtherPassphrase, TierTooLow, UsageError
from primis.jobs.share import run as sharing
from primis.keys.age_file import inspect_age
from primis.keys.age_passphrase import seal_to_passphrase
from primis.keys.identity import parse_recipient, read_signer
from primis.keys.link import WORK, Link
from tests.conftest import SETTINGS, TINY

VIEWER = "https://viewer.hospital.example/?release=https://host.example/r"


@pytest.fixture(scope="module")
def made(images, keys, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("links") / "r"
    signer, alice = read_signer(keys["owner"]), parse_recipient(f"alice={keys['alice']}")
    sharing.share([images], out, [alice], signer, SETTINGS, model=TINY)
    return out


@pytest.fixture
def release(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "r"))


@pytest.fixture
def run(tmp_path, monkeypatch, capsys, keys):
    """Commands in this process; gives (output, errors)."""
    monkeypatch.setenv("PRIMIS_OWNER_KEY", str(keys["owner"]))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)

    def call(*words: object, status: int = 0, **env: str) -> tuple[str, str]:
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
            patch.setattr(sys, "argv", ["primis", *map(str, words)])
            patch.setattr(sys, "stdin", io.StringIO())
            patch.setattr(arguments, "_remembered", [])
            for name, value in env.items():
                patch.setenv(name, value)
            main.main()
        said = capsys.readouterr()
        assert int(ended.value.code or 0) == status, said.err
        return said

    return call


def linked(run, *words: object) -> tuple[str, str | None]:
    """(link, PIN) of a new grant of the first image."""
    said, _ = run("grant", "r", "--image", "chest-1.dcm", "--link", VIEWER, *words, "--json")
    facts = json.loads(said)
    return facts["link"], facts["pin"]


def passphrase_of(link: str, pin: str | None) -> str:
    """As the page makes it."""
    secret = re.search(r"#open=([\w-]{22})(&pin)?&grant=[\w-]+$", link)
    assert bool(secret[2]) is (pin is not None)
    return secret[1] if pin is None else f"{secret[1]}-{pin}"


def test_whoever_has_link_and_pin_has_the_image_and_no_other(run, release, tmp_path) -> None:
    link, pin = linked(run)
    passphrase = passphrase_of(link, pin)
    with primis.open(release, passphrase=passphrase, models=[TINY]) as opened:
        [image] = opened
        assert (image.name, image.read("diagnostic").pixels.shape) == (
            "chest-1.dcm",
            (1, 96, 96, 1),
        )
        with pytest.raises(TierTooLow):
            image.file("original")
        with pytest.raises(NoMatchingGrant):
            primis.open(release, passphrase=secrets.token_urlsafe(16)).close()
    run("restore", "r", "--passphrase", "-o", "out", "--model", TINY, PRIMIS_PASSPHRASE=passphrase)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["chest-1.dcm"]
    wrong = f"{passphrase[:-1]}{(int(passphrase[-1]) + 1) % 10}"
    with pytest.raises(OtherPassphrase):
        primis.open(release, passphrase=wrong)
    with pytest.raises(OtherPassphrase):
        primis.open(release, passphrase=passphrase.rpartition("-")[0])


def test_a_link_to_a_region_at_tier_preview_without_a_pin(run, release) -> None:
    link, pin = linked(run, "--tier", "preview", "--region", "10,10,20,20", "--no-pin")
    assert pin is None
    with primis.open(release, passphrase=passphrase_of(link, pin), models=[TINY]) as opened:
        [image] = opened
        assert image.read("preview").pixels.shape == (1, 20, 20, 1)
        with pytest.raises(TierTooLow):
            image.read("diagnostic")


def test_link_and_pin_are_printed_on_lines_of_their_own_also_when_quiet(run, release) -> None:
    for quiet in ([], ["--quiet"]):
        said, errors = run("grant", "r", "--image", "chest-1.dcm", "--link", VIEWER, *quiet)
        _, link, pin = said.splitlines()
        assert re.fullmatch(rf"link: {re.escape(VIEWER)}#open=[\w-]{{22}}&pin&grant=link\S*", link)
        assert re.fullmatch(r"PIN, to be sent separately from the link: \d{6}", pin)
        assert "open=" not in errors


def test_secrets_are_in_the_output_and_nowhere_else(run, release, tmp_path) -> None:
    link, pin = linked(run)
    secret = passphrase_of(link, pin).removesuffix(f"-{pin}").encode()
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 5 and not any(secret in data for data in written)
    made = Link.new()
    assert repr(made) == "Link()" and made.secret not in repr(made.recipient)


def test_secrets_come_from_the_operating_system_and_a_pin_has_six_digits(monkeypatch) -> None:
    assert len({Link.new().secret for _ in range(50)}) == 50
    assert all(re.fullmatch(r"[\w-]{22}", Link.new().secret) for _ in range(50))
    monkeypatch.setattr(secrets, "randbelow", lambda most: most and 7)
    assert Link.new().pin == "000007"
    assert Link.new(pin=False).pin is None


def test_each_link_names_its_own_grant_which_the_page_tries_alone(run, release) -> None:
    links = [linked(run, "--no-pin")[0] for _ in range(3)]
    assert [link.rpartition("&grant=")[2] for link in links] == ["link", "link-2", "link-3"]
    for link in links:
        with primis.open(release, passphrase=passphrase_of(link, None), models=[TINY]) as opened:
            assert len(list(opened)) == 1


def test_rekey_ends_links(run, release) -> None:
    link, pin = linked(run)
    assert "dropped: link" in run("rekey", "r")[0]
    with pytest.raises(NoMatchingGrant):
        primis.open(release, passphrase=passphrase_of(link, pin))


def test_a_link_may_have_a_last_day(run, release) -> None:
    link, pin = linked(run, "--not-after", "2999-12-31", "--note", "for the meeting")
    said, _ = run("inspect", "r", "--passphrase", PRIMIS_PASSPHRASE=passphrase_of(link, pin))
    assert "2999-12-31" in said and "for the meeting" in said


def test_work_is_the_same_whatever_machine_seals(run, release) -> None:
    linked(run)
    [grant] = (release / "grants").glob("link.*.age")
    assert inspect_age(grant.read_bytes()).scrypt_factor == WORK == 18


@pytest.mark.parametrize("size", [0, 1, (1 << 16) - 1, 1 << 16, (1 << 16) + 1, 3 << 16])
def test_the_library_of_age_opens_what_is_sealed_here(size: int) -> None:
    payload = secrets.token_bytes(size)
    sealed = seal_to_passphrase(payload, "correct horse", 4)
    assert pyrage.passphrase.decrypt(sealed, "correct horse") == payload
    assert seal_to_passphrase(payload, "correct horse", 4) != sealed
    with pytest.raises(pyrage.DecryptError):
        pyrage.passphrase.decrypt(sealed, "correct house")
    for at in (30, len(sealed) - 1):
        altered = bytearray(sealed)
        altered[at] ^= 1
        with pytest.raises(pyrage.DecryptError):
            pyrage.passphrase.decrypt(bytes(altered), "correct horse")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--link", VIEWER], "--link opens one image, expected one --image, not 0"),
        (["--link", VIEWER, "--image", "a", "--image", "b"], "expected one --image, not 2"),
        (["--link", VIEWER, "--image", "a", "--to", "x"], "--to and --link were both given"),
        (["--to", "x", "--no-pin"], "--no-pin needs --link"),
        ([], "no recipient: expected --to KEY or --link URL"),
        (
            ["--link", VIEWER, "--image", "a", "--region", "1,1,9,9", "--tier", "original"],
            'tier "original" is the file itself, which has no regions',
        ),
        (["--link", "viewer.example", "--image", "a"], '--link is "viewer.example", expected'),
    ],
)
def test_what_makes_no_sense_is_one_line(run, release, words, line: str) -> None:
    said, errors = run("grant", "r", *words, status=2)
    assert said == ""
    assert line in next(x for x in errors.splitlines() if x.startswith("primis: "))
    assert not list((release / "grants").glob("link*"))


def test_an_image_that_is_not_there_makes_no_link(run, release) -> None:
    said, _ = run("grant", "r", "--link", VIEWER, "--image", "none.dcm", status=1)
    assert said == "" and not list((release / "grants").glob("link*"))


@pytest.mark.parametrize(
    "url",
    [
        "https://viewer.example/",
        "https://viewer.example/?release=",
        "https://viewer.example/?release=r",
        "https://viewer.example/?release=https://a.example/r&release=https://b.example/r",
        "http://viewer.example/?release=https://host.example/r",
        "https://viewer.example/?release=http://host.example/r",
        "https://viewer.example/?release=s3://bucket/r",
        "https://viewer.example/?release=https://host.example/r#open=x",
        "https://viewer.example/?release=https://host.example/r#",
        "https://user:pass@viewer.example/?release=https://host.example/r",
        "https://viewer.example/?release=https://user@host.example/r",
        "https://viewer.example/?release=https://host.example/r x",
        "https://viewer.example/?release=https://host.example/r\nx",
        "https://viewer.example:0/?release=https://host.example/r",
        "https://viewer.example:x/?release=https://host.example/r",
        "https://[viewer/?release=https://host.example/r",
        "javascript:alert(1)//?release=https://host.example/r",
        "https://viewer%2eexample/?release=https://host.example/r",
        "https://viewer.example/?release=https://viewer.exam%C2%ADple/r",
        "https://viewer.example/?release=https://viewer%E3%80%82example/r",
        "https://1.2.3.4/?release=https://16909060/r",
        "https://1.2.3.4/?release=https://0x1.2.3.4/r",
        "file:///viewer.html?release=https://host.example/r",
        "",
    ],
)
def test_what_is_no_address_of_a_viewer_with_a_release_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match=r"expected https://VIEWER/\?release=") as error:
        parse_viewer(url)
    assert "pass" not in str(error.value) and "open=" not in str(error.value)


def test_a_viewer_on_the_host_of_its_release_is_refused() -> None:
    for host in ("HOST.example:8443", "host.example."):
        with pytest.raises(UsageError, match="expected two hosts"):
            parse_viewer(f"https://host.example/view/?release=https://{host}/r")


def test_addresses_that_are_taken() -> None:
    for url in (
        VIEWER,
        "https://viewer.example:8443/x/?lang=de&release=https%3A%2F%2Fhost.example%2Fr",
        "http://localhost:8000/?release=http://127.0.0.1:9000/r",
    ):
        assert parse_viewer(url) == url
