"""The harness keeps truth and keys; an attacker sees a world, and only proposes.

    View         what anyone sees of a shared image
    OwnedCase    an image of the attackers' own, with its code: they share it themselves, or the
                 owner does
    JudgedCase   an image to be attacked, with truth and secrets: of the harness and the judge alone
    World        what one attacker gets: views of the judged images, images of its own, software,
                 and models as far as `Holds` names them
    Harness      all of it; hands out worlds; `judge.py` pairs proposals with the truth

Owned and judged images come from different patients. Every attacker knows the mechanism and the
settings, which the bundle names (Kerckhoffs), and how many entries are true.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import ClassVar, NamedTuple

import numpy as np

from primis.attacks.inside import code_of_frame, read_public_code
from primis.attacks.result import Kind
from primis.bundle.header import SECTIONS, Header
from primis.bundle.settings import Protection, Settings
from primis.codec import Codec
from primis.codes.ambiguation import ambiguate
from primis.codes.dc_plane import DC_BLOCK, restore_dc
from primis.codes.selection import entry_odds
from primis.imaging.image import Image
from primis.keys.seal import Secret, TierSecrets, image_secrets, release_secrets
from primis.metrics.fidelity import data_range
from primis.metrics.progress import Progress, silent
from primis.network.architecture import Architecture
from primis.network.presets import Preset
from primis.sharing.opened import OpenedBundle
from primis.sharing.restore import open_group, read_info
from primis.sharing.share import share_image

WINDOW = 32
"""Positions of a side, at most, of the attacked part of an image: 512 pixels at stride 16."""

_MOST_BYTES, _RUN = 32768, 64


class NotHeld(Exception):
    """An attacker reached for what its description does not name."""


class Holds(StrEnum):
    """What an attacker holds besides all software, which is public. Whoever holds the encoder makes
    any number of pairs."""

    CODES = "public bundles"
    DECODER = "bundles, decoder"
    ENCODER = "bundles, decoder, encoder"
    PAIRS = "bundles, models, pairs from the owner"
    KEYS = "bundles, models, keys of other images"
    PREVIEW = "bundles, models, the keys of lower tiers"
    WEIGHTS = "the weights and the image"

    @property
    def decoder(self) -> bool:
        """Whether the decoder is among it."""
        return self is not Holds.CODES

    @property
    def encoder(self) -> bool:
        """Whether the encoder is among it."""
        return self not in (Holds.CODES, Holds.DECODER)


@dataclass(frozen=True, eq=False)
class View:
    """What anyone sees of an image. public: Z_p as anyone reads it, (LM, h, w) of int16; data: its
    published bytes, those that geometry and settings do not dictate; bundle: the file."""

    public: np.ndarray = field(repr=False)
    data: np.ndarray = field(repr=False)
    bundle: bytes = field(repr=False)


@dataclass(frozen=True, eq=False)
class OwnImage:
    """An image that an attacker has, and its bundle.

    traits: what is known of the patient and could be read from a code, by the kind of trait
    ("label", "sex", "age group"). pixels: (H, W); low, high: range of grey levels.
    """

    name: str
    patient: str
    traits: Mapping[str, str] = field(repr=False)
    pixels: np.ndarray = field(repr=False)
    low: int
    high: int
    view: View = field(repr=False)

    @property
    def normal(self) -> np.ndarray:
        """The image in units of its range, zero in the middle: (H, W) float32."""
        centre, width = (self.low + self.high) / 2, max(self.high - self.low, 1)
        return ((self.pixels.astype(np.float32) - centre) / width).astype(np.float32)


@dataclass(frozen=True, eq=False)
class OwnedCase(OwnImage):
    """The same for an attacker who holds the encoder. levels: Z, (LM, h, w); threshold: t;
    others: the same image shared again, by an attacker who has the software."""

    levels: np.ndarray = field(repr=False)
    threshold: float
    others: tuple[View, ...] = field(default=(), repr=False)


@dataclass(frozen=True, eq=False)
class JudgedCase(OwnImage):
    """An image to be attacked, as the harness knows it. authorised: (H, W), what the holder of its
    key restores; full: full scale, for PSNR; secrets: of the image."""

    levels: np.ndarray = field(repr=False)
    threshold: float
    authorised: np.ndarray = field(repr=False)
    full: float
    secrets: TierSecrets = field(repr=False)

    def owned(self, others: tuple[View, ...] = ()) -> OwnedCase:
        """The image in an attacker's hands: without its secrets and what the key's holder sees."""
        return OwnedCase(
            self.name,
            self.patient,
            self.traits,
            self.pixels,
            self.low,
            self.high,
            self.view,
            self.levels,
            self.threshold,
            others,
        )


class Preview(NamedTuple):
    """levels: of the true code as far as tier preview opens it, zero elsewhere, (LM, h, w);
    threshold: t."""

    levels: np.ndarray
    threshold: float


@dataclass(frozen=True)
class Budget:
    """What an attack may spend. steps, batch: of a network's training; width: its channels;
    candidates: images that a re-identification chooses from. The paper trains with batches of 30 on
    GPUs."""

    steps: int = 300
    batch: int = 4
    width: int = 96
    candidates: int = 100


QUICK = Budget(steps=12, batch=2, width=16, candidates=10)
"""For tests: everything runs, nothing is learned well."""
MINUTES = Budget(steps=150, batch=4, width=48, candidates=50)
"""For `primis audit`, which sets the steps by the time that it has."""
FULL = Budget()
"""For the benchmark."""


@dataclass(frozen=True)
class Sharer:
    """Shares images as an owner would, and keeps the truth. release: the secrets of the release,
    fresh ones for each image by default; likely: as of World."""

    settings: Settings
    codec: Codec
    likely: bool = True
    release: TierSecrets | None = field(default=None, repr=False)

    def judged(
        self, image: Image, name: str, *, patient: str = "", traits: Mapping[str, str] | None = None
    ) -> JudgedCase:
        """An image to be attacked."""
        bundle_id = secrets.token_hex(16)
        keys = image_secrets(self.release or _fresh(), bundle_id)
        bare = replace(image, header=b"")  # no attacker reads it, and it need not fit
        shared = share_image(
            bare, self.settings, keys, self.codec, bundle_id=bundle_id, name="", alone=True
        )
        case = open_case(
            shared.data, keys, self.codec, image, name=name, patient=patient or name, traits=traits
        )
        if self.likely:
            return case
        decoys = decoys_of(case.view, case.levels)
        return replace(case, view=replace(case.view, public=ambiguate(case.levels, decoys)))

    def owned(
        self,
        image: Image,
        name: str,
        *,
        patient: str = "",
        traits: Mapping[str, str] | None = None,
        again: int = 0,
    ) -> OwnedCase:
        """An image of the attackers'. again: how often they share it once more besides."""
        alone = replace(self, release=None)
        others = tuple(alone.view(image, name) for _ in range(again))
        return self.judged(image, name, patient=patient, traits=traits).owned(others)

    def view(self, image: Image, name: str) -> View:
        """What anyone sees of it."""
        return self.judged(image, name).view


