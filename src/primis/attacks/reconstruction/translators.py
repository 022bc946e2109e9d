"""The paper's four attackers (section 2.9.5): U-Net, V-Net and GAN trained on pairs, CycleGAN
without pairs.

Each comes in two forms, which differ in what the networks read and in how their output becomes an
image:

    image   (b, 64, H/8, W/8) -> (b, 64, H/8, W/8)    the code as the decoder shows it, in blocks
    code    (b, C, h, w) -> (b, 256, h, w)            the code itself

To every output the mean training image is added and, in the first form, the input: as much of both
as fits best before anything is learned. Networks and adversarial losses are MONAI's; Adam, learning
rate 1e-3, squared error and weight decay 1e-4 as in the paper, batches and steps as the budget
says.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from primis.attacks.harness import Holds, ImageAttack, OwnImage, View, World
from primis.attacks.learning import device
from primis.attacks.reconstruction.networks import Batch, Marker, seeded, train

FORMS = ("image", "code")
REFINED = "support network, then U-Net"
_BLOCK = 8
_RATE, _DECAY = 1e-3, 1e-4
_ADVERSARIAL, _CYCLE = 0.01, 10.0
_STARTED_FROM = 16
_LEAST = 16
_SOURCE = "Shiri et al. 2024, Table 4"


class Padded(nn.Module):
    """A network for sides that are multiples of 16, padded and cropped, between 1 x 1 layers."""

    def __init__(self, inner: nn.Module, inputs: int, taken: int, given: int, out: int) -> None:
        super().__init__()
        self.enter, self.inner, self.leave = (
            nn.Conv2d(inputs, taken, 1),
            inner,
            nn.Conv2d(given, out, 1),
        )
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        padded = nn.functional.pad(self.enter(x), (0, -w % 16, 0, -h % 16), mode="replicate")
        out: Tensor = self.leave(self.inner(padded)[:, :, :h, :w])
        return out


def u_net(inputs: int, out: int, width: int) -> nn.Module:
    """MONAI's U-Net, three resolutions."""
    from monai.networks.nets import UNet

    inner = UNet(2, width, width, (width, 2 * width, 4 * width), (2, 2), num_res_units=1)
    return Padded(inner, inputs, width, width, out)


def v_net(inputs: int, out: int, width: int) -> nn.Module:
    """MONAI's V-Net, five resolutions; its widths are its own."""
    from monai.networks.nets import VNet

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inner = VNet(2, 16, 16, dropout_prob_down=None, dropout_prob_up=(0.0, 0.0), dropout_dim=2)
    return Padded(inner, inputs, 16, 16, out)


def critic(inputs: int, width: int) -> nn.Module:
    """MONAI's discriminator of patches."""
    from monai.networks.nets import PatchDiscriminator

    inner = PatchDiscriminator(2, width, inputs, num_layers_d=2, kernel_size=3, norm="INSTANCE")
    return Widened(inner)


