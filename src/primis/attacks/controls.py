"""Positive controls: mechanisms that are known to be broken, which the suite must find broken in every run, with the very
steps and widths of its attacks.

loud decoys             drawn above the largest true value, as in the paper's published code: a threshold tells them
a keystream used twice  all images shared under the same secrets and id: a known image opens the others, and bytes repeat
one secret for all      the secrets of one image open the others, those of tier preview the higher tiers
open lengths            the parts as long as they come, without room to spare: sizes tell
a thumbnail             16 x 16 pixels of the image, black or white, as bytes: who learns pictures from bytes must see it;
                        for networks that look near each place only, each pixel among the bytes that they read there
a label byte            one byte that tells a label: who learns labels from bytes must find it
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from secrets import token_hex

import numpy as np

from primis.attacks.adversaries import GanAttack, Translator, UNetAttack, VNetAttack
from primis.attacks.inside import open_records
from primis.attacks.judge import (
    Finding,
    counted,
    judge_images,
    judge_labels,
    judge_links,
)
from primis.attacks.keys import lower_tier, pairs, strangers
from primis.attacks.labels import Reader
from primis.attacks.linkage import SharedAgain
from primis.attacks.networks import Dense, Regressor
from primis.attacks.protocol import (
    Budget,
    Case,
    ImageAttack,
    View,
    World,
    open_case,
    share_case,
)
from primis.attacks.simple import Smallest
from primis.attacks.suite import (
    Job,
    Result,
    keystream_finding,
    lengths_finding,
    randomness_finding,
)
from primis.bundle.settings import Protection, Settings
from primis.codec import Codec
from primis.imaging.image import Image
from primis.imaging.phantom import draw_phantom
from primis.keys.seal import Secret, TierSecrets
from primis.keys.tier import TIERS
from primis.sharing.opened import OpenedBundle
from primis.sharing.share import share_image

_LOUDER = 1.1
_IMAGES, _LEARNED_FROM = 8, 64
_SMALL, _THUMBNAIL = 128, 16
_BYTES, _LABEL_AT = 4096, 300
_BITS = (16.0, 16.0)
"""Room for supports and values that any phantom fits."""


def controls(codec: Codec, settings: Settings, budget: Budget | None) -> list[tuple[str, Job]]:
    """(name, control), all of which must be found broken; on phantoms. budget: that of the attacks they vouch for; None where
    none of those learns."""
    settings = replace(settings, support_bits=_BITS[0], value_bits=_BITS[1])

    @cache
    def images() -> list[Image]:
        return [phantom(seed, 256) for seed in range(_IMAGES)]

    @cache
    def twice() -> tuple[list[Case], list[Case]]:
        keys = {tier: Secret.new() for tier in TIERS}
        keyed = replace(settings, protection=Protection.KEYED)
        first, second = (
            [_share(k, image, keyed, codec, keys, "0" * 32) for k, image in enumerate(images())]
            for _ in range(2)
        )
        return first, second

    @cache
    def small() -> World:
        assert budget is not None
        cases = [_random(seed, codec) for seed in range(_LEARNED_FROM + 2 * _IMAGES)]
        keyed = replace(settings, protection=Protection.KEYED)
        return World(codec, keyed, cases[: -2 * _IMAGES], cases[-2 * _IMAGES :], budget)

    def repeats() -> Finding:
        world = World(codec, settings, [], twice()[0])
        return judge_links(
            SharedAgain([case.view for case in twice()[1]]),
            world,
            [case.normal for case in world.test],
        )

    def near(attack: Translator) -> Finding:
        return _thumbnail(attack, small(), near=True)

    def one_secret() -> Finding:
        secret = Secret.new()
        cases = [
            _share(k, images()[k], settings, codec, dict.fromkeys(TIERS, secret), token_hex(16))
            for k in range(2)
        ]
        return counted("", "", "parts of higher tiers opened", *lower_tier(cases))

    found: dict[str, Callable[[], Finding]] = {
        "decoys louder than the truth": lambda: _loud_decoys(codec, settings, images()),
        "a keystream used twice, one image known": lambda: keystream_finding(pairs(twice()[0])),
        "a keystream used twice, bytes that repeat": lambda: randomness_finding(twice()[0]),
        "a keystream used twice, images shared again": repeats,
        "one secret for all images": lambda: counted(
            "", "", "sealed parts opened", *strangers(twice()[0])
        ),
        "one secret for all tiers": one_secret,
        "parts as long as they come": lambda: lengths_finding([_bare(case) for case in twice()[0]]),
    }
    learned: dict[str, Callable[[], Finding]] = {
        "a thumbnail, linear regression": lambda: _thumbnail(Dense(), small()),
        "a thumbnail, network": lambda: _thumbnail(Regressor(), small()),
        "a thumbnail, U-Net": lambda: near(UNetAttack("code")),
        "a thumbnail, V-Net": lambda: near(VNetAttack("code")),
        "a thumbnail, GAN": lambda: near(
            GanAttack("code")
        ),  # CycleGAN, which has no pairs, does not find it
        "a label in one byte": lambda: _label(small()),
    }
    named = (
        (f"control: {name}", make) for name, make in (found | (learned if budget else {})).items()
    )
    return [(name, partial(_named, name, make)) for name, make in named]


def _named(name: str, make: Callable[[], Finding]) -> Result:
    return Result(replace(make(), attack=name))


def phantom(seed: int, side: int) -> Image:
    """Nobody's image."""
    return Image(draw_phantom(side, seed=seed)[None, ..., None], 12, "MONOCHROME2", "png")


