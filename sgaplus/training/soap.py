"""SOAP for many small networks' weights: parameters of one shape are stepped together."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class SOAP(torch.optim.Optimizer):
    """Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al., arXiv 2409.11321, algorithm 3).

    A convolution's filters are a tensor of outputs by inputs by positions in the kernel, and each of these
    directions has a basis. pytorch_optimizer's class, which steps the parameters one by one and gives a
    kernel's rows and columns a basis each, launches three times as many operations for these networks. The
    first step only looks at the gradient.

    Args:
        betas: decay of the gradients' mean, and of their second moments in every basis.
        every: steps between two improvements of the bases, by one step of orthogonal iteration.
        largest: directions of more entries have no basis of their own.
    """

    def __init__(
        self,
        params: Sequence[Tensor],
        lr: float,
        betas: tuple[float, float] = (0.95, 0.95),
        every: int = 20,
        largest: int = 256,
        eps: float = 1e-8,
    ):
        super().__init__(params, {"lr": lr, "betas": betas, "every": every, "largest": largest, "eps": eps})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step for every parameter that has a gradient."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    alike[p.shape].append(p)
            for shape, parameters in alike.items():
                gradient = torch.stack([p.grad for p in parameters if p.grad is not None]).flatten(
                    3 if len(shape) > 2 else -1
                )
                update = self._update(gradient, self.state[parameters[0]], group)
                if update is not None:
                    torch._foreach_add_(parameters, [u.view(shape) for u in update], alpha=-1)

    def _update(self, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor | None:
        """What to subtract from parameters of one shape whose gradients are (n, …), if anything."""
        beta1, beta2 = group["betas"]
        if not state:
            state |= {"t": 0, "m": torch.zeros_like(gradient), "v": torch.zeros_like(gradient)}
            directions = gradient.shape[1:]
            state["moments"] = [
                (1 - beta2) * _moment(gradient, direction)
                if len(directions) > 1 and entries <= group["largest"]
                else None
                for direction, entries in enumerate(directions)
            ]
            state["bases"] = [
                None if moment is None else torch.linalg.eigh(moment)[1].flip(-1)
                for moment in state["moments"]
            ]
            return None
        state["t"] += 1
        t, m, v, bases = (state[name] for name in ("t", "m", "v", "bases"))
        m.lerp_(gradient, 1 - beta1)
        v.lerp_(_turned(gradient, bases).square(), 1 - beta2)
        length = group["lr"] * (1 - beta2**t) ** 0.5 / (1 - beta1**t)
        update = _turned(_turned(m, bases) / (v.sqrt() + group["eps"]), bases, back=True) * length
        for direction, moment in enumerate(state["moments"]):
            if moment is not None:
                moment.lerp_(_moment(gradient, direction), 1 - beta2)
        if t % group["every"] == 0:
            self._improve(state)
        return update

    @staticmethod
    def _improve(state: dict[str, Any]) -> None:
        """Bring the bases nearer to the eigenvectors of the moments, the largest eigenvalue first."""
        for direction, (moment, basis) in enumerate(zip(state["moments"], state["bases"], strict=True)):
            if moment is None:
                continue
            product = moment @ basis
            order = (basis * product).sum(-2).argsort(-1, descending=True)
            state["bases"][direction] = torch.linalg.qr(product.take_along_dim(order[:, None], -1))[0]
            shape = [len(order)] + [1] * (state["v"].ndim - 1)
            shape[1 + direction] = -1
            state["v"] = state["v"].take_along_dim(order.view(shape), 1 + direction)


def _moment(gradient: Tensor, direction: int) -> Tensor:
    """The second moments (n, d, d) of gradients (n, …) along a direction of d entries."""
    matrix = gradient.movedim(1 + direction, 1).flatten(2)
    return matrix @ matrix.mT


def _turned(x: Tensor, bases: Sequence[Tensor | None], back: bool = False) -> Tensor:
    """``x`` (n, …) in the bases, or back from them; directions without a basis stay."""
    for basis in bases:  # each turns the first direction and makes it the last one
        if basis is None:
            x = x.movedim(1, -1)
        else:
            rest = x.shape[2:]
            x = (x.flatten(2).mT @ (basis.mT if back else basis)).unflatten(1, rest)
    return x
