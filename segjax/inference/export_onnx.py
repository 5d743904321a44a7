"""ONNX of a traced function, by jax2onnx.

`jax2onnx` translates JAX's operations one by one and does not know those that leave a
choice open until the platform is known (`jax.lax.platform_dependent`, in the
convolutions of `segjax.ops`) or that carry derivatives of their own. `plain` takes the
traced function apart and leaves of the former what every platform can do, and of the
latter the function itself; pooling with switches and unpooling then are comparisons,
selections and shifts of bytes, which ONNX has.

jax2onnx 0.17.1 does not translate padding for an open number of images, which nearly all
networks here have, so the shape is fixed.
"""

import logging
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from segjax.errors import InputError
from segjax.inference.exported import ONNX_ABOUT, need

# Values: constants up to this size are computed now, and not by the model.
_SMALL = 1000


def to_onnx(
    function: Callable[[jax.Array], jax.Array],
    shape: tuple[int, int, int, int],
    *,
    about: str,
) -> bytes:
    """Translates a function of images to an ONNX model.

    Args:
      function: `uint8 [b h w 3] -> float32 [b h w k]`.
      shape: of the images, `(b, h, w, 3)`.
      about: text for the model's metadata, under the key `segjax`.

    Returns:
      The model, with the input `images` and the output `probabilities`.

    Raises:
      InputError: jax2onnx is missing, or cannot translate the function.
    """
    jax2onnx, onnx = need("jax2onnx"), need("onnx")
    images = jax.ShapeDtypeStruct(shape, jnp.uint8)
    # Traced before jax2onnx replaces functions of JAX by its own: a jitted function
    # would keep the replacements.
    translatable = plain(function, images)
    # The translator computes in JAX itself, with the defaults in mind.
    strictness = (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    )
    # They tell of plugins for libraries that are not here, and of types left open.
    loggers = [logging.getLogger(name) for name in ("jax2onnx", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with strictness[0], strictness[1]:
            model = jax2onnx.to_onnx(
                translatable,
                [images],
                model_name="segjax",
                input_names=["images"],
                output_names=["probabilities"],
            )
    # A plugin for every operation, each with its own way to give up.
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"jax2onnx cannot translate this network for images {list(shape)}: {reason}"
        ) from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
    onnx.helper.set_model_props(model, {ONNX_ABOUT: about})
    return model.SerializeToString()


def plain(
    function: Callable[[jax.Array], jax.Array], images: jax.ShapeDtypeStruct
) -> Callable[[jax.Array], jax.Array]:
    """Says `function` by operations that every platform has, without derivatives.

    It is traced here and now, for images of this shape and type.
    """
    traced = jax.make_jaxpr(function)(images)

    def inlined(images):
        (result,) = _evaluate(traced.jaxpr, traced.consts, [images])
        return result

    return inlined


def _evaluate(jaxpr: Any, consts: Any, args: Any) -> list[Any]:
    """Runs a jaxpr equation by equation; inlines calls and the choice of a platform.

    The number of the platform stays a NumPy scalar, and so it is known which branch
    is taken, while everything that depends on `args` is a JAX array.
    """
    values = {}

    def read(atom):
        if isinstance(atom, core.Literal):
            return np.asarray(atom.val, atom.aval.dtype)
        return values[atom]

    values.update(zip(jaxpr.constvars, consts, strict=True))
    values.update(zip(jaxpr.invars, args, strict=True))
    for equation in jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        params = equation.params
        match equation.primitive.name:
            case "platform_index":
                outputs = [np.int32(params["platforms"].index(None))]
            case "cond" if isinstance(inputs[0], np.generic):
                branch = params["branches"][int(inputs[0])]
                outputs = _evaluate(branch.jaxpr, branch.consts, inputs[1:])
            case "jit" | "pjit":
                inner = params["jaxpr"]
                outputs = _evaluate(inner.jaxpr, inner.consts, inputs)
            # What the backward pass keeps does not matter here.
            case "name":
                outputs = inputs
            case "remat2":
                outputs = _evaluate(params["jaxpr"], (), inputs)
            case "custom_vjp_call" | "custom_jvp_call":
                inner = params["call_jaxpr"]
                outputs = _evaluate(inner.jaxpr, inner.consts, inputs)
            case _:
                outputs = _apply(equation, inputs)
        values.update(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _apply(equation: Any, inputs: list[Any]) -> list[Any]:
    """One operation, done at once where that makes the constants no larger."""
    primitive, params = equation.primitive, equation.params
    is_known = not any(isinstance(x, jax.core.Tracer) for x in inputs)
    size = sum(out.aval.size for out in equation.outvars)
    if is_known and size <= max(_SMALL, *(np.size(x) for x in inputs), 0):
        with jax.ensure_compile_time_eval():
            outputs = primitive.bind(*inputs, **params)
    else:
        outputs = primitive.bind(*inputs, **params)
    return outputs if primitive.multiple_results else [outputs]
