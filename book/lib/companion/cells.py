"""What the cells of a page's template call to show figures and tables, and to guard what they say.

All HTML of figures and tables is made here. Files are inside it as data URIs, so that one output serves
Jupyter and the book.
"""

import base64
import gzip
import html
import io
import os
import re
from typing import Any

from sgaplus.errors import UserError

from . import parameters as page

# The profile for which the book is built, where that is not each page's own.
PROFILE_VARIABLE = "SGAPLUS_PROFILE"

# Columns of stored rows that a figure's CSV leaves out; ``key`` finds them among those of the study.
_LONG = {"method", "temperature", "lr", "codec_sha256", "image_sha256", "read_offs", "trace_every", "device"}
_LONG |= {"written", "sgaplus_version", "torch_version", "git_commit", "dtype", "algorithm", "optimizer"}
_LONG |= {"label", "family", "bpp_y", "bpp_z", "mse", "image_folder"}


def answer(text: str) -> None:
    """Display what a page found, in one or two sentences of Markdown, directly under its title."""
    from IPython.display import Markdown, display

    together = re.sub(r"(?<=[\d\]]) (?=%|dB)", "\N{NO-BREAK SPACE}", text)
    display(Markdown(f'<div class="answer">\n\n{together}\n\n</div>'))


def show(figure: Any, *, alt: str, caption: str, photo: bool = False, folded: str = "", **about: Any) -> None:
    """Display a Matplotlib figure with a number, a text alternative, a caption and where it comes from.

    The picture is an SVG where that is smaller than a PNG of two pixels per CSS pixel; photographs
    (``photo``) are never anything but PNG. A figure of `figures.panels` or `figures.pictures` also has a
    variant for phones. The figure is closed.

    Args:
        folded: what stands in place of the picture until a reader opens it; nothing shows it at once.
        about: as of `figure_of`.
    """
    from . import figures

    if not alt.strip() or not caption.strip():
        raise UserError("a figure needs a text alternative and a caption: give alt=… and caption=…")
    narrow = figures.narrow(figure)
    said = html.escape(alt)
    images = f'<img{" class=wide" if narrow else ""} {_image(figure, photo)} alt="{said}" loading="lazy">'
    if narrow:
        images += f'<img class="narrow" hidden {_image(narrow, photo)} alt="{said}" loading="lazy">'
    images = _folded(images, folded)
    _display(figure_of(images, caption, photo=photo, **about), f"{caption} [{alt}]")


def figure_of(
    pictures: str, caption: str, *, name: str, rows=None, source=None, command="", photo=False
) -> str:
    """HTML of a figure whose ``pictures`` are HTML already.

    Args:
        name: unique in the book; its anchor is ``fig-<name>``.
        rows: the frame behind the figure, which its CSV has.
        source: the stored rows that the figure is made of, where ``rows`` are not such; those that the page
            has loaded where None.
        command: shell command that makes the same figure.
    """
    return (
        f'<figure class="{"photo" if photo else "plot"}" id="fig-{name}">{pictures}'
        f"{_caption('Figure', f'fig-{name}', caption)}{_drawer(name, rows, source, command)}</figure>"
    )


def show_table(table: Any, data: Any, *, name: str, caption="", source=None, command="", folded="") -> None:
    """Display a table with a number, a caption and where it comes from; its CSV has all numbers.

    Args:
        table: a `great_tables.GT`.
        data: the frame behind it, unrounded.
        name: unique in the book; of its CSV file, and its anchor is ``tab-<name>``.
        source, command, folded: as of `figure_of` and `show`.
    """
    if data.empty:
        raise UserError(f"table {name} has no row: compute the rows that it shows")
    shown = _folded(_plain(table.as_raw_html(), _bare(caption) or folded or name), folded)
    markup = (
        f'<figure class="table" id="tab-{name}">{_caption("Table", f"tab-{name}", caption)}{shown}'
        f"{_drawer(name, data, source, command)}</figure>"
    )
    _display(markup, data.to_string(index=False))


def parameters(about: str = "") -> None:
    """Display the page's parameters, folded, and the command that runs it; the last cell of a template, with
    Markdown ``about`` what the page shows before it."""
    from IPython.display import Markdown, display

    if about:
        display(Markdown(about))
    if page.current is None:
        raise UserError("parameters.check must run before the page's parameters are shown")
    lines = "\n".join(f"{name} = {value!r}" for name, value in page.current.values.items())
    markup = (
        '<details class="parameters"><summary>Run this page yourself</summary>'
        f"<p>Template <code>{html.escape(page.current.template)}</code>, with these parameters:</p>"
        f'<pre tabindex="0">{html.escape(lines)}</pre><p>This command makes the page again; '
        "<code>-p NAME VALUE</code> changes a parameter:</p>"
        f'<pre tabindex="0">{html.escape(page.current.command)}</pre></details>'
    )
    _display(markup, f"{page.current.command}\n{lines}")


def _display(markup: str, text: str) -> None:
    from IPython.display import display

    display({"text/html": markup, "text/plain": text}, raw=True)


def _folded(markup: str, title: str) -> str:
    return f"<details><summary>{html.escape(title)}</summary>{markup}</details>" if title else markup


def _markdown(text: str) -> str:
    from markdown_it import MarkdownIt

    return MarkdownIt().renderInline(text)


