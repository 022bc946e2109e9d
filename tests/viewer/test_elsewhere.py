"""The exported viewer and hosts that are slow of wit, hostile, or forgetful."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from primis.bundle.container import read_header
from primis.keys.identity import read_signer
from primis.release.reader import Release
from tests.hosts import WebHost
from tests.viewer.elsewhere import link_to, release_host, viewer_host
from tests.viewer.releases import Commands, Made

Alter = Callable[[str, bytes], bytes]


@pytest.fixture(scope="module")
def viewer(run: Commands, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an exported viewer."""
    folder = tmp_path_factory.mktemp("export") / "viewer"
    run("view", "--export", folder)
    with viewer_host(folder) as url:
        yield url


@pytest.fixture
def host(made: Made, tmp_path: Path) -> Iterator[WebHost]:
    """Another host, with a copy of the release."""
    folder = Path(shutil.copytree(made.release, tmp_path / "release"))
    with release_host(folder) as host:
        yield host


@pytest.fixture
def offered(new_page, viewer: str, host: WebHost, made: Made):
    """The viewer with that release and Alice's key, whatever comes of it."""

    def open_page():
        page = new_page(link_to(viewer, host))
        offer_key(page, made)
        return page

    return open_page


def offer_key(page, made: Made) -> None:
    page.wait("Drop your key file here")
    page.call("chooseFile", button="choose a file", path=str(made.key("alice")))


# Links


def linked(run: Commands, made: Made, folder: Path, address: str, *words: str) -> dict[str, str]:
    """link and pin of a new grant of one image."""
    owner = ("--owner", made.key("owner"), "--json")
    said, _ = run("grant", folder, "--image", "chest.dcm", "--link", address, *words, *owner)
    facts: dict[str, str] = json.loads(said)
    return facts


def test_a_link_opens_one_image_with_its_pin_and_not_with_another(
    new_page, run, made, viewer, host
) -> None:
    made_link = linked(run, made, host.folder, link_to(viewer, host))
    page = new_page(made_link["link"])
    page.wait("PIN")
    assert "#" not in page.call("url")
    page.call("fill", label="PIN", text=f"{(int(made_link['pin']) + 1) % 10**6:06}")
    page.call("press", key="Enter")
    page.wait("Wrong PIN")
    assert page.call("count", selector=".row") == 0
    page.call("fill", label="PIN", text=made_link["pin"])
    page.call("press", key="Enter")
    assert len(page.rows) == 1
    page.show("chest.dcm")
    assert page.canvas().lit > 0.2
    secret = made_link["link"].partition("#open=")[2].partition("&")[0]
    assert not any(secret in text for text in [page.call("stored"), *page.requests])
    assert not any(secret in path for path in host.asked)


def test_a_link_without_a_pin_opens_at_once_and_asks_for_its_own_grant_alone(
    new_page, run, made, viewer, host
) -> None:
    links = [
        linked(run, made, host.folder, link_to(viewer, host), "--no-pin")["link"] for _ in range(2)
    ]
    host.forget()
    page = new_page(links[1])
    assert len(page.rows) == 1
    grants = {path for path in host.asked if path.startswith("grants/link")}
    assert {path.split(".")[0] for path in grants} == {"grants/link-2"}


# A host that alters what it stores


