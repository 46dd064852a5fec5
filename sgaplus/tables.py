"""The book's tables, from rows alone: great-tables objects that a notebook displays."""

from __future__ import annotations

import pandas as pd
from great_tables import GT, loc, style

from .metrics import bootstrap_interval, paired_changes

_MEASURES = ("loss", "bpp", "psnr", "psnr_8bit", "ms_ssim")


def gains(rows: pd.DataFrame) -> pd.DataFrame:
    """Per method: the mean over images before and after, and the paired gain with its 95 % interval.

    Args:
        rows: `Run.rows` of one or several methods, concatenated; the same images for each.

    Returns:
        One line per method: means at the last iteration (the line "codec" holds those at iteration 0), and
        ``gain``, ``low``, ``high``: the mean relative change of the true loss in percent and its interval
        over images.
    """
    start = rows[rows["iteration"] == 0]
    end = rows[rows["iteration"] == rows["iteration"].max()]
    first = start.drop_duplicates("image").set_index("image")["loss"]
    lines = [{"method": "codec, not refined", **start.drop_duplicates("image")[list(_MEASURES)].mean()}]
    for method, group in end.groupby("method", sort=False):
        change = 100 * (group.set_index("image")["loss"] / first - 1).dropna()
        low, high = bootstrap_interval(change)
        measures = group[list(_MEASURES)].mean()
        lines.append({"method": method, **measures, "gain": change.mean(), "low": low, "high": high})
    return pd.DataFrame(lines)


def gains_table(rows: pd.DataFrame) -> GT:
    """`gains` as a table; the lowest true loss is in bold."""
    table = gains(rows)
    images, iterations = rows["image"].nunique(), int(rows["iteration"].max())
    shown = (
        GT(table)
        .tab_header(
            title="Before and after refinement",
            subtitle=f"mean over {images} images, {iterations} iterations",
        )
        .cols_merge(["gain", "low", "high"], pattern="{0}<< [{1}, {2}]>>")
        .cols_label(
            method="method",
            loss="true R-D loss",
            bpp="bpp",
            psnr="PSNR (dB)",
            psnr_8bit="PSNR, 8 bit (dB)",
            ms_ssim="MS-SSIM",
            gain="change of the loss [95 %]",
        )
        .fmt_number(["loss", "bpp", "ms_ssim"], decimals=4)
        .fmt_number(["psnr", "psnr_8bit", "gain", "low", "high"], decimals=2)
        .sub_missing(["gain"], missing_text="–")
        .tab_style(style.text(weight="bold"), loc.body("loss", [int(table["loss"].idxmin())]))
        .tab_source_note(
            "Interval: percentile bootstrap over images of the paired relative change, in percent."
        )
    )
    return shown.opt_row_striping().tab_options(table_font_size="14px")


def images_table(rows: pd.DataFrame) -> GT:
    """Every image before and after, method by method."""
    last = rows["iteration"].max()
    chosen = rows[(rows["iteration"] == last) | (rows["iteration"] == 0)]
    chosen = chosen.assign(method=chosen["method"].where(chosen["iteration"] > 0, "codec, not refined"))
    chosen = chosen.drop_duplicates(["image", "method"])
    table = chosen[["image", "method", *_MEASURES, "seconds"]]
    return (
        GT(table.reset_index(drop=True), groupname_col="image", rowname_col="method")
        .tab_header(title="Image by image", subtitle=f"after {int(last)} iterations")
        .cols_label(
            loss="true R-D loss",
            psnr="PSNR (dB)",
            psnr_8bit="PSNR, 8 bit (dB)",
            ms_ssim="MS-SSIM",
        )
        .fmt_number(["loss", "bpp", "ms_ssim"], decimals=4)
        .fmt_number(["psnr", "psnr_8bit"], decimals=2)
        .fmt_number("seconds", decimals=1)
        .sub_missing(missing_text="–")
        .tab_options(table_font_size="14px")
    )


def paired_change_table(rows: pd.DataFrame, column: str, reference: str, changed: str) -> GT:
    """`metrics.paired_changes`, a line for each iteration: mean, interval, largest of an image, seconds."""
    lines = []
    for iteration, group in paired_changes(rows, column, reference, changed).groupby("iteration"):
        low, high = bootstrap_interval(group["change"])
        lines.append(
            {
                "iteration": iteration,
                "images": len(group),
                "mean": group["change"].mean(),
                "low": low,
                "high": high,
                "largest": group["change"].abs().max(),
                "reference": group["seconds_reference"].mean(),
                "changed": group["seconds_changed"].mean(),
            }
        )
    return (
        GT(pd.DataFrame(lines))
        .cols_merge(["mean", "low", "high"], pattern="{0} [{1}, {2}]")
        .cols_label(
            mean="mean change of the true loss, % [95 %]",
            largest="largest change of an image, %",
            reference=f"{reference}, s",
            changed=f"{changed}, s",
        )
        .fmt_number(["mean", "low", "high", "largest"], decimals=3)
        .fmt_number(["reference", "changed"], decimals=1)
        .tab_source_note("Interval: percentile bootstrap over images.")
        .tab_options(table_font_size="14px")
    )