class Widened(nn.Module):
    """A network for at least 16 x 16, or no norm can be taken: what is smaller gets a border."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> list[Tensor]:
        missing = [max(0, _LEAST - side) for side in x.shape[2:]]
        padded = nn.functional.pad(x, (0, missing[1], 0, missing[0]), mode="replicate")
        out: list[Tensor] = self.inner(padded)
        return out


class Translator(ImageAttack):
    """What the four have in common: reading, writing, the prior."""

    holds = Holds.PAIRS
    source = _SOURCE
    trains = True
    network = "U-Net"
    _net: nn.Module

    def __init__(self, form: str) -> None:
        self.form = form
        self.name = f"{self.network} on the {'decoded public image' if form == 'image' else 'code'}"
        self.holds = Holds.PAIRS if form == "image" else Holds.ENCODER

    def fit(self, world: World) -> None:
        self._rng = seeded(world, self.name)
        self._block = _BLOCK if self.form == "image" else world.preset.stride
        self._prior = _blocks(torch.from_numpy(world.mean_image)[None], self._block).to(device())
        self._inputs = world.channels if self.form == "code" else _BLOCK**2
        self._kept: dict[int, Tensor] = {}
        self._learn(world)

    def guess(self, world: World, view: View) -> np.ndarray:
        with torch.inference_mode():
            blocks = self._image(self._read(world, view)[None].to(device())).cpu()
        h, w = world.mean_image.shape
        found: np.ndarray = nn.functional.pixel_shuffle(blocks, self._block)[0, 0, :h, :w].numpy()
        return found

    def _learn(self, world: World) -> None:
        raise NotImplementedError

    def _image(self, x: Tensor) -> Tensor:
        prior, given = self._shares
        out: Tensor = prior * self._prior + self._net(x)
        return out + given * x if self.form == "image" else out

    def _begin(self, net: nn.Module, world: World) -> None:
        """The network, and what it adds to: learned shares of the prior and of its input."""
        self._net, self._shares = net, nn.Parameter(self._best_shares(world))
        net.register_parameter("shares", self._shares)

    def _best_shares(self, world: World) -> Tensor:
        """Of prior and input, (2,): by least squares over a few pairs."""
        if self.form == "code":
            return torch.tensor([1.0, 0.0])
        x, y = zip(
            *(self._of(world, number) for number in range(min(_STARTED_FROM, len(world.images)))),
            strict=True,
        )
        prior = self._prior.cpu().expand(len(x), *x[0].shape)
        return torch.linalg.lstsq(
            torch.stack([prior.ravel(), torch.stack(x).ravel()], 1), torch.stack(y).ravel()
        ).solution

    def _read(self, world: World, view: View) -> Tensor:
        if self.form == "code":
            return torch.from_numpy(world.planes(view))
        shown = self._shown(world, view)
        shown = np.clip((shown - shown.mean()) / max(float(shown.std()), 1e-9), -4, 4).astype(
            np.float32
        )
        return _blocks(torch.from_numpy(shown)[None], self._block)[0]

    def _shown(self, world: World, view: View) -> np.ndarray:
        """The picture that form `image` reads."""
        return world.decode(view.public)

    def _of(self, world: World, number: int) -> tuple[Tensor, Tensor]:
        """A training pair: of an image the owner's, of a code any that an attacker makes."""
        image = world.images[number]
        if self.form == "code" and self.holds.encoder:
            case = world.owned[number]
            return self._read(world, world.again(case)), self._target(case)
        if number not in self._kept:
            self._kept[number] = self._read(world, image.view)
        return self._kept[number], self._target(image)

    def _target(self, image: OwnImage) -> Tensor:
        return _blocks(torch.from_numpy(image.normal)[None], self._block)[0]

    def _pairs(self, world: World, numbers: np.ndarray | range) -> Batch:
        chosen = self._rng.choice(np.asarray(numbers), size=world.budget.batch)
        x, y = zip(*(self._of(world, int(number)) for number in chosen), strict=True)
        return torch.stack(x), torch.stack(y)

    def _width(self, world: World) -> int:
        return max(8, world.budget.width // (2 if self.form == "image" else 1))


class UNetAttack(Translator):
    """Squared error on pairs."""

    make = staticmethod(u_net)

    def _learn(self, world: World) -> None:
        self._begin(self.make(self._inputs, self._block**2, self._width(world)), world)

        def losses(x: Tensor, y: Tensor) -> Iterator[Tensor]:
            yield nn.functional.mse_loss(self._image(x), y)

        batches = lambda: self._pairs(world, range(len(world.images)))  # noqa: E731
        train([self._net], losses, batches, world, self.name, rate=_RATE, decay=_DECAY)


class Refined(UNetAttack):
    """U-Net on what the support network sees, instead of the public code as it is."""

    source = ""

    def __init__(self, marker: Marker) -> None:
        super().__init__("image")
        self.name, self.holds, self._marker = REFINED, Holds.ENCODER, marker

    def _shown(self, world: World, view: View) -> np.ndarray:
        return self._marker.guess(world, view)


class VNetAttack(UNetAttack):
    """The same with V-Net."""

    network = "V-Net"
    make = staticmethod(v_net)


class GanAttack(Translator):
    """U-Net and a discriminator of input and image: squared error and an adversarial loss."""

    network = "GAN"

    def _learn(self, world: World) -> None:
        from monai.losses import PatchAdversarialLoss

        width = self._width(world)
        self._begin(u_net(self._inputs, self._block**2, width), world)
        judge = critic(self._inputs + self._block**2, width)
        loss = PatchAdversarialLoss(criterion="least_squares")

        def losses(x: Tensor, y: Tensor) -> Iterator[Tensor]:
            made = self._image(x)
            fooled = loss(judge(torch.cat([x, made], 1))[-1], True, for_discriminator=False)
            yield nn.functional.mse_loss(made, y) + _ADVERSARIAL * fooled
            parts = ((made.detach(), False), (y, True))
            yield (
                sum(
                    loss(judge(torch.cat([x, image], 1))[-1], real, for_discriminator=True)
                    for image, real in parts
                )
                / 2
            )

        batches = lambda: self._pairs(world, range(len(world.images)))  # noqa: E731
        train([self._net, judge], losses, batches, world, self.name, rate=_RATE, decay=_DECAY)


class CycleGanAttack(Translator):
    """No pairs: public codes of one half of the training images, images of the other half."""

    network = "CycleGAN"

    def __init__(self, form: str) -> None:
        super().__init__(form)
        self.holds = Holds.DECODER if form == "image" else Holds.CODES

    def _best_shares(self, world: World) -> Tensor:
        """Without pairs: the input at the contrast that images have."""
        if self.form == "code":
            return super()._best_shares(world)
        return torch.tensor([0.0, float(np.mean([image.normal.std() for image in world.images]))])

    def _learn(self, world: World) -> None:
        from monai.losses import PatchAdversarialLoss

        width, out = self._width(world), self._block**2
        self._begin(u_net(self._inputs, out, width), world)
        back = u_net(out, self._inputs, width)
        of_image, of_code = critic(out, width), critic(self._inputs, width)
        loss = PatchAdversarialLoss(criterion="least_squares")
        both = nn.ModuleList([self._net, back])
        judges = nn.ModuleList([of_image, of_code])
        half = len(world.images) // 2

        def losses(x: Tensor, y: Tensor) -> Iterator[Tensor]:
            made, coded = self._image(x), back(y - self._prior)
            cycle = nn.functional.l1_loss(back(made - self._prior), x)
            cycle = cycle + nn.functional.l1_loss(self._image(coded), y)
            fooled = loss(of_image(made)[-1], True, for_discriminator=False)
            fooled = fooled + loss(of_code(coded)[-1], True, for_discriminator=False)
            yield _CYCLE * cycle + fooled
            parts = (
                (of_image, made.detach(), False),
                (of_image, y, True),
                (of_code, coded.detach(), False),
                (of_code, x, True),
            )
            told = [
                loss(judge(seen)[-1], real, for_discriminator=True) for judge, seen, real in parts
            ]
            yield sum(told) / len(told)

        def batches() -> Batch:
            x, _ = self._pairs(world, range(half))
            _, y = self._pairs(world, range(half, len(world.images)))
            return x, y

        train([both, judges], losses, batches, world, self.name, rate=_RATE, decay=_DECAY)


PAPERS = (UNetAttack, VNetAttack, GanAttack, CycleGanAttack)


def _blocks(images: Tensor, block: int) -> Tensor:
    """(b, H, W) -> (b, block², H/block, W/block), sides padded by repeating the border."""
    h, w = images.shape[1:]
    padded = nn.functional.pad(images[:, None], (0, -w % block, 0, -h % block), mode="replicate")
    return nn.functional.pixel_unshuffle(padded, block)
