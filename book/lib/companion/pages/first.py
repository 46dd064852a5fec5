"""The first page: what its pages show, and the nine verdicts as a strip of tiles."""

import html
import re
from collections.abc import Sequence

from sgaplus.codecs.series import Series, families

from ..verdicts import Claim, Verdict
from .claims import verdict

# Verdicts whose colour is that of another.
_COLOURS = {Verdict.PARTLY: Verdict.HOLDS}


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
    for claim in ledger:
        lines = []
        for part in verdict(claim).split("; "):
            icon, words = re.sub(r" \([^)]*\)$", "", part).split(" ", 1)
            lines.append(f'<br><span aria-hidden="true">{icon}</span> {html.escape(words)}')
        text = f"<b>{claim.number} {html.escape(claim.title)}</b>{''.join(lines)}"
        tiles.append(
            f'<li data-verdict="{_COLOURS.get(claim.verdict, claim.verdict)}">'
            f'<a href="claims.html#claim-{claim.number}">{text}</a></li>'
        )
    return f'<ol class="verdicts" role="list">{"".join(tiles)}</ol>'
