"""Who attacks, with what, and on which images. The harness holds data and truth; an attack only proposes.

    World    what an attacker may learn from: images of its own (the training split), shared by its own hand or
             by the owner, the models, a budget
    Case     one image as the harness knows it: the truth, and the bundle that the world sees
    View     what an attacker sees of a case
    Attack   fits itself to a world, then proposes for each view; `judge.py` scores the proposals

Training cases and judged cases come from different patients. The attacker of every attack knows the mechanism and
the settings, which the bundle names (Kerckhoffs), and how many entries are true.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

import numpy as np

from primis.attacks.inside import read_public_code
from primis.bundle.header import SECTIONS, Header
from primis.bundle.settings import Settings
from primis.codec import Codec
from primis.codes.ambiguation import ambiguate
from primis.codes.dc_plane import DC_BLOCK, restore_dc
from primis.codes.selection import entry_odds
from primis.imaging.image import Image
from primis.keys.seal import Secret, TierSecrets, image_secrets, release_secrets
from primis.metrics.fidelity import data_range
from primis.sharing.opened import OpenedBundle
from primis.sharing.restore import open_codes
from primis.sharing.share import share_image

WINDOW = 32
"""Positions of a side, at most, of the part of an image that is attacked: 512 pixels at stride 16."""

_MOST_BYTES, _RUN = 32768, 64


class Holds(StrEnum):
    """What an attacker holds besides all software, which is public. Whoever holds the encoder makes any number of pairs."""

    CODES = "public bundles"
    DECODER = "bundles, decoder"
    ENCODER = "bundles, decoder, encoder"
    PAIRS = "bundles, models, pairs from the owner"
    KEYS = "bundles, models, keys of other images"
    PREVIEW = "bundles, models, the keys of lower tiers"


@dataclass(frozen=True, eq=False)
class View:
    """What anyone sees of an image. public: Z_p as anyone reads it, (LM, h, w) of int16; data: its published bytes,
    those that geometry and settings do not dictate; bundle: the file."""

    public: np.ndarray = field(repr=False)
    data: np.ndarray = field(repr=False)
    bundle: bytes = field(repr=False)


@dataclass(frozen=True, eq=False)
class Case:
    """One image as the harness knows it.

    traits: what is known of the patient and could be read from a code, by the kind of trait ("label", "sex", "age group").
    pixels, authorised: (H, W), the image and what the holder of its key restores (None where nobody is judged
    by it); levels: Z, (LM, h, w); threshold: t; low, high: range of grey levels; full: full scale, for PSNR;
    others: the same image shared again, by an attacker who has the software.
    """

    name: str
    patient: str
    traits: Mapping[str, str] = field(repr=False)
    pixels: np.ndarray = field(repr=False)
    authorised: np.ndarray | None = field(repr=False)
    levels: np.ndarray = field(repr=False)
    threshold: float = field(repr=False)
    low: int
    high: int
    full: float
    view: View = field(repr=False)
    secrets: TierSecrets = field(repr=False)
    others: tuple[View, ...] = field(default=(), repr=False)

    @property
    def normal(self) -> np.ndarray:
        """The image in units of its range, zero in the middle: (H, W) float32."""
        centre, width = (self.low + self.high) / 2, max(self.high - self.low, 1)
        return ((self.pixels.astype(np.float32) - centre) / width).astype(np.float32)


class Preview(NamedTuple):
    """levels: of the true code as far as tier preview opens it, zero elsewhere, (LM, h, w); threshold: t."""

    levels: np.ndarray
    threshold: float


@dataclass(frozen=True)
class Budget:
    """What an attack may spend. steps, batch: of a network's training; width: its channels; candidates: images that a
    linkage chooses from. The paper trains with batches of 30 on GPUs."""

    steps: int = 300
    batch: int = 4
    width: int = 96
    candidates: int = 100


QUICK = Budget(steps=12, batch=2, width=16, candidates=10)
"""For tests: everything runs, nothing is learned well."""
MINUTES = Budget(steps=150, batch=4, width=48, candidates=50)
"""For `primis audit`."""
FULL = Budget()
"""For the benchmark."""


def share_case(
    image: Image,
    settings: Settings,
    codec: Codec,
    *,
    name: str,
    patient: str = "",
    traits: Mapping[str, str] | None = None,
    judged: bool = False,
    release: TierSecrets | None = None,
    likely: bool = True,
    again: int = 0,
) -> Case:
    """Share an image as its owner would, and keep the truth. release: the secrets of its release, fresh ones by default.
    likely: as of World; again: how often it is shared once more besides, under secrets of its own."""
    bundle_id = secrets.token_hex(16)
    release = release or release_secrets(Secret.new(), "original")
    keys = image_secrets(release, bundle_id)
    data = share_image(
        image, settings, keys, codec, bundle_id=bundle_id, name=name, alone=True
    ).data
    case = open_case(
        data, keys, codec, image, name=name, patient=patient or name, traits=traits, judged=judged
    )
    if not likely:
        case = replace(
            case, view=replace(case.view, public=ambiguate(case.levels, decoys_of(case)))
        )
    more = (share_case(image, settings, codec, name=name, likely=likely).view for _ in range(again))
    return replace(case, others=tuple(more))


def decoys_of(case: Case) -> int:
    """How many decoys the attacked part has."""
    return int(np.count_nonzero(case.view.public) - np.count_nonzero(case.levels))


def open_case(
    bundle: bytes,
    keys: TierSecrets,
    codec: Codec,
    original: Image,
    *,
    name: str,
    patient: str,
    traits: Mapping[str, str] | None = None,
    judged: bool = True,
) -> Case:
    """A case from a bundle, its secrets and the image that it was made of."""
    shared = OpenedBundle.read(bundle, keys, name=name)
    header, parts = shared.header, shared.parts
    code, scale = open_codes(shared, codec)[0]
    geometry, pixels = header.geometry, original.pixels[0, ..., 0]
    authorised = codec.decode(code, scale, pixels.shape, pixels.dtype)[..., 0] if judged else None
    rows, columns = (middle(side) for side in geometry.grid)
    levels, public = (
        code.levels[0][:, rows, columns],
        read_public_code(shared)[0][0][:, rows, columns],
    )
    crop = tuple(
        slice(part.start * geometry.stride, part.stop * geometry.stride) for part in (rows, columns)
    )
    full, view = (
        data_range(original.pixels[0], original.bit_depth),
        View(public, published_bytes(header, parts), bundle),
    )
    return Case(
        name, patient, traits or {}, pixels[crop], None if authorised is None else authorised[crop], levels, code.threshold,
        scale.low, scale.high, full, view, keys,
    )  # fmt: skip


def middle(side: int) -> slice:
    """The attacked positions of a side: whole blocks of means, in the middle."""
    start = max(0, (side - WINDOW) // 2) // DC_BLOCK * DC_BLOCK
    return slice(start, start + min(side, WINDOW))


def published_bytes(header: Header, parts: Mapping[str, bytes]) -> np.ndarray:
    """The sections of one image end to end, (n,) of uint8."""
    return np.concatenate(
        [np.frombuffer(parts[name], np.uint8) for name in SECTIONS if name in parts]
    )


def spread(data: np.ndarray, most: int = _MOST_BYTES) -> np.ndarray:
    """At most so many bytes: of longer data short runs, evenly spread, so that each section has its share."""
    if len(data) <= most:
        return data
    starts = np.linspace(0, len(data) - _RUN, most // _RUN).astype(np.int64)
    return data[(starts[:, None] + np.arange(_RUN)).ravel()]


@dataclass(eq=False)
class World:
    """What attackers learn from, and what they are judged on. report: called with what is done, how far it is, of how much.
    likely: decoys lie where entries are likely, as `share` lays them; else evenly, as in the paper."""

    codec: Codec
    settings: Settings
    train: list[Case]
    test: list[Case]
    budget: Budget = FULL
    seed: int = 0
    likely: bool = True
    report: Callable[[str, int, int], None] = lambda what, done, total: None
    _odds: dict[Case, np.ndarray] = field(default_factory=dict, repr=False)
    _turns: dict[Case, int] = field(default_factory=dict, repr=False)

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of the attacked part."""
        return self.test[0].levels.shape[1:]  # type: ignore[return-value]

    @cached_property
    def patients(self) -> np.ndarray:
        """Of the judged images, (n,) of str: images of one patient are not independent."""
        return np.array([case.patient for case in self.test])

    @property
    def open_code(self) -> bool:
        """Whether Z_p lies open (level `sca`), so that entries can be told true or not one by one."""
        return self.settings.protection == "sca"

    def rng(self, purpose: str) -> np.random.Generator:
        """For an attack's own choices, the same at each run."""
        return np.random.default_rng([self.seed, *purpose.encode()])

    def planes(self, view: View) -> np.ndarray:
        """What networks read, (C, h, w) float32: the open code, one channel an atom, and what helps to read the first;
        else the bits of the bundle."""
        if self.open_code:
            planes = code_planes(view.public)
            return (
                np.concatenate([planes, self._means(view.public)])
                if self.codec.layout.has_dc
                else planes
            )
        h, w = self.grid
        bits = self.bits(view)
        return np.pad(bits, (0, -len(bits) % (h * w))).reshape(h * w, -1).T.reshape(-1, h, w)

    def bits(self, view: View) -> np.ndarray:
        """The published bits, -1 or 1, as many of each bundle: (n,) float32."""
        return np.unpackbits(spread(view.data[: self._least_bytes])).astype(np.float32) * 2 - 1

    @cached_property
    def _least_bytes(self) -> int:
        """What all bundles have: an owner's may have the file at its end."""
        return min(
            len(view.data)
            for case in (*self.train, *self.test)
            for view in (case.view, *case.others)
        )

    @staticmethod
    def _means(public: np.ndarray) -> np.ndarray:
        """Atom 0 with its blocks turned back, and where in its block each position lies: (1 + 2 x 4, h, w)."""
        plain = restore_dc(public[0].astype(np.float32))
        row, column = np.indices(plain.shape) % DC_BLOCK
        where = [axis == k for axis in (row, column) for k in range(DC_BLOCK)]
        return np.stack([np.sign(plain) * np.log2(1 + np.abs(plain)) / 2, *where]).astype(
            np.float32
        )

    @cached_property
    def channels(self) -> int:
        """C of `planes`."""
        return len(self.planes(self.test[0].view))

    def again(self, case: Case) -> View:
        """A training image shared once more by an attacker who holds the encoder: other decoys. At level `keyed` one of
        its bundles after the other."""
        if not self.open_code:
            turn = self._turns[case] = self._turns.get(case, -1) + 1
            return (case.view, *case.others)[turn % (1 + len(case.others))]
        decoys = decoys_of(case)
        if not self.likely:
            return replace(case.view, public=ambiguate(case.levels, decoys))
        if case not in self._odds:
            found = entry_odds(case.levels[None], self.codec.layout, self.codec.checkpoint.tables)
            self._odds[case] = found[0].astype(np.float16)
        odds = self._odds[case].astype(np.float32)
        return replace(case.view, public=ambiguate(case.levels, decoys, odds=odds))

    @cached_property
    def mean_image(self) -> np.ndarray:
        """The prior at its simplest: the mean of the training images, each in units of its range, (H, W)."""
        return np.mean([case.normal for case in self.train], axis=0)

    @cached_property
    def step(self) -> float:
        """What an attacker takes for t, which is sealed: any, where the decoder is alike at every scale; else the usual one."""
        return self.codec.architecture.public_step([case.threshold for case in self.train])

    def decode(self, levels: np.ndarray, weight: np.ndarray | float = 1.0) -> np.ndarray:
        """What the stolen decoder makes of levels (LM, h, w) of which each counts for its weight: (H, W) float32."""
        q = (levels + self.codec.offset * np.sign(levels)) * weight * self.step
        return self.codec.synthesise(
            q.astype(np.float32)[None], self.step, self.test[0].pixels.shape
        )[..., 0]  # type: ignore[arg-type]


