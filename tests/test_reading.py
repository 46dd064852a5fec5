"""What helps a reader: labels as the text cites, links to terms, cards with their definitions."""

from types import SimpleNamespace

from docutils import nodes
from docutils.utils import new_document
from pybtex.database import parse_string

import sgaplus_reading as reading


def test_labels_are_those_of_the_text():
    entries = parse_string(
        r"""@misc{a, author={Ball{\'e}, J and Minnen, D and Singh, S}, title={x}, year={2018}}
        @misc{b, author={Peterson, Carsten and Anderson, James}, title={x}, year={1987}}
        @misc{c, author={Bj{\o}ntegaard, Gisle}, title={x}, year={2001}}""",
        "bibtex",
    ).entries.values()
    labels = list(reading.AuthorYear().format_labels(entries))
    assert labels == ["Ballé et al., 2018", "Peterson and Anderson, 1987", "Bjøntegaard, 2001"]


def page(*paragraphs: nodes.Node, name: str = "one"):
    document = new_document("page")
    document.extend(paragraphs)
    app = SimpleNamespace(env=SimpleNamespace(docname=name))
    reading._link_terms(app, document)
    return document, app


def test_the_first_mention_of_a_term_is_linked_and_no_other():
    code = nodes.paragraph("", "", nodes.literal("", "SSL"))
    document, _ = page(code, nodes.paragraph("", "SSL and the true loss of SSL, SSLs"))
    links = [link["reftarget"] for link in document.findall(reading.addnodes.pending_xref)]
    assert links == ["SSL", "true loss"] and document.astext().endswith("SSL and the true loss of SSL, SSLs")
    assert not code.next_node(reading.addnodes.pending_xref)


def test_a_link_to_a_term_carries_its_definition_and_others_do_not():
    term = nodes.term("", "SSL", ids=["term-SSL"])
    item = nodes.definition_list_item("", term, nodes.definition("", nodes.paragraph("", 'a "scale"')))
    _, app = page(nodes.definition_list("", item), name="glossary")
    context = {
        "body": '<a class="x" href="../glossary.html#term-SSL">SSL</a><a href="glossary.html#term-no">n</a>'
    }
    reading._add_cards(app, "executed/one", "page.html", context, None)
    assert context["body"].count("data-term") == 1
    assert 'data-term="a &quot;scale&quot;">SSL' in context["body"]


def test_bars_of_formulas_in_docstrings_are_no_markup():
    lines = ["n·log f(r·|v|)", "``a|b``"]
    reading._plain(None, "", "", None, None, lines)
    assert lines == [r"n·log f(r·\|v\|)", "``a|b``"]
