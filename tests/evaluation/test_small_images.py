"""Networks of attackers on codes of a few positions: an audit of small images runs to its end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from primis.attacks.reconstruction.translators import critic, u_net, v_net
from primis.attacks.reidentification import ALTERATIONS
from primis.audit.run import audit
from primis.errors import UsageError
from primis.imaging.phantom import draw_phantom
from primis.jobs.share.run import share
from primis.release.reader import Release
from tests.conftest import SETTINGS, TINY

SIDES = [(1, 1), (1, 4), (4, 1), (3, 3), (4, 4), (6, 6), (8, 2)]
"""Positions, or blocks of 8 pixels, of images of 16 x 16 to 96 x 96 pixels."""


@pytest.mark.parametrize("sides", SIDES)
def test_every_network_learns_from_them(sides: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, *sides)
    for network in (u_net(3, 4, 8), v_net(3, 4, 8)):
        out = network.train()(x)
        assert out.shape == (2, 4, *sides)
        out.sum().backward()
    judged = critic(3, 8).train()(x)[-1]
    assert torch.isfinite(judged).all()


def test_large_images_are_judged_as_they_are() -> None:
    torch.manual_seed(0)
    network, x = critic(3, 8).eval(), torch.randn(1, 3, 16, 20)
    assert torch.equal(network(x)[-1], network.inner(x)[-1])


@pytest.mark.parametrize("kind", ALTERATIONS)
def test_every_alteration_keeps_the_size(kind: str) -> None:
    image = np.linspace(-0.5, 0.5, 16 * 16, dtype=np.float32).reshape(16, 16)
    assert ALTERATIONS[kind](image, np.random.default_rng(0)).shape == (16, 16)


def test_an_audit_says_what_is_too_small(tmp_path: Path, signer) -> None:
    (tmp_path / "in").mkdir()
    for seed in range(2):
        pixels = (draw_phantom(64, seed=seed) >> 4).astype(np.uint8)[20:26, :40]
        Image.fromarray(pixels).save(tmp_path / "in" / f"{seed}.png")
    share([tmp_path / "in"], tmp_path / "r", [], signer, SETTINGS, model=TINY)
    with pytest.raises(UsageError, match="no grey image of at least 7 x 7 pixels"):
        audit(Release(tmp_path / "r"), signer, models=(TINY,))
