"""Checkpoints: files that hold the weights of one of CompressAI's models, however they were saved."""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from compressai.entropy_models import GaussianConditional
from compressai.layers import MaskedConv2d
from compressai.models import Cheng2020Anchor, CompressionModel
from compressai.models.utils import remap_old_keys
from compressai.registry import MODELS
from compressai.zoo.pretrained import load_pretrained
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from .. import io
from ..errors import UserError, first_line
from .families import FAMILIES

# CompressAI's names of the architectures that can be refined.
REFINABLE = tuple(name for name, cls in MODELS.items() if cls in FAMILIES)

# Keys under which training scripts save a state dict; where several do, the first of these is taken.
_USUAL_KEYS = ("state_dict", "model_state_dict", "model", "net", "network")
# Wrappers of modules, as DataParallel and torch.compile put them into the names.
_WRAPPERS = re.compile(r"(?<![^.])(module|_orig_mod)\.")
# Buffers that follow from the parameters and are computed again.
_TABLES = ("_offset", "_quantized_cdf", "_cdf_length")
# Further buffers on which neither latents nor files depend; the scales' last digits depend on the processor.
_UNUSED = ("target", "scale_table")
_RESAVE = (
    "if you trust the file, save its weights alone, with "
    'torch.save(torch.load(FILE, weights_only=False)["state_dict"], "weights.pth") or '
    'torch.save(model.state_dict(), "weights.pth")'
)


class _Unknown(dict):
    """Stands for an object of a class that is not loaded: its class is not imported, its code not run."""

    def __new__(cls, *_: Any, **__: Any) -> _Unknown:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, _: Any) -> None:
        pass


def read(path: Path) -> dict[str, Tensor]:
    """The state dict in a checkpoint, with the names that CompressAI's models have today.

    Safetensors, or what `torch.save` wrote: bare, or beside other things such as the arguments of a training
    script, of which none is executed. Wrappers' prefixes are stripped.

    Raises:
        UserError: there is no such file, it is no checkpoint, or holds not exactly one state dict.
        SystemFault: it cannot be read.
    """
    weights = read_safetensors(path) if path.suffix == ".safetensors" else _state_dict(path, _unpickle(path))
    return _renamed(_unwrapped(weights))


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file.

    Raises:
        UserError: there is no such file, or it is not one.
        SystemFault: it cannot be read.
    """
    _check_content(path)
    try:
        return load_file(path)
    except OSError as error:
        raise io.unreadable(path, error) from error
    except SafetensorError as error:
        raise UserError(f"{path} is not a safetensors file ({error})") from error


def _check_content(path: Path) -> None:
    try:
        other = io.what_it_is(path)
    except OSError as error:
        raise io.unreadable(path, error) from error
    if other:
        raise UserError(f"{path} is {other}")


@contextlib.contextmanager
def _nothing_allowed() -> Iterator[None]:
    """Take back, for a while, what other libraries allowed `torch.load` to make for the whole process."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def _stand_in(name: str) -> tuple[Callable, str]:
    """What stands for objects of the class ``name``: the unpickler fills plain dictionaries alone."""
    return (lambda *_: {}) if name == "collections.defaultdict" else _Unknown, name


def _unpickle(path: Path) -> Any:
    """What `torch.save` wrote; nothing but tensors and plain containers is made, the rest is `_Unknown`."""
    _check_content(path)
    with _nothing_allowed():
        try:
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        except Exception:  # before the format of zip files, and whatever is no checkpoint: said below
            names = ["argparse.Namespace"]
        torch.serialization.add_safe_globals([_stand_in(name) for name in names])
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except OSError as error:
            raise io.unreadable(path, error) from error
        except MemoryError:
            raise
        except Exception as error:  # unpickling raises anything
            raise UserError(f"{path} {_why_not(error, names)}") from error


