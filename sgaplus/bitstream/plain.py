"""What an unmodified CompressAI makes of the strings of a codec without a context model and of one rate.

- With its networks in float64 and the tables from here (`compressai_weights`, then ``model.double()``),
  ``model.decompress`` returns the same latents, up to the last digits of float64.
- With tables of its own (``model.update()``, in float32) it does so only if they are the same. Where float32
  rounds a frequency to another integer they are not, as for several of the bundled codecs.
- In float32 it does so only where no index differs, and one is enough to lose the rest of the image.
  CompressAI's own float32 strings share the problem as soon as two machines are involved.
"""

import torch
from torch import Tensor, nn

from ..codecs.codec import Codec
from ..errors import UserError
from .coder import coder_of
from .rans import gaussian


def compressai_weights(codec: Codec) -> dict[str, Tensor]:
    """The state dict with which CompressAI's own model decodes the strings, the tables of `coder_of` in it.

        model = MeanScaleHyperprior(N, M)
        model.load_state_dict(compressai_weights(codec))
        model.double().decompress([[y], [z]], shape)

    Raises:
        UserError: CompressAI cannot decode this codec's files.
    """
    coder = codec.once(coder_of)
    if not coder.plain:
        raise UserError(f"CompressAI cannot decode {codec.name}: it has a context model or several rates")
    weights = {name: value.detach().cpu().clone() for name, value in codec.model.state_dict().items()}
    stored = {"entropy_bottleneck": coder.tables}
    if coder.decoding is not None:
        scales, stored["gaussian_conditional"] = gaussian()
        weights["gaussian_conditional.scale_table"] = scales.float()
    for module, tables in stored.items():
        rows = [torch.tensor(cdf, dtype=torch.int32) for cdf in tables.cdfs]
        weights[f"{module}._quantized_cdf"] = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        weights[f"{module}._cdf_length"] = torch.tensor([len(row) for row in rows], dtype=torch.int32)
        weights[f"{module}._offset"] = torch.tensor(tables.offsets, dtype=torch.int32)
    return weights
