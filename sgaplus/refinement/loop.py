"""The loop: a batch's steps, what is seen on the way, and how they go on from a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from .. import hardware
from ..codecs.models import Latents
from ..optimizers import OPTIMIZERS
from .batch import Batch
from .checkpoints import Checkpoints


@dataclass(frozen=True, eq=False)
class Best:
    """The best hard latents seen so far, image by image; never changed, so that Ctrl-C finds it whole."""

    rows: pd.DataFrame
    latents: Latents
    x_hat: Tensor

    def or_better(self, rows: pd.DataFrame, latents: Latents, x_hat: Tensor) -> Best:
        better = rows["loss"] < self.rows["loss"]
        chosen = torch.tensor(better.to_numpy(), device=x_hat.device).reshape(-1, 1, 1, 1)
        return Best(
            rows.where(better, self.rows),
            {k: torch.where(chosen, latents[k], v) for k, v in self.latents.items()},
            torch.where(chosen, x_hat, self.x_hat),
        )


def _drop_broken(variables: Sequence[Tensor]) -> Tensor:
    """Count an image's gradients as zero where one of them is not finite; which images, (B,).

    Without a look at the values on the host, which would wait for the device.
    """
    gradients = [v.grad for v in variables if v.grad is not None]
    broken = ~torch.stack([gradient.sum((1, 2, 3)) for gradient in gradients]).sum(0).isfinite()
    for gradient in gradients:
        gradient.masked_fill_(broken.reshape(-1, 1, 1, 1), 0.0)
    return broken


def _optimise(
    batch: Batch, optimizer: torch.optim.Optimizer, iterations: int, begun: int
) -> Iterator[tuple[int, Tensor, float]]:
    """Optimise the batch's latents; yields (steps done, method's loss of each image, τ) after every step.

    Args:
        begun: steps that were done before.
    """
    variables, plan = list(batch.latents.values()), batch.plan
    parts = 1 + plan.method.inner
    for t in range(begun, iterations):
        for part in range(parts):
            done = t + part / parts
            tau = plan.temperature(done, iterations)
            optimizer.param_groups[0]["lr"] = plan.lr(done, iterations)
            with hardware.full_float32(batch.x.device):
                loss = batch.inner_loss(tau) if part else batch.relaxed_loss(tau)
                loss.sum().backward()
            broken = _drop_broken(variables)
            if not part:  # what is broken in the tangent, is so in every inner step
                batch.broken_steps += broken
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        yield t + 1, loss.detach().clone(), tau  # graphs on CUDA overwrite it in the next step


@dataclass(eq=False)
class _Progress:
    """How far a refinement is."""

    done: int  # steps
    seconds: float  # that they took
    tables: list[pd.DataFrame]  # of each evaluated iteration
    best: Best


def _saved(batch: Batch, optimizer: torch.optim.Optimizer, progress: _Progress, kept: dict) -> dict[str, Any]:
    """All that `_restored` needs to go on as if nothing had been."""
    best = progress.best
    return {
        "done": progress.done,
        "seconds": progress.seconds,
        "tables": [table.to_dict("list") for table in progress.tables],
        "best": {"rows": best.rows.to_dict("list"), "latents": best.latents, "x_hat": best.x_hat},
        "latents": {name: value.detach() for name, value in batch.latents.items()},
        "optimizer": optimizer.state_dict(),
        "generators": [generator.get_state() for generator in batch.generators],
        "curvature": vars(batch.curvature),
        "broken_steps": batch.broken_steps,
        "kept": kept,
    }


def _restored(batch: Batch, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> _Progress:
    """Put a saved state in place of a batch's and its optimiser's."""

    def here(value: Any) -> Any:
        return value.to(batch.x.device) if isinstance(value, Tensor) else value

    for name, value in state["latents"].items():
        batch.latents[name].data = here(value)
    optimizer.load_state_dict(state["optimizer"])
    for generator, value in zip(batch.generators, state["generators"], strict=True):
        generator.set_state(value)
    for name, value in state["curvature"].items():
        setattr(batch.curvature, name, here(value))
    batch.broken_steps = here(state["broken_steps"])
    best = state["best"]
    latents = {name: here(value) for name, value in best["latents"].items()}
    return _Progress(
        state["done"],
        state["seconds"],
        [pd.DataFrame(table) for table in state["tables"]],
        Best(pd.DataFrame(best["rows"]), latents, here(best["x_hat"])),
    )


@dataclass(frozen=True, eq=False)
class Keeper:
    """Where a batch's checkpoints are, and what its caller keeps in them."""

    checkpoints: Checkpoints
    path: Path
    kept: dict[Any, Any]  # plain values, which are put back when the batch goes on from there