def _why_not(error: Exception, names: Sequence[str]) -> str:
    """Why a checkpoint could not be loaded, and what to do."""
    unsafe = re.findall(r"GLOBAL (\S+)", str(error)) or list(names)
    if isinstance(error, pickle.UnpicklingError) and unsafe:
        return (
            f"holds objects that are not loaded, since they could run code ({', '.join(unsafe)}): {_RESAVE}"
        )
    return f"is not a PyTorch checkpoint, or not a whole one ({first_line(error)}): give another file"


def _state_dict(path: Path, content: Any) -> Mapping[str, Tensor]:
    """The only state dict in ``content``, or the one under the most usual key."""
    if isinstance(content, _Unknown) and not content:
        raise UserError(f"{path} holds a whole object and not its weights alone: {_RESAVE}")
    found = dict(_state_dicts(content))
    for key in ("", *_USUAL_KEYS):
        if key in found:
            return found[key]
    if len(found) == 1:
        return next(iter(found.values()))
    keys = [str(key) for key in content][:10] if isinstance(content, dict) else []
    if found:
        raise UserError(f"{path} holds several state dicts ({', '.join(found)}): save one of them alone")
    holds = f"it has the keys {', '.join(keys)}" if keys else f"it is a {type(content).__name__}"
    raise UserError(
        f"{path} holds no state dict of a model ({holds}): save the model's weights with "
        'torch.save(model.state_dict(), "weights.pth")'
    )


