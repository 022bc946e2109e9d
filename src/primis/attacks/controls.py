"""Positive controls: mechanisms that are known to be broken, which the suite must break in every
run, with the very steps and widths of its attacks.

loud decoys             drawn above the largest true value, as in the paper's published code: a
                        threshold tells them
a keystream used twice  all images shared under the same secrets and id: a known image opens the
                        others, and bytes repeat
one secret for all      the secrets of one image open the others, those of tier preview the higher
                        tiers
open lengths            the parts as long as they come, without room to spare: sizes tell
a thumbnail             16 x 16 pixels of the image, black or white, as bytes: who learns pictures
                        from bytes must see it; for networks that look near each place only, each
                        pixel among the bytes that they read there
a label byte            one byte that tells a label: who learns attributes from bytes must read it
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from secrets import token_hex
from typing import TypeVar

import numpy as np

from primis.attacks.attribute_inference import Reader
from primis.attacks.cryptographic.keys import (
    keystream_result,
    lower_tier_result,
    pairs,
    strangers_result,
)
from primis.attacks.cryptographic.lengths import lengths_result
from primis.attacks.cryptographic.randomness import randomness_result
from primis.attacks.harness import (
    Attack,
    Budget,
    Harness,
    ImageAttack,
    JudgedCase,
    OwnImage,
    Sharer,
    View,
    open_case,
)
from primis.attacks.inside import open_records
from primis.attacks.judge import judge_attribute, judge_images, judge_links
from primis.attacks.reconstruction.networks import Dense, Regressor
from primis.attacks.reconstruction.simple import Smallest
from primis.attacks.reconstruction.translators import GanAttack, UNetAttack, VNetAttack
from primis.attacks.reidentification import SharedAgain
from primis.attacks.result import Result
from primis.attacks.suite import Job, Outcome
from primis.bundle.settings import Protection, Settings
from primis.codec import Codec
from primis.imaging.image import Image
from primis.imaging.phantom import draw_phantom
from primis.keys.seal import Secret, TierSecrets
from primis.keys.tier import TIERS
from primis.metrics.progress import Progress, silent
from primis.sharing.opened import OpenedBundle
from primis.sharing.share import share_image

Case = TypeVar("Case", bound=OwnImage)

_LOUDER = 1.1
_IMAGES, _LEARNED_FROM = 8, 64
_SMALL, _THUMBNAIL = 128, 16
_BYTES, _LABEL_AT = 4096, 300
_BITS = 32.0
"""A budget for the code that any phantom fits."""


def controls(
    codec: Codec, settings: Settings, budget: Budget | None, report: Progress = silent
) -> list[Job]:
    """All must be broken; on phantoms. budget: that of the attacks they vouch for; None where none
    of those learns."""
    settings = replace(settings, code_bits=_BITS)
    stage = _Stage(codec, settings, budget, report)
    learned = stage.learned() if budget else []
    return [*stage.always(), *learned]


def control_trainers(
    codec: Codec, settings: Settings, budget: Budget
) -> list[tuple[Attack, Harness]]:
    """Each network that the controls train, and what on."""
    small = _Stage(codec, settings, budget, silent).small
    networks = (Regressor(), UNetAttack("code"), VNetAttack("code"), GanAttack("code"))
    return [(network, small) for network in networks]


@dataclass(eq=False)
class _Stage:
    """What the controls are played on, made once and only if needed."""

    codec: Codec
    settings: Settings
    budget: Budget | None
    report: Progress
    _keys: TierSecrets = field(
        default_factory=lambda: {tier: Secret.new() for tier in TIERS}, repr=False
    )

    @cached_property
    def images(self) -> list[Image]:
        """Phantoms of 256 x 256."""
        return [phantom(seed, 256) for seed in range(_IMAGES)]

    @cached_property
    def twice(self) -> tuple[list[JudgedCase], list[JudgedCase]]:
        """The images, and the images again, all under one set of secrets and one id."""
        return self._under_one_key(), self._under_one_key()

    def _under_one_key(self) -> list[JudgedCase]:
        keyed = replace(self.settings.at_level(Protection.KEYED), code_bits=_BITS)
        cases = []
        for number, image in enumerate(self.images):
            self.report("controls: sharing phantoms", number, len(self.images))
            cases.append(_share(number, image, keyed, self.codec, self._keys, "0" * 32))
        return cases

    @cached_property
    def cases(self) -> list[JudgedCase]:
        """Phantoms of 128 x 128, with random bytes in place of their bundles."""
        return [_random(seed, self.codec) for seed in range(_LEARNED_FROM + 2 * _IMAGES)]

    @cached_property
    def small(self) -> Harness:
        """The first of them in the attackers' hands, the last to be judged."""
        assert self.budget is not None
        keyed = self.settings.at_level(Protection.KEYED)
        own = [case.owned() for case in self.cases[: -2 * _IMAGES]]
        judged = self.cases[-2 * _IMAGES :]
        return Harness(self.codec, keyed, own, judged, self.budget, report=self.report)

    def always(self) -> list[Job]:
        """Those that need no learning."""
        return [
            self._job("decoys louder than the truth", self._loud_decoys),
            self._job(
                "a keystream used twice, one image known",
                lambda: keystream_result(pairs(self.twice[0])),
            ),
            self._job("a keystream used twice, bytes that repeat", self._repeated_bytes),
            self._job("a keystream used twice, images shared again", self._shared_again),
            self._job("one secret for all images", lambda: strangers_result(self.twice[0])),
            self._job("one secret for all tiers", self._one_secret),
            self._job("parts as long as they come", self._bare_lengths),
        ]

    def learned(self) -> list[Job]:
        """Those for attackers that learn; CycleGAN, which has no pairs, sees no thumbnail."""
        return [
            self._job("a thumbnail, linear regression", lambda: _thumbnail(Dense(), self.small)),
            self._network("network", Regressor(), near=False),
            self._network("U-Net", UNetAttack("code")),
            self._network("V-Net", VNetAttack("code")),
            self._network("GAN", GanAttack("code")),
            self._job("a label in one byte", lambda: _label(self.small, self.cases)),
        ]

    def _network(self, name: str, attack: ImageAttack, *, near: bool = True) -> Job:
        full = f"a thumbnail, {name}"
        return self._job(full, lambda: _thumbnail(attack, self.small, near=near), trains=True)

    def _job(self, name: str, make: Callable[[], Result], *, trains: bool = False) -> Job:
        full = f"control: {name}"

        def run() -> Outcome:
            self.report(full, 0, 1)
            return Outcome(replace(make(), attack=full))

        return Job(full, run, trains)

    def _repeated_bytes(self) -> Result:
        return randomness_result([case.view for case in self.twice[0]])

    def _shared_again(self) -> Result:
        first, second = self.twice
        harness = Harness(self.codec, self.settings, [], first)
        again = SharedAgain([case.view for case in second])
        return judge_links(again, harness, [case.normal for case in first])

    def _one_secret(self) -> Result:
        secrets = dict.fromkeys(TIERS, Secret.new())
        cases = [
            _share(number, image, self.settings, self.codec, secrets, token_hex(16))
            for number, image in enumerate(self.images[:2])
        ]
        return lower_tier_result(cases)

    def _bare_lengths(self) -> Result:
        return lengths_result([_bare(case) for case in self.twice[0]])

    def _loud_decoys(self) -> Result:
        sca = replace(self.settings.at_level(Protection.SCA), code_bits=_BITS)
        sharer = Sharer(sca, self.codec)
        plain = [sharer.judged(image, f"control {k}") for k, image in enumerate(self.images)]
        own, loud = [case.owned() for case in plain], [_loud(case) for case in plain]
        result = judge_images(Smallest(), Harness(self.codec, sca, own, loud)).result
        # of the support alone: any open code gives the gains of an image
        return replace(result, gains=result.gains[2:])