def refine_batch(
    batch: Batch,
    iterations: int,
    evaluate: Collection[int],
    advance: Callable[[int], None],
    observe: Callable[[int, Latents], None] = lambda iteration, latents: None,
    stoppable: bool = False,
    keeper: Keeper | None = None,
) -> tuple[pd.DataFrame, Best, bool]:
    """Refine a batch.

    Args:
        evaluate: the iterations, beside 0, after which the true loss is computed.
        advance: called after every step with the steps that are done.
        observe: called at these and at 0 with the iteration and the hard latents.
        stoppable: let a KeyboardInterrupt after the first step end the steps; the true loss is computed once
            more.
        keeper: of checkpoints; the batch goes on from one that is there.

    Returns:
        A row per image and evaluated iteration; ``seconds`` are those of the steps, without the true losses,
        divided by the images. Beside it the best that was seen, and whether a KeyboardInterrupt was heard.

    Raises:
        SystemFault: an image's loss, or its gradients in more than `MOST_BROKEN_STEPS` steps, are not finite.
    """
    variables = [latent.requires_grad_() for latent in batch.latents.values()]
    optimizer = OPTIMIZERS[batch.plan.optimizer](variables, 1.0)
    state = keeper.checkpoints.load(keeper.path) if keeper else None
    if keeper and state:
        progress = _restored(batch, optimizer, state)
        keeper.kept.update(state["kept"])
    else:
        rows, latents, x_hat = batch.true()
        observe(0, latents)
        table = rows.assign(iteration=0, seconds=0.0, tau=float("nan"), method_loss=float("nan"))
        progress = _Progress(0, 0.0, [table], Best(table.copy(), latents, x_hat))
    started = hardware.now(batch.x.device)

    def count_seconds() -> None:
        nonlocal started
        begun, started = started, hardware.now(batch.x.device)
        progress.seconds += started - begun

    def look(loss: Tensor, tau: float) -> None:
        nonlocal started
        count_seconds()
        batch.check_gradients()
        rows, latents, x_hat = batch.true()
        observe(progress.done, latents)
        rows = rows.assign(
            iteration=progress.done,
            seconds=progress.seconds / len(batch.names),
            tau=tau,
            method_loss=loss.double().cpu().numpy(),
        )
        progress.best = progress.best.or_better(rows, latents, x_hat)
        progress.tables.append(rows)
        started = hardware.now(batch.x.device)

    last: tuple[Tensor, float] | None = None
    stopped = False
    try:
        for done, loss, tau in _optimise(batch, optimizer, iterations, progress.done):
            progress.done, last = done, (loss, tau)
            if progress.done in evaluate:
                look(*last)
            advance(done)
            if keeper and progress.done < iterations and keeper.checkpoints.due():
                count_seconds()
                keeper.checkpoints.save(keeper.path, _saved(batch, optimizer, progress, keeper.kept))
                started = hardware.now(batch.x.device)
    except KeyboardInterrupt:
        if not stoppable or last is None:
            raise
        stopped = True
        if progress.done != progress.tables[-1]["iteration"].iloc[0]:
            look(*last)
    return pd.concat(progress.tables, ignore_index=True), progress.best, stopped
