"""Floating-point operations, counted in the traced program."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import partial_eval


def count_flops(function: Callable[..., Any], *args: Any) -> int:
    """Operations in the convolutions and matrix products that `function` needs.

    A multiplication and an addition are two operations. Counted are

    - convolutions: `2 * h * w * kh * kw * c_in * c_out / groups` per image, with
      `h` and `w` of the output. As everywhere in the literature, products with the
      padding count;
    - transposed convolutions: the same with `h` and `w` of the input, which is every
      product of a pixel and a weight once: inserted zeros do not count, products whose
      sums are cropped do;
    - matrix products `m x k` by `k x n`: `2 * m * k * n`. Bilinear resizing is two
      of them here, and counts as such.

    Element-wise arithmetic (biases, batch normalisation, activations), pooling and
    unpooling are not counted. Where a computation has a form of its own for some
    platforms (`jax.lax.platform_dependent`), the default form counts, so the number is
    the same everywhere. A loop counts as often as it runs; of the branches of a
    condition the most expensive one counts.

    Args:
      function: of `args`, traceable. What its outputs do not need is not counted.
      *args: arrays or `jax.ShapeDtypeStruct`; nothing is allocated or run.

    Raises:
      ValueError: a convolution or matrix product is in a loop of unknown length.
    """
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    needed, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return _jaxpr_flops(needed)


def _jaxpr_flops(jaxpr):
    return sum(map(_equation_flops, jaxpr.eqns))


def _equation_flops(equation):
    primitive, params = equation.primitive.name, equation.params
    if primitive == "conv_general_dilated":
        return _convolution_flops(equation)
    if primitive == "dot_general":
        return _product_flops(equation)
    parts = [_jaxpr_flops(part) for part in _inner_jaxprs(params)]
    if primitive == "scan":
        return params["length"] * sum(parts)
    if primitive == "while" and any(parts):
        raise ValueError("cannot count the operations of a loop of unknown length")
    if primitive == "cond":
        platforms = params.get("branches_platforms") or ()
        return parts[platforms.index(None)] if None in platforms else max(parts)
    return sum(parts)


def _convolution_flops(equation):
    (lhs, rhs), (out,) = (
        [variable.aval for variable in variables]
        for variables in (equation.invars, equation.outvars)
    )
    if not jnp.issubdtype(out.dtype, jnp.floating):
        return 0
    layout = equation.params["dimension_numbers"]
    products = out.shape[layout.out_spec[0]]
    # The kernel's input channels are those of one group.
    products *= math.prod(rhs.shape[i] for i in layout.rhs_spec[:2])
    for i, dilation in enumerate(equation.params["lhs_dilation"], start=2):
        spread = dilation > 1
        positions = (
            lhs.shape[layout.lhs_spec[i]] if spread else (out.shape[layout.out_spec[i]])
        )
        products *= positions * rhs.shape[layout.rhs_spec[i]]
    return 2 * products


def _product_flops(equation):
    lhs, out = equation.invars[0].aval, equation.outvars[0].aval
    if not jnp.issubdtype(out.dtype, jnp.floating):
        return 0
    (contracted, _), _ = equation.params["dimension_numbers"]
    return 2 * out.size * math.prod(lhs.shape[i] for i in contracted)


def _inner_jaxprs(params):
    """Programs inside of an equation: the body of a loop, a branch, a function."""
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            item = getattr(item, "jaxpr", item)  # a closed one
            if hasattr(item, "eqns"):
                yield item
