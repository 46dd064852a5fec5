"""The last four of the ten questions. A table without rows is empty."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .. import figures, palette, pool, reference, statistics, tables
from ..configurations import BASE, label

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
    means, of seconds medians."""
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
    return found.reset_index()[["scope", "lmbda", "images", *tables.columns_of("practice")]]
