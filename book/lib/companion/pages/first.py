"""The first page: three results in a sentence each, and the nine verdicts as a strip of tiles."""

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from sgaplus.codecs.series import Series, families

from ..statistics import said
from ..tables import number
from ..verdicts import Claim, Verdict
from .claims import verdict

# What each claim is about, in a few words; `claims.yaml` has the claims themselves.
SHORT = (
    "SSL’s true loss is the lowest",
    "SSL converges more smoothly",
    "Linear minds the temperature least",
    "SSL’s slope has an optimum inside",
    "Three classes are faster early on",
    "The gain carries over to other photographs",
    "Another λ moves along the curve",
    "atanh’s gradient has no bound",
    "SGA saves what was published",
)


# Verdicts whose colour is that of another.
_COLOURS = {Verdict.PARTLY: Verdict.HOLDS}


@dataclass(frozen=True)
class Result:
    """A result of the book.

    Attributes:
        number: the value, in a few characters.
        text: what it is of, as HTML.
        page: where it is shown at length.
        about: that page, in words.
    """

    number: str
    text: str
    page: str
    about: str


def saved(deltas: pd.DataFrame, iteration: int, page: str) -> Result:
    """The bits that the best method saves by `rate_distortion.deltas` of photographs at an iteration."""
    best = deltas.sort_values("means_bd_rate").iloc[0]
    interval = said(best, "means_bd_rate", decimals=1)
    return Result(
        f"{number(best['means_bd_rate'], 1)} %",
        f"bits at equal quality by {best['configuration']} against the codec alone (BD-rate {interval} %,"
        f" {best['means_images']:.0f} photographs of Kodak, {iteration} iterations)",
        page,
        "Rate and distortion",
    )


def leads(table: pd.DataFrame, page: str) -> Result | None:
    """SSL's lead over SGA by `lead.table`, on the pictures of Kodak that were refined furthest; None where no
    two were refined for 500 iterations."""
    own = table[(table["settings"] == "published settings") & table["data"].str.startswith("Kodak")]
    if own.empty:
        return None
    own = own[own["data"] == own.loc[own["iteration"] == own["iteration"].max(), "data"].iloc[0]]
    lines = own.sort_values("iteration").to_dict("records")
    parts = [f"after {line['iteration']} iterations {said(line, 'change')} %" for line in lines]
    return Result(
        " → ".join(f"{number(line['change'], 1)} %" for line in lines),
        f"true loss of SSL against SGA: {', '.join(parts)} ({lines[0]['images']} images; {lines[0]['data']})",
        page,
        "Convergence",
    )


def sooner(races: pd.DataFrame, codecs: Series, page: str) -> Result | None:
    """How much sooner the preset is done by `races.summary`, for each processor on its largest pictures; None
    where no race was run with the codecs, or with any bundled one where they are bundled."""
    bundled = families()
    races = races[races["codec"].isin(bundled if codecs.name in bundled else [codecs.name])]
    if races.empty:
        return None
    pixels = races["width"] * races["height"]
    largest = races.loc[pixels.groupby(races["device"]).idxmax()].sort_values("ratio")
    each = [
        f"{html.escape(race['device'])}: {race['ratio']:.0f} × ({race['iterations']} steps of"
        f" <code>{html.escape(race['preset'])}</code> in {race['seconds']:.0f} s,"
        f" {race['reference_iterations']} of SSL in {race['reference_seconds']:.0f} s;"
        f" true loss {said(race, 'change')} %; {race['images']} of {race['width']} × {race['height']}"
        f" with {html.escape(race['codec'])})"
        for race in largest.to_dict("records")
    ]
    ends = dict.fromkeys(f"{ratio:.0f}" for ratio in largest["ratio"].agg(["min", "max"]))
    return Result(
        f"{'–'.join(ends)} × sooner",
        f"a preset against a plain loop, on one stopwatch. {'. '.join(each)}",
        page,
        "How",
    )


def results(found: Iterable[Result | None]) -> str:
    """HTML of those results that there are, each with a link to its page."""
    items = "".join(
        f'<li><b>{one.number}</b>{one.text}. <a href="{one.page}.html">{one.about}</a></li>'
        for one in found
        if one
    )
    return f'<ul class="results" role="list">{items}</ul>'


def about(codecs: Series, profile: str) -> str:
    """What the pages show, in HTML."""
    shown = (
        "Most pages show the paper’s protocol reduced to what a CPU computes, with"
        ' <a href="base-codecs.html">codecs trained for this book</a>; each page says how.'
        if profile == "cpu" and codecs.name in families()
        else f"This page shows profile <code>{html.escape(profile)}</code> with the codec"
        f" <code>{html.escape(codecs.name)}</code>; each page says what it shows."
    )
    return f'<p>{shown} The protocol itself is one command on <a href="reproduce.html">a GPU</a>.</p>'


def strip(ledger: Sequence[Claim]) -> str:
    """HTML of a tile for each claim: its number, what it is about, its verdicts by icon and word."""
    tiles = []
    for claim, short in zip(ledger, SHORT, strict=True):
        lines = []
        for part in verdict(claim).split("; "):
            icon, words = re.sub(r" \([^)]*\)$", "", part).split(" ", 1)
            lines.append(f'<br><span aria-hidden="true">{icon}</span> {html.escape(words)}')
        text = f"<b>{claim.number} {html.escape(short)}</b>{''.join(lines)}"
        tiles.append(
            f'<li data-verdict="{_COLOURS.get(claim.verdict, claim.verdict)}">'
            f'<a href="claims.html#claim-{claim.number}">{text}</a></li>'
        )
    return f'<ol class="verdicts" role="list">{"".join(tiles)}</ol>'
