"""What helps a reader through the book: the map of the paper, cards of the glossary's terms, author-year
labels of the references, this software's BibTeX entry, and pages made from docstrings."""

import html
import re
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from pybtex.plugin import register_plugin
from pybtex.richtext import Text
from pybtex.style.formatting.plain import Style as PlainStyle
from pybtex.style.labels import BaseLabelStyle
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective

from companion import citation

_GLOSSARY = "glossary"
# Terms whose first mention on a page becomes a link; the others are also ordinary words.
_LINKED = ("true loss", "discretisation gap", "BD-rate", "SGA", "SSL", "STE", "bpp", "PSNR", "MS-SSIM")
_LINKED += ("Gumbel noise", "hyperprior", "bootstrap interval", "entropy coder")
_MENTION = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, _LINKED))})(?![\w-])")
# What no link is put into.
_CLOSED = (nodes.reference, addnodes.pending_xref, nodes.literal, nodes.math, nodes.caption, nodes.figure)


class AuthorYear(BaseLabelStyle):
    """Labels as the text cites: ``Minnen et al., 2018``."""

    def format_labels(self, entries):
        for entry in entries:
            names = [str(Text(*person.rich_last_names)) for person in entry.persons["author"]]
            said = " and ".join(names) if len(names) < 3 else f"{names[0]} et al."
            yield f"{said}, {entry.fields['year']}"


class AuthorYearStyle(PlainStyle):
    """pybtex's plain style with `AuthorYear` labels."""

    default_label_style = AuthorYear


class PaperMap(SphinxDirective):
    """``{paper-map}`` with `paper_map.Item` in YAML: a tile for each, with a thumbnail and its status."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        # Not at the top: importing it takes as long as a small book does.
        from companion import paper_map

        root = Path(self.env.srcdir).parent
        items = paper_map.read("\n".join(self.content))
        for item in items:
            self.env.note_dependency(str(paper_map.notebook(item, root)))
        return [nodes.raw("", paper_map.tiles(items, root), format="html")]


class SoftwareBibtex(SphinxDirective):
    """``{software-bibtex}``: this software's entry, from CITATION.cff."""

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir).parent
        self.env.note_dependency(str(root / "CITATION.cff"))
        text = citation.bibtex(yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8")), root)
        return [nodes.literal_block(text, text, language="bibtex")]


def _link_terms(app: Any, doctree: nodes.document) -> None:
    """Sphinx event ``doctree-read``: link the first mention of each term, keep what the glossary says."""
    if app.env.docname == _GLOSSARY:
        app.env.sgaplus_terms = {
            name: item[-1].astext()
            for item in doctree.findall(nodes.definition_list_item)
            for term in item.findall(nodes.term)
            for name in term["ids"]
        }
        return
    linked: set[str] = set()
    for text in list(doctree.findall(nodes.Text)):
        if isinstance(text.parent, nodes.paragraph | nodes.strong | nodes.emphasis) and not _within(text):
            parts = _linked(str(text), linked, app.env.docname)
            if len(parts) > 1:
                text.parent.replace(text, parts)


def _within(node: nodes.Node) -> bool:
    while node.parent is not None:
        node = node.parent
        if isinstance(node, _CLOSED):
            return True
    return False


def _linked(text: str, linked: set[str], docname: str) -> list[nodes.Node]:
    """The text with links to the terms that are not ``linked`` yet."""
    parts: list[nodes.Node] = []
    begin = 0
    for found in _MENTION.finditer(text):
        if found[0] not in linked:
            linked.add(found[0])
            about = {"refdomain": "std", "reftype": "term", "reftarget": found[0], "refexplicit": True}
            shown = nodes.inline("", found[0], classes=["xref", "std", "std-term"])
            link = addnodes.pending_xref("", shown, refdoc=docname, refwarn=True, **about)
            parts += [nodes.Text(text[begin : found.start()]), link]
            begin = found.end()
    return [*parts, nodes.Text(text[begin:])]


def _add_cards(app: Any, pagename: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Sphinx event ``html-page-context``: links to terms carry the definition, which glossary.js shows."""
    known = getattr(app.env, "sgaplus_terms", {})

    def with_card(found: re.Match[str]) -> str:
        text = known.get(found[2])
        return f'{found[1]} data-term="{html.escape(text)}"' if text else found[0]

    if "body" in context and pagename != _GLOSSARY:
        pattern = rf'(<a [^>]*href="[^"#]*{_GLOSSARY}\.html#([\w-]+)")'
        context["body"] = re.sub(pattern, with_card, context["body"])


def _plain(app: Any, what: str, name: str, object: Any, options: Any, lines: list[str]) -> None:
    """Sphinx event ``autodoc-process-docstring``: bars and stars of formulas are no markup."""
    lines[:] = [
        line if "``" in line else re.sub(r"\||\*\*", lambda mark: "".join(f"\\{c}" for c in mark[0]), line)
        for line in lines
    ]


def _settings(app: Any, config: Any) -> None:
    """Sphinx event ``config-inited``: docstrings name classes of other packages, which are not documented
    here."""
    config.nitpick_ignore_regex = [*config.nitpick_ignore_regex, ("py:.*", ".*")]
    config.default_role = "py:obj"
    config.autodoc_member_order = "bysource"
    config.autodoc_typehints_format = "short"
    config.autodoc_preserve_defaults = True


def setup(app: Any) -> dict[str, Any]:
    """Connect it all; Sphinx calls this because ``_config.yml`` names the module."""
    register_plugin("pybtex.style.formatting", "author_year", AuthorYearStyle)
    for extension in ("sphinx.ext.autodoc", "sphinx.ext.napoleon"):
        app.setup_extension(extension)
    app.add_directive("paper-map", PaperMap)
    app.add_directive("software-bibtex", SoftwareBibtex)
    app.connect("config-inited", _settings)
    app.connect("autodoc-process-docstring", _plain)
    app.connect("doctree-read", _link_terms)
    app.connect("html-page-context", _add_cards)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
