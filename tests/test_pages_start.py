"""The pages with which the book begins: their numbers are those of the rows, their commands run."""

import base64
import io
import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from PIL import Image

from companion import citation, paper_map, provenance
from companion.pages import claims, reproduce, your_photograph
from companion.verdicts import Claim, Finding, Verdict
from sgaplus.errors import SystemFault, UserError
from sgaplus.io import CHECKOUT
from sgaplus.studies.schema import load_study

REPOSITORY = Path(__file__).parents[1]


def test_a_strip_has_a_tile_for_each_claim_with_its_verdicts_in_words():
    outcomes = {500: Verdict.HOLDS, 2000: Verdict.NOT_RUN}
    findings = tuple(Finding("x", outcome=outcome, iteration=t) for t, outcome in outcomes.items())
    markup = claims.strip([Claim(n, "", "", findings, (), f"claim of {n}") for n in range(1, 10)])
    assert markup.count("<li") == markup.count("holds at 500 iterations") == 9
    assert markup.count("not run at 2000 iterations") == 9
    assert 'data-verdict="holds"' in markup and "#claim-9" in markup and "9 claim of 9" in markup


def test_a_study_has_a_line_with_its_command_rows_and_hours(monkeypatch):
    monkeypatch.setattr("sgaplus.studies.reproduce.studies_of", lambda _: [load_study("rd")])
    [rd] = reproduce.studies("cpu").to_dict("records")
    assert rd["command"] == "sgaplus study run rd --profile cpu" and rd["rows"] > 1000
    assert rd["spent"] > 0.1
    assert rd["left"] > 0 or pd.isna(rd["memory"])


def test_a_command_is_run_and_what_it_took_is_measured(tmp_path):
    ran = your_photograph.run("sgaplus --version", tmp_path)
    assert ran.output and ran.seconds > 0 and 0.005 < ran.gigabytes < 4
    assert "$ sgaplus --version" in ran._repr_html_() and "GB" in ran.took
    with pytest.raises(SystemFault, match="no-such"):
        your_photograph.run("sgaplus no-such", tmp_path)


def test_the_entry_of_this_software_has_what_the_citation_file_says(tmp_path):
    cff = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    entry = citation.bibtex(cff | {"date-released": "2026-11-26"}, tmp_path)
    assert entry.startswith("@software{sgaplus,") and entry.count("{") == entry.count("}")
    for part in (cff["title"], cff["version"], cff["license"], "2026-11-26"):
        assert str(part) in entry
    assert "{Minnen, David}" in citation.bibtex(
        cff | {"authors": [{"family-names": "Minnen", "given-names": "David"}]}, tmp_path
    )


SVG = base64.b64encode(b"<svg/>").decode()


def picture(size: tuple[int, int]) -> str:
    content = io.BytesIO()
    Image.new("RGB", size, "red").save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


@pytest.fixture
def root(tmp_path):
    """An executed page with two figures and a table."""
    page = (
        f'<figure class="plot" id="fig-curves"><img src="data:image/svg+xml;base64,{SVG}"></figure>',
        f'<figure id="fig-photo"><img alt="a" src="data:image/png;base64,{picture((960, 640))}"></figure>',
        '<figure class="table" id="tab-numbers"></figure>',
    )
    cells = [{"outputs": [{"data": {"text/html": [markup]}}]} for markup in page]
    (tmp_path / "book" / "executed").mkdir(parents=True)
    (tmp_path / "book" / "executed" / "one.ipynb").write_text(json.dumps({"cells": cells}))
    return tmp_path


def item(**more) -> paper_map.Item:
    return paper_map.Item(**{"item": "Figure 9", "shows": "curves & words", "page": "one"} | more)


def test_a_thumbnail_is_that_of_the_named_figure_or_the_first_and_small(root):
    markup = paper_map._pictures(paper_map.notebook(item(), root))
    assert paper_map.thumbnail("", markup) == f"data:image/svg+xml;base64,{SVG}"
    kind, _, data = paper_map.thumbnail("fig-photo", markup).partition(";base64,")
    assert kind == "data:image/webp" and Image.open(io.BytesIO(base64.b64decode(data))).size == (480, 320)


