"""The exponential average of what is trained, which a run evaluates and publishes.

After t steps it is Σₛ dᵗ⁻ˢ wₛ / Σₛ dᵗ⁻ˢ over the weights wₛ after steps s = 1 … t, with the decay d. Dividing
by the sum of the shares corrects the bias of a short run towards its start (as in Adam, Kingma and Ba, arXiv
1412.6980): the average of one step is that step's weights, and the initial weights never count.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.no_grad()
def update(average: Sequence[Tensor], weights: Sequence[Tensor], step: int, decay: float) -> None:
    """Take the weights after step number ``step`` = 1, 2, … into ``average``, in place."""
    share = (1 - decay) / (1 - decay**step)
    torch._foreach_lerp_(list(average), list(weights), share)
