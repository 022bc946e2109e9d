"""The tables of docs/evaluation.md from results/attacks-MECHANISM.json."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from markdown_tables import number, result, rows, with_interval, with_sd

from primis.attacks.result import FidelityMetrics, Gain, Kind, Reconstruction, Result, Unit
from primis.metrics.estimate import Estimate

MECHANISMS = {"paper": "level sca, preset paper", "sca": "level sca", "keyed": "level keyed"}
_DIGITS = {"mae": 1, "me": 1, "rmse": 1, "psnr": 2, "ssim": 3}

OWN_IMAGE, ENTRIES = 1, 2
"""Which gain of a reconstruction tells its image from others', and true entries from others."""


@dataclass(frozen=True)
class AttackRun:
    """One file of results. ceiling: what the key's holder sees; controls: the positive ones."""

    ceiling: FidelityMetrics
    controls: tuple[Result, ...]
    results: tuple[Result, ...]

    def of_kind(self, kind: Kind) -> list[Result]:
        """Attacks of a kind."""
        return [each for each in self.results if each.kind is kind]

    @property
    def drawn(self) -> list[tuple[Result, Reconstruction]]:
        """Attacks that draw an image, and how near it comes."""
        return [(each, each.reconstruction) for each in self.results if each.reconstruction]


@cache
def run(mechanism: str) -> AttackRun:
    """What was measured of a mechanism."""
    body = result(f"attacks-{mechanism}")
    ceiling = {name: Estimate(**each) for name, each in body["ceiling"].items()}
    controls, results = (
        tuple(Result.from_dict(each) for each in body[name]) for name in ("controls", "results")
    )
    return AttackRun(FidelityMetrics(**ceiling), controls, results)


def _metric(fidelity: FidelityMetrics, name: str) -> str:
    estimate: Estimate = getattr(fidelity, name)
    return with_sd(estimate.value, estimate.sd, _DIGITS[name])


def _yes(*, found: bool) -> str:
    return "yes" if found else "no"


def reconstructions(mechanism: str) -> str:
    """Every attack that draws an image; the authorised user above, the prior below."""
    head = ["attack", "its attacker holds", "PSNR, dB", "SSIM"]
    head += ["gain over the best without the code, dB", "over another image's code, dB"]
    head += ["own image told from another's, AUC", "support AUC", "found"]
    ceiling, drawn = run(mechanism).ceiling, run(mechanism).drawn
    first = ["*authorised*", "the key", _metric(ceiling, "psnr"), _metric(ceiling, "ssim")]
    body = [[*first, *[""] * 5]]
    body += [_reconstruction_row(attack, image) for attack, image in drawn]
    floor = drawn[0][1].mean_image
    assert floor is not None
    body.append(["*mean image*", "no code", with_sd(floor.value, floor.sd), *[""] * 6])
    return rows(head, body)


def _reconstruction_row(attack: Result, image: Reconstruction) -> list[str]:
    gains = [gain.estimate for gain in attack.gains]
    return [
        attack.attack,
        attack.holds,
        _metric(image.fidelity, "psnr"),
        _metric(image.fidelity, "ssim"),
        with_interval(image.over_floor) if image.over_floor else "",
        with_interval(gains[0]),
        with_interval(gains[OWN_IMAGE]) if len(gains) > OWN_IMAGE else "",
        with_interval(gains[ENTRIES], 3) if len(gains) > ENTRIES else "",
        _yes(found=attack.broken),
    ]


def other_attacks() -> str:
    """Links, labels, keys, lengths, bytes; mechanism by mechanism."""
    others = {
        mechanism: {r.attack: r for r in run(mechanism).results if not r.reconstruction}
        for mechanism in MECHANISMS
    }
    names = {name: None for part in others.values() for name in part}  # in order, each once
    body = []
    for name in names:
        there = [part[name] for part in others.values() if name in part]
        first = there[0].gains[0]
        chances = sorted({each.gains[0].chance for each in there})
        body.append(
            [
                name,
                there[0].holds,
                first.what,
                " / ".join(_value(first.unit, chance) for chance in chances),
                *(
                    _reached(part[name].gains[0]) if name in part else ""
                    for part in others.values()
                ),
            ]
        )
    return rows(["attack", "its attacker holds", "measure", "chance", *MECHANISMS.values()], body)


def _value(unit: Unit, value: float) -> str:
    return f"{100 * value:.1f} %" if unit is Unit.SHARE else f"{value:g}"


def _reached(gain: Gain) -> str:
    """A gain in its unit, with its interval."""
    e = gain.estimate
    if gain.unit is Unit.COUNT:
        return _value(gain.unit, e.value)
    if gain.unit is Unit.SHARE:
        return f"{100 * e.value:.0f} % ({100 * e.low:.0f} to {100 * e.high:.0f})"
    return with_interval(e)


def table_4() -> str:
    """The paper's four attackers on the decoded public image and on the code, by its metrics."""
    head = ["attacker", "mechanism", "MAE", "ME", "RMSE", "PSNR, dB", "SSIM"]
    head += ["PSNR, CI 95 %", "SSIM, CI 95 %"]
    names = [r.attack for r, _ in run("keyed").drawn if r.source.endswith("Table 4")]
    body = []
    for name in names:
        for mechanism, title in MECHANISMS.items():
            for attack, image in run(mechanism).drawn:
                if attack.attack == name:
                    body.append([name, title, *_table_4_row(image.fidelity)])
    return rows(head, body)