def phantom(seed: int, side: int) -> Image:
    """Nobody's image."""
    return Image(draw_phantom(side, seed=seed)[None, ..., None], 12, "MONOCHROME2", "png")


def _random(seed: int, codec: Codec) -> JudgedCase:
    """A phantom, and in place of its bundle random bytes: what level keyed claims to be, for
    something to be planted in."""
    pixels = phantom(seed, _SMALL).pixels[0, ..., 0]
    side = _SMALL // codec.preset.stride
    nothing = np.zeros((codec.preset.atoms, side, side), np.int16)
    view = View(nothing, np.random.default_rng(seed).integers(0, 256, _BYTES, np.uint8), b"")
    low, high = int(pixels.min()), int(pixels.max())
    return JudgedCase(
        f"{seed}", f"{seed}", {}, pixels, low, high, view, nothing, 1.0, pixels, 4095.0, {}
    )


def _thumbnail(attack: ImageAttack, harness: Harness, *, near: bool = False) -> Result:
    """The published bytes begin with the image, small: where it is brighter than others are, and
    where not. near: each pixel lies among the bytes that `World.planes` shows at its place."""
    places = np.arange(_THUMBNAIL**2).reshape(_THUMBNAIL, _THUMBNAIL)
    if near:
        places = _nearby(harness.world(attack.holds).grid)
    usual = _small(harness.mean_image - harness.mean_image.mean())

    def planted(case: Case) -> Case:
        brighter = _small(case.normal - case.normal.mean()) > usual
        return _with_bytes(case, places, np.where(brighter, 255, 0).astype(np.uint8))

    own, judged = ([planted(c) for c in harness.owned], [planted(c) for c in harness.judged])
    leaky = replace(harness, owned=own, judged=judged)
    attack.fit(leaky.world(attack.holds))
    return judge_images(attack, leaky).result


