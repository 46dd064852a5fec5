"""What the book's extensions make of pages: formulas, files, numbers, words, heads, labels; a PDF of all."""

import base64
import json
import re
import shutil
from types import SimpleNamespace

import pytest
from docutils import nodes
from docutils.utils import new_document
from pybtex.database import parse_string

import sgaplus_reading as reading
from companion import pdf
from sgaplus.errors import UserError
from sgaplus_pages import files, formulas, numbers, site, words


def test_formulas_become_mathml():
    assert formulas.mathml("x^2") == (
        '<math display="inline"><mrow><msup><mi>x</mi><mn>2</mn></msup></mrow></math>'
    )
    assert '<mi>log</mi><mspace width="0.17em" /><mi>x</mi>' in formulas.mathml(r"\log x")
    aligned = formulas.mathml(r"\begin{aligned} a &= b \\ c &= d \end{aligned}", "block")
    assert 'display="block"' in aligned
    assert aligned.count("<mtr>") == 2


@pytest.mark.parametrize("formula", [r"\foo x", r"\frac{1}{"])
def test_a_formula_that_cannot_be_set_is_named(formula):
    with pytest.raises(ValueError, match=re.escape(formula)):
        formulas.mathml(formula)


def uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def test_data_uris_become_files_which_keep_the_names_of_downloads(tmp_path):
    markup = (
        f'<img src="{uri("image/svg+xml", b"<svg/>")}"><img srcset="{uri("image/png", b"png")} 2x">'
        f'<a download="rows &amp; more.csv" href="{uri("text/csv", b"a,b")}">'
        f'<a download="large.csv.gz" href="{uri("application/gzip", b"gz")}">'
    )
    written = files.write(markup, tmp_path, lambda where: f"../{where}")
    assert "data:" not in written
    (csv,) = tmp_path.glob("_downloads/*/*.csv")
    assert [path.read_bytes() for path in tmp_path.glob("_downloads/*/large.csv.gz")] == [b"gz"]
    assert (csv.name, csv.read_bytes()) == ("rows & more.csv", b"a,b")
    images = {path.suffix: path.read_bytes() for path in tmp_path.glob("_images/*")}
    assert images == {".svg": b"<svg/>", ".png": b"png"}
    assert f'href="../_downloads/{csv.parent.name}/rows%20%26%20more.csv"' in written
    assert files.write(markup, tmp_path, lambda where: f"../{where}") == written
    # A notebook's HTML stands in JSON, with a backslash before each quotation mark.
    (tmp_path / "_sources").mkdir()
    (tmp_path / "_sources" / "page.ipynb").write_text(json.dumps([markup]))
    files.lighten(tmp_path, "")
    assert json.loads((tmp_path / "_sources" / "page.ipynb").read_text()) == [written]


def test_files_of_earlier_builds_are_swept_away(tmp_path):
    kept = files.write(uri("image/png", b"kept"), tmp_path, str)
    files.write(uri("image/png", b"gone"), tmp_path, str)
    (tmp_path / "_images" / "photograph.png").touch()
    (tmp_path / "page.html").write_text(f'<img src="{kept}">')
    files.sweep(tmp_path)
    assert {path.read_bytes() for path in tmp_path.glob("_images/*")} == {b"kept", b""}


def test_figures_are_numbered_by_page_and_linked_from_anywhere(tmp_path):
    (tmp_path / "intro.md").write_text('<figure id="fig-first">')
    shown = {"data": {"text/html": ['<figure id="fig-a"><figure id="tab-b">', '<figure id="fig-c">']}}
    cell = {"cell_type": "code", "source": """'<figure id="fig-a">'""", "outputs": [shown]}
    (tmp_path / "one.ipynb").write_text(json.dumps({"cells": [cell]}))
    (tmp_path / "two.md").write_text('<figure id="fig-a">')
    sources = [(name, tmp_path / file) for name, file in (("intro", "intro.md"), ("one", "one.ipynb"))]
    known, twice = numbers.numbered(sources)
    labels = [known[name].label.replace("\xa0", " ") for name in ("fig-first", "fig-a", "tab-b", "fig-c")]
    assert (labels, twice) == (["Figure 1", "Figure 1.1", "Table 1.1", "Figure 1.2"], [])
    assert numbers.numbered([*sources, ("two", tmp_path / "two.md")])[1] == ["fig-a"]
    link = '<a class="number" href="#fig-c">Figure</a> <a href="#fig-c">as it is</a>'
    link += ' <a class="number" href="#fig-z">?</a>'
    here, unknown = numbers.put_in(link, "one", known, lambda page: f"{page}.html")
    assert 'href="#fig-c">Figure\xa01.2</a> <a href="#fig-c">as it is</a>' in here
    assert unknown == ["fig-z"]
    assert 'href="one.html#fig-c"' in numbers.put_in(link, "intro", known, lambda page: f"{page}.html")[0]


