"""The book's look: one colour, dash and marker for each method on every page, and readable names.

Colours of methods are Okabe and Ito's and two of Tol's, which readers with any colour vision can tell apart.
What is no method (a codec, a part of a file, a published curve) never has a method's colour.
"""

import re
from collections.abc import Iterable
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

from . import reference
from .configurations import BASE, label

# As seaborn has them: lengths of dash and gap, nothing for a solid line.
SOLID, DASHED, DOTTED, DASHDOT = "", (4, 1.5), (1, 1), (3, 1.25, 1.5, 1.25)
DASHES = ("-", "--", ":", "-.")
MARKERS = "osD^"

# Colour, dash and marker by specification. A three-class method has the colour of its two-class form.
_METHODS = {
    BASE: ("#000000", SOLID, "d"),
    "ssl:a=2.3": ("#0072B2", SOLID, "o"),
    "atanh": ("#D55E00", DASHED, "s"),
    "linear": ("#009E73", DASHDOT, "D"),
    "cosine": ("#CC79A7", DOTTED, "^"),
    "ste": ("#E69F00", DASHED, "v"),
    "uniform": ("#56B4E9", DASHDOT, "P"),
    "da": ("#666666", DOTTED, "X"),
    "ssl:a=1.3333333333333333": ("#332288", DASHED, "h"),
    "fast": ("#661100", SOLID, "*"),
    "three-class:base=ssl,a=1.4": ("#0072B2", DOTTED, "<"),
    "three-class:base=linear": ("#009E73", DASHED, ">"),
    "three-class:base=cosine": ("#CC79A7", DASHED, "p"),
}
METHODS = {label(spec): look for spec, look in _METHODS.items()}

# For what is no method: codecs, parts of files, published curves.
OTHERS = ("#44AA99", "#999933", "#CC6677", "#AA4499", "#117733", "#DDCC77", "#88CCEE", "#777777")

PUBLISHED = {
    name: (OTHERS[i % 8], (DASHED, DOTTED, DASHDOT)[i % 3], "")
    for i, name in enumerate(reference.NAMES.values())
}

# As readers know them; `data.sources` has the keys.
DATASETS = {
    "kodak": "Kodak",
    "tecnick": "Tecnick",
    "clic2020": "CLIC 2020",
    "clic2025": "CLIC 2025",
    "sample": "sample photographs",
}
TAU_MAX = r"$\tau_{\max}$"


def style() -> None:
    """The book's style: small, light, legible on a phone."""
    sns.set_theme(context="notebook", style="whitegrid", palette=OTHERS)
    plt.rcParams.update(
        {"figure.dpi": 96, "axes.titlesize": "medium", "axes.titleweight": "bold", "legend.frameon": False}
    )


def dataset(name: str) -> str:
    """A data set as readers know it; a folder or file by its own name."""
    return DATASETS.get(name, name)


def colour(position: int) -> str:
    """The colour of the ``position``-th of several things that are no methods."""
    return OTHERS[position % len(OTHERS)]


def ordered(values: Iterable[float]) -> dict[float, Any]:
    """Colours of numbers, such as λ or iterations, from dark (the smallest) to light."""
    values = sorted(set(values))
    return dict(zip(values, sns.color_palette("viridis", len(values) + 1), strict=False))


def _known(name: str) -> tuple[str, Any, str] | None:
    return (METHODS | PUBLISHED).get("fast" if name.startswith("fast (") else name)


def _looks(names: Iterable[str]) -> dict[str, tuple[str, Any, str]]:
    names = list(dict.fromkeys(names))
    strange = {name: position for position, name in enumerate(n for n in names if _known(n) is None)}
    dashes = (SOLID, DASHED, DOTTED, DASHDOT)
    return {
        name: _known(name) or (colour(at), dashes[at % 4], MARKERS[(at + at // len(OTHERS)) % 4])
        for name, at in ((name, strange.get(name, 0)) for name in names)
    }


def looks(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Line properties for `matplotlib.axes.Axes.plot`; the same name looks the same on every page."""
    return {
        name: {"color": colour, "linestyle": (0, dash) if dash else "-", "marker": marker}
        for name, (colour, dash, marker) in _looks(names).items()
    }


def for_seaborn(names: Iterable[str]) -> dict[str, Any]:
    """The same as seaborn's ``palette``, ``dashes``, ``markers``, ``hue_order`` and ``style_order``."""
    found = pd.DataFrame(_looks(in_order(names)), index=["palette", "dashes", "markers"])
    order = list(found)
    return found.T.to_dict() | {"hue_order": order, "style_order": order}


def in_order(names: Iterable[str]) -> list[str]:
    """Methods as legends and tables order them: the base, as the paper's figures have them, others by name,
    numbers in it by their size."""
    rank = {name: position for position, name in enumerate(METHODS)}

    def key(name: str) -> tuple[int, list[str | int]]:
        pieces = re.split(r"(\d+)", name)
        return rank.get(name, len(rank)), [int(piece) if piece.isdecimal() else piece for piece in pieces]

    return sorted(set(names), key=key)


def parts(table: pd.DataFrame, by: str = "configuration") -> dict[str, pd.DataFrame]:
    """The rows of each method, in that order."""
    return {name: table[table[by] == name] for name in in_order(table[by])}
