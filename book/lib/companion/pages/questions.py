"""The ten questions: what the formulas say, and what rows do. A table without rows is empty."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgaplus import rounding

from .. import closed_forms, figures, palette, pool, reference, statistics, tables, verdict_rules
from ..configurations import BASE, label
from ..verdicts import Claim
from .claims import verdict


def missing(study: str, profile: str) -> str:
    """What a page says in place of rows that are not stored: the command that computes them."""
    return f"*There are no rows for this yet: `sgaplus study run {study} --profile {profile}` computes them.*"


def judged(claim: Claim) -> str:
    """A claim's verdict with a link to its numbers."""
    number = claim.number
    return f'Verdict on <a href="claims.html#claim-{number}">claim {number}</a>: {verdict(claim)}.'


def methods() -> list[rounding.TwoClass]:
    """The four two-class methods of the paper's figures."""
    return [rounding.parse(spec) for spec in pool.GRID]


def curves(
    table: pd.DataFrame, by: str, x: str, y: str, axis: Mapping[str, Any] = MappingProxyType({}), **how: Any
) -> Figure:
    """A line for each ``by``, in a panel for each ``panel`` where the table has one; ``axis`` is for
    `matplotlib.axes.Axes.set`, ``how`` for `figures.panels`."""
    parts = dict(list(table.groupby("panel", sort=False))) if "panel" in table else {"": table}

    def draw(axes: Axes, part: pd.DataFrame) -> None:
        for name, look in palette.looks(part[by]).items():
            line = part[part[by] == name]
            axes.plot(line[x], line[y], **look | {"marker": ""}, linewidth=1.8, label=name)
        axes.set(**axis)
        if axis.get("xscale") == "log":
            figures.plain_numbers(axes.xaxis)

    return figures.panels(parts, draw, size=(4, 3.2), **how)


# Question 1


def shapes() -> pd.DataFrame:
    """Shapes at τ = 1: exponent is k of dp/dv ∝ distanceᵏ at an integer, wrong a mean over v."""
    at = torch.tensor([0.5, 0.01], dtype=torch.float64)
    lines = []
    for method in [*methods(), rounding.SSL(4 / 3)]:
        middle, near = closed_forms.probability_slope(method, at).tolist()
        a, left = closed_forms.closest_a(method)
        exponent, wrong = closed_forms.end_exponent(method), closed_forms.wrong_class(method)
        lines.append((method.label, middle, near, exponent, wrong, a, left))
    return pd.DataFrame(lines, columns=["method", *tables.columns_of("shapes")])


# Question 2


def budgets(tau: float) -> pd.DataFrame:
    """Where a method spends the mean derivative of its draws, which is 1 over any unit interval."""
    marks = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95], dtype=torch.float64)
    lines = []
    for method in methods():
        at = closed_forms.moments(method, marks, tau)
        value, size = at["value"], np.hypot(at["slope"], at["slope_sd"])
        ratio = np.divide(at["slope"], size, out=np.zeros_like(size), where=size > 0)
        noise = float(closed_forms.moments(method, closed_forms.midpoints(99), tau, 4001)["value_sd"].mean())
        shares = 100 * (value[3] - value[1]), 100 * (value[0] + 1 - value[4])
        lines.append((method.label, *shares, noise, at["value_sd"][0], ratio[2], ratio[0]))
    return pd.DataFrame(lines, columns=["method", *tables.columns_of("budgets")])


def moments(tau: float) -> pd.DataFrame:
    """Over v: mean and standard deviation of a draw's derivative (slope), and that of the draw (value)."""
    x = closed_forms.midpoints(99)
    parts = [
        pd.DataFrame({"method": method.label, "v": x.numpy()} | closed_forms.moments(method, x, tau, 4001))
        for method in methods()
    ]
    return pd.concat(parts, ignore_index=True)[["method", "v", "slope", "slope_sd", "value_sd"]]


def gradients(table: pd.DataFrame) -> Figure:
    """`moments`, a panel for each."""
    wide = table.pivot_table(index="v", columns="method", sort=False)
    names = ("mean of ds/dv", "standard deviation of ds/dv", "standard deviation of s")
    parts = dict(zip(names, (wide[name] for name in ("slope", "slope_sd", "value_sd")), strict=True))
    return figures.over_fraction(parts, wide.index, "", 5, (2.8, 2.8))


# Question 3


