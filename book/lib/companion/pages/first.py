"""The first page: the nine verdicts as a strip of tiles."""

import html
import re
from collections.abc import Sequence

from ..verdicts import Claim, Verdict
from .claims import verdict

# Verdicts whose colour is that of another.
_COLOURS = {Verdict.PARTLY: Verdict.HOLDS}


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
