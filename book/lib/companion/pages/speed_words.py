"""What `speed` has read, in words: a line for each place and way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from sgaplus import hardware


def span(values: pd.Series, form: str) -> str:
    """The smallest and the largest value, or one where both read the same."""
    return " to ".join(dict.fromkeys(format(value, form) for value in (values.min(), values.max())))


def _listed(rows: pd.DataFrame, say: Callable[[pd.DataFrame], str]) -> str:
    """A Markdown list with what ``say`` says of each place and way."""
    groups = rows.groupby(["place", "way"], sort=False)
    return "\n".join(f"- {place}; {way}: {say(group)}" for (place, way), group in groups)


def _sizes(group: pd.DataFrame) -> str:
    if len(group) > 1:
        return f"{len(group)} sizes of pictures"
    return f"pictures of {group['width'].iloc[0]}×{group['height'].iloc[0]}"


def describe_gain(rows: pd.DataFrame) -> str:
    """In words, how many times as fast as the plain loop ours is, a line for each place and way."""

    def say(group: pd.DataFrame) -> str:
        return (
            f"**{span(group['ratio'], '.2f')} times** as fast as the plain loop, for {_sizes(group)} (medians; "
            f"all pairs: {group['ratio_min'].min():.2f} to {group['ratio_max'].max():.2f}); "
            f"{span(group['ratio_true_loss'], '.2f')} times if ours, too, computed the true loss at every step."
        )

    return _listed(rows, say)


def describe_ceiling(rows: pd.DataFrame) -> str:
    """In words, how much of a step its bare convolutions are, and what could still be gained."""

    def say(group: pd.DataFrame) -> str:
        step, bare = (span(group[f"{x}flops_per_second"] / 1e9, ".0f") for x in ("", "ceiling_"))
        return (
            f"the convolutions by themselves take {span(group['share'], '.0%')} of the step, which reaches {step} "
            f"GFLOP/s where they reach {bare}; a step of nothing else would be "
            f"{span((1 / group['share']).clip(lower=1), '.2f')} times as fast."
        )

    return _listed(rows, say)


def describe_compiled(rows: pd.DataFrame) -> str:
    """In words, how much faster a compiled step is and after how many steps that pays, a line for each place and way."""
    keys = ["place", "dtype", "batch_size", "width", "height"]
    plain, compiled = (rows[rows["compiled"] == flag].set_index(keys) for flag in (False, True))
    both = plain.join(compiled, how="inner", rsuffix="_compiled")
    lines = []
    for (place, dtype, count), group in both.groupby(level=[0, 1, 2], sort=False):
        gain = group["ours_seconds"] / group["ours_seconds_compiled"]
        saved = (group["ours_seconds"] - group["ours_seconds_compiled"]) * count
        steps = (group["compile_seconds_compiled"] / saved)[saved > 0].sort_values()
        ends = steps.iloc[[0, -1]] if len(steps) else steps
        said = dict.fromkeys(f"{value:,.0f} ({w}×{h})" for (*_, w, h), value in ends.items())
        pays = f"is saved again after {' to '.join(said)} steps" if said else "is not saved again"
        if 0 < len(steps) < len(group):
            pays += f" with {len(steps)} of {len(group)} sizes"
        lines.append(
            f"- {place}; {dtype}, {count} picture{'s' * (count > 1)} at a time: a compiled step is "
            f"{span(gain, '.2f')} times as fast. To compile took {span(group['compile_seconds_compiled'], '.0f')} s, "
            f"which {pays}."
        )
    return "\n".join(lines) or "No configuration is stored both compiled and not."


def describe_formats(rows: pd.DataFrame) -> str:
    """In words, how much faster bfloat16 makes our step, a line for each place that has both formats stored."""
    keys = ["place", "batch_size", "compiled", "width", "height"]
    formats = (rows[rows["dtype"] == dtype].set_index(keys) for dtype in ("float32", "bfloat16"))
    both = next(formats).join(next(formats), how="inner", rsuffix="_bfloat16")
    lines = []
    for place, group in both.groupby("place", sort=False):
        step, bare = (group[x] / group[f"{x}_bfloat16"] for x in ("ours_seconds", "ceiling_seconds"))
        verdict = "" if step.min() > 1 else " Where it is not above 1, float32 is the format to use."
        lines.append(
            f"- {place}: bfloat16 makes a step {span(step, '.2f')} times as fast as float32, and the bare "
            f"convolutions {span(bare, '.2f')} times.{verdict}"
        )
    return "\n".join(lines) or "No configuration is stored in both formats."


def describe_processor() -> str:
    """In words, whether the processor at hand multiplies bfloat16, and which format is chosen therefore."""
    cpu = torch.device("cpu")
    verb = "multiplies" if hardware.cpu_has_bfloat16() else "does not multiply"
    chosen = f"{hardware.resolve_dtype('auto', cpu)}".removeprefix("torch.")
    return (
        f"The processor that ran this page ({hardware.describe(cpu)}) {verb} bfloat16 matrices in hardware, so that "
        f"`--dtype auto` means {chosen} on it."
    )


def describe_growth(table: pd.DataFrame) -> str:
    """In words, whether time grows in proportion to the pixels, and memory; a line for each of `speed.growth`."""
    lines = [
        f"- {row.place}; {row.way}: as the power {row.exponent:.2f} of the pixels (pairs: {row.exponent_low:.2f} to "
        f"{row.exponent_high:.2f}) over {row.sizes} sizes; {row.per_smallest:.3g} s per megapixel at "
        f"{row.smallest:.2g} megapixels, {row.per_largest:.3g} s at {row.largest:.2g}."
        + (
            ""
            if np.isnan(row.bytes)
            else f" Each further megapixel takes {row.bytes / 2**20:.0f} MiB of memory."
        )
        for row in table.itertuples()
    ]
    return "\n".join(lines) or "Only one size of pictures is stored for each configuration."


def describe_origin(rows: pd.DataFrame) -> str:
    """In words, with which source, library and settings the measurements were made."""
    commits = [
        f"{commit[:10]}{' with changes' if commit.endswith('+') else ''}" or "unknown"
        for commit in rows["git_commit"].unique()
    ]
    days = pd.to_datetime(rows["written"]).dt.strftime("%Y-%m-%d")
    return (
        f"Measured with {', '.join(sorted(rows['method'].unique()))} at commit {', '.join(commits)} and PyTorch "
        f"{', '.join(sorted(rows['torch_version'].unique()))}, {' to '.join(dict.fromkeys((days.min(), days.max())))}; "
        f"{span(rows['pairs'], 'd')} pairs of {span(rows['steps'], 'd')} timed steps."
    )
