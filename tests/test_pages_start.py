"""The pages with which the book begins: their numbers are those of the rows, their commands run."""

from pathlib import Path

import pytest
import torch
import yaml

from companion import citation
from companion.pages import claims, idea, reproduce, your_photograph
from companion.verdicts import Claim, Finding, Verdict
from sgaplus.errors import SystemFault
from sgaplus.rounding import SSL, Atanh
from sgaplus.studies.schema import load_studies

REPOSITORY = Path(__file__).parents[1]


def test_a_strip_has_a_tile_for_each_claim_with_its_verdicts_in_words():
    outcomes = {500: Verdict.HOLDS, 2000: Verdict.NOT_RUN}
    findings = tuple(Finding("x", outcome=outcome, iteration=t) for t, outcome in outcomes.items())
    markup = claims.strip([Claim(n, "", "", findings, (), f"claim of {n}") for n in range(1, 10)])
    assert markup.count("<li") == markup.count("holds at 500 iterations") == 9
    assert markup.count("not run at 2000 iterations") == 9
    assert 'data-verdict="holds"' in markup and "#claim-9" in markup and "9 claim of 9" in markup


def test_draws_and_shapes_are_those_of_the_methods():
    figure = idea.shapes([Atanh(), SSL(2.3)])
    up = figure.axes[0].get_lines()[1].get_ydata()
    assert up[0] == pytest.approx(0, abs=1e-4) and float(up[500]) == pytest.approx(0.5)
    panels = idea.draws(SSL(2.3), [1.0, 0.1], count=3).axes
    warm, cold = (torch.as_tensor(axes.get_lines()[0].get_ydata()).frac() for axes in panels)
    assert (cold - 0.5).abs().mean() > (warm - 0.5).abs().mean(), "colder draws are nearer to the integers"


def test_every_study_has_a_line_with_its_command_rows_and_hours():
    table = reproduce.studies("cpu").set_index("study")
    assert set(table.index) == {study.name for study in load_studies() if "cpu" in study.profiles}
    rd = table.loc["rd"]
    assert rd["command"] == "sgaplus study run rd --profile cpu" and rd["rows"] > 1000 and rd["spent"] > 1
    assert (table.loc[table["left"] == 0, "memory"].isna()).all()


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