def code_planes(levels: np.ndarray) -> np.ndarray:
    """sign(level) log2(1 + |level|) / 2, float32."""
    return (np.sign(levels) * np.log2(1 + np.abs(levels.astype(np.float32))) / 2).astype(np.float32)


class Attack(ABC):
    """One attack. name: what it is, for tables; source: where it comes from; holds: what its attacker needs."""

    name: str
    source: str = ""
    holds: Holds = Holds.ENCODER

    def fit(self, world: World) -> None:  # noqa: B027 (most of the simple ones have nothing to learn)
        """Learn what there is to learn from the training cases."""


class ImageAttack(Attack):
    """Proposes an image."""

    @abstractmethod
    def guess(self, world: World, view: View) -> np.ndarray:
        """(H, W) float, in any units: the judge grants the best brightness and contrast."""


class SupportAttack(ImageAttack):
    """Proposes how likely each public entry is true; its image is what the stolen decoder makes of that."""

    holds = Holds.DECODER

    @abstractmethod
    def score(self, world: World, view: View) -> np.ndarray:
        """(LM, h, w) float: the higher, the likelier that this entry is true."""

    def guess(self, world: World, view: View) -> np.ndarray:
        """The most likely entries, as many as there are true ones, decoded."""
        return world.decode(
            np.where(top(self.score(world, view), view.public, world), view.public, 0)
        )