def test_the_search_reads_sentences_alone():
    raw = (
        '<figure><figcaption><a class="number" href="#f">Figure</a> What it <b>shows</b>.</figcaption>'
        '<details class="provenance"><summary>Data</summary></details></figure><table><td>cell</td></table>'
    )
    page = nodes.section(
        "",
        nodes.title("", "Title"),
        nodes.container("", nodes.literal_block("", "import os"), classes=["cell_input"]),
        nodes.paragraph("", "Prose & more."),
        nodes.raw("", raw, format="html"),
    )
    read = words.prose(page)
    assert words.text(read) == "Prose & more. What it shows."
    assert "cell" in read.astext()
    assert "import os" in page.astext()


def test_a_page_is_described_by_its_answer():
    body = f'<p>{"Something. " * 9}</p><div class="answer"><p>Saves <b>17&nbsp;%</b> {"of all " * 50}</div>'
    assert re.fullmatch(r"Saves 17\s% of all .{100,190} …", words.description(body))
    assert words.description("<p>Short.</p>") == ""


def test_the_book_claims_an_address_only_where_it_has_one(monkeypatch):
    monkeypatch.delenv(site.ADDRESS_VARIABLE, raising=False)
    assert site.address() == ""
    assert "http" not in site.head("A <em>title</em>", "<p></p>", None)
    monkeypatch.setenv(site.ADDRESS_VARIABLE, "https://example.org/book")
    assert site.address() == "https://example.org/book/"
    tags = site.head("A <em>title</em>", "", "https://example.org/book/one.html")
    assert 'content="A title"' in tags
    assert 'content="https://example.org/book/one.html"' in tags
    assert 'content="https://example.org/book/_static/card.png"' in tags


@pytest.fixture
def built(tmp_path):
    """A built book of two pages that link to each other."""
    (tmp_path / "book").mkdir()
    html = tmp_path / "_build" / "html"
    html.mkdir(parents=True)
    chapters = [{"file": "two.md", "sections": [{"file": "three"}]}, {"file": "genindex"}]
    toc = {"root": "intro", "parts": [{"caption": "Part", "chapters": chapters}]}
    (tmp_path / "book" / "_toc.yml").write_text(json.dumps(toc))
    article = (
        '<article class="bd-article"><h1 id="top">{}</h1><a href="{}">on</a><script>x</script></article>'
    )
    titles = {"intro": "First", "two": "Second &amp; more", "three": "Last"}
    links = "two.html#top", "https://example.org/", "intro.html"
    for (name, title), link in zip(titles.items(), links, strict=True):
        (html / f"{name}.html").write_text(article.format(title, link))
    return tmp_path


def test_links_between_pages_stay_inside_the_one_document(built):
    found = pdf.pages(built)
    wanted = [("", "First"), ("Part", "Second & more"), ("Part", "Last")]
    assert [(page.part, page.title) for page in found] == wanted
    whole = pdf.document(found, "", "edition", {"two": 7})
    assert '<a href="#two.top">on</a>' in whole
    assert '<a href="https://example.org/">on</a>' in whole
    assert '<a href="#two">Second &amp; more</a><span>7</span>' in whole
    ids = re.findall(r'\bid="([^"]+)"', whole)
    assert len(ids) == len(set(ids)) == 6
    assert "<script>" not in whole
    (built / "_build" / "html" / "two.html").unlink()
    with pytest.raises(UserError, match="make book"):
        pdf.pages(built)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="there is no Chromium on the PATH")
def test_the_pdf_knows_where_its_pages_begin(built):
    from pypdf import PdfReader

    target = built / "book.pdf"
    assert pdf.write(built, target) == 5
    contents = PdfReader(target).pages[1].extract_text()
    assert re.search(r"First\s*3", contents)
    assert re.search(r"Second & more\s*4", contents)


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
