"""PyTorch's checkpoint files to safetensors, by PyTorch itself."""

import dataclasses
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segjax.errors import InputError
from segjax.whole_file import whole_file

# Training scripts put the tensors under one of these.
_CONTAINERS = ("state_dict", "model_state_dict", "model_state", "model", "net")
# `DataParallel` and `torch.compile` put these before every name.
_WRAPPERS = ("module.", "_orig_mod.")


@dataclasses.dataclass(frozen=True)
class Converted:
    """What a conversion did.

    Attributes:
      tensors: name -> shape of what was written.
      left_out: what else lay in the file, and is not written.
    """

    tensors: dict[str, tuple[int, ...]]
    left_out: tuple[str, ...]


def convert_torch_file(file: Path, output: Path) -> Converted:
    """Writes the tensors of a `torch.save`d state dict as a safetensors file.

    Only PyTorch's `weights_only` loader reads the file: what it holds beyond tensors and
    plain values is refused and never run. Tensors under `state_dict` or `model` are found,
    and names lose the `module.` of `DataParallel`. Types stay.

    Args:
      file: as `torch.save` wrote it: a state dict, or a dict with one in it.
      output: where it is written, whole or not at all.

    Raises:
      InputError: PyTorch or safetensors is not installed; the file is missing, of another
        format or holds objects; or it has no tensors.
    """
    try:
        import torch
        from safetensors.torch import save_file
    except ModuleNotFoundError as error:
        raise InputError(
            f"convert-weights needs {error.name}: pip install torch safetensors"
        ) from error
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{file}: no such file") from error
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{file} is refused by PyTorch's weights_only loader: it is no PyTorch file, "
            "or holds objects beside tensors, which could run code; expected a state dict"
        ) from error
    # Of a file that is no pickle its reader raises whatever it stumbles over.
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{file} cannot be read by PyTorch: {reason}") from error
    found, left_out = _tensors(loaded, torch.Tensor)
    if not found:
        raise InputError(f"{file} holds no tensors: expected a state dict")
    # Copied, as several names may share memory, which the format does not allow.
    tensors = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in _unwrapped(found).items()
    }
    with whole_file(output) as scratch:
        save_file(tensors, scratch)
    return Converted(
        {name: tuple(tensor.shape) for name, tensor in tensors.items()}, left_out
    )


def _tensors(loaded: Any, tensor: type) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The state dict in what was loaded, and the names of what is beside it."""
    if not isinstance(loaded, Mapping):
        return {}, ()
    for container in _CONTAINERS:
        inner = loaded.get(container)
        if isinstance(inner, Mapping) and any(
            isinstance(value, tensor) for value in inner.values()
        ):
            found, left_out = _tensors(inner, tensor)
            beside = tuple(str(name) for name in loaded if name != container)
            return found, (*beside, *left_out)
    found = {
        name: value
        for name, value in loaded.items()
        if isinstance(name, str) and isinstance(value, tensor)
    }
    return found, tuple(str(name) for name in loaded if name not in found)


def _unwrapped(tensors: dict[str, Any]) -> dict[str, Any]:
    """Without a wrapper's prefix, if every name has it."""
    for prefix in _WRAPPERS:
        if all(name.startswith(prefix) for name in tensors):
            return _unwrapped({n.removeprefix(prefix): t for n, t in tensors.items()})
    return tensors