def _table_4_row(fidelity: FidelityMetrics) -> list[str]:
    cells = [_metric(fidelity, name) for name in _DIGITS]
    for name in ("psnr", "ssim"):
        estimate: Estimate = getattr(fidelity, name)
        low, high = (number(end, _DIGITS[name]) for end in (estimate.low, estimate.high))
        cells.append(f"{low} to {high}")
    return cells


def preview() -> str:
    """Who holds tier preview, and has the right code or another image's beside it."""
    head = [
        "",
        "PSNR, dB",
        "with another image's code, dB",
        "what the right code adds, dB",
        "found",
    ]
    body = []
    for mechanism, title in MECHANISMS.items():
        for attack, image in run(mechanism).drawn:
            if image.mean_image is None:
                psnr, other = image.fidelity.psnr.value, image.other_code.value
                adds = with_interval(attack.gains[0].estimate)
                found = _yes(found=attack.broken)
                body.append([title, number(psnr, 2), number(other, 2), adds, found])
    return rows(head, body)


def attack_summary() -> str:
    """The best of each kind of attack."""
    body = [[title, *(cell(run(name)) for name in MECHANISMS)] for title, cell in _SUMMARY.items()]
    return rows(["", *MECHANISMS.values()], body)


def _authorised(attacked: AttackRun) -> str:
    return f"{attacked.ceiling.psnr.value:.2f} dB"


def _best(attacked: AttackRun) -> str:
    """The best reconstruction without a tier's key, by PSNR."""
    alone = [(a, r, r.over_floor) for a, r in attacked.drawn if r.over_floor]
    attack, _, gain = max(alone, key=lambda each: each[1].fidelity.psnr.value)
    return f"{with_interval(gain)}: {attack.attack}"


def _likeliest(index: int, digits: int) -> Callable[[AttackRun], str]:
    """Of all reconstructions the best by a gain."""

    def cell(attacked: AttackRun) -> str:
        there = [(a, a.gains[index]) for a, _ in attacked.drawn if len(a.gains) > index]
        attack, gain = max(there, key=lambda each: each[1].estimate.value)
        estimate = with_interval(gain.estimate, digits)
        return f"{estimate}, p {gain.p:.2g}: {attack.attack}, of {len(there)}"

    return cell


def _recovered(attacked: AttackRun) -> str:
    """Of attacks on one release."""
    supports = [r.support for a, r in attacked.drawn if r.support and "twice" not in a.attack]
    shares = [(s.recovered.value, s.by_chance) for s in supports if s.recovered]
    if not shares:
        return "no entries to see"
    share, chance = max(shares, key=lambda each: each[0])
    assert chance is not None
    return f"{100 * share:.0f} % (chance {100 * chance.value:.0f} %)"


def _first(start: str) -> Callable[[AttackRun], str]:
    """The first attack whose name starts so."""

    def cell(attacked: AttackRun) -> str:
        there = [each for each in attacked.results if each.attack.startswith(start)]
        return _reached(there[0].gains[0]) if there else ""

    return cell


def _attribute(part: str) -> Callable[[AttackRun], str]:
    """The first attribute inference whose name has this part."""

    def cell(attacked: AttackRun) -> str:
        there = [a for a in attacked.of_kind(Kind.ATTRIBUTE) if part in a.attack]
        return _reached(there[0].gains[0]) if there else ""

    return cell


def _attribute_ceiling(part: str) -> Callable[[AttackRun], str]:
    """What the same reader gets from what the key's holder has."""

    def cell(attacked: AttackRun) -> str:
        there = [a.authorised for a in attacked.of_kind(Kind.ATTRIBUTE) if part in a.attack]
        return with_interval(there[0]) if there and there[0] else ""

    return cell


def _controls(attacked: AttackRun) -> str:
    return f"{sum(each.broken for each in attacked.controls)} of {len(attacked.controls)}"


def _broken(attacked: AttackRun) -> str:
    """Membership is of the weights, not of a release."""
    counted = [each for each in attacked.results if each.kind is not Kind.MEMBERSHIP]
    return f"{sum(each.broken for each in counted)} of {len(counted)}"


_CODE, _SEEN = ", read from the code", ", read from what"
_SUMMARY: dict[str, Callable[[AttackRun], str]] = {
    "authorised user, PSNR": _authorised,
    "best reconstruction: gain over the best without the code, dB": _best,
    "own image told from another's, AUC: best": _likeliest(OWN_IMAGE, 2),
    "true entries told from others, AUC: best": _likeliest(ENTRIES, 3),
    "support recovered, best without a second release": _recovered,
    "linkage: which of 100 images is it": _first("linkage: the image as it is"),
    "linkage: bytes of another sharing of the image": _first("linkage: bytes of another sharing"),
    "normal or pneumonia, read from the public code, AUC": _attribute(_CODE),
    "... from the true code": _attribute_ceiling(_CODE),
    "... from what a network sees": _attribute(_SEEN),
    "... from the image itself": _attribute_ceiling(_SEEN),
    "parts whose length depends on content": _first("lengths"),
    "attacks that learned something": _broken,
    "positive controls found broken": _controls,
}
