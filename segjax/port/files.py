"""Checkpoints on disk and on the Hugging Face hub, by the name that a user gives."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from segjax.errors import InputError
from segjax.port.hub import download, is_hub_name
from segjax.port.load import load
from segjax.training import processes

_TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".tar")


def is_checkpoint_file(name: Path) -> bool:
    """Whether `name` means a file of tensors, here or on a hub, and not a run."""
    return (
        is_hub_name(str(name))
        or name.is_file()
        or name.suffix in (".safetensors", *_TORCH_SUFFIXES)
    )


def load_checkpoint_file(
    name: Path, variables: dict[str, Any], *, network: str
) -> dict[str, Any]:
    """Reads `name` and converts its tensors for a network; see `segjax.port.load`.

    Args:
      name: a safetensors file, or `hub:ORG/REPO[/FILE]` as `segjax.port.hub` reads it.
        With several processes the first one downloads.
      variables: the network's.
      network: its name, for messages.

    Raises:
      InputError: the file cannot be had or read, or does not fit the network.
    """
    path = name
    if is_hub_name(str(name)):
        path = processes.first_before_others(partial(download, str(name)))
    return load(read_tensors(path), variables, network=network, file=str(name))


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Every tensor of a safetensors file by its name.

    Raises:
      InputError: there is no such file, or it is not in this format.
    """
    if path.suffix in _TORCH_SUFFIXES:
        raise InputError(
            f"{path}: expected a .safetensors file; PyTorch's own are read by "
            f"`python -m segjax convert-weights {path}`, which writes one"
        )
    # Here, because only runs that start from such a file need it.
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected .safetensors") from error
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no safetensors file: {error}") from error