def _small(image: np.ndarray) -> np.ndarray:
    side = len(image) // _THUMBNAIL
    small: np.ndarray = image.reshape(_THUMBNAIL, side, _THUMBNAIL, side).mean(axis=(1, 3))
    return small


def _label(harness: Harness, cases: Sequence[JudgedCase]) -> Result:
    """One byte of each bundle tells one of two labels; every other case teaches, the rest is
    judged."""
    coin = np.random.default_rng(0).integers(2, size=len(cases))
    told = [_labelled(case, bool(ill)) for case, ill in zip(cases, coin, strict=True)]
    leaky = replace(harness, owned=[case.owned() for case in told[::2]], judged=told[1::2])
    reader = Reader("label", "ill")
    reader.fit(leaky.world(reader.holds))
    return judge_attribute(reader, leaky)


def _labelled(case: JudgedCase, ill: bool) -> JudgedCase:
    data = _with_bytes(case, np.array([_LABEL_AT]), np.array([255 * ill], np.uint8))
    return replace(data, traits={"label": "ill" if ill else "well"})


def _nearby(grid: tuple[int, int]) -> np.ndarray:
    """Of each pixel of a thumbnail the byte that holds it, (16, 16): bytes are dealt to places in
    order, as many to each."""
    h, w = grid
    row, column = np.indices((_THUMBNAIL, _THUMBNAIL))
    a_place = max(1, _THUMBNAIL // h), max(1, _THUMBNAIL // w)
    place = row * h // _THUMBNAIL * w + column * w // _THUMBNAIL
    return place * (_BYTES // (h * w)) + row % a_place[0] * a_place[1] + column % a_place[1]


def _with_bytes(case: Case, places: np.ndarray, new: np.ndarray) -> Case:
    data = case.view.data.copy()
    data[places] = new
    return replace(case, view=replace(case.view, data=data))


def _bare(case: JudgedCase) -> tuple[object, dict[str, int]]:
    """The lengths that seals and room hide."""
    records = open_records(OpenedBundle.read(case.view.bundle, case.secrets))
    return None, {
        "supports": sum(len(r.support) for r in records),
        "values": sum(len(r.values) for r in records),
    }


def _share(
    number: int,
    image: Image,
    settings: Settings,
    codec: Codec,
    keys: TierSecrets,
    bundle_id: str,
) -> JudgedCase:
    name = f"control {number}"
    shared = share_image(image, settings, keys, codec, bundle_id=bundle_id, name=name, alone=True)
    return open_case(shared.data, keys, codec, image, name=name, patient=name)


def _loud(case: JudgedCase) -> JudgedCase:
    """Decoys moved above the largest true value of the image."""
    public = case.view.public
    decoy = (public != 0) & (case.levels == 0)
    loud = round(_LOUDER * int(np.abs(case.levels).max(initial=1)) + 1)
    moved = np.where(decoy, np.sign(public) * loud, public).astype(np.int16)
    return replace(case, view=replace(case.view, public=moved))