def thirds() -> pd.DataFrame:
    """Probability of the third integer at the authors' best r and n, with and without stretching."""
    lines = []
    for spec in verdict_rules.THREE.values():
        method = rounding.parse(spec)
        whole = rounding.ThreeClass(method.base, 1.0, method.n)
        masses = (closed_forms.third_mass(kind) for kind in (method, whole))
        lines.append((method.label, 1 / method.r - 1, *masses))
    return pd.DataFrame(lines, columns=["method", *tables.columns_of("third-class")])


def third_class(r: Sequence[float], n: Sequence[float]) -> pd.DataFrame:
    """Linear's third integer over the distance from the nearest one: each r and n at the other's best."""
    best, w = rounding.ThreeClass(), np.linspace(0, 0.3, 301)
    over_r, over_n = f"over r, at n = {best.n:g}", f"over n, at r = {best.r:g}"
    settings = [(over_r, f"r = {value:g}", value, best.n) for value in r]
    settings += [(over_n, f"n = {value:g}", best.r, value) for value in n]
    parts = []
    for panel, setting, stretch, power in settings:
        method = rounding.ThreeClass(rounding.Linear(), stretch, power)
        mass = method.probabilities(torch.from_numpy(w))[:, 0]
        found = {"panel": panel, "setting": setting, "distance": w, "probability": mass}
        parts.append(pd.DataFrame(found))
    return pd.concat(parts, ignore_index=True)


# Question 4


def randomness() -> pd.DataFrame:
    """How far a draw is from the rounded value over τ, mean over the noise and over v (error)."""
    taus, x = np.linspace(0.1, 1, 19), closed_forms.midpoints(49)
    lines = [
        (method.label, tau, float(closed_forms.moments(method, x, tau, 1001)["error"].mean()))
        for method in methods()
        for tau in taus
    ]
    return pd.DataFrame(lines, columns=["method", "tau", "error"])


# Question 6


def slope_of_ssl() -> pd.DataFrame:
    """What SSL's a does to probabilities and gradients, in percent: a, what, percent."""
    lines = {
        "probability of the farther integer": closed_forms.wrong_class,
        "share of v with dp/dv below 0.1": closed_forms.flat_share,
    }
    slopes = np.geomspace(0.3, 10, 41)
    found = [(a, name, 100 * of(rounding.SSL(a))) for name, of in lines.items() for a in slopes]
    return pd.DataFrame(found, columns=["a", "what", "percent"])


SSL = label("ssl")


def at_lambda(rows: pd.DataFrame, iteration: int, what: str) -> pd.DataFrame:
    """The rows of Kodak at the λ of the ablations, of the scope with the most different values of ``what``,
    whole photographs if several have as many; scopes are never mixed."""
    groups = dict(pool.scopes(pool.ablations(rows), iteration))
    scope = max(groups, key=lambda name: (groups[name][what].nunique(), name == pool.WHOLE), default=None)
    return groups.get(scope, rows.iloc[:0])


# Question 8


def parts(rows: pd.DataFrame, iteration: int) -> pd.DataFrame:
    """The parts of the gain of each method on Kodak at λ = 0.01, means over the images that all have."""
    names = [BASE, *(label(spec) for spec in ("ste", "uniform", *pool.GRID))]
    chosen = at_lambda(rows[rows["configuration"].isin(names)], iteration, "configuration")
    if BASE not in set(chosen["configuration"]) or chosen["configuration"].nunique() < 2:
        return pd.DataFrame()
    statistics.check_pairs(chosen, BASE)
    means = pool.with_gap(chosen).pivot_table(
        index="image", columns="configuration", values=["loss", "bpp", "gap"], dropna=False
    )
    means = means[means["loss"].notna().all(axis=1)]
    shares = means.div(means["loss"][BASE], axis=0) * 100
    lines = []
    for name in palette.in_order(set(chosen["configuration"]) - {BASE}):
        loss, rate = (shares[of, name] - shares[of, BASE] for of in ("loss", "bpp"))
        whole = {"loss": loss, "rate": rate, "distortion": loss - rate, "gap": shares["gap", name]}
        line = {"configuration": name, "images": len(means)}
        lines.append(line | statistics.intervals(pd.DataFrame(whole)))
    return pd.DataFrame(lines)


# Question 9