class BesideAttack(Attack):
    """Proposes an image, with the key of its tier preview at hand."""

    @abstractmethod
    def guess_beside(self, world: World, view: View, preview: Preview) -> np.ndarray:
        """(H, W) float, from the code of one image and what tier preview opens, of the same or another."""


class LinkAttack(Attack):
    """Proposes which candidate belongs to which view. matches: each candidate is given to one view only."""

    matches = False

    @abstractmethod
    def score(
        self, world: World, views: Sequence[View], candidates: Sequence[np.ndarray]
    ) -> np.ndarray:
        """(views, candidates): the higher, the likelier that it is the same image. Candidates: (H, W) in units of their range."""


class LabelAttack(Attack):
    """Proposes how likely a view is of the positive class of a trait."""

    trait: str
    positive: str

    @abstractmethod
    def score(self, world: World, view: View) -> float:
        """The higher, the likelier."""


def preview_of(world: World, case: Case) -> Preview:
    """What the holder of tier preview has of an image."""
    levels = case.levels.copy()
    levels[world.codec.preset.atoms_per_map :] = 0
    return Preview(levels, case.threshold)


def top(score: np.ndarray, public: np.ndarray, world: World) -> np.ndarray:
    """The likeliest public entries, as many as S_x says: (LM, h, w) of bool."""
    count = min(round(world.settings.sparsity * public[0].size), int(np.count_nonzero(public)))
    masked = np.where(public != 0, score, -np.inf).ravel()
    chosen = np.zeros(masked.size, bool)
    if count:
        chosen[np.argpartition(-masked, count - 1)[:count]] = True
    return chosen.reshape(public.shape)
