"""How each of CompressAI's image models is analysed and decoded, and what its latents cost.

Each name below is a family, an adapter of a kind of model. A model of one's own is refined after its class is
registered with the family that decodes as it does, or with a new one:

    from sgaplus.codecs import conformance, families, register

    register(MyModel, families.MEAN_SCALE_HYPERPRIOR)
    codec = Codec("mine", lmbda, freeze(model), content_hash(model))
    conformance.check(codec)

Then `load_codec` recognises its checkpoints too, by the family's ``build``: it makes an untrained model
from a state dict, and ``dataclasses.replace(family, build=…)`` gives it another one.
"""

from __future__ import annotations

from typing import Any

from compressai.models import (
    Cheng2020Anchor,
    Cheng2020AnchorCheckerboard,
    Cheng2020Attention,
    CompressionModel,
    Elic2022Chandelier,
    Elic2022Official,
    FactorizedPrior,
    FactorizedPriorReLU,
    JointAutoregressiveHierarchicalPriors,
    JointAutoregressiveHierarchicalPriorsVbr,
    MeanScaleHyperprior,
    MeanScaleHyperpriorVbr,
    ScaleHyperprior,
    ScaleHyperpriorVbr,
)

from ...errors import UserError
from ..models import FAMILIES, Family
from .context import AUTOREGRESSIVE, CHENG2020
from .factorized import FACTORIZED
from .hyperprior import MEAN_SCALE_HYPERPRIOR, SCALE_HYPERPRIOR
from .latent_codecs import CHENG2020_CHECKERBOARD, ELIC2022, LATENT_CODEC
from .vbr import AUTOREGRESSIVE_VBR, MEAN_SCALE_HYPERPRIOR_VBR, SCALE_HYPERPRIOR_VBR

__all__ = [
    "AUTOREGRESSIVE",
    "AUTOREGRESSIVE_VBR",
    "FACTORIZED",
    "FAMILIES",
    "LATENT_CODEC",
    "MEAN_SCALE_HYPERPRIOR",
    "MEAN_SCALE_HYPERPRIOR_VBR",
    "SCALE_HYPERPRIOR",
    "SCALE_HYPERPRIOR_VBR",
    "Family",
    "register",
]

FAMILIES.update(
    {
        FactorizedPrior: FACTORIZED,
        FactorizedPriorReLU: FACTORIZED,
        ScaleHyperprior: SCALE_HYPERPRIOR,
        MeanScaleHyperprior: MEAN_SCALE_HYPERPRIOR,
        JointAutoregressiveHierarchicalPriors: AUTOREGRESSIVE,
        Cheng2020Anchor: CHENG2020,
        Cheng2020Attention: CHENG2020,
        Cheng2020AnchorCheckerboard: CHENG2020_CHECKERBOARD,
        Elic2022Official: ELIC2022,
        Elic2022Chandelier: ELIC2022,
        ScaleHyperpriorVbr: SCALE_HYPERPRIOR_VBR,
        MeanScaleHyperpriorVbr: MEAN_SCALE_HYPERPRIOR_VBR,
        JointAutoregressiveHierarchicalPriorsVbr: AUTOREGRESSIVE_VBR,
    }
)


def register(cls: type, family: Family) -> None:
    """Let models of exactly this class be refined, as ``family`` says; `conformance.check` then checks it.

    A subclass is not registered with its base: it may well decode in another way.

    Raises:
        UserError: the first is no class of CompressAI models, the second no family.
    """
    given: Any = cls
    if not isinstance(given, type):
        raise UserError(f"a class is registered, not an object of {type(given).__name__}: give type(model)")
    if not issubclass(given, CompressionModel):
        raise UserError(
            f"{given.__name__} is no compressai.models.CompressionModel: derive it from that class"
        )
    if not isinstance(family, Family):
        raise UserError(
            f"{given.__name__} is registered with a family, such as sgaplus.codecs.families.LATENT_CODEC or a"
            f" Family of its own functions, not with {family!r}"
        )
    FAMILIES[given] = family