def data_sets(rows: pd.DataFrame) -> pd.DataFrame:
    """Rates and PSNR without refinement at λ = 0.01, and the published gains."""
    lines: list[dict[str, Any]] = []
    for dataset in ("kodak", "tecnick"):
        table = reference.published(dataset)
        base = table[(table["codec"] == "yang2020-base") & (table["quality_or_lambda"] == pool.LMBDA)].iloc[0]
        what = f"{palette.dataset(dataset)}, published (base of Yang et al. 2020)"
        line = {"what": what, "bpp": base["bpp"], "psnr": base["psnr_db"]}
        lines.append(line | {"bd_rate": reference.sga_gain(table)})
    own = pool.own(pool.ablations(rows[rows["configuration"] == BASE]))
    for (dataset, scope), group in own.groupby(["dataset", "scope"]):
        each = group.groupby("image")[["bpp", "psnr"]].mean()
        line = {"what": f"{palette.dataset(dataset)}, {scope}", "images": len(each)}
        lines.append(line | statistics.intervals(each))
    return pd.DataFrame(lines)


def by_image(rows: pd.DataFrame, iteration: int) -> pd.DataFrame:
    """Images of the largest scope at the ablations' λ: bpp of the base, change of the loss by SSL (%)."""
    found = []
    for dataset in pool.DATASETS:
        for scope, group in pool.scopes(pool.ablations(rows), iteration, dataset):
            change = pool.differences(group, SSL, BASE)
            if change is not None:
                bpp = group[group["configuration"] == BASE].groupby("image")["bpp"].mean()
                table = pd.DataFrame({"change": change.mean(axis=1), "bpp": bpp}).dropna().reset_index()
                found.append(table.assign(dataset=dataset, scope=scope))
    if not found:
        return pd.DataFrame(columns=["dataset", "scope", "image", "bpp", "change"])
    table = pd.concat(found, ignore_index=True)
    return table[table["scope"] == table["scope"].mode()[0]]


def gain_by_image(table: pd.DataFrame) -> Figure:
    """Gain over the base by the image's rate without refinement; ``table``: `by_image`."""

    def draw(axes: Axes, rows: pd.DataFrame) -> None:
        for position, (name, group) in enumerate(rows.groupby("dataset")):
            look = {"color": palette.colour(position), "marker": palette.MARKERS[position % 4]}
            axes.plot(group["bpp"], group["change"], linestyle="", label=palette.dataset(name), **look)

    words = {"xlabel": "bits per pixel without refinement", "ylabel": "change of the true loss (%)"}
    return figures.panels({"": table}, draw, zero=True, **words)


# Question 10


def practice(rows: pd.DataFrame, iteration: int) -> pd.DataFrame:
    """What refinement with SSL changes on Kodak, by λ, on the scope with the most λ (photographs first):
    means, of seconds medians; and the places where it was computed."""
    groups = dict(pool.scopes(rows[rows["configuration"].isin([BASE, SSL])], iteration))
    counts = {
        scope: group.loc[group["configuration"] == SSL, "lmbda"].nunique() for scope, group in groups.items()
    }
    if not any(counts.values()):
        return pd.DataFrame()
    scope = max(counts, key=lambda name: (counts[name], name == pool.WHOLE))
    statistics.check_pairs(groups[scope], BASE, ["lmbda"])
    values = ["loss", "bpp", "psnr_8bit", "ms_ssim", "seconds"]
    wide = groups[scope].pivot_table(index=["lmbda", "image"], columns="configuration", values=values)
    before, after = (wide[wide["loss"].notna().all(axis=1)].xs(name, axis=1, level=1) for name in (BASE, SSL))
    changes = (after - before).rename(columns={"psnr_8bit": "psnr"})[["psnr", "ms_ssim"]]
    # A bit per pixel is 125 kB per megapixel.
    each = changes.assign(kilobytes=125 * before["bpp"], refined=125 * after["bpp"])
    by_lambda = each.assign(loss=100 * (after["loss"] / before["loss"] - 1)).groupby("lmbda")
    seconds = after["seconds"].groupby("lmbda").median()
    found = by_lambda.mean().assign(scope=scope, images=by_lambda.size(), seconds=seconds)
    found["per_percent"] = (-seconds / found["loss"]).where(found["loss"] < 0)
    here = groups[scope]
    found["places"] = " and ".join(sorted(here.loc[here["configuration"] == SSL, "device"].unique()))
    return found.reset_index()[["scope", "lmbda", "images", "places", *tables.columns_of("practice")]]
