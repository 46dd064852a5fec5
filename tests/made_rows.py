"""Stored rows made up by hand, in which arithmetic shows what a page must say."""

import json

import numpy as np
import pandas as pd

from companion import configurations
from sgaplus import plans, schedules

# What the images cost in every configuration; differences between these are factors on it.
COST = {"a@100": 1.0, "b@100": 2.0, "c@100": 4.0}


def job(
    image: str,
    method: str,
    factors: dict[int, float],
    lmbda: float = 0.01,
    codec_lmbda: float | None = None,
    *,
    seed: int = 0,
    tau_max: float | None = None,
    rate: float | None = None,
    **values,
) -> list[dict]:
    """The lines of one job; its true loss is the image's cost, times the factor at each iteration.

    Args:
        method: a specification with its published settings but for ``tau_max`` and ``rate``, ``fast``, or
            ``base``.
        values: other columns.
    """
    last, codec_lmbda = max(factors), lmbda if codec_lmbda is None else codec_lmbda
    temperature = None if tau_max is None else schedules.Exponential(tau_max=tau_max)
    plan = plans.plan("map" if method == "base" else method, last or None, temperature=temperature, lr=rate)
    settings = {name: json.dumps(value) for name, value in plan.as_dict().items()}
    line = {
        "image": image,
        "image_sha256": f"sha of {image}",
        "key": f"{image} {method} {lmbda} {codec_lmbda} {tau_max} {rate} {seed} {last}",
        **{name: settings[name] for name in ("method", "temperature", "lr")},
        "optimizer": plan.optimizer,
        "label": plan.label if last else plans.BASE,
        "iterations": last,
        "trace_every": 25,
        "seed": seed,
        "lmbda": lmbda,
        "codec": "mshyper-s",
        "codec_lmbda": codec_lmbda,
        "codec_sha256": "sha of the codec",
        "dtype": "bfloat16",
        "device": "a processor",
        "bpp": 0.5,
        "psnr": 30.0,
    }
    lines = []
    for t, factor in factors.items():
        loss = COST.get(image, 1.0) * factor
        found = {"iteration": t, "loss": loss, "method_loss": loss, "read_off": t in (0, last)}
        found |= {"seconds": 0.02 * t, "tau": np.nan if t == 0 else min(tau_max or 1, 0.6)}
        lines.append(line | found | values)
    return lines


def rows_of(*jobs: list[dict]) -> pd.DataFrame:
    return configurations.described(pd.DataFrame([line for lines in jobs for line in lines]))


def everywhere(method: str, factors: dict[int, float], **values) -> list[dict]:
    """`job` on every image."""
    return [line for image in COST for line in job(image, method, factors, **values)]


LAMBDAS = (0.001, 0.0025, 0.005, 0.01)
# Rate of an name as a share of the base's at the same PSNR, by image.
FACTORS = {"base": {"a": 1.0, "b": 1.0, "c": 1.0}, "good": {"a": 0.8, "b": 0.7}, "fair": {"a": 0.9, "b": 0.9}}


def curves_of() -> pd.DataFrame:
    """Whole images a, b and c of the base, of which two are refined, and two crops; 2 dB for each
    doubling."""
    lines = []
    for crop, side in ((False, ""), (True, "@64")):
        for name, factors in FACTORS.items():
            for image, factor in factors.items():
                if crop and image == "c":
                    continue
                for k, lmbda in enumerate(LAMBDAS):
                    bpp = 0.1 * 2**k * (3 if image == "c" else 1)
                    lines.append(
                        {
                            "configuration": name,
                            "image": image + side,
                            "lmbda": lmbda,
                            "codec_lmbda": lmbda,
                            "seed": 0,
                        }
                        | {"bpp": factor * bpp, "psnr": 26 + 2.0 * k, "psnr_8bit": 26.5 + 2.0 * k}
                        | {"loss": factor, "read_off": True, "key": f"{name}{image}{side}{lmbda}"}
                        | dict.fromkeys(("iteration", "iterations"), 0 if name == "base" else 500)
                    )
    return pd.DataFrame(lines)
