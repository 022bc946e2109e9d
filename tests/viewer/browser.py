"""Chromium, driven by viewer/tests/e2e/driver.mjs, as a person uses it: pages of the viewer."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from tests.viewer.built import VIEWER, find_browser, install

STAGE = ".stage"
CANVAS = ".stage canvas"


class Canvas(NamedTuple):
    """mean: of the red levels; lit: share of pixels that are not black; digest: of all."""

    mean: float
    lit: float
    digest: int


class Download(NamedTuple):
    """A file that the page gave to keep."""

    name: str
    data: bytes


class Driver:
    """The process that holds the browser. version: of Chromium."""

    def __init__(self) -> None:
        browser = find_browser()
        install()
        self.process = subprocess.Popen(
            ["node", "tests/e2e/driver.mjs"],
            cwd=VIEWER,
            env=os.environ | {"CHROMIUM": browser},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.version: str = self._answer()
        self._numbers = count(1)

    def call(self, action: str, **given: Any) -> Any:
        """What an action gives. Raises AssertionError with the browser's words."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": action, **given}) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the driver of the browser has ended"
        told = json.loads(line)
        assert "error" not in told, told["error"]
        return told.get("value")

    def page(self, **look: Any) -> Page:
        """A new page with storage of its own."""
        number = next(self._numbers)
        self.call("open", page=number, **look)
        return Page(self, number)

    def end(self) -> None:
        """Close the browser."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)


class Page:
    """One tab. Opened addresses say which hosts it may ask."""

    def __init__(self, driver: Driver, number: int) -> None:
        self._driver, self._number = driver, number
        self._allowed: set[str] = set()

    def call(self, action: str, **given: Any) -> Any:
        """An action of the driver on this tab."""
        return self._driver.call(action, page=self._number, **given)

    def goto(self, url: str) -> None:
        """Open an address of the viewer."""
        release = parse_qs(urlsplit(url).query).get("release", [url])[0]
        self._allowed |= {origin(url), origin(release)}
        self.call("goto", url=url)

    def wait(self, text: str) -> None:
        """Until the page says this."""
        try:
            self.call("wait", text=text)
        except AssertionError as error:
            said = self.call("texts", selector="body")
            raise AssertionError(f"{error}\nthe page says: {said}") from None

    def wait_for(self, selector: str) -> None:
        """Until something like this is there."""
        self.call("waitFor", selector=selector)

    def text(self, selector: str) -> str:
        """All that the first element like this says."""
        said: str = self.call("content", selector=selector)
        return said

    @property
    def rows(self) -> list[str]:
        """The images of the list, as they are written there once all are listed, by name."""
        self.wait_for(".row")
        while "so far" in self.text(".count"):
            time.sleep(0.05)
        found: list[str] = self.call("texts", selector=".row")
        return found

    def show(self, name: str) -> None:
        """Choose an image of the list, and wait for it at the tier that the key opens."""
        self.choose(name)
        self.wait_until_shown()

    def choose(self, name: str) -> None:
        """Choose an image of the list."""
        self.call("clickText", text=name)

    def wait_until_shown(self) -> None:
        """Until the image is there at its best, or an error."""
        self.call("waitFor", selector=".written.top-left")
        self.call("waitFor", selector=".stage:not(:has(.loading))")

    def canvas(self, selector: str = CANVAS) -> Canvas:
        """What is drawn."""
        return Canvas(**self.call("canvas", selector=selector))

    def value_at(self, x: float, y: float) -> tuple[int, int, list[float]]:
        """Column, row and values that the page tells of the pixel below the pointer."""
        self.call("point", selector=STAGE, x=x, y=y)
        self.call("waitFor", selector=".written.bottom-left:not(:empty)")
        place, _, values = self.text(".written.bottom-left").partition(": ")
        column, row = (int(part.split()[1]) for part in place.split(", "))
        numbers = values.replace("\u2212", "-").removesuffix(" HU").split(", ")
        return column, row, [float(number) for number in numbers]

    def save(self, tier: str) -> Download:
        """The file of a tier."""
        told = self.call("download", label="Save a file of tier", option=tier)
        return Download(told["name"], base64.b64decode(told["data"]))

    @property
    def requests(self) -> list[str]:
        """Addresses of all requests so far."""
        found: list[str] = self.call("requests")
        return found

    def require_own_hosts(self) -> None:
        """Every request went to the page's own host or the release's; the page raised no error."""
        asked = [url for url in self.requests if not url.startswith(("data:", "about:"))]
        assert asked
        strange = {url for url in asked if origin(url) not in self._allowed}
        assert not strange
        assert self.call("errors") == []

    def close(self) -> None:
        """With all that it stored."""
        self.call("close")


def origin(url: str) -> str:
    """Scheme, host and port; of a blob those of the page that made it."""
    parts = urlsplit(url.removeprefix("blob:"))
    return f"{parts.scheme}://{parts.netloc}"


@contextmanager
def driven() -> Iterator[Driver]:
    """A browser for as long as the block runs."""
    driver = Driver()
    try:
        yield driver
    finally:
        driver.end()