def _random(seed: int, codec: Codec) -> Case:
    """A phantom, and in place of its bundle random bytes: what level keyed claims to be, for something to be planted in."""
    pixels = phantom(seed, _SMALL).pixels[0, ..., 0]
    side = _SMALL // codec.preset.stride
    nothing = np.zeros((codec.preset.atoms, side, side), np.int16)
    view = View(nothing, np.random.default_rng(seed).integers(0, 256, _BYTES, np.uint8), b"")
    low, high = int(pixels.min()), int(pixels.max())
    return Case(f"{seed}", f"{seed}", {}, pixels, None, nothing, 1.0, low, high, 4095.0, view, {})


def _loud_decoys(codec: Codec, settings: Settings, images: Sequence[Image]) -> Finding:
    sca = replace(settings, protection=Protection.SCA)
    plain = [
        share_case(image, sca, codec, name=f"control {k}", judged=True)
        for k, image in enumerate(images)
    ]
    finding, _ = judge_images(Smallest(), World(codec, sca, plain, [_loud(case) for case in plain]))
    return replace(
        finding, gains=finding.gains[2:]
    )  # the support alone: any open code gives the image gains


def _thumbnail(attack: ImageAttack, world: World, *, near: bool = False) -> Finding:
    """The published bytes begin with the image, small: where it is brighter than others are, and where not. near: each
    pixel lies among the bytes that `World.planes` shows at its place."""

    def small(image: np.ndarray) -> np.ndarray:
        side = len(image) // _THUMBNAIL
        return image.reshape(_THUMBNAIL, side, _THUMBNAIL, side).mean(axis=(1, 3))

    def planted(case: Case) -> Case:
        brighter = small(case.normal - case.normal.mean()) > usual
        return _with_bytes(case, places, np.where(brighter, 255, 0).astype(np.uint8))

    places = (
        _nearby(world.grid) if near else np.arange(_THUMBNAIL**2).reshape(_THUMBNAIL, _THUMBNAIL)
    )
    usual = small(world.mean_image - world.mean_image.mean())
    leaky = replace(
        world, train=[planted(c) for c in world.train], test=[planted(c) for c in world.test]
    )
    attack.fit(leaky)
    return judge_images(attack, leaky)[0]


def _label(world: World) -> Finding:
    """One byte of each bundle tells one of two labels; all cases are judged on but every other, which teaches."""
    coin = np.random.default_rng(0).integers(2, size=len(world.train) + len(world.test))
    cases = [
        replace(
            _with_bytes(case, np.array([_LABEL_AT]), np.array([255 * ill], np.uint8)),
            traits={"label": "ill" if ill else "well"},
        )
        for case, ill in zip([*world.train, *world.test], coin, strict=True)
    ]
    leaky = replace(world, train=cases[::2], test=cases[1::2])
    reader = Reader("label", "ill")
    reader.fit(leaky)
    return judge_labels(reader, leaky)


def _nearby(grid: tuple[int, int]) -> np.ndarray:
    """Of each pixel of a thumbnail the byte that holds it, (16, 16): bytes are dealt to places in order, as many to each."""
    h, w = grid
    row, column = np.indices((_THUMBNAIL, _THUMBNAIL))
    a_place = max(1, _THUMBNAIL // h), max(1, _THUMBNAIL // w)
    place = row * h // _THUMBNAIL * w + column * w // _THUMBNAIL
    return place * (_BYTES // (h * w)) + row % a_place[0] * a_place[1] + column % a_place[1]


def _with_bytes(case: Case, places: np.ndarray, new: np.ndarray) -> Case:
    data = case.view.data.copy()
    data[places] = new
    return replace(case, view=replace(case.view, data=data))


def _bare(case: Case) -> tuple[object, dict[str, int]]:
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
) -> Case:
    name = f"control {number}"
    data = share_image(
        image, settings, keys, codec, bundle_id=bundle_id, name=name, alone=True
    ).data
    return open_case(data, keys, codec, image, name=name, patient=name, judged=False)


def _loud(case: Case) -> Case:
    """Decoys moved above the largest true value of the image."""
    decoy = (case.view.public != 0) & (case.levels == 0)
    largest = int(np.abs(case.levels).max(initial=1))
    moved = np.where(
        decoy, np.sign(case.view.public) * round(_LOUDER * largest + 1), case.view.public
    ).astype(np.int16)
    return replace(case, view=replace(case.view, public=moved))
