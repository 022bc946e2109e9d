"""Pages of bundles and of the sealed catalogue: one entry of many is found, and nothing is taken on
trust."""

from __future__ import annotations

from dataclasses import replace

import pytest

from primis.bundle.manifest import BundlePages, Entry, Listing, list_bundles
from primis.bundle.pages import FANOUT, MAX_PAGE, digest_of
from primis.canonical import canonical, parse_canonical
from primis.errors import BadManifest
from primis.keys.seal import Secret
from primis.release.catalogue import Catalogue, Listed, seal_catalogue

COUNT = 20_000
RELEASE = "ab" * 16
SECRET = Secret(bytes(32))


def entry(number: int) -> Entry:
    return Entry(f"{number * 7919:032x}", 1000 + number, f"{number:064x}")


@pytest.fixture(scope="module")
def tree():
    return list_bundles(entry(number) for number in reversed(range(COUNT)))


class Counted:
    """Fetches pages of a tree, and counts them and their bytes."""

    def __init__(self, pages: dict[str, bytes]) -> None:
        self.pages, self.asked, self.bytes = pages, 0, 0

    def __call__(self, digest: str, most: int) -> bytes:
        self.asked += 1
        self.bytes += len(self.pages[digest])
        assert len(self.pages[digest]) <= most
        return self.pages[digest]


def test_one_of_many_is_found_in_three_pages(tree) -> None:
    fetch, listing = Counted(tree.pages), Listing(tree.count, tree.root)
    for number in (0, 1, 127, 128, 12_345, COUNT - 1):
        assert BundlePages(listing, fetch).find(entry(number).id) == entry(number)
    assert BundlePages(listing, fetch).find("f" * 32) is None
    assert BundlePages(listing, fetch).find(f"{1:032x}") is None
    assert fetch.asked == 8 * 3
    assert fetch.bytes / 8 < 40_000


def test_upper_pages_are_fetched_once(tree) -> None:
    fetch = Counted(tree.pages)
    pages = BundlePages(Listing(tree.count, tree.root), fetch)
    for _ in range(2):
        assert pages.find(entry(0).id) and pages.find(entry(COUNT - 1).id)
    assert fetch.asked == 3 + 2


def test_ids_are_found_by_how_they_start(tree) -> None:
    fetch = Counted(tree.pages)
    pages = BundlePages(Listing(tree.count, tree.root), fetch)
    wanted = entry(12_345).id
    assert list(pages.starting_with(wanted[:30])) == [
        each for each in map(entry, range(COUNT)) if each.id.startswith(wanted[:30])
    ]
    assert list(pages.starting_with("chest.dcm")) == []
    assert fetch.asked < 10


def test_all_are_listed_in_order(tree) -> None:
    pages = BundlePages(Listing(tree.count, tree.root), Counted(tree.pages))
    assert list(pages) == [entry(number) for number in range(COUNT)]
    assert max(len(page) for page in tree.pages.values()) <= MAX_PAGE


def test_a_page_is_named_by_its_content(tree) -> None:
    victim = next(digest for digest in tree.pages if digest != tree.root)
    bad = tree.pages | {victim: tree.pages[victim][:-2] + b" }"}
    with pytest.raises(BadManifest, match="is not the one that is listed"):
        list(BundlePages(Listing(tree.count, tree.root), Counted(bad)))


def lying(tree, change) -> BundlePages:
    """The tree under a root that says something else of what lies below it."""
    body = parse_canonical(tree.pages[tree.root])
    change(body["pages"])
    root = canonical(body)
    digest = digest_of(root)
    return BundlePages(Listing(tree.count, digest), Counted(tree.pages | {digest: root}))


@pytest.mark.parametrize(
    "change",
    [
        lambda pages: pages.reverse(),
        lambda pages: pages.pop(),
        lambda pages: pages.append(pages[-1]),
        lambda pages: pages[0].update(count=1),
        lambda pages: pages[1].update(first="0" * 31 + "1"),
        lambda pages: pages[0].update(first="g" * 32),
        lambda pages: pages[0].update(more=1),
    ],
)
def test_a_page_that_contradicts_the_one_above_is_refused(tree, change) -> None:
    with pytest.raises(BadManifest):
        list(lying(tree, change))


def listed(number: int) -> Listed:
    name = f"patient {number}/chest.dcm"
    return Listed(f"{number:032x}", name, "dicom", 1, 512, 512, 1, (143_000_000, 143_000_000), "DX")


def sealed(count: int, **change: object):
    images = [replace(listed(number), **change) for number in range(count)]
    return seal_catalogue(images, SECRET, RELEASE)


def test_the_catalogue_lists_each_image_to_who_holds_the_secret() -> None:
    listing, tree = sealed(300)
    catalogue = Catalogue(listing, Counted(tree.pages), SECRET, RELEASE)
    assert list(catalogue) == [listed(number) for number in range(300)]
    assert catalogue.find(listed(200).id) == listed(200)
    assert catalogue.find("f" * 32) is None
    stranger = Catalogue(listing, Counted(tree.pages), Secret(b"x" * 32), RELEASE)
    with pytest.raises(BadManifest, match="cannot be opened"):
        list(stranger)
    with pytest.raises(BadManifest, match="cannot be opened"):
        list(Catalogue(listing, Counted(tree.pages), SECRET, "cd" * 16))


def test_no_size_of_the_catalogue_tells_of_a_name() -> None:
    sizes = set()
    for name in ("a" * 60, "b" * 150):
        listing, tree = sealed(2 * FANOUT, name=name)
        sizes.add((listing.bytes_per_image, *sorted(map(len, tree.pages.values()))))
    assert len(sizes) == 1


def test_no_two_pages_are_sealed_under_one_key() -> None:
    pages = [page for _ in range(2) for page in sealed(2 * FANOUT)[1].pages.values()]
    ids = [page[:16] for page in pages if not page.startswith(b'{"pages"')]
    assert len(set(ids)) == len(ids) == 4


def test_what_a_later_version_lists_besides_is_ignored() -> None:
    from dataclasses import asdict

    assert Listed.parse(asdict(listed(1)) | {"findings": ["effusion"]}) == listed(1)
    with pytest.raises(ValueError, match="no image"):
        Listed.parse({"id": 1})
