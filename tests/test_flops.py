"""Counted operations against numbers worked by hand and against XLA's own count."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from segjax import flops
from segjax.ops.transposed_convolution import conv_transpose


def spec(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


def conv(x, kernel, strides=(1, 1), padding="SAME", **options):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=numbers, **options
    )


@pytest.mark.parametrize(
    ("function", "shapes", "products"),
    [
        (conv, [(2, 6, 8, 3), (3, 5, 3, 4)], 2 * 6 * 8 * 3 * 5 * 3 * 4),
        (
            partial(conv, padding="VALID"),
            [(1, 6, 8, 3), (3, 5, 3, 4)],
            4 * 4 * 3 * 5 * 3 * 4,
        ),
        (
            partial(conv, strides=(2, 1)),
            [(1, 6, 8, 3), (3, 3, 3, 4)],
            3 * 8 * 3 * 3 * 3 * 4,
        ),
        # Eight filters, each of one channel.
        (
            partial(conv, feature_group_count=8),
            [(1, 6, 8, 8), (3, 3, 1, 8)],
            6 * 8 * 3 * 3 * 8,
        ),
        (
            partial(conv, rhs_dilation=(2, 2)),
            [(1, 6, 8, 3), (3, 3, 3, 4)],
            6 * 8 * 3 * 3 * 3 * 4,
        ),
        (
            partial(conv_transpose, stride=2, padding=1),
            [(1, 6, 8, 3), (4, 4, 3, 5)],
            6 * 8 * 4 * 4 * 3 * 5,
        ),
        (
            partial(conv_transpose, stride=2),
            [(1, 6, 8, 3), (2, 2, 3, 5)],
            6 * 8 * 2 * 2 * 3 * 5,
        ),
        (
            lambda x, y: jnp.einsum("bij,bjk->bik", x, y),
            [(2, 3, 4), (2, 4, 5)],
            2 * 3 * 4 * 5,
        ),
    ],
)
def test_count_flops_by_hand(function, shapes, products):
    args = [spec(*shape) for shape in shapes]
    assert flops.count_flops(function, *args) == 2 * products


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (partial(conv, padding="VALID"), [(2, 9, 11, 3), (3, 5, 3, 4)]),
        (
            partial(conv, padding="VALID", strides=(2, 2)),
            [(2, 9, 11, 3), (3, 5, 3, 4)],
        ),
        # The whole of a transposed convolution: nothing padded away or cropped.
        (
            partial(conv, padding=[(3, 3), (3, 3)], lhs_dilation=(2, 2)),
            [(1, 6, 8, 3), (4, 4, 3, 5)],
        ),
        (jnp.dot, [(3, 4), (4, 5)]),
    ],
)
def test_count_flops_is_xlas_count_where_nothing_is_padded(function, shapes):
    args = [spec(*shape) for shape in shapes]
    by_xla = jax.jit(function).lower(*args).cost_analysis()["flops"]
    assert flops.count_flops(function, *args) == by_xla


def test_count_flops_follows_control_flow():
    x = spec(3, 3)

    def five_times(x):
        return lax.scan(lambda y, _: (y @ y, None), x, length=5)[0]

    def either(x):
        return lax.cond(x[0, 0] > 0, lambda y: y @ y @ y, lambda y: y @ y, x)

    def until(x):
        return lax.while_loop(lambda y: y[0, 0] > 0, lambda y: y @ y, x)

    once = 2 * 3**3
    assert flops.count_flops(five_times, x) == 5 * once
    assert flops.count_flops(either, x) == 2 * once
    assert flops.count_flops(jax.checkpoint(jax.jit(lambda x: x @ x)), x) == once
    with pytest.raises(ValueError, match="unknown length"):
        flops.count_flops(until, x)


def test_count_flops_leaves_out_what_is_not_needed_and_what_is_not_floating():
    def program(x, integers):
        unused = x @ x
        del unused
        return x + 1.0, integers @ integers

    assert flops.count_flops(program, spec(3, 3), spec(3, 3, dtype=jnp.int32)) == 0