def _state_dicts(content: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """Every mapping within ``content`` that holds a module's weights by their dotted names, by its key."""
    if not isinstance(content, Mapping) or depth > 3:
        return
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if any("." in str(name) and value.ndim == 4 for name, value in tensors.items()):
        yield key, {str(name): value for name, value in tensors.items()}
        return
    for name, value in content.items():
        yield from _state_dicts(value, f"{key}.{name}" if key else str(name), depth + 1)


def _unwrapped(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``weights`` without the prefixes of wrappers and without one that all names share."""
    result = {_WRAPPERS.sub("", name): value for name, value in weights.items()}
    while True:
        first = {name.partition(".")[0] for name in result}
        if len(first) != 1 or not all("." in name for name in result):
            return result
        result = {name.partition(".")[2]: value for name, value in result.items()}


def _renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """``weights`` without the names of two older generations of CompressAI, the zoo's among them."""
    weights = load_pretrained(weights)
    bottlenecks = {
        name.partition("entropy_bottleneck.")[0] for name in weights if "entropy_bottleneck." in name
    }
    if any(name.startswith("gayn2zqstep.") for name in weights):
        bottlenecks = set()  # that of a variable rate still has them
    for prefix in bottlenecks:
        weights = remap_old_keys(f"{prefix}entropy_bottleneck", weights)
    return weights


def build(architecture: str, N: int, M: int) -> CompressionModel:
    """An untrained model by CompressAI's name; the models of Cheng et al. 2020 have M = N.

    The global random number generator stays as it is.
    """
    cls = MODELS[architecture]
    with torch.random.fork_rng(devices=[]):
        return cls(N) if issubclass(cls, Cheng2020Anchor) else cls(N, M)


def untrained(cls: type, weights: Mapping[str, Tensor]) -> CompressionModel:
    """A model of a class of `FAMILIES`, as wide as ``weights``; otherwise as `build`."""
    with torch.random.fork_rng(devices=[]):
        return FAMILIES[cls].build(cls, weights)


def recognise(weights: Mapping[str, Tensor]) -> CompressionModel:
    """An untrained model whose parameters have the names and shapes of ``weights``."""
    shapes = {name: value.shape for name, value in weights.items()}
    for cls in FAMILIES:
        try:
            model = untrained(cls, weights)
        except Exception:  # what a constructor raises of widths that are another class's
            continue
        if all(shapes.get(name) == value.shape for name, value in model.named_parameters()) and (
            shapes.keys() <= model.state_dict().keys()
        ):
            return model
    raise UserError(
        f"the weights are those of none of CompressAI's models {', '.join(REFINABLE)}: use a codec that"
        " `sgaplus codecs` lists, or register your model's class with sgaplus.codecs.register(cls, family),"
        " as sgaplus.codecs.families describes"
    )


def load_parameters(model: CompressionModel, weights: Mapping[str, Tensor]) -> None:
    """Copy parameters, and buffers where ``weights`` has them, into ``model``; recompute its coding tables.

    Raises:
        UserError: a parameter is missing, has another shape or is not finite, there are further ones, or a
            buffer is one with which the model cannot be refined.
    """
    wrong = [
        name
        for name, value in model.named_parameters()
        if name not in weights or weights[name].shape != value.shape
    ]
    wrong += sorted(weights.keys() - model.state_dict().keys())
    if wrong:
        raise UserError(
            f"the weights are of another architecture than {type(model).__name__} with these widths "
            f"({len(wrong)} tensors differ, {wrong[0]} among them)"
        )
    broken = [name for name, value in weights.items() if not value.isfinite().all()]
    if broken:
        raise UserError(f"the weights hold values that are not finite ({broken[0]}): take others")
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(weights[name])
        for name, value in model.named_buffers():
            if name in weights and name.rpartition(".")[2] not in _TABLES:
                _load_buffer(name, value, weights[name])
        for module in model.modules():
            if isinstance(module, MaskedConv2d):
                module.weight.mul_(module.mask).add_(0.0)  # as each of its passes does; −0 becomes 0
    model.update(force=True)
    for name, module in model.named_modules():
        table = weights.get(f"{name}.scale_table")
        if isinstance(module, GaussianConditional) and table is not None and table.numel():
            _load_scales(name, module, table)


def _load_buffer(name: str, own: Tensor, given: Tensor) -> None:
    """Take a buffer, unless a model with ``given`` in place of its ``own`` cannot be refined."""
    last = name.rpartition(".")[2]
    if last == "scale_table":
        return
    if given.shape != own.shape:
        raise UserError(f"{name} has shape {tuple(given.shape)}, not {tuple(own.shape)}")
    if torch.equal(given, own.to(given.dtype)):
        return  # also where the file's number format cannot hold all digits, such as half precision
    if last == "mask":
        rows, columns = torch.meshgrid(*(torch.arange(side) for side in own.shape[-2:]), indexing="ij")
        unseen = rows * own.shape[-1] + columns >= own[0, 0].numel() // 2
        if own[..., unseen].any():  # a checkerboard's
            unseen = (rows + columns) % 2 == (own.shape[-2] // 2 + own.shape[-1] // 2) % 2
        if not ((given == 0) | (given == 1)).all() or given[..., unseen].any():
            raise UserError(
                f"{name} looks at latents that are not decoded before, as a checkerboard's does in an"
                " autoregressive model: such a context model cannot be refined"
            )
    if last == "bound" and not (given > 0).all():
        raise UserError(f"{name} must be positive, not {given.min():g}")
    own.copy_(given)


def _load_scales(name: str, conditional: GaussianConditional, table: Tensor) -> None:
    own = conditional.scale_table
    if torch.equal(table, own.to(table.dtype)):
        return
    if table.ndim != 1 or not (table > 0).all() or not (table.diff() > 0).all():
        raise UserError(f"{name}.scale_table is not a rising table of positive scales")
    conditional.update_scale_table(table.float().tolist(), force=True)


def content_hash(model: CompressionModel) -> str:
    """SHA-256 of a model's class, parameters and buffers; the same however and where they were saved.

    Coding tables are left out, since they follow from the rest.
    """
    digest = hashlib.sha256(type(model).__name__.encode())
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, value in sorted(tensors.items()):
        if name.rpartition(".")[2] not in (*_TABLES, *_UNUSED):
            values = value.detach().cpu().float().contiguous()
            digest.update(f"{name} {tuple(values.shape)}".encode())
            digest.update(values.numpy().astype("<f4").tobytes())
    return digest.hexdigest()
