"""Compares a PyTorch network with its port, layer by layer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import traverse_util

from segjax.port.load import PORTS
from segjax.port.table import convert, fit

TOLERANCE = 1e-4


@functools.cache
def abstract_variables(model, size):
    image = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    return jax.eval_shape(
        lambda key, x: model.init(key, x, train=False), jax.random.key(0), image
    )


def state_dict(module):
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def ported(port, module, model, size):
    """The network's variables: the module's where it has the layer, else new ones."""
    tensors = state_dict(module)
    leaves = traverse_util.flatten_dict(abstract_variables(model, size), sep="/")
    found = fit(
        port,
        {name: tensor.shape for name, tensor in tensors.items()},
        {path: leaf.shape for path, leaf in leaves.items()},
    )
    assert not found.mismatches
    assert not found.other_classes
    new = {
        path: np.full(leaf.shape, path.endswith(("/scale", "/var")), np.float32)
        for path, leaf in leaves.items()
    }
    arrays = new | convert(port, found.taken, tensors)
    assert arrays.keys() == new.keys()
    return traverse_util.unflatten_dict(arrays, sep="/")


def normalised_image(size, seed=0):
    """`[1 h w 3]`: RGB of 0..1, normalised as segjax does; written out again here."""
    pixels = np.random.default_rng(seed).random((1, *size, 3), np.float32)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    return pixels, ((pixels - mean) / std).astype(np.float32)


def to_torch(maps):
    return torch.from_numpy(np.ascontiguousarray(maps.transpose(0, 3, 1, 2)))


def maps_of_torch(module, run, image):
    """Output of `run`, and of every layer by its name, as `[b h w c]`."""
    maps = {}

    def keep(name):
        def hook(_, __, output):
            maps[name] = output.detach().numpy()

        return hook

    hooks = [m.register_forward_hook(keep(n)) for n, m in module.named_modules() if n]
    with torch.no_grad():
        output = run(to_torch(image)).numpy()
    for hook in hooks:
        hook.remove()
    # Dense layers at every window: [b positions c], already channels last.
    maps = {n: m.transpose(0, 2, 3, 1) if m.ndim == 4 else m for n, m in maps.items()}
    return output.transpose(0, 2, 3, 1) if output.ndim == 4 else output, maps


@functools.cache
def _program(model):
    return jax.jit(
        functools.partial(
            model.apply, train=False, capture_intermediates=True, mutable=True
        )
    )


def maps_of_segjax(model, variables, image):
    """Logits, and the output of every module by its path."""
    output, state = _program(model)(variables, image)
    maps = traverse_util.flatten_dict(state["intermediates"], sep="/")
    return np.asarray(output["logits"]), {
        path.removesuffix("/__call__"): value[0] for path, value in maps.items()
    }


def assert_layers_agree(port, theirs, ours):
    """Fails with the first layer, in the table's order, whose maps differ."""
    compared = 0
    for row in port.rows:
        if not row.source.endswith(".weight"):
            continue
        name = row.source.removesuffix(".weight")
        path = row.target.removeprefix("params/").rpartition("/")[0]
        if name not in theirs:
            continue
        expected, got = theirs[name], np.asarray(ours[path])
        if expected.ndim == 3:
            expected = expected.reshape(got.shape)
        compared += 1
        error = np.abs(got[..., -expected.shape[-1] :] - expected).max()
        assert np.abs(expected).max() < 100, f"{name}: too large to compare"
        assert error <= TOLERANCE, (
            f"first layer that differs: {name} of {port.name}, here {path}: by {error}"
        )
    return compared


def port_of(module, model, size):
    """The table that takes all of the module's tensors, and whose layers are here."""
    targets = traverse_util.flatten_dict(abstract_variables(model, size), sep="/")
    names = module.state_dict().keys()

    def takes_all(port):
        sources = {row.source for row in port.rows}
        return sources <= names and all(map(port.is_unused, names - sources))

    return next(p for p in PORTS if takes_all(p) and p.targets <= targets.keys())
