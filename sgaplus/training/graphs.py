"""A training step's gradients as one CUDA graph.

The networks are small, so that a large GPU waits for a CPU that launches a step's kernels one by one.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class Graph:
    """Kernels that are recorded once and run again with other inputs of the same shapes.

    Args:
        compute: called with the inputs and a generator on their device; it computes gradients.
        inputs: of the first call.
        parameters: that get the gradients. Each call replaces those of the call before.
    """

    def __init__(
        self, compute: Callable[..., Tensor], inputs: Sequence[Tensor], parameters: Sequence[Tensor]
    ):
        self._inputs = [value.clone() for value in inputs]
        self._noise = torch.Generator(inputs[0].device)
        # The first runs choose convolutions and allocate what libraries keep, which must not be recorded.
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                compute(*self._inputs, self._noise)
        torch.cuda.current_stream().wait_stream(side)
        for value in parameters:
            value.grad = None
        self._graph = torch.cuda.CUDAGraph()
        self._graph.register_generator_state(self._noise)
        with torch.cuda.graph(self._graph):
            self._result = compute(*self._inputs, self._noise)

    def __call__(self, inputs: Sequence[Tensor], seed: int) -> Tensor:
        """What ``compute`` returns, valid until the next call; ``seed`` is that of the random numbers."""
        for mine, given in zip(self._inputs, inputs, strict=True):
            mine.copy_(given)
        self._noise.manual_seed(seed)
        self._graph.replay()
        return self._result
