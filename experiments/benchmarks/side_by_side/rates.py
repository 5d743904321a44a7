"""What this machine does at best: a large matrix product and a large copy."""

import platform
import time
from collections.abc import Callable
from pathlib import Path

_SIDE = {"cpu": 2048, "cuda": 8192}
# A CPU without matrix units for them multiplies narrow types a hundred times slower.
_NARROW_SIDE = {"cpu": 512, "cuda": 8192}
_ELEMENTS = {"cpu": 1 << 26, "cuda": 1 << 28}
_REPEATS = 7


def device_name() -> str:
    """What JAX computes on; of a CPU the maker's name for it."""
    import jax

    if jax.default_backend() != "cpu":
        return jax.devices()[0].device_kind
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def measured_rates(library: str, dtype: str) -> dict[str, float]:
    """Operations and bytes per second of `library`, the best of seven.

    Args:
      library: "jax" or "torch".
      dtype: of the matrices; the copy is of float32.

    Returns:
      `flops`, two for each multiplication and addition, and `bandwidth`, each byte
      counted as it is read and as it is written.
    """
    product, copy, side, elements = {"jax": _jax, "torch": _torch}[library](dtype)
    return {
        "flops": 2 * side**3 / _least(product),
        "bandwidth": 8 * elements / _least(copy),
    }


def _jax(dtype):
    import jax
    import jax.numpy as jnp

    platform = "cpu" if jax.default_backend() == "cpu" else "cuda"
    side, elements = _side(platform, dtype), _ELEMENTS[platform]
    matrix = jnp.ones((side, side), dtype)
    vector = jnp.ones(elements, jnp.float32)
    product = jax.jit(lambda x: x @ x)
    add = jax.jit(lambda x: x + 1)
    return (
        lambda: product(matrix).block_until_ready(),
        lambda: add(vector).block_until_ready(),
        side,
        elements,
    )


def _torch(dtype):
    import torch

    platform = "cuda" if torch.cuda.is_available() else "cpu"
    side, elements = _side(platform, dtype), _ELEMENTS[platform]
    wait = torch.cuda.synchronize if platform == "cuda" else lambda: None
    matrix = torch.ones((side, side), dtype=getattr(torch, dtype), device=platform)
    vector = torch.ones(elements, device=platform)
    product, total = torch.empty_like(matrix), torch.empty_like(vector)
    return (
        lambda: (torch.mm(matrix, matrix, out=product), wait()),
        lambda: (torch.add(vector, 1, out=total), wait()),
        side,
        elements,
    )


def _side(platform, dtype):
    return (_SIDE if dtype == "float32" else _NARROW_SIDE)[platform]


def _least(function: Callable[[], object]) -> float:
    function()
    seconds = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
