"""A page says where its rows come from."""

from pathlib import Path

import pandas as pd
import pytest

from companion import provenance
from sgaplus.errors import UserError
from sgaplus.io import CHECKOUT

LINE = {
    "key": "k1",
    "image": "kodim01@256",
    "codec": "mshyper-s",
    "codec_lmbda": 0.01,
    "dtype": "bfloat16",
    "device": "a processor, 1 thread",
    "sgaplus_version": "0.1.0",
    "git_commit": "0123456789abcdef",
    "torch_version": "2.15.0",
    "written": "2026-11-20T23:59:59+00:00",
}


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