def _bare(text: str) -> str:
    """Markdown without its markup."""
    return html.unescape(re.sub("<[^>]*>", "", _markdown(text)))


def with_subscripts(markup: str) -> str:
    """HTML in which τ_max, as rows and texts have it, is set with its subscript."""
    return re.sub(r"τ_max|\$\\tau_\{\\max\}\$", "τ<sub>max</sub>", markup)


def _caption(kind: str, anchor: str, text: str) -> str:
    """The number is put in when the book is built."""
    said = with_subscripts(_markdown(text))
    return f'<figcaption><a class="number" href="#{anchor}">{kind}</a> {said}</figcaption>'


def _image(figure: Any, photo: bool) -> str:
    """The attributes ``src``, ``width`` and ``height`` of a figure, which is closed."""
    import matplotlib.pyplot as plt
    from PIL import Image

    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=192, bbox_inches="tight", metadata={"Software": None})
    width, height = (side // 2 for side in Image.open(picture).size)
    kind, content = "png", picture.getvalue()
    if not photo:
        drawing = io.StringIO()
        with plt.rc_context({"svg.hashsalt": "sgaplus", "svg.fonttype": "path"}):
            figure.savefig(drawing, format="svg", bbox_inches="tight", metadata={"Date": None})
        vectors = _short(drawing.getvalue()).encode()
        kind, content = ("svg+xml", vectors) if len(vectors) < len(content) else (kind, content)
    plt.close(figure)
    return f'src="{_uri(f"image/{kind}", content)}" width="{width}" height="{height}"'


def picture(pixels: Any) -> str:
    """The attributes ``src``, ``width`` and ``height`` of uint8 pixels, (3, H, W) or (H, W), as WebP: colours
    without loss, grey maps nearly so."""
    import numpy as np
    from PIL import Image

    values, content = np.asarray(pixels), io.BytesIO()
    colours = values.ndim == 3
    image = Image.fromarray(values.transpose(1, 2, 0) if colours else values)
    image.save(content, "WEBP", lossless=colours, quality=75)
    width, height = image.size
    return f'src="{_uri("image/webp", content.getvalue())}" width="{width}" height="{height}"'


def _short(drawing: str) -> str:
    """An SVG whose paths have two decimals, without the lines' indentation."""

    def path(found: re.Match[str]) -> str:
        return re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", found[0])

    return re.sub(r"\n\s*", "\n", re.sub(r' d="[^"]*"', path, drawing))


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _plain(table: str, label: str) -> str:
    """A table of great_tables without its own style and its ids, which would not be unique on the page; its
    note stands under it, where it stays in view when the table scrolls."""
    notes = re.findall(r'<span class="gt_from_md">(.*?)</span>', table, flags=re.DOTALL)
    table = re.sub(r"<style>.*?</style>|<tfoot>.*?</tfoot>", "", table, flags=re.DOTALL)
    table = re.sub(r'(<t[hdr][^>]*?) (?:id|headers)="[^"]*"', r"\1", table)
    table = re.sub(r'<th([^>]*?)(?: scope="\w+")?></th>', r"<td\1></td>", table)
    table = re.sub(r"<table [^>]*>", '<table class="table">', table)
    scroll = f'<div class="scroll" tabindex="0" role="group" aria-label="{html.escape(label)}">'
    table = re.sub(r"<div [^>]*>", scroll, table, count=1)
    table += "".join(f"<p><small>{note}</small></p>" for note in notes)
    return with_subscripts(table)


def _csv(rows: Any, name: str, label: str) -> str:
    """A link to the frame, a large one compressed; of stored rows without the columns that `_LONG` names."""
    kept = rows[[column for column in rows if column not in _LONG]] if "key" in rows else rows
    content = kept.to_csv(index=False, float_format="%.9g").encode()
    if len(content) > 1_000_000:
        compressed = _uri("application/gzip", gzip.compress(content, mtime=0))
        return f'<a download="{name}.csv.gz" href="{compressed}">{label} (gzip)</a>'
    return f'<a download="{name}.csv" href="{_uri("text/csv", content)}">{label}</a>'


def _drawer(name: str, rows: Any, source: Any, command: str | None) -> str:
    """What a figure or table is made of, closed until a reader opens it."""
    from . import provenance

    lines, known = {}, rows is not None and len(rows)
    if known:
        lines["Numbers"] = f"{_csv(rows, name, 'Download as CSV')} ({provenance.count(len(rows), 'row')})"
    given = source is not None and "git_commit" in source
    facts = provenance.facts(rows if not given and known and "git_commit" in rows else source)
    lines |= {key: html.escape(value) for key, value in facts.items()}
    if given and facts:
        # A name of its own for each figure would make a file of the same rows for each.
        lines["Rows"] += f": {_csv(source, 'rows', 'each row as CSV')}"
    command = command or (page.current.command if page.current else None)
    if command:
        lines["Made by"] = f"<code>{html.escape(command)}</code>"
    if not lines:
        return ""
    entries = "".join(f"<dt>{key}</dt><dd>{value}</dd>" for key, value in lines.items())
    return (
        f'<details class="provenance"><summary>Data and how it was made</summary><dl>{entries}</dl></details>'
    )


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