def test_a_tile_leads_to_its_anchor_and_one_that_does_not_exist_is_refused(root):
    items = [item(at="tab-n.*"), item(at="fig-curves"), item(item="Table, τ_max")]
    markup = paper_map.tiles(items, root)
    assert "Table, τ<sub>max</sub>" in markup
    assert 'href="executed/one.html#tab-numbers"' in markup and 'href="executed/one.html"' in markup
    assert 'href="executed/one.html#fig-curves"' in markup
    assert "curves &amp; words" in markup and "from the formulas" in markup
    with pytest.raises(UserError, match="fig-lost"):
        paper_map.tiles([item(at="fig-lost")], root)


def test_a_status_says_how_many_photographs_and_iterations_are_stored():
    state, detail = paper_map.status(item(study="rd", dataset="kodak"))
    assert state == "reduced scale" and "24 photographs of Kodak, 500 iterations" in detail
    _, detail = paper_map.status(item(study="rd", dataset="kodak", family="three-class"))
    assert "24 crops of Kodak, 2000 iterations" in detail
    assert paper_map.status(item(study="tecnick"))[0] == "one photograph"
    assert paper_map.status(item())[0] == "exact"
    state, detail = paper_map.status(item(study="rd", dataset="clic"))
    assert state == "not run" and "sgaplus study run rd" in detail


LINE = {"key": "k1", "image": "kodim01@256", "codec": "mshyper-s", "codec_lmbda": 0.01, "dtype": "bfloat16"}
LINE |= {"device": "a processor, 1 thread", "sgaplus_version": "0.1.0", "git_commit": "0123456789abcdef"}
LINE |= {"torch_version": "2.15.0", "written": "2026-11-20T23:59:59+00:00"}


def test_provenance_counts_and_names_each_thing_once():
    other = {"key": "k2", "image": "kodim02@256", "codec_lmbda": 0.0025, "git_commit": "fedcba98765+"}
    rows = pd.DataFrame([LINE, LINE, LINE | other | {"written": "2026-11-21T00:00:01+00:00"}])
    text = "; ".join(provenance.facts(rows).values())
    assert "3 rows of 2 jobs on 2 images" in text
    assert "mshyper-s (λ = 0.0025, 0.01); refined in bfloat16" in text
    assert "git commit 0123456, fedcba9+," in text and "2026-11-20 to 2026-11-21" in text
    assert text.count("a processor") == text.count("2.15.0") == 1


def test_a_page_names_its_profile():
    sentence = provenance.about("convergence", "cpu")
    assert sentence.startswith("Study `convergence`, profile `cpu`: Reduced to a smaller codec")
    with pytest.raises(UserError):
        provenance.about("no-such-study", "cpu")


def test_runs_on_different_machines_are_named():
    rows = pd.DataFrame({"rate": [0.005, 0.01, 0.02], "device": ["a GPU", "a CPU", "a CPU"]})
    assert provenance.machines(rows, "rate").endswith("On a GPU: 0.005. On a CPU: 0.01; 0.02.")
    assert provenance.machines(rows[1:], "rate") == ""


def test_rows_that_are_not_there_say_what_computes_them(tmp_path):
    with pytest.raises(UserError, match="sgaplus study run convergence --profile cpu"):
        provenance.load("convergence", "cpu", tmp_path)


def test_results_are_the_checkouts_wherever_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert provenance.folder(None, "base-codecs") == CHECKOUT / "data" / "results" / "base-codecs"
    assert provenance.folder("mine", "base-codecs") == Path("mine")


def test_races_and_trials_say_what_they_know():
    race = {"git_commit": "0123456789", "codec": "mshyper", "codec_lmbda": 0.01, "dtype": "float32"}
    race |= {"device": "a processor", "written": "2026-11-26T08:00:00", "sgaplus_version": "0.1.0"}
    facts = provenance.facts(pd.DataFrame([race, race]))
    assert facts["Rows"] == "2 rows" and facts["Codec"].startswith("mshyper (λ = 0.01)")
    assert facts["Computed"] == "2026-11-26 on a processor"
    assert "0.1.0 at git commit 0123456" in facts["Software"]
    trial = provenance.facts(pd.DataFrame([{"git_commit": "b8d680e+", "device": "another", "what": "all"}]))
    assert trial["Computed"] == "on another" and "b8d680e+" in trial["Software"]
    assert provenance.facts(provenance.NONE) == {}
