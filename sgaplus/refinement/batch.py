"""The refinement of one batch: images of one shape whose latents are optimised together.

An image whose gradients are not finite in a step, as a rare overflow in bfloat16 leaves them, goes through
that step with gradients of zero; the others do not notice. Only a few such steps are taken for chance.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import pandas as pd
import torch
from torch import Tensor

from .. import hardware, metrics
from ..codecs.codec import Codec
from ..codecs.models import Latents, hard
from ..distortion import MSE, Distortion
from ..errors import SystemFault
from ..plans import Plan
from . import objective
from .curvature import Curvature
from .objective import Tangent

# So many steps of an image may have gradients that are not finite.
MOST_BROKEN_STEPS = 3


@dataclass(eq=False)
class Batch:
    """Images of one shape while they are refined."""

    codec: Codec
    x: Tensor
    names: list[str]
    plan: Plan
    lmbda: float
    latents: Latents
    generators: list[torch.Generator]
    compiled: bool = False  # the steps' loss, see `objective`; that of images in strips is not
    distortion: Distortion = MSE
    exact: Codec = field(init=False)  # computes in float32
    curvature: Curvature = field(init=False)  # of choices
    tangent: Tangent | None = field(init=False, default=None)  # of inner steps
    broken_steps: Tensor = field(init=False)  # of each image: steps whose gradients were not finite

    def __post_init__(self) -> None:
        self.curvature = Curvature()
        self.broken_steps = torch.zeros(len(self.names), dtype=torch.int64, device=self.x.device)
        self.x = hardware.channels_last(self.x)  # as x̂ is
        self.exact = self.codec.to(self.codec.device, "float32")

    @property
    def pixels(self) -> int:
        return self.x.shape[-2] * self.x.shape[-1]

    def draw(self) -> dict[str, Tensor | None]:
        """The random numbers of one step for each latent, each image's from its own generator."""

        def of(name: str) -> Tensor | None:
            shape = self.latents[name].shape[1:]
            drawn = [self.plan.method.of(name).draw(shape, g, self.x.device) for g in self.generators]
            numbers = [each for each in drawn if each is not None]
            if not numbers:
                return None
            noise = torch.stack(numbers)
            return hardware.channels_last(noise) if noise.ndim == 4 else noise  # as latents are

        return {name: of(name) for name in reversed(self.latents)}  # in the order in which they are decoded

    def relaxed_loss(self, tau: float) -> Tensor:
        """The method's loss of each image, (B,).

        Raises:
            UserError: it is to be compiled, and that is not possible here.
        """
        noise, method = self.draw(), self.plan.method
        arguments = method, self.latents, tau, noise
        curvature = None
        whole = not self.codec.strips_of("g_s", self.latents["y"])
        if self.compiled and whole and not method.inner:
            return objective.compiled_loss(self.codec, *arguments, self.x, self.lmbda, self.distortion)
        if self.compiled and whole and not self.curvature.due:
            with torch.no_grad():
                y_hat = objective.relax(self.codec.price, *arguments).y_hat
            curvature, coupling = self.curvature.held(), self.curvature.coupling
            assert coupling is not None
            self.tangent = objective.compiled_tangent(
                self.codec, y_hat, self.x, curvature, coupling, self.distortion
            )
            return self.inner_loss(tau, noise)
        decoded = objective.relax(self.codec.decode, *arguments)
        x_hat = objective.crop(decoded.x_hat, self.x.shape[-2:])
        total = self.distortion.total(x_hat, self.x)
        if method.inner:
            curvature = self.curvature(
                *(x_hat, decoded.y_hat, self.generators, self.distortion, self.x),
                lambda y_hat: objective.crop(self.exact.synthesise(y_hat), self.x.shape[-2:]),
            )
            assert self.curvature.coupling is not None
            self.tangent = Tangent.of(total, decoded.y_hat, curvature, self.curvature.coupling, keep=True)
            total = self.tangent(decoded.y_hat)
        weight = method.weight(tau)
        return objective.loss(total, decoded, self.x, self.lmbda, curvature, weight, self.distortion)

    def inner_loss(self, tau: float, noise: dict[str, Tensor | None] | None = None) -> Tensor:
        """`relaxed_loss` with the tangent of its last call in place of a synthesis."""
        noise = self.draw() if noise is None else noise
        of = objective.compiled_inner_loss if self.compiled else objective.inner_loss
        curvature, tangent = self.curvature.value, self.tangent
        assert curvature is not None and tangent is not None
        arguments = self.plan.method, self.latents, tau, noise, self.x, self.lmbda, curvature
        return of(self.codec, *arguments, self.distortion, tangent)

    @torch.no_grad()
    def true(self) -> tuple[pd.DataFrame, Latents, Tensor]:
        """One row per image after hard rounding, the hard latents, the reconstruction."""
        self.tangent = None  # as large as three y; the next step has a new one
        decoded = self.exact.decode(self.latents, hard)
        x_hat = objective.crop(decoded.x_hat, self.x.shape[-2:])
        bpp = {name: bits.double() / self.pixels for name, bits in decoded.bits.items()}
        mse = metrics.mse(self.x, x_hat)
        distortion = mse if self.distortion is MSE else self.distortion(x_hat, self.x)
        total = functools.reduce(torch.add, bpp.values())
        columns = {
            "loss": metrics.rd_loss(self.lmbda, distortion, total, self.distortion.scale),
            "bpp": total,
            **{f"bpp_{name}": value for name, value in bpp.items()},
            "mse": mse,
            "psnr": metrics.psnr(self.x, x_hat),
            "psnr_8bit": metrics.psnr_8bit(self.x, x_hat),
            "ms_ssim": metrics.ms_ssim(self.x, x_hat),
        }
        rows = pd.DataFrame({name: value.cpu().numpy() for name, value in columns.items()})
        rows.insert(0, "image", self.names)
        broken = rows.loc[~rows["loss"].abs().lt(float("inf")), "image"]
        if len(broken):
            of = "" if self.distortion is MSE else f", or mend the distortion {self.distortion.spec}"
            raise SystemFault(
                f"the loss of {broken.iloc[0]} is no longer finite: lower the learning rate or use"
                f" float32{of}"
            )
        return rows, decoded.latents, x_hat

    def check_gradients(self) -> None:
        """A fault where an image's were not finite in more than `MOST_BROKEN_STEPS` steps."""
        for name, count in zip(self.names, self.broken_steps.tolist(), strict=True):
            if count > MOST_BROKEN_STEPS:
                raise SystemFault(
                    f"the gradients of {name} were not finite in {count} steps: "
                    "lower the learning rate or use float32"
                )
