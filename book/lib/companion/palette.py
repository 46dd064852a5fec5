"""The book's look: one style, and one colour, dash and marker for each arm on the pages of results.

Colours are Okabe and Ito's, which readers with any colour vision can tell apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import matplotlib.pyplot as plt
import seaborn as sns

from .configurations import BASE, label

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
DASHES = ("-", "--", ":", "-.")
MARKERS = "osD^"

# Colour, dash and marker: a three-class method has its base's colour.
_ARMS = {
    BASE: ("#000000", "-", "o"),
    "ssl:a=2.3": (OKABE_ITO[0], "-", "o"),
    "atanh": (OKABE_ITO[1], "--", "s"),
    "linear": (OKABE_ITO[2], "-.", "D"),
    "cosine": (OKABE_ITO[3], ":", "^"),
    "ste": (OKABE_ITO[4], "--", "v"),
    "uniform": (OKABE_ITO[5], "-.", "P"),
    "da": (OKABE_ITO[7], ":", "X"),
    "ssl:a=1.3333333333333333": (OKABE_ITO[5], "-", "h"),
    "fast": (OKABE_ITO[4], "-", "*"),
    "three-class:base=ssl,a=1.4": (OKABE_ITO[0], "--", "<"),
    "three-class:base=linear": (OKABE_ITO[2], "--", ">"),
    "three-class:base=cosine": (OKABE_ITO[3], "--", "p"),
}


def style() -> None:
    """The book's style: small, light, legible on a phone."""
    sns.set_theme(context="notebook", style="whitegrid", palette=OKABE_ITO)
    plt.rcParams.update(
        {"figure.dpi": 96, "axes.titlesize": "medium", "axes.titleweight": "bold", "legend.frameon": False}
    )


def colour(position: int) -> str:
    """The colour of the ``position``-th of several things that have none of their own."""
    return OKABE_ITO[position % len(OKABE_ITO)]


def of_arms(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Line properties of arms, by name, as `matplotlib.axes.Axes.plot` takes them.

    Args:
        names: as `analysis.arms.with_arms` gives them; one that has no colour of its own takes the next free one.
    """
    known = {label(spec): look for spec, look in _ARMS.items()}
    names = list(dict.fromkeys(names))
    free = (c for c in OKABE_ITO if c not in {known[name][0] for name in names if name in known})
    found = {}
    for position, name in enumerate(names):
        look = known.get(name) or (next(free, "#555555"), DASHES[position % 4], MARKERS[position % 4])
        found[name] = dict(zip(("color", "linestyle", "marker"), look, strict=True))
    return found


def in_order(names: Iterable[str]) -> list[str]:
    """Arms in the order in which legends and tables name them: the base, then as the figures of the book do."""
    rank = {label(spec): position for position, spec in enumerate(_ARMS)}
    return sorted(dict.fromkeys(names), key=lambda name: rank.get(name, len(rank)))
