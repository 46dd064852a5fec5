"""What the cells of a page's template call to show figures and tables, and to guard what they say."""

import base64
import html
import io
import os
from typing import Any

from sgaplus.errors import UserError

# The profile for which the book is built, where that is not each page's own.
PROFILE_VARIABLE = "SGAPLUS_PROFILE"


def show(figure: Any, *, alt: str, caption: str, command: str | None = None) -> None:
    """Display a Matplotlib figure with a text alternative, a caption and the command that makes it.

    The picture is a PNG of two pixels per CSS pixel inside the HTML, so that one output serves the book,
    Jupyter and viewers of notebooks. The figure is closed.

    Args:
        alt: what the figure shows, for who cannot see it.
        caption: plain text under the figure.
        command: shell command that makes the same figure.
    """
    import matplotlib.pyplot as plt
    from IPython.display import display
    from PIL import Image

    if not alt.strip() or not caption.strip():
        raise UserError("a figure needs a text alternative and a caption: give alt=… and caption=…")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=192, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
    width = Image.open(picture).width // 2
    made_by = f"<br><small>Made by <code>{html.escape(command)}</code></small>" if command else ""
    markup = (
        f'<figure><img src="data:image/png;base64,{base64.b64encode(picture.getvalue()).decode()}" '
        f'alt="{html.escape(alt)}" width="{width}" style="max-width: 100%; height: auto">'
        f"<figcaption>{html.escape(caption)}{made_by}</figcaption></figure>"
    )
    display({"text/html": markup, "text/plain": f"{caption} [{alt}]"}, raw=True)


def show_table(table: Any, data: Any, *, name: str, command: str | None = None, folded: str = "") -> None:
    """Display a table with a link that saves its numbers as CSV, and the command that makes it.

    The CSV is inside the page, so that the link also works for who reads it offline.

    Args:
        table: a `great_tables.GT`.
        data: the frame behind it, unrounded.
        name: of the CSV file, without its suffix.
        command: shell command that makes the same table.
        folded: what stands in place of the table until a reader opens it; nothing shows it at once.
    """
    from IPython.display import display

    if data.empty:
        raise UserError(f"table {name} has no row: compute the rows that it shows")
    content = base64.b64encode(data.to_csv(index=False).encode()).decode()
    link = f'<a download="{html.escape(name)}.csv" href="data:text/csv;base64,{content}">Download as CSV</a>'
    made_by = f" · Made by <code>{html.escape(command)}</code>" if command else ""
    shown = table.as_raw_html()
    if folded:
        shown = f"<details><summary>{html.escape(folded)}</summary>{shown}</details>"
    markup = f"<div>{shown}<p><small>{link}{made_by}</small></p></div>"
    display({"text/html": markup, "text/plain": data.to_string(index=False)}, raw=True)


def require(condition: bool, conclusion: str) -> None:
    """Fail the build of a page whose hand-written ``conclusion`` its rows no longer support.

    A page of another profile than its own, for which it was not written, says so instead.
    """
    profile = os.environ.get(PROFILE_VARIABLE)
    if not condition and profile:
        from IPython.display import Markdown, display

        display(Markdown(f"**The rows of profile `{profile}` do not support this sentence:** {conclusion}."))
    elif not condition:
        raise UserError(f"the rows no longer support this sentence of the page, so rewrite it: {conclusion}")
