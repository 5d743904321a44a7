"""A 1x1 convolution to few classes, in the form that the platform stores best.

A TPU stores arrays in tiles of 128 lanes. Of logits `[b h w k]` with 11 classes the
convolution of XLA puts the classes there, so that each pass over them moves twelve times
their bytes. Scores that are computed with the classes first have columns of pixels in
the lanes. Other platforms get the convolution: the choice is made when the program is
lowered, so one traced program serves all of them. Derivatives, and what it runs in, are
as in `segjax.ops.convolution`.
"""

import chex
import jax
import jax.numpy as jnp
from jax import lax

from segjax.ops.convolution import conv_general_dilated


@jax.custom_vjp
def class_scores(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The product of every pixel's features with a matrix, in the matrix' type.

    On a TPU the gradients are products of numbers in the type of `x`, summed in that
    of `kernel`: a TPU rounds the factors of a product to bfloat16 anyway.

    Args:
      x: Floating-point maps `[b h w c]`.
      kernel: Floating-point `[c k]`, at least as wide as `x`.

    Returns:
      Scores `[b h w k]` in the type of `kernel`.
    """
    chex.assert_rank([x, kernel], [4, 2])
    chex.assert_type([x, kernel], float)
    return lax.platform_dependent(
        x, kernel, tpu=_classes_first, default=_by_convolution
    )


def _classes_first(x, kernel):
    scores = jnp.einsum("bhwc,ck->kbhw", x.astype(kernel.dtype), kernel)
    return jnp.moveaxis(scores, 0, -1)


def _by_convolution(x, kernel):
    return conv_general_dilated(
        x.astype(kernel.dtype),
        kernel[None, None],
        (1, 1),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _forward(x, kernel):
    return class_scores(x, kernel), (x, kernel)


def _backward(residuals, gradient):
    return lax.platform_dependent(
        *residuals, gradient, tpu=_narrow_gradients, default=_wide_gradients
    )


def _narrow_gradients(x, kernel, gradient):
    gradient = jnp.moveaxis(gradient, -1, 0).astype(x.dtype)
    kernel_gradient = jnp.einsum(
        "bhwc,kbhw->ck", x, gradient, preferred_element_type=kernel.dtype
    )
    # One after the other: the compiler would keep a copy of `x` for the end of the step.
    gradient, kernel_gradient = lax.optimization_barrier((gradient, kernel_gradient))
    x_gradient = jnp.einsum("kbhw,ck->bhwc", gradient, kernel.astype(x.dtype))
    return x_gradient, kernel_gradient


def _wide_gradients(x, kernel, gradient):
    return jax.vjp(_by_convolution, x, kernel)[1](gradient)


class_scores.defvjp(_forward, _backward)