def _fresh() -> TierSecrets:
    return release_secrets(Secret.new(), "original")


def decoys_of(view: View, levels: np.ndarray) -> int:
    """How many decoys the attacked part has."""
    return int(np.count_nonzero(view.public) - np.count_nonzero(levels))


def open_case(
    bundle: bytes,
    keys: TierSecrets,
    codec: Codec,
    original: Image,
    *,
    name: str,
    patient: str,
    traits: Mapping[str, str] | None = None,
) -> JudgedCase:
    """A case from a bundle, its secrets and the image that it was made of.

    Where grey levels are stretched, all of its own are.
    """
    shared = OpenedBundle.read(bundle, keys, name=name)
    group = open_group(shared, codec)
    code, scale = code_of_frame(group), group.scale
    stretch = read_info(shared).stretch
    whole = original.pixels[0] if stretch is None else stretch.apply(original.pixels[0])
    geometry, pixels = shared.header.geometry, whole[..., 0]
    authorised = group.decode(0, codec, pixels.shape, pixels.dtype)[..., 0]
    rows, columns = (middle(side) for side in geometry.grid)
    public = read_public_code(shared)[0][0][:, rows, columns]
    crop = tuple(
        slice(part.start * geometry.stride, part.stop * geometry.stride) for part in (rows, columns)
    )
    return JudgedCase(
        name,
        patient,
        traits or {},
        pixels[crop],
        scale.low,
        scale.high,
        View(public, published_bytes(shared.header, shared.whole_parts), bundle),
        code.levels[0][:, rows, columns],
        code.threshold,
        authorised[crop],
        data_range(whole, original.bit_depth),
        keys,
    )


