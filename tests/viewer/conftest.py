"""The built viewer, a browser, and a release, each made once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.viewer.browser import Driver, Page, driven
from tests.viewer.built import build, find_browser, require_node
from tests.viewer.releases import Commands, Made, make_release


@pytest.fixture(scope="session")
def static(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The viewer's files as they lie in an installation; built once for all workers."""
    require_node()
    find_browser()
    own = tmp_path_factory.getbasetemp()
    return build(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own)


@pytest.fixture(scope="session")
def run(static: Path, tmp_path_factory: pytest.TempPathFactory) -> Commands:
    return Commands(static, tmp_path_factory.mktemp("config"))


@pytest.fixture(scope="session")
def made(run: Commands, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_release(run, tmp_path_factory.mktemp("viewer"))


@pytest.fixture(scope="session")
def browser(static: Path) -> Iterator[Driver]:
    with driven() as driver:
        yield driver


@pytest.fixture
def new_page(browser: Driver) -> Iterator[Callable[..., Page]]:
    """Opens pages. Afterwards each must have asked its own host and the release's alone."""
    pages: list[Page] = []

    def new(url: str | None = None, **look: Any) -> Page:
        page = browser.page(**look)
        pages.append(page)
        if url is not None:
            page.goto(url)
        return page

    yield new
    try:
        for page in pages:
            page.require_own_hosts()
    finally:
        for page in pages:
            page.close()