def flip(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def altered(prefix: str, at: int) -> Alter:
    """One bit of each file whose path starts like this."""
    return lambda path, body: flip(body, at) if path.startswith(prefix) else body


def section_of(made: Made, image: str, name: str) -> tuple[str, int]:
    """Where a section of an image starts: path and position."""
    bundle = made.bundle(image)
    profiles = Release(made.release).profiles
    header, at = read_header(bundle.read_bytes(), bundle.name, profiles)
    for section in header.sections:
        if section.name == name:
            break
        at += section.bytes
    return f"bundles/{bundle.name}", at


@pytest.mark.parametrize("at", [10, 100, -5], ids=["signer", "signature", "content"])
def test_an_altered_manifest_opens_nothing(offered, host, at: int) -> None:
    host.alter = altered("manifest.json", at)
    page = offered()
    page.wait("The release was altered or damaged")
    assert "manifest.json" in page.text(".problem")
    assert page.call("count", selector=".row") == 0


def test_an_altered_page_of_the_list_lists_nothing(offered, host) -> None:
    host.alter = altered("pages/", 30)
    page = offered()
    page.wait("The release was altered or damaged")
    assert "page" in page.text(".problem")
    assert page.call("count", selector=".row") == 0


def test_an_altered_grant_opens_nothing(offered, host) -> None:
    host.alter = altered("grants/alice", -20)
    page = offered()
    page.wait("No grant for this key")
    said = page.text(".problem")
    assert "/grants/alice." in said and "was altered and is passed over" in said
    assert page.call("count", selector=".row") == 0


@pytest.mark.parametrize("at", [2, 20, 30, 36], ids=["magic", "id", "profile", "height"])
def test_an_altered_header_of_a_bundle_shows_nothing(offered, host, made, at: int) -> None:
    host.alter = altered(f"bundles/{made.bundle('chest.dcm').name}", at)
    page = offered()
    page.wait_for(".thumbnail canvas")
    page.choose("chest.dcm")
    page.wait_for(".stage-error")
    assert "altered or damaged" in page.text(".stage-error strong")
    assert page.canvas().lit == 0


@pytest.mark.parametrize("name", ["info", "index", "public", "header"])
def test_an_altered_section_is_named_and_shows_nothing(offered, host, made, name: str) -> None:
    path, at = section_of(made, "chest.dcm", name)
    host.alter = altered(path, at + 3)
    page = offered()
    page.choose("chest.dcm")
    page.wait_for(".stage-error")
    assert f'section "{name}"' in page.text(".stage-error")
    assert page.canvas().lit == 0


def test_altered_values_of_tier_diagnostic_leave_the_preview_with_an_error_over_it(
    offered, host, made
) -> None:
    path, start = section_of(made, "chest.dcm", "public")
    _, end = section_of(made, "chest.dcm", "header")
    middle = (start + end) // 2
    host.alter = altered(path, middle)
    page = offered()
    page.choose("chest.dcm")
    page.wait_for(".stage-error")
    assert 'section "public"' in page.text(".stage-error")
    assert page.text(".written.top-left strong") == "Preview"


def test_an_altered_original_is_not_saved(offered, host, made) -> None:
    path, at = section_of(made, "colour.png", "original")
    host.alter = altered(path, at + 3)
    page = offered()
    page.show("colour.png")
    page.call("select", label="Save a file of tier", option="original")
    page.wait('section "original"')


# A host that goes back


def test_another_signer_the_second_time_is_an_error_until_it_is_accepted(
    offered, run, host, made, tmp_path
) -> None:
    page = offered()
    page.wait("Seen for the first time")
    before = page.text(".signer code")
    alice, owner = read_signer(made.key("alice")).recipient.text, ("--owner", made.key("other"))
    run("share", made.folder / "images/mask.png", "--to", alice, *owner, "-o", tmp_path / "other")
    host.folder = tmp_path / "other"
    page.call("reload")
    offer_key(page, made)
    page.wait("This is not the release that you saw before")
    assert before in page.text(".problem")
    assert page.call("count", selector=".row") == 0
    page.call("click", name="Accept what is there now")
    assert len(page.rows) == 1


def test_an_older_state_the_second_time_is_an_error(offered, run, host, made, tmp_path) -> None:
    elsewhere = replace(run, config=tmp_path / "config")  # others go on with the first state
    elsewhere("rekey", host.folder, "--owner", made.key("owner"))
    page = offered()
    page.wait_for(".row")
    host.folder = made.release
    page.call("reload")
    offer_key(page, made)
    page.wait("is an older state, version 1; version 2 was seen")
    assert page.call("count", selector=".row") == 0


# A host that does less


def test_without_cors_the_page_says_what_the_host_has_to_send(offered, host) -> None:
    host.headers.clear()
    page = offered()
    page.wait("The host does not let this page read the release")
    said = page.text(".problem")
    assert f'"Access-Control-Allow-Origin: {page.call("url").split("/?")[0]}"' in said
    assert "Access-Control-Allow-Headers: Range" in said
    assert page.call("count", selector=".row") == 0


def test_without_ranges_whole_files_come_and_that_is_said_once(offered, host) -> None:
    host.ranges = False
    page = offered()
    page.wait_for(".thumbnail canvas")
    page.show("chest.dcm")
    page.show("ct")
    assert page.canvas().lit > 0.2
    notes = page.call("texts", selector=".notes li")
    assert len([note for note in notes if "whole files" in note]) == 1
