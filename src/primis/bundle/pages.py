"""Lists of any length as a tree of pages, each named by its digest (docs/format.md, section 3).

A leaf lists up to `FANOUT` entries, an inner page up to as many pages below it. The root's digest
is vouched for by the manifest, so each page is verified before it is parsed, and looking up one
entry of 160,000 reads three pages.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TypeVar

from primis.bundle import fields
from primis.canonical import canonical, parse_canonical

FANOUT = 128
MAX_PAGE = 1 << 16
"""Bytes of an inner page or a page of bundles."""

_MAX_COUNT = 1 << 28
_REMEMBERED = 16
"""Pages that are kept once they were read: looking up images reads the upper ones again."""


@dataclass(frozen=True)
class Node:
    """A page as the page above it lists it. first: its lowest id; count: entries below it."""

    count: int
    first: str
    page: str


@dataclass(frozen=True)
class Leaf:
    """A page of entries, before it is written. first: the lowest id."""

    count: int
    first: str
    data: bytes


@dataclass(frozen=True)
class Tree:
    """Pages by their digests, and the root's."""

    count: int
    root: str
    pages: dict[str, bytes]


T = TypeVar("T")


def in_leaves(entries: Sequence[T]) -> list[Sequence[T]]:
    """Entries of each leaf: as few leaves as there may be, all of them about as long."""
    count = -(-len(entries) // FANOUT)
    starts = [k * len(entries) // count for k in range(count + 1)]
    return [entries[a:b] for a, b in pairwise(starts)]


def build(leaves: Sequence[Leaf]) -> Tree:
    """A tree over leaves, whose ids ascend from leaf to leaf. At least one leaf."""
    pages = {digest_of(leaf.data): leaf.data for leaf in leaves}
    level = [Node(leaf.count, leaf.first, digest_of(leaf.data)) for leaf in leaves]
    while len(level) > 1:
        above = []
        for start in range(0, len(level), FANOUT):
            below = level[start : start + FANOUT]
            data = canonical({"pages": [asdict(node) for node in below]})
            pages[digest_of(data)] = data
            above.append(Node(sum(n.count for n in below), below[0].first, digest_of(data)))
        level = above
    return Tree(level[0].count, level[0].page, pages)


def digest_of(page: bytes) -> str:
    """SHA-256, hex: a page's name."""
    return hashlib.sha256(page).hexdigest()


Fetch = Callable[[str, int], bytes]
"""(digest, most bytes) -> the page, not yet verified."""


class Pages:
    """Walks a tree. fetch: gets a page; depth: of the tree, from the number of its entries.

    Raises ValueError where a page is not what the page above it says.
    """

    def __init__(self, root: str, count: int, fetch: Fetch, most: int = MAX_PAGE) -> None:
        self._root, self._count, self._fetch, self._most = root, count, fetch, most
        self._read: dict[str, bytes] = {}
        self._depth, capacity = 0, FANOUT
        while capacity < count:
            self._depth, capacity = self._depth + 1, capacity * FANOUT

    def leaves(self, start: str = "") -> Iterator[tuple[Node, bytes]]:
        """Leaves in order, each as the page above lists it, with its verified bytes: all of them,
        or from the one on that holds an id, if any does."""
        return self._below(Node(self._count, "", self._root), self._depth, start)

    def leaf_of(self, entry_id: str) -> tuple[Node, bytes]:
        """The leaf that holds an id, if any leaf does."""
        return next(self.leaves(entry_id))

    def _below(self, node: Node, depth: int, start: str) -> Iterator[tuple[Node, bytes]]:
        if not depth:
            yield node, self._page(node.page, self._most)
            return
        below = self._children(node)
        at = bisect_right([child.first for child in below], start)
        for child in below[max(at - 1, 0) :]:
            yield from self._below(child, depth - 1, start)

    def _children(self, node: Node) -> list[Node]:
        body = fields.record(parse_canonical(self._page(node.page, MAX_PAGE)), {"pages"})
        nodes = [_node(item) for item in fields.items(body["pages"], FANOUT)]
        firsts = [child.first for child in nodes]
        if sum(child.count for child in nodes) != node.count or firsts != sorted(set(firsts)):
            raise ValueError(f'page "{node.page[:16]}" does not list what the page above it says')
        if node.first and firsts[0] != node.first:
            raise ValueError(f'page "{node.page[:16]}" begins at another id than is said')
        return nodes

    def _page(self, digest: str, most: int) -> bytes:
        if digest in self._read:
            return self._read[digest]
        data = self._fetch(digest, most)
        if len(data) > most or digest_of(data) != digest:
            raise ValueError(f'page "{digest[:16]}" is not the one that is listed')
        if len(self._read) >= _REMEMBERED:
            self._read.clear()
        self._read[digest] = data
        return data


def _node(body: object) -> Node:
    checked = fields.record(body, ("count", "first", "page"))
    return Node(
        fields.whole(checked["count"], 1, _MAX_COUNT),
        fields.hexadecimal(checked["first"], 32),
        fields.hexadecimal(checked["page"], 64),
    )
