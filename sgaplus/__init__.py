"""Robustly overfitting latents for flexible neural image compression (SGA+), reproduced and carried on.

codec = sgaplus.load_codec("mshyper-s", lmbda=0.01)
image = sgaplus.read_image("photo.png")
run = sgaplus.refine(codec, [image], sgaplus.rounding.SSL(a=2.3), iterations=500)
run.rows
data = sgaplus.encode(codec, run.latents[0], image.shape[1:])  # the bytes of a file
sgaplus.decode(data)  # the photograph
"""

import warnings

import lazy_loader

__version__ = "0.1.0"
# torch_geometric, which CompressAI imports, uses what torch has deprecated.
for _message in ("`torch.jit.script` is deprecated", ".*torch_geometric"):
    warnings.filterwarnings("ignore", _message)
# What `__init__.pyi` imports, each when it is first used: PyTorch and CompressAI take seconds to import, and
# `sgaplus --help` needs neither.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
