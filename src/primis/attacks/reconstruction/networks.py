"""Attackers that learn. All of them start at the prior and learn what the code adds to it.

Marker       planes (C,h,w) -> log odds that each entry is true (LM,h,w)
Iterated     Marker, then decode, encode, and keep what agrees, a few times
Regressor    planes (C,h,w) -> image (H,W), directly; of sealed bytes each bit may tell of any place
Finer        Regressor for a holder of tier preview: (preview, planes) -> what the preview lacks
Dense        all bits or entries -> image (8 x 8 means), by ridge regression: the best linear one
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from primis.attacks.harness import (
    BesideAttack,
    Holds,
    ImageAttack,
    OwnedCase,
    Preview,
    SupportAttack,
    View,
    World,
    code_planes,
    preview_of,
)
from primis.attacks.learning import device
from primis.attacks.reconstruction.simple import prior_odds
from primis.network.autoencoder import Residual

Batch = tuple[Tensor, ...]
_ROUNDS = 3
_BLOCKS = 3
_COARSE, _COARSE_ATOMS, _MEAN = 8, 16, 8
_FEW, _MOST = 160, 400
_SQUARED = "neg_mean_squared_error"
_RATE = 2e-3


def train(
    modules: list[nn.Module],
    losses: Callable[..., Iterator[Tensor]],
    batches: Callable[[], Batch],
    world: World,
    name: str,
    *,
    rate: float = _RATE,
    decay: float = 0.0,
) -> None:
    """Adam with half a cosine. losses: one for each module in turn, with its own optimiser."""
    steps = world.budget.steps
    optimisers = [
        torch.optim.Adam(module.parameters(), rate, weight_decay=decay) for module in modules
    ]
    falls = [
        torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps) for optimiser in optimisers
    ]
    for module in modules:
        module.to(device()).train()
    for step in range(steps):
        world.report(name, step, steps)
        batch = tuple(tensor.to(device()) for tensor in batches())
        for module, optimiser, fall, loss in zip(
            modules, optimisers, falls, losses(*batch), strict=True
        ):
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimiser.step()
            fall.step()
    for module in modules:
        module.eval()


def seeded(world: World, name: str) -> np.random.Generator:
    """The generator of an attack; seeds torch as well."""
    rng = world.rng(name)
    torch.manual_seed(int(rng.integers(1 << 31)))
    return rng


class Grid(nn.Module):
    """(b, C, h, w) -> (b, out, h, w): each channel at unit scale, 1 x 1, residual blocks, 1 x 1
    that starts at zero.

    scaled: False where channels are nearly always zero, so that few images do not tell their scale.
    """

    def __init__(self, channels: int, width: int, out: int, *, scaled: bool = True) -> None:
        super().__init__()
        norm = nn.BatchNorm2d(channels, affine=False) if scaled else nn.Identity()
        self.enter = nn.Sequential(norm, nn.Conv2d(channels, width, 1))
        self.blocks = nn.Sequential(*[Residual(width) for _ in range(_BLOCKS)])
        self.leave = nn.Conv2d(width, out, 1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.leave(nn.functional.leaky_relu(self.blocks(self.enter(x)), 0.1))
        return out


class Marker(SupportAttack):
    """A network that marks true entries, trained on pairs that anyone with the encoder can make."""

    name = "support network"
    holds = Holds.ENCODER
    trains = True

    def fit(self, world: World) -> None:
        rng = seeded(world, self.name)
        self._prior = torch.from_numpy(prior_odds(world))
        inputs = world.channels + (len(self._prior) if world.open_code else 0)
        self._net = Grid(inputs, world.budget.width, len(self._prior))

        def batches() -> Batch:
            cases = [
                world.owned[int(i)] for i in rng.integers(len(world.owned), size=world.budget.batch)
            ]
            views = [world.again(case) for case in cases]
            there = np.stack([view.public != 0 for view in views])
            true = np.stack([case.levels != 0 for case in cases])
            return self._read(world, views), torch.from_numpy(there), torch.from_numpy(true & there)

        def losses(x: Tensor, there: Tensor, true: Tensor) -> Iterator[Tensor]:
            logits = self._net(x) + self._prior.to(x.device)
            yield nn.functional.binary_cross_entropy_with_logits(logits[there], true[there].float())

        train([self._net], losses, batches, world, self.name)

    def score(self, world: World, view: View) -> np.ndarray:
        with torch.inference_mode():
            logits = self._net(self._read(world, [view]).to(device()))[0].cpu() + self._prior
        found: np.ndarray = logits.numpy()
        return found

    def guess(self, world: World, view: View) -> np.ndarray:
        """Each entry weighted by its probability: less squared error than the likeliest alone."""
        return world.decode(view.public, _sigmoid(self.score(world, view)))

    @staticmethod
    def _read(world: World, views: list[View]) -> Tensor:
        planes = torch.from_numpy(np.stack([world.planes(view) for view in views]))
        there = np.stack([view.public != 0 for view in views])
        return (
            torch.cat([planes, torch.from_numpy(there).float()], 1) if world.open_code else planes
        )


class Iterated(Marker):
    """The support network, then decode, encode again, and weigh each entry by how it agrees."""

    name = "support network, then decode and encode again"

    def __init__(self, marker: Marker) -> None:
        self._marker = marker

    def fit(self, world: World) -> None:
        from sklearn.linear_model import LogisticRegression

        self._rounds: list[LogisticRegression] = []
        cases = world.owned[: max(4, min(24, len(world.owned)))]
        views = [world.again(case) for case in cases]
        scores = [self._marker.score(world, view) for view in views]
        for number in range(_ROUNDS):
            world.report(self.name, number, _ROUNDS)
            features = [self._agreement(world, v, s) for v, s in zip(views, scores, strict=True)]
            labels = [
                case.levels[view.public != 0] != 0 for case, view in zip(cases, views, strict=True)
            ]
            judge = LogisticRegression(max_iter=200).fit(
                np.concatenate(features), np.concatenate(labels)
            )
            self._rounds.append(judge)
            scores = [
                self._rescored(view, judge, f) for view, f in zip(views, features, strict=True)
            ]

    def score(self, world: World, view: View) -> np.ndarray:
        score = self._marker.score(world, view)
        for judge in self._rounds:
            score = self._rescored(view, judge, self._agreement(world, view, score))
        return score

    def _agreement(self, world: World, view: View, score: np.ndarray) -> np.ndarray:
        """(public entries, features): log odds, and value against re-encoded coefficient."""
        image = world.decode(view.public, _sigmoid(score))
        z = world.analyse(image) / world.step
        there = view.public != 0
        value = view.public[there] + world.architecture.offset * np.sign(view.public[there])
        back = np.clip(z[there], -64, 64) * np.sign(value)
        size = np.abs(value)
        parts = [
            score[there],
            back / size,
            np.minimum(np.abs(back - size), 8),
            np.minimum(size, 8),
            np.minimum(np.abs(back), 8),
        ]
        return np.stack([np.clip(part, -20, 20) for part in parts], axis=1)

    @staticmethod
    def _rescored(view: View, judge: object, features: np.ndarray) -> np.ndarray:
        score = np.zeros(view.public.shape, np.float32)
        score[view.public != 0] = judge.decision_function(features)  # type: ignore[attr-defined]
        return score


class Everywhere(nn.Module):
    """(b, C, h, w) -> (b, out, h, w): all inputs to a few numbers, those to a coarse picture."""

    def __init__(self, shape: tuple[int, int, int], width: int, out: int) -> None:
        super().__init__()
        self._grid, self._out = shape[1:], out
        self._low = tuple(min(_COARSE, side) for side in self._grid)
        self.enter = nn.Sequential(
            nn.Dropout(0.5), nn.Linear(int(np.prod(shape)), width)
        )  # or it learns each bundle by heart
        self.leave = nn.Linear(width, min(_COARSE_ATOMS, out) * int(np.prod(self._low)))
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor) -> Tensor:
        low = self.leave(nn.functional.leaky_relu(self.enter(x.flatten(1)), 0.1)).reshape(
            len(x), -1, *self._low
        )
        grid = nn.functional.interpolate(low, self._grid, mode="bilinear")
        return nn.functional.pad(grid, (0, 0, 0, 0, 0, self._out - grid.shape[1]))


class Regressor(ImageAttack):
    """A network from the code straight to the image, without the decoder."""

    name = "network from code to image"
    holds = Holds.ENCODER
    trains = True

    def fit(self, world: World) -> None:
        from primis.network.projection import dct_atoms

        rng = seeded(world, self.name)
        stride = world.preset.stride
        self._net = self._network(world, stride**2)
        self._atoms = torch.from_numpy(dct_atoms(stride)).float()[:, None].to(device())
        self._prior = torch.from_numpy(world.mean_image).to(device())
        self._gain = nn.Parameter(torch.zeros(1, stride**2, 1, 1))
        self._net.register_parameter("gain", self._gain)
        self._frequencies = world.open_code and world.architecture.layout.has_dc

        def losses(*batch: Tensor) -> Iterator[Tensor]:
            *x, image = batch
            yield nn.functional.mse_loss(self._image(*x), image)

        train([self._net], losses, lambda: self._batch(world, rng), world, self.name)

    def guess(self, world: World, view: View) -> np.ndarray:
        with torch.inference_mode():
            found: np.ndarray = (
                self._image(torch.from_numpy(world.planes(view))[None].to(device()))[0]
                .cpu()
                .numpy()
            )
        return found

    def _network(self, world: World, out: int) -> nn.Module:
        """Of an open code what lies near tells; of sealed bytes each bit may tell of any place."""
        if world.open_code:
            return Grid(world.channels, world.budget.width, out)
        return Everywhere((world.channels, *world.grid), world.budget.width, out)

    def _batch(self, world: World, rng: np.random.Generator) -> Batch:
        cases = [
            world.owned[int(i)] for i in rng.integers(len(world.owned), size=world.budget.batch)
        ]
        x = torch.from_numpy(np.stack([world.planes(world.again(case)) for case in cases]))
        return x, torch.from_numpy(np.stack([case.normal for case in cases]))

    def _image(self, x: Tensor) -> Tensor:
        """(b, C, h, w) -> (b, H, W): DCT coefficients, then pixels, added to the prior."""
        return self._prior + self._pixels(x, self._net(x))

    def _pixels(self, x: Tensor, q: Tensor) -> Tensor:
        if self._frequencies:  # a gain for each frequency leads most of the way
            n = q.shape[1]
            planes = torch.cat([x[:, n : n + 1], x[:, 1:n]], 1)
            q = q + self._gain * planes.sign() * (
                torch.exp2(2 * planes.abs()) - 1
            )  # of the levels that the planes show
        pixels = nn.functional.conv_transpose2d(q, self._atoms, stride=self._atoms.shape[-1])[:, 0]
        return pixels[:, : self._prior.shape[0], : self._prior.shape[1]]


class Finer(Regressor, BesideAttack):
    """What tier preview does not show, from the code: for an attacker who holds the secret of tier
    preview.

    Learns what the preview itself tells of the rest, too; the judge gives it the code of another
    image beside the preview of the right one, so that only what the code adds counts.
    """

    name = "network from code and tier preview to image"
    holds = Holds.PREVIEW

    def fit(self, world: World) -> None:
        self._shown: dict[OwnedCase, np.ndarray] = {}
        self._opened = world.atoms
        super().fit(world.owning(world.owned[:_FEW]))

    def guess_beside(self, world: World, view: View, preview: Preview) -> np.ndarray:
        x = np.concatenate([world.planes(view), code_planes(preview.levels)])
        known = (x, self._decoded(world, preview), np.float32(preview.threshold))
        with torch.inference_mode():
            batch = (torch.from_numpy(np.asarray(part)[None]).to(device()) for part in known)
            found: np.ndarray = self._image(*batch)[0].cpu().numpy()
        return found

    def _network(self, world: World, out: int) -> nn.Module:
        seen = Grid(
            self._opened + (world.channels if world.open_code else 0),
            world.budget.width,
            out,
            scaled=False,
        )
        if not world.open_code:
            seen.add_module(
                "everywhere", Everywhere((world.channels, *world.grid), world.budget.width, out)
            )
        return seen

    def _batch(self, world: World, rng: np.random.Generator) -> Batch:
        cases = [
            world.owned[int(i)] for i in rng.integers(len(world.owned), size=world.budget.batch)
        ]
        previews = [preview_of(case.levels, case.threshold, world.preset) for case in cases]
        pairs = zip(cases, previews, strict=True)
        x = np.stack(
            [
                np.concatenate([world.planes(world.again(case)), code_planes(preview.levels)])
                for case, preview in pairs
            ]
        )
        for case, preview in zip(cases, previews, strict=True):
            if case not in self._shown:
                self._shown[case] = self._decoded(world, preview)
        shown = np.stack([self._shown[case] for case in cases])
        steps = np.array([case.threshold for case in cases], np.float32)
        return tuple(
            torch.from_numpy(array)
            for array in (x, shown, steps, np.stack([case.normal for case in cases]))
        )

    def _image(self, x: Tensor, shown: Tensor | None = None, step: Tensor | None = None) -> Tensor:
        """What tier preview shows, and what the network adds, in steps of t."""
        assert shown is not None and step is not None
        code, preview = x[:, : -self._opened], x[:, -self._opened :]
        everywhere = getattr(self._net, "everywhere", None)
        q = self._net(x) if everywhere is None else self._net(preview) + everywhere(code)
        return shown + step[:, None, None] * self._pixels(code, q)

    @staticmethod
    def _decoded(world: World, preview: Preview) -> np.ndarray:
        """What tier preview shows, (H, W) in units of the image's range."""
        opened = 1 / world.preset.code_maps
        levels, t = preview
        q = ((levels + world.architecture.offset * np.sign(levels)) * t).astype(np.float32)
        return world.synthesise(q, t, opened)


