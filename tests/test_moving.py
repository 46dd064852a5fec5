"""Figures that move, in a browser: what they show is what the rows and the package say.

Skipped where there is no Chromium; SGAPLUS_REQUIRE_BOOK=1 makes that a failure.
"""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image

from companion import closed_forms, equal_bytes, moving
from sgaplus import rounding
from sgaplus.codecs.series import series
from sgaplus.errors import UserError

pytestmark = pytest.mark.slow

STATIC = Path(__file__).parents[1] / "book" / "_static"
DOT = "data:image/gif;base64,R0lGODlhAQABAAAAACw="
TWIN = f'<figure class="plot" id="fig-x"><img src="{DOT}" alt="x"><figcaption>Caption.</figcaption></figure>'


@pytest.fixture
def opened(browser, tmp_path):
    """A function that opens a page with some figures; errors of the page fail the test."""
    problems: list[str] = []

    def open_page(*figures: str, width: int = 1000, scripts: bool = True):
        kinds = re.findall(r'data-kind="([\w-]+)"', "".join(figures))
        files = ["moving.js", *(f"moving-{kind}.js" for kind in kinds)]
        head = "".join(f"<script>{(STATIC / file).read_text(encoding='utf-8')}</script>" for file in files)
        style = (STATIC / "moving.css").read_text(encoding="utf-8")
        (tmp_path / "page.html").write_text(
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>x</title><style>{style}</style>'
            f"{head}<main>{''.join(figures)}</main></html>",
            encoding="utf-8",
        )
        page = browser.new_page(viewport={"width": width, "height": 900}, java_script_enabled=scripts)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
        page.goto((tmp_path / "page.html").as_uri())
        return page

    yield open_page
    assert problems == []


