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

from compressai import models

from ...errors import UserError
from ..models import FAMILIES, Family
from .context import AUTOREGRESSIVE, CHENG2020
from .factorized import FACTORIZED
from .hyperprior import MEAN_SCALE_HYPERPRIOR, SCALE_HYPERPRIOR
from .latent_codecs import CHENG2020_CHECKERBOARD, ELIC2022
from .latent_codecs import LATENT_CODEC as LATENT_CODEC  # for models of one's own
from .vbr import AUTOREGRESSIVE_VBR, MEAN_SCALE_HYPERPRIOR_VBR, SCALE_HYPERPRIOR_VBR

FAMILIES.update(
    {
        models.FactorizedPrior: FACTORIZED,
        models.FactorizedPriorReLU: FACTORIZED,
        models.ScaleHyperprior: SCALE_HYPERPRIOR,
        models.MeanScaleHyperprior: MEAN_SCALE_HYPERPRIOR,
        models.JointAutoregressiveHierarchicalPriors: AUTOREGRESSIVE,
        models.Cheng2020Anchor: CHENG2020,
        models.Cheng2020Attention: CHENG2020,
        models.Cheng2020AnchorCheckerboard: CHENG2020_CHECKERBOARD,
        models.Elic2022Official: ELIC2022,
        models.Elic2022Chandelier: ELIC2022,
        models.ScaleHyperpriorVbr: SCALE_HYPERPRIOR_VBR,
        models.MeanScaleHyperpriorVbr: MEAN_SCALE_HYPERPRIOR_VBR,
        models.JointAutoregressiveHierarchicalPriorsVbr: AUTOREGRESSIVE_VBR,
    }
)


def register(cls: type, family: Family) -> None:
    """Let models of exactly this class be refined, as ``family`` says; `conformance.check` then checks it.

    A subclass is not registered with its base: it may well decode in another way.

    Raises:
        UserError: the first is no class of CompressAI models, the second no family.
    """
    if not (isinstance(cls, type) and issubclass(cls, models.CompressionModel)):
        name = getattr(cls, "__name__", type(cls).__name__)
        raise UserError(f"{name} is not registered: give a subclass of CompressionModel, such as type(model)")
    if not isinstance(family, Family):
        raise UserError(
            f"{cls.__name__} is registered with a family, such as sgaplus.codecs.families.LATENT_CODEC or a"
            f" Family of its own functions, not with {family!r}"
        )
    FAMILIES[cls] = family