def middle(side: int) -> slice:
    """The attacked positions of a side: whole blocks of the DC plane, in the middle."""
    start = max(0, (side - WINDOW) // 2) // DC_BLOCK * DC_BLOCK
    return slice(start, start + min(side, WINDOW))


def published_bytes(header: Header, parts: Mapping[str, bytes]) -> np.ndarray:
    """The sections of one image end to end, (n,) of uint8."""
    there = [name for name in SECTIONS if name in parts]
    return np.concatenate([np.frombuffer(parts[name], np.uint8) for name in there])


def spread(data: np.ndarray, most: int = _MOST_BYTES) -> np.ndarray:
    """At most so many bytes: of longer data short runs, evenly spread, so that each section has its
    share."""
    if len(data) <= most:
        return data
    starts = np.linspace(0, len(data) - _RUN, most // _RUN).astype(np.int64)
    return data[(starts[:, None] + np.arange(_RUN)).ravel()]


@dataclass(eq=False)
class World:
    """What one attacker gets; beyond what `holds` names it raises NotHeld.

    own: its images; targets: views of the judged images; shape: (H, W) of the attacked part;
    step: what an attacker takes for t, which is sealed; likely: decoys lie where
    entries are likely, as `share` lays them, else evenly, as in the paper; report: called with what
    is done, how far it is, of how much.
    """

    holds: Holds
    settings: Settings
    shape: tuple[int, int]
    targets: Sequence[View]
    budget: Budget
    seed: int
    likely: bool
    report: Progress
    step: float
    _codec: Codec = field(repr=False)
    _own: Sequence[OwnedCase] = field(repr=False)
    _odds: dict[OwnedCase, np.ndarray] = field(repr=False)
    _turns: dict[OwnedCase, int] = field(repr=False)

    @property
    def images(self) -> Sequence[OwnImage]:
        """Images of the attacker's own and their bundles, without what the encoder makes."""
        return self._own

    @property
    def owned(self) -> Sequence[OwnedCase]:
        """The same with their codes: for who holds the encoder."""
        self._require("the encoder", self.holds.encoder)
        return self._own

    def owning(self, own: Sequence[OwnedCase]) -> World:
        """The same world with some of the images alone."""
        return replace(self, _own=own)

    def _require(self, what: str, held: bool) -> None:
        if not held:
            raise NotHeld(f'an attacker with "{self.holds}" has no use of {what}')

    @property
    def preset(self) -> Preset:
        """Of the code, which the bundle names."""
        return self._codec.preset

    @property
    def architecture(self) -> Architecture:
        """Of the network: atoms, selection and constants of the software."""
        return self._codec.architecture

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of the attacked part."""
        h, w = self.targets[0].public.shape[1:]
        return h, w

    @property
    def atoms(self) -> int:
        """LM."""
        return len(self.targets[0].public)

    @property
    def open_code(self) -> bool:
        """Whether Z_p lies open (level `sca`), so that each entry can be told true or not."""
        return self.settings.protection == Protection.SCA

    def rng(self, purpose: str) -> np.random.Generator:
        """For an attack's own choices, the same at each run."""
        return np.random.default_rng([self.seed, *purpose.encode()])

    def planes(self, view: View) -> np.ndarray:
        """What networks read, (C, h, w) float32: the open code, one channel an atom, and what helps
        to read the first; else the bits of the bundle."""
        if self.open_code:
            planes = code_planes(view.public)
            if not self.architecture.layout.has_dc:
                return planes
            return np.concatenate([planes, _first_atom(view.public)])
        h, w = self.grid
        bits = self.bits(view)
        return np.pad(bits, (0, -len(bits) % (h * w))).reshape(h * w, -1).T.reshape(-1, h, w)

    def bits(self, view: View) -> np.ndarray:
        """The published bits, -1 or 1, as many of each bundle: (n,) float32."""
        return np.unpackbits(spread(view.data[: self._least_bytes])).astype(np.float32) * 2 - 1

    @cached_property
    def _least_bytes(self) -> int:
        """What all bundles have: an owner's may have the file at its end."""
        views = [*self.targets, *(case.view for case in self._own)]
        views += [other for case in self._own for other in case.others]
        return min(len(view.data) for view in views)

    @cached_property
    def channels(self) -> int:
        """C of `planes`."""
        return len(self.planes(self.targets[0]))

    def again(self, case: OwnedCase) -> View:
        """An image of its own as an attacker who holds the encoder shares it once more: with other
        decoys. At level `keyed` one of its bundles after the other."""
        self._require("the encoder", self.holds.encoder)
        if not self.open_code:
            turn = self._turns[case] = self._turns.get(case, -1) + 1
            return (case.view, *case.others)[turn % (1 + len(case.others))]
        decoys = decoys_of(case.view, case.levels)
        odds = self._odds_of(case) if self.likely else None
        return replace(case.view, public=ambiguate(case.levels, decoys, odds=odds))

    def _odds_of(self, case: OwnedCase) -> np.ndarray:
        if case not in self._odds:
            odds = entry_odds(
                case.levels[None], self.architecture.layout, self._codec.checkpoint.tables
            )
            self._odds[case] = odds[0].astype(np.float16)
        return self._odds[case].astype(np.float32)

    @cached_property
    def mean_image(self) -> np.ndarray:
        """The prior at its simplest: the mean of the attacker's images, each in units of its range,
        (H, W)."""
        return np.mean([image.normal for image in self._own], axis=0)

    def decode(self, levels: np.ndarray, weight: np.ndarray | float = 1.0) -> np.ndarray:
        """What the stolen decoder makes of levels (LM, h, w), each counting for its weight: (H, W)
        float32."""
        q = (levels + self.architecture.offset * np.sign(levels)) * weight * self.step
        return self.synthesise(q, self.step)

    def synthesise(self, q: np.ndarray, threshold: float, opened: float = 1.0) -> np.ndarray:
        """What the stolen decoder makes of coefficients (LM, h, w): (H, W) float32."""
        self._require("the decoder", self.holds.decoder)
        pixels = self._codec.synthesise(q.astype(np.float32)[None], threshold, self.shape, opened)
        return pixels[..., 0]

    def analyse(self, image: np.ndarray) -> np.ndarray:
        """Coefficients (LM, h, w) of an image (H, W) by the stolen encoder."""
        self._require("the encoder", self.holds.encoder)
        pad = [(0, -side % self.preset.stride) for side in image.shape]
        z: np.ndarray = self._codec.analyse(
            np.pad(image.astype(np.float32), pad, mode="edge")[None]
        )
        return z[0]


def _first_atom(public: np.ndarray) -> np.ndarray:
    """Atom 0 with its blocks turned back, and where in its block each position lies:
    (1 + 2 x 4, h, w)."""
    plain = restore_dc(public[0].astype(np.float32))
    row, column = np.indices(plain.shape) % DC_BLOCK
    where = [axis == k for axis in (row, column) for k in range(DC_BLOCK)]
    return np.stack([code_planes(plain), *where]).astype(np.float32)


def code_planes(levels: np.ndarray) -> np.ndarray:
    """sign(level) log2(1 + |level|) / 2, float32."""
    return (np.sign(levels) * np.log2(1 + np.abs(levels.astype(np.float32))) / 2).astype(np.float32)


@dataclass(eq=False)
class Harness:
    """Holds everything, and hands each attacker what it may have. likely, report: as of World."""

    codec: Codec
    settings: Settings
    owned: Sequence[OwnedCase]
    judged: Sequence[JudgedCase]
    budget: Budget = FULL
    seed: int = 0
    likely: bool = True
    report: Progress = silent
    _worlds: dict[Holds, World] = field(default_factory=dict, init=False, repr=False)
    _odds: dict[OwnedCase, np.ndarray] = field(default_factory=dict, init=False, repr=False)
    _turns: dict[OwnedCase, int] = field(default_factory=dict, init=False, repr=False)

    def world(self, holds: Holds) -> World:
        """What an attacker gets who holds this."""
        if holds not in self._worlds:
            self._worlds[holds] = self._world(holds)
        return self._worlds[holds]

    def _world(self, holds: Holds) -> World:
        h, w = self.judged[0].pixels.shape
        return World(
            holds,
            self.settings,
            (h, w),
            [case.view for case in self.judged],
            self.budget,
            self.seed,
            self.likely,
            self.report,
            self.codec.architecture.public_step([case.threshold for case in self.owned]),
            self.codec,
            self.owned,
            self._odds,
            self._turns,
        )

    @property
    def open_code(self) -> bool:
        """As of World."""
        return self.settings.protection == Protection.SCA

    @cached_property
    def patients(self) -> np.ndarray:
        """Of the judged images, (n,) of str: images of one patient are not independent."""
        return np.array([case.patient for case in self.judged])

    @cached_property
    def mean_image(self) -> np.ndarray:
        """As of World."""
        return self.world(Holds.CODES).mean_image

    def preview(self, case: JudgedCase) -> Preview:
        """What the holder of tier preview has of an image."""
        return preview_of(case.levels, case.threshold, self.codec.preset)


def preview_of(levels: np.ndarray, threshold: float, preset: Preset) -> Preview:
    """The code as far as tier preview opens it."""
    levels = levels.copy()
    levels[preset.atoms_per_map :] = 0
    return Preview(levels, threshold)


class Attack(ABC):
    """One attack. name: what it is, for tables; source: where it comes from; holds: what its
    attacker needs; trains: whether it takes the steps of the budget."""

    name: str
    source: str = ""
    holds: Holds = Holds.ENCODER
    kind: ClassVar[Kind]
    trains: bool = False

    def fit(self, world: World) -> None:  # noqa: B027 (not abstract)
        """Learn from the attacker's own images; most of the simple ones have nothing to learn."""


class ImageAttack(Attack):
    """Proposes an image."""

    kind = Kind.RECONSTRUCTION

    @abstractmethod
    def guess(self, world: World, view: View) -> np.ndarray:
        """(H, W) float, in any units: the judge grants the best brightness and contrast."""


class SupportAttack(ImageAttack):
    """Proposes how likely each public entry is true; its image is what the stolen decoder makes of
    that."""

    holds = Holds.DECODER

    @abstractmethod
    def score(self, world: World, view: View) -> np.ndarray:
        """(LM, h, w) float: the higher, the likelier that this entry is true."""

    def guess(self, world: World, view: View) -> np.ndarray:
        """The most likely entries, as many as there are true ones, decoded."""
        likeliest = top(self.score(world, view), view.public, world)
        return world.decode(np.where(likeliest, view.public, 0))


class BesideAttack(Attack):
    """Proposes an image, with the key of its tier preview at hand."""

    kind = Kind.RECONSTRUCTION

    @abstractmethod
    def guess_beside(self, world: World, view: View, preview: Preview) -> np.ndarray:
        """(H, W) float, from the code of one image and what tier preview opens, of the same or
        another."""


class LinkAttack(Attack):
    """Proposes which candidate belongs to which view. matches: each candidate is given to one view
    only."""

    kind = Kind.REIDENTIFICATION
    matches = False

    @abstractmethod
    def score(
        self, world: World, views: Sequence[View], candidates: Sequence[np.ndarray]
    ) -> np.ndarray:
        """(views, candidates): the higher, the likelier that it is the same image. Candidates:
        (H, W) in units of their range."""


class AttributeAttack(Attack):
    """Proposes how likely a view is of the positive class of a trait."""

    kind = Kind.ATTRIBUTE
    trait: str
    positive: str

    @abstractmethod
    def score(self, world: World, view: View) -> float:
        """The higher, the likelier."""


def top(score: np.ndarray, public: np.ndarray, world: World) -> np.ndarray:
    """The likeliest public entries, as many as S_x says: (LM, h, w) of bool."""
    count = min(round(world.settings.sparsity * public[0].size), int(np.count_nonzero(public)))
    masked = np.where(public != 0, score, -np.inf).ravel()
    chosen = np.zeros(masked.size, bool)
    if count:
        chosen[np.argpartition(-masked, count - 1)[:count]] = True
    return chosen.reshape(public.shape)
