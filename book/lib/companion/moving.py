"""Figures that move. Each is drawn by ``book/_static/moving-KIND.js`` from numbers in the page and stands in
place of the pictures of a static figure, its twin, whose caption and provenance stay. On paper, without
JavaScript and in Jupyter the twin is what a reader sees.

    moving.lines(table, x="iteration", y="change", low="change_low", high="change_high",
                 twin=lambda: cells.show(figure, name=…, alt=…, caption=…))
"""

import html
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sgaplus.codecs.series import Series
from sgaplus.errors import UserError
from sgaplus.rounding import SSL, Atanh, ThreeClass

from . import cells, equal_bytes, palette, statistics

# HTML of one figure, or what displays it.
Twin = str | Callable[[], Any]
# Of a photograph, as ``moving-before-after.js`` knows them.
_SIDES = (*equal_bytes.SIDES, "base-error", "refined-error", "original")


def markup(kind: str, data: Any, twin: str) -> str:
    """HTML of a figure that moves: ``moving-KIND.js`` reads the data; the twin is a static ``<figure>``."""
    content = json.dumps(_plain(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    content = content.replace("<", "\\u003c")
    return (
        f'<div class="moving" data-kind="{html.escape(kind)}">{twin}'
        f'<script type="application/json">{content}</script></div>'
    )


def show(kind: str, data: Any, twin: Twin) -> None:
    """Display `markup`; ``twin`` may also be a function that displays one figure, such as `cells.show`."""
    from IPython.display import display
    from IPython.utils.capture import capture_output

    text = kind
    if not isinstance(twin, str):
        with capture_output() as captured:
            twin()
        (shown,) = (output.data for output in captured.outputs)
        twin, text = shown["text/html"], shown.get("text/plain", kind)
    display({"text/html": markup(kind, data, twin), "text/plain": text}, raw=True)


def lines(
    frame: pd.DataFrame, *, twin: Twin, xlabel="", ylabel="", logarithmic=False, **columns: str | None
) -> None:
    """Display lines that are read off by mouse, finger or keys; ``columns`` are those of `lines_data`."""
    words = {"xlabel": xlabel, "ylabel": ylabel, "log": logarithmic}
    show("lines", lines_data(frame, **columns) | words, twin)


def with_means(rows: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """The mean of ``y`` over images at each ``x`` with its interval, and every image, as `lines` takes them;
    ``image`` is missing in the rows of means."""
    by, rows = ["configuration", x], rows.dropna(subset=[y])
    ends = {y: "value", f"{y}_low": "low", f"{y}_high": "high"}
    means = statistics.means(rows, y, by).rename(columns=ends).drop(columns="images")
    return pd.concat([means, statistics.over_seeds(rows, [y], by).rename(columns=ends)], ignore_index=True)


def probability_space(twin: Twin, a: float = 2.3, tau: float = 1.0) -> None:
    """Display the probabilities of rounding, their slope and draws, with sliders for SSL's a, the temperature
    τ and the three classes' r and n (paper, Figure 1); ``a`` and ``tau`` are what it first shows."""
    show("space", space_data(a, tau), twin)


def space_data(a: float = 2.3, tau: float = 1.0) -> dict[str, Any]:
    """What ``moving-space.js`` reads: methods with their colours, and presets; the first one is shown."""
    best = ThreeClass(SSL(1.4))
    two = {"a": a, "three": False, "r": best.r, "n": best.n, "v": 0.3}
    presets = {
        "SSL": two | {"method": "ssl", "tau": tau},
        "SGA": two | {"method": "atanh", "tau": 0.5},
        "linear": two | {"method": "linear", "tau": 1.0},
        "authors' best": two | {"method": "ssl", "a": best.base.a, "three": True, "tau": 1.0},
    }
    labels = {"atanh": Atanh().label, "linear": "linear", "cosine": "cosine", "ssl": SSL().label}
    looks = palette.looks(labels.values())
    return {
        "methods": [
            {"name": name, "label": label.split(" (a")[0], "colour": looks[label]["color"]}
            for name, label in labels.items()
        ],
        "presets": [{"name": name, "spec": spec} for name, spec in presets.items()],
    }


def before_after(
    names: list[str] | None = None, *, codecs: Series, name="before-after", light=False, results=None
) -> list[equal_bytes.Pair]:
    """Display photographs before and after refinement in files of equal size, as the stored files decode,
    with a seam to drag, a loupe and error maps; where none are stored of the codec, how to make them.

    Args:
        names: of `equal_bytes.BOXES`, all where None.
        light: the pictures alone, without error maps and originals.
    """
    pairs, command = equal_bytes.load(codecs, names, results), equal_bytes.command(codecs, results)
    if pairs:
        show("before-after", *of_pairs(pairs, name, light, command))
    else:
        said = f"Of {codecs.name} no photographs in files of equal size are stored: `{command}` makes them."
        from IPython.display import Markdown, display

        display(Markdown(said))
    return pairs


def of_pairs(
    pairs: list[equal_bytes.Pair], name: str, light: bool, command: str = ""
) -> tuple[dict[str, Any], str]:
    """`seam` of photographs in files of equal size."""
    photographs = []
    for pair in pairs:
        said = {
            side: f"{side}: {pair.about[f'{side}_bytes']:,} bytes, {pair.about[f'{side}_psnr_8bit']:.2f} dB"
            for side in equal_bytes.SIDES
        }
        sides = {text: pair.pictures[side] for side, text in said.items()}
        more = {f"error of {text}": pair.errors[side] for side, text in said.items()} if not light else {}
        if pair.original is not None and not light:
            more["original: not compressed"] = pair.original
        photographs.append((pair.name, pair.title, pair.centre, sides | more))
    first = pairs[0].about
    caption = (
        f"The same bytes spent twice: left as the codec encodes ({first['codec']}, λ = "
        f"{first['codec_lmbda']:g}), right refined by `{first['plan']}` so that the file is no larger. "
        "The same decoder reads both files. PSNR is that of the 8-bit picture."
    )
    if not light:
        scale = equal_bytes.ERROR_SCALE
        caption += f" Error maps: mean absolute error of the channels, {scale} times as bright."
    rows = pd.DataFrame([{"key": pair.name} | pair.about | {"box": str(pair.about["box"])} for pair in pairs])
    return seam(photographs, caption, name=name, rows=rows, command=command)


def seam(
    photographs: Sequence[tuple[str, str, tuple[int, int], Mapping[str, Any]]], caption: str, **about: Any
) -> tuple[dict[str, Any], str]:
    """What ``moving-before-after.js`` reads of photographs before and after, and their static twin.

    Args:
        photographs: name, title, x and y at which the loupe begins, and the sides (uint8) by their labels, in
            the order of `_SIDES`; those beyond before and after are there for the moving figure alone.
        about: of `cells.figure_of`.
    """
    found, blocks = [], []
    for name, title, centre, pictures in photographs:
        labels = dict(zip(_SIDES, pictures, strict=False))
        height, width = next(iter(pictures.values())).shape[1:]
        size = {"width": width, "height": height, "centre": centre}
        found.append({"name": name, "title": title, "labels": labels} | size)
        images = "".join(
            f'<span{"" if side in equal_bytes.SIDES else " class=more"}><img data-name="{name}"'
            f' data-side="{side}" {cells.picture(pictures[label])} loading="lazy" alt="{title}, {label}">'
            f"<br>{label}</span>"
            for side, label in labels.items()
        )
        blocks.append(f'<div class="pair">{images}</div>')
    twin = f'<div class="twin">{"".join(blocks)}</div>'
    return {"pairs": found}, cells.figure_of(twin, caption, photo=True, **about)


def lines_data(
    frame: pd.DataFrame,
    x: str,
    y: str,
    low: str | None = None,
    high: str | None = None,
    method: str = "configuration",
    panel: str | None = None,
    image: str | None = None,
    choice: str | None = None,
) -> dict[str, Any]:
    """What ``moving-lines.js`` reads.

    Args:
        frame: a row for each point of a line.
        x, y: columns of the point; rows without ``y`` are left out.
        low, high: columns with the ends of its interval.
        method: the column that names the line.
        panel: the column with the title of the panel that a row belongs to; one panel where None.
        image: the column with the photograph of a row, missing in the rows of means: a reader may let the
            photographs show as thin lines behind the means.
        choice: a column of whose values one is shown at a time, such as the budget of iterations; in the
            frame's order, the first one to begin with.
    """
    frame = frame.dropna(subset=[x, y])
    if frame.empty:
        raise UserError(f"no line can be drawn: no row has both {x} and {y}")
    looks = palette.looks(palette.in_order(frame[method]))
    keys = [key for key in (panel, choice, method, image) if key]
    panels: dict[str, list[dict[str, Any]]] = {}
    for values, part in frame.groupby(keys, sort=False, dropna=False):
        known = dict(zip(keys, values, strict=True))
        part = part.sort_values(x, kind="stable")
        line: dict[str, Any] = {"method": known[method], "x": part[x].tolist(), "y": part[y].tolist()}
        if choice:
            line["choice"] = str(known[choice])
        if image and pd.notna(known[image]):
            line["image"] = known[image]
        elif low and high and part[low].notna().any():
            line |= {"low": part[low].tolist(), "high": part[high].tolist()}
        panels.setdefault(str(known[panel]) if panel else "", []).append(line)
    return {
        "methods": [
            # Lengths of dash and gap in widths of the line.
            {"name": name, "colour": look["color"], "dash": [*(dash[1] if dash != "-" else ())]}
            for name, look in looks.items()
            for dash in (look["linestyle"],)
        ],
        "panels": [{"title": title, "lines": found} for title, found in panels.items()],
        "choices": [str(value) for value in frame[choice].unique()] if choice else [],
    }


def _plain(data: Any) -> Any:
    """For JSON: numbers with nine digits, NaN as None."""
    if isinstance(data, dict):
        return {key: _plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(value) for value in data]
    if isinstance(data, float | np.floating):
        if not math.isfinite(data):
            return None
        short = float(f"{data:.9g}")
        return int(short) if short.is_integer() and abs(short) < 1e15 else short
    return data.item() if isinstance(data, np.generic) else data
