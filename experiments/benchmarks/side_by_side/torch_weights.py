"""segjax's weights as a PyTorch state: one rule, because the names are the same."""

import numpy as np
import torch
from torch import nn

from segjax.errors import InputError

_COLLECTIONS = ("params", "batch_stats")
_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def to_state_dict(
    network: nn.Module, weights: dict[str, np.ndarray]
) -> dict[str, torch.Tensor]:
    """The state of `network` that has segjax's `weights`.

    `params/encoder/conv1_1/conv/kernel` becomes `encoder.conv1_1.conv.weight`.
    Kernels `[kh kw c_in c_out]` become `[c_out c_in kh kw]`, depthwise ones
    `[kh kw 1 c]` with them, and those of transposed convolutions `[c_in c_out kh kw]`,
    not flipped (`segjax.ops.transposed_convolution`).

    Args:
      network: which parameters there are, and of which layers.
      weights: path -> array; paths begin with `params/` or `batch_stats/`.

    Returns:
      For `network.load_state_dict`. Counts of batches, which segjax does not keep, are
      those of `network`.

    Raises:
      InputError: weights are missing, unknown or of another shape; all are named.
    """
    state, given, problems = dict(network.state_dict()), set(), []
    needed = {name for name in state if not name.endswith("num_batches_tracked")}
    for path, array in weights.items():
        name = _name(path)
        if name not in needed:
            problems.append(f"{path} is not in the PyTorch network")
            continue
        given.add(name)
        value = np.asarray(array)
        if value.ndim == 4:
            layer = network.get_submodule(name.rpartition(".")[0])
            is_transposed = isinstance(layer, nn.ConvTranspose2d)
            value = value.transpose((2, 3, 0, 1) if is_transposed else (3, 2, 0, 1))
        if value.shape != tuple(state[name].shape):
            problems.append(
                f"{path} has shape {list(np.shape(array))}, which is "
                f"{list(value.shape)} in PyTorch, and {name} has "
                f"{list(state[name].shape)}"
            )
            continue
        # A copy: PyTorch's tensors must not share memory with the caller's arrays.
        state[name] = torch.from_numpy(np.array(value, np.float32, order="C"))
    problems += [f"{name} is not among the weights" for name in needed - given]
    if problems:
        raise InputError(f"weights do not fit: {'; '.join(sorted(problems))}")
    return state


def _name(path):
    """The PyTorch name, or None where the path is not of that form."""
    collection, *modules, leaf = path.split("/")
    if collection not in _COLLECTIONS or leaf not in _LEAVES:
        return None
    return ".".join([*modules, _LEAVES[leaf]])