class Dense(ImageAttack):
    """Ridge regression from the published bits to means of 8 x 8 pixels, its strength by folds."""

    name = "linear regression from everything"
    holds = Holds.ENCODER

    def fit(self, world: World) -> None:
        from sklearn.kernel_ridge import KernelRidge
        from sklearn.model_selection import GridSearchCV

        cases = world.owned[:_MOST]
        world.report(self.name, 0, 1)
        x = np.stack(
            [self._read(world, view) for case in cases for view in (case.view, *case.others)]
        )
        y = np.stack(
            [_means(case.normal).ravel() for case in cases for _ in (case.view, *case.others)]
        )
        self._mean_x, self._mean_y = x.mean(axis=0), y.mean(axis=0)
        self._x = x - self._mean_x
        kernel = self._x @ self._x.T
        strengths = float(np.trace(kernel)) / len(x) * np.logspace(-4, 3, 8)
        folds = GridSearchCV(
            KernelRidge(kernel="precomputed"),
            {"alpha": strengths},
            cv=min(5, len(x)),
            scoring=_SQUARED,
        )
        self._model = folds.fit(kernel, y - self._mean_y)

    def guess(self, world: World, view: View) -> np.ndarray:
        h, w = world.mean_image.shape
        kernel = (self._read(world, view) - self._mean_x) @ self._x.T
        low = (self._mean_y + self._model.predict(kernel[None])[0]).reshape(-1, -(-w // _MEAN))
        return np.kron(low, np.ones((_MEAN, _MEAN)))[:h, :w]

    @staticmethod
    def _read(world: World, view: View) -> np.ndarray:
        return code_planes(view.public).ravel() if world.open_code else world.bits(view)


def _means(image: np.ndarray) -> np.ndarray:
    """Means of 8 x 8 pixels, the border repeated."""
    padded = np.pad(image, [(0, -side % _MEAN) for side in image.shape], mode="edge")
    return padded.reshape(padded.shape[0] // _MEAN, _MEAN, -1, _MEAN).mean(axis=(1, 3))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))
