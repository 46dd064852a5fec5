"""A second device, made of memory of the CPU: what mixes tensors of two devices fails on it as on a GPU.

PyTorch's place for devices of others (PrivateUse1) is taken by tensors that keep their values in one of the
CPU. Every operation is computed there; a tensor of the CPU among its arguments is refused, unless it is a
number. Results are those of the CPU to the last digit.
"""

import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode

NAME = "elsewhere"
DEVICE = torch.device("privateuseone", 0)
_CPU = torch.device("cpu")
_copy = torch.ops.aten.copy_.default
_number = torch.ops.aten._local_scalar_dense.default


class Elsewhere(torch.Tensor):
    """A tensor of the second device."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner):
        layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        made = torch.Tensor._make_wrapper_subclass(cls, inner.size(), device=DEVICE, **layout)
        made.inner = inner
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl
    # PyTorch would exchange what is around the values.
    data = property(lambda self: self.detach(), lambda self, value: setattr(self, "inner", value.inner))

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _computed(function, args, kwargs or {})

    def tolist(self):
        return self.cpu().tolist()

    def new_tensor(self, values):
        return tensor(values, dtype=self.dtype, device=self.device)


class Mode(TorchDispatchMode):
    """The second device is there."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return _computed(function, args, kwargs or {})


def _mapped(function, value):
    """``value`` with ``function`` of each of its tensors."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, tuple | list):
        return type(value)([_mapped(function, one) for one in value])
    return value


def _computed(function, args, kwargs):
    there, here = [], []

    def inner(value):
        (there if isinstance(value, Elsewhere) else here).append(value)
        return value.inner if isinstance(value, Elsewhere) else value

    inputs = _mapped(inner, args), {name: _mapped(inner, value) for name, value in kwargs.items()}
    if there and function is not _copy and any(value.ndim for value in here):
        raise RuntimeError(f"{function}: tensors on two devices")
    device = kwargs.get("device")
    if device is not None:
        inputs[1]["device"] = _CPU
    found = function(*inputs[0], **inputs[1])
    if function is _number:
        return found
    if function._schema.is_mutable and isinstance(args[0], torch.Tensor) and found is inner(args[0]):
        return args[0]
    if there if device is None else device.type == DEVICE.type:
        return _mapped(Elsewhere, found)
    return found


# What PyTorch makes without a look at the mode.
_generator, _tensor = torch.Generator, torch.tensor


def generator(device="cpu"):
    """`torch.Generator`; that of the second device draws as the CPU's does."""
    return _generator() if torch.device(device).type == DEVICE.type else _generator(device)


def tensor(values, *, dtype=None, device="cpu"):
    """`torch.tensor`."""
    return _tensor(values, dtype=dtype).to(device)


def present() -> torch.device:
    """Tell PyTorch of the device, once in a process."""
    global DEVICE
    if DEVICE.type != NAME:
        backend_registration._setup_privateuseone_for_python_backend(NAME)
        DEVICE = torch.device(NAME, 0)
    return DEVICE