@pytest.fixture
def frame():
    """Two methods at three iterations with intervals and photographs, at two budgets."""
    lines = []
    for budget in (500, 2000):
        for name, gain in (("SSL (a = 2.3)", -8), ("atanh (SGA)", -7)):
            for step in (0, 1, 2):
                mean = gain * step / 2 * (1 if budget == 500 else 1.5)
                line = {"configuration": name, "iteration": step * budget // 2, "budget": budget}
                lines.append(line | {"change": mean, "low": mean - 0.5, "high": mean + 0.3})
                lines += [line | {"change": mean + d, "image": f"kodim{d}"} for d in (1, 2)]
    return pd.DataFrame(lines)


def lines(frame: pd.DataFrame, **columns: str) -> str:
    columns = {"low": "low", "high": "high", "image": "image", "choice": "budget"} | columns
    data = moving.lines_data(frame, "iteration", "change", **columns)
    return moving.markup("lines", data | {"xlabel": "iteration", "ylabel": "change"}, TWIN)


def test_data_in_the_page_cannot_end_its_script(frame):
    with pytest.raises(UserError, match="change"):
        lines(frame.assign(change=float("nan")))
    text = moving.markup("lines", {"name": "</script><!--", "value": float("nan")}, TWIN)
    content = text.split('<script type="application/json">')[1].split("</script>")[0]
    assert json.loads(content) == {"name": "</script><!--", "value": None}


def test_hover_and_keys_show_the_values_of_the_rows_and_a_screen_reader_hears_them(opened, frame):
    page = opened(lines(frame))
    area = page.locator(".plot-area")
    box = area.bounding_box()
    area.hover(position={"x": box["width"] - 12, "y": 100})
    said = page.locator(".tip").inner_text()
    last = frame[(frame["budget"] == 500) & (frame["iteration"] == 500) & frame["image"].isna()]
    assert len(last) == 2
    for row in last.itertuples():
        assert row.configuration in said
        value = f"{row.change:.2f} [{row.low:.2f}, {row.high:.2f}]".replace("-", "−")
        assert f"{row.configuration}\n{value}" in said
    assert "500" in said

    area = page.get_by_role("slider")
    page.keyboard.press("Tab")
    while not area.evaluate("node => node === document.activeElement"):
        page.keyboard.press("Tab")
    page.keyboard.press("Home")
    assert "iteration 0:" in area.get_attribute("aria-valuetext")
    page.keyboard.press("ArrowRight")
    assert "iteration 250:" in area.get_attribute("aria-valuetext")
    page.keyboard.press("End")
    heard = area.get_attribute("aria-valuetext")
    assert "iteration 500:" in heard and "SSL (a = 2.3) −8.00 [" in heard and "atanh (SGA) −7.00 [" in heard


def test_methods_photographs_and_budgets_are_chosen(opened, frame):
    page = opened(lines(frame))
    curves, photographs = page.locator("path.mean"), page.locator("path.image")
    assert (curves.count(), photographs.count()) == (2, 0)
    button = page.get_by_role("button", name="atanh")
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert curves.count() == 1
    page.get_by_label("photographs behind the means").check()
    assert photographs.count() == 2
    button.click()
    assert (curves.count(), photographs.count()) == (2, 4)
    page.get_by_role("button", name="2000", exact=True).click()
    page.get_by_role("slider").focus()
    page.keyboard.press("End")
    assert "iteration 2000: " in page.get_by_role("slider").get_attribute("aria-valuetext")
    for button in page.locator(".legend button").all():
        button.click()
    assert curves.count() == 0, "an empty figure"


def test_twin_shows_on_paper_and_without_scripts(opened, frame):
    page = opened(lines(frame))
    picture, stage = page.locator("figure > img"), page.locator(".stage")
    assert stage.is_visible() and not picture.is_visible()
    page.emulate_media(media="print")
    assert picture.is_visible() and not stage.is_visible()
    plain = opened(lines(frame), scripts=False)
    assert plain.locator("figure > img").is_visible() and plain.locator(".stage").count() == 0


def space(**given: float) -> str:
    return moving.markup("space", moving.space_data(**given), TWIN)


SPECS = {
    "atanh": {"method": "atanh"},
    "linear": {"method": "linear"},
    "cosine": {"method": "cosine"},
    "ssl:a=2.3": {"method": "ssl", "a": 2.3},
    "ssl:a=0.4": {"method": "ssl", "a": 0.4},
    "three-class:base=linear": {"method": "linear", "three": True, "r": 0.98, "n": 1.5},
    "three-class:base=cosine,r=0.8,n=2.5": {"method": "cosine", "three": True, "r": 0.8, "n": 2.5},
    "three-class:base=ssl,a=1.4,r=0.9,n=1.5": {"method": "ssl", "a": 1.4, "three": True, "r": 0.9, "n": 1.5},
}


@pytest.fixture(scope="module")
def engine(browser):
    """A page that has the functions of ``moving-space.js``."""
    page = browser.new_page()
    page.set_content("<html></html>")
    for file in ("moving.js", "moving-space.js"):
        page.add_script_tag(content=(STATIC / file).read_text(encoding="utf-8"))
    page.evaluate("document.dispatchEvent(new Event('DOMContentLoaded'))")
    return page


@pytest.mark.parametrize("tau", [1.0, 0.05])
@pytest.mark.parametrize("spec", SPECS)
def test_page_and_package_round_alike(engine, spec, tau):
    method, v = rounding.parse(spec), torch.linspace(-1.3, 2.3, 181, dtype=torch.float64)
    noise = torch.rand(method.noise_shape((len(v),)), generator=torch.Generator().manual_seed(0)).double()
    moved = v.clone().requires_grad_()
    p = method.probabilities(moved, tau)
    (slope,) = torch.autograd.grad((p * method.classes(v)).sum(), moved)
    drawn = noise if noise.ndim == 2 else noise[:, None]
    found = engine.evaluate(
        """([spec, v, tau, noise]) => v.map((value, i) => ({
          ...moving.rounding.probabilities(spec, value, tau),
          drawn: moving.rounding.relax(spec, value, tau, noise[i]),
        }))""",
        [SPECS[spec], v.tolist(), tau, drawn.tolist()],
    )
    theirs = {key: torch.tensor([line[key] for line in found]).double() for key in found[0]}
    torch.testing.assert_close(theirs["integers"], method.classes(v), atol=0, rtol=0)
    torch.testing.assert_close(theirs["p"], p.detach(), atol=1e-6, rtol=0)
    torch.testing.assert_close(theirs["drawn"], method.relax(v, tau, noise), atol=1e-6, rtol=0)
    torch.testing.assert_close(theirs["slope"], slope, atol=1e-6, rtol=1e-6)
    if not SPECS[spec].get("three"):
        inner = (v - v.floor() - 0.5).abs() < 0.49
        own = closed_forms.probability_slope(method, (v - v.floor())[inner], tau)
        torch.testing.assert_close(theirs["slope"][inner], own, atol=1e-6, rtol=1e-6)


def test_sliders_move_what_they_name_presets_set_them_all_and_draws_have_their_mean(opened):
    page = opened(space(a=2.3))
    said = page.locator(".readout")
    expected = rounding.SSL(2.3).probabilities(torch.tensor(0.3, dtype=torch.float64))
    assert f"p(1) = {expected[1]:.4f}" in said.inner_text()
    a = page.get_by_role("slider", name="a (SSL)")
    a.focus()
    page.keyboard.press("ArrowRight")
    assert a.get_attribute("aria-valuetext") == "2.4"
    expected = rounding.SSL(2.4).probabilities(torch.tensor(0.3, dtype=torch.float64))
    assert f"p(1) = {expected[1]:.4f}" in said.inner_text()
    page.get_by_role("button", name="authors' best").click()
    best = rounding.ThreeClass(rounding.SSL(1.4))
    for name, value in (("a (SSL)", 1.4), ("stretch r", best.r), ("sharpness n", best.n)):
        assert float(page.get_by_role("slider", name=name).input_value()) == pytest.approx(value, abs=1e-4)
    expected = best.probabilities(torch.tensor(0.3, dtype=torch.float64))
    assert f"p(−1) = {expected[0]:.4f}" in said.inner_text()
    page.get_by_role("button", name="SGA", exact=True).click()
    assert page.get_by_role("slider", name="stretch r").is_disabled()
    assert page.get_by_role("slider", name="temperature").input_value() == "0.5"
    expected = rounding.Atanh().probabilities(torch.tensor(0.3, dtype=torch.float64), 0.5)
    assert f"p(1) = {expected[1]:.4f}" in said.inner_text()

    wanted = closed_forms.moments(rounding.Atanh(), torch.tensor([0.3]), 0.5)
    page.get_by_role("button", name="Draw").click()
    assert page.locator("rect").count() > 1
    mean = float(re.search(r"Mean of the draws (\S+),", said.inner_text())[1])
    # 2000 draws: eight standard errors
    assert mean == pytest.approx(wanted["value"][0], abs=8 * wanted["value_sd"][0] / 2000**0.5)


@pytest.fixture
def pairs():
    """Two photographs of noise, of which one has its original."""
    made = []
    for name, dataset in (("kodim23", "kodak"), ("coffee", "sample")):
        noise = [torch.randint(0, 256, (3, 96, 144), dtype=torch.uint8) for _ in range(3)]
        errors = {side: (noise[0][0] // n).numpy() for side, n in (("base", 1), ("refined", 2))}
        about = {"image": name, "dataset": dataset, "box": [0, 0, 144, 96], "codec": "mshyper-s"}
        about |= {"codec_lmbda": 0.0025, "refined_lmbda": 0.002, "plan": "fast", "iterations": 200}
        about |= {"base_bytes": 1234, "refined_bytes": 1230, "base_psnr_8bit": 29.1}
        about |= {"refined_psnr_8bit": 30.25, "dtype": "bfloat16", "seconds": 1.0, "git_commit": "a"}
        about |= {"device": "cpu", "sgaplus_version": "1", "torch_version": "2", "written": "2026"}
        pictures = {"base": noise[0], "refined": noise[1]}
        original = noise[2] if dataset == "sample" else None
        made.append(equal_bytes.Pair(name, about, pictures, errors, original))
    return made


def before_after(pairs: list[equal_bytes.Pair], light: bool = False) -> str:
    return moving.markup("before-after", *moving.of_pairs(pairs, "before-after", light))


def test_seam_moves_by_keys_and_by_dragging(opened, pairs):
    page = opened(before_after(pairs))
    seam, upper = page.get_by_role("slider"), page.locator(".pictures img").nth(1)
    assert "1,234 bytes, 29.10 dB" in page.locator(".label.left").inner_text()
    assert "1,230 bytes, 30.25 dB" in page.locator(".label.right").inner_text()
    seam.focus()
    page.keyboard.press("Home")
    assert upper.evaluate("node => node.style.clipPath").endswith(" 0%)")
    box = page.locator(".view").bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 50)
    page.mouse.up()
    assert seam.input_value() == "25"
    assert seam.get_attribute("aria-valuetext").startswith("left 25 %: base")


def test_photographs_errors_originals_and_a_loupe_are_chosen(opened, pairs):
    page = opened(before_after(pairs))
    sides = "nodes => nodes.map(node => [node.dataset.name, node.dataset.side, node.naturalWidth])"
    shown = page.locator(".pictures img")
    shown.first.evaluate("node => node.decode()")
    assert shown.evaluate_all(sides) == [["kodim23", "base", 144], ["kodim23", "refined", 144]]
    assert page.get_by_role("button", name="original").count() == 0
    page.get_by_role("button", name="error maps").click()
    assert [line[1] for line in shown.evaluate_all(sides)] == ["base-error", "refined-error"]
    page.get_by_role("button", name="coffee").click()
    page.get_by_role("button", name="original").click()
    assert [line[:2] for line in shown.evaluate_all(sides)] == [["coffee", "original"], ["coffee", "refined"]]
    page.get_by_role("button", name="loupe").click()
    lens = page.locator(".lens img").first
    assert lens.evaluate("node => node.getBoundingClientRect().width") == 4 * 144
    view = page.locator(".view")
    view.focus()
    page.keyboard.press("ArrowUp")  # there is room for one of the two
    before = lens.evaluate("node => node.style.transform")
    page.keyboard.press("ArrowDown")
    assert lens.evaluate("node => node.style.transform") != before
    assert "loupe at" in view.get_attribute("aria-label")

    page.emulate_media(media="print")
    visible = page.locator(".twin img").evaluate_all("nodes => nodes.map(n => n.checkVisibility())")
    assert visible == [True, True, False, False, True, True, False, False, False], "side by side on paper"
    assert not page.locator(".stage").is_visible()


def test_the_loupe_begins_where_refinement_gains_most(pairs):
    pair = pairs[0]
    pair.errors["refined"] = pair.errors["base"].copy()
    pair.errors["refined"][40:60, 100:120] = 0
    x, y = pair.centre
    assert 96 <= x <= 124 and 36 <= y <= 64
    text = before_after(pairs[1:], light=True)
    assert text.count("<img") == 2, "a light figure has the two pictures alone"


OURS = series("mshyper-s")
STORED = equal_bytes.folder(OURS) / "rows.json"


def test_stored_files_are_of_equal_size_and_as_good_as_their_rows_say():
    for pair in equal_bytes.load(OURS):
        sizes = {s: (STORED.parent / f"{pair.name}.{s}.sga").stat().st_size for s in equal_bytes.SIDES}
        assert sizes == {side: pair.about[f"{side}_bytes"] for side in equal_bytes.SIDES}
        assert 0.98 * sizes["base"] <= sizes["refined"] <= sizes["base"]
        if pair.original is not None:
            for side in equal_bytes.SIDES:
                mse = (pair.pictures[side].double() - pair.original.double()).square().mean()
                psnr = float(10 * (255**2 / mse).log10())
                assert psnr == pytest.approx(pair.about[f"{side}_psnr_8bit"], abs=0.02)
    size = sum(path.stat().st_size for path in STORED.parent.iterdir())
    assert size < 1.5e6


def test_the_picture_of_the_readme_is_of_the_stored_files():
    rows = json.loads(STORED.read_text())
    with Image.open(Path(__file__).parents[1] / "book/images/result.png") as picture:
        assert json.loads(picture.text["Source"]) in rows
