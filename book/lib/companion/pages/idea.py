"""The page on the idea: shapes of the methods, how draws harden, and what gradients they leave."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgaplus.rounding import TwoClass

from .. import closed_forms, figures, palette


def shapes(methods: Sequence[TwoClass]) -> Figure:
    """Probability of rounding up over x = v − ⌊v⌋ at τ = 1, and its slope."""
    x = torch.linspace(0, 1, 1003, dtype=torch.float64)[1:-1]
    parts = {
        "probability of rounding up": {m.label: m.probabilities(x)[:, 1] for m in methods},
        "its slope": {m.label: closed_forms.probability_slope(m, x, 1.0) for m in methods},
    }
    return figures.over_fraction(parts, x, "", 5, (4, 3.2))


def draws(method: TwoClass, taus: Sequence[float], count: int = 60, seed: int = 0) -> Figure:
    """``count`` draws for each of 101 values v in [0, 1], a panel for each temperature."""
    generator = torch.Generator().manual_seed(seed)
    v = torch.linspace(0, 1, 101, dtype=torch.float64).repeat(count, 1)
    noise = method.draw(tuple(v.shape), generator)

    colour = palette.looks([method.label])[method.label]["color"]

    def draw(axes: Axes, tau: float) -> None:
        relaxed = method.relax(v, tau, noise.double()).flatten()
        axes.plot(v.flatten(), relaxed, ".", ms=1.5, color=colour, alpha=0.4)
        axes.plot([0, 0.5, 0.5, 1], [0, 0, 1, 1], color="black", lw=1.2)
        axes.set(xlim=(0, 1), ylim=(-0.05, 1.05), xticks=np.linspace(0, 1, 3))

    words = {"xlabel": "value v", "ylabel": "relaxed draw s"}
    return figures.panels({f"τ = {tau:g}": tau for tau in taus}, draw, size=(2.6, 2.6), sharey=True, **words)
