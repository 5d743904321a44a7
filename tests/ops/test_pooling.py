import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from segjax.ops.pooling import (
    max_pool_with_switches,
    max_unpool,
    pack_switches,
    unpack_switches,
)

SIZES = [(4, 6), (5, 7), (6, 5)]


def random_maps(size, seed=0):
    return np.random.default_rng(seed).normal(size=(2, *size, 3)).astype(np.float32)


def difficult_maps(size):
    """One map for each way in which comparing values can go wrong."""
    rng = np.random.default_rng(0)
    shape = (1, *size, 3)
    x = rng.normal(size=shape)
    maps = {
        "random": x,
        "negative": x - 10,
        "tied": rng.integers(0, 2, shape),
        "all equal": np.full(shape, -7),
        "some infinite": np.where(rng.random(shape) < 0.7, -np.inf, x),
        "all infinite": np.full(shape, -np.inf),
        "some NaN": np.where(rng.random(shape) < 0.4, np.nan, x),
        "NaN and infinite": np.where(rng.random(shape) < 0.4, np.nan, -np.inf),
        "all NaN": np.full(shape, np.nan),
    }
    return np.concatenate([*maps.values()]).astype(np.float32)


def windows(size, ceil_mode):
    """Each window's pooled position and its pixels in row-major order."""
    height, width = size
    rows, columns = ((s + 1) // 2 if ceil_mode else s // 2 for s in size)
    for i, j in itertools.product(range(rows), range(columns)):
        pixels = itertools.product((2 * i, 2 * i + 1), (2 * j, 2 * j + 1))
        yield (i, j), [(y, x) for y, x in pixels if y < height and x < width]


def pool_by_hand(x, ceil_mode):
    rows, columns = ((s + 1) // 2 if ceil_mode else s // 2 for s in x.shape[1:3])
    pooled = np.zeros((x.shape[0], rows, columns, x.shape[3]), x.dtype)
    switches = np.zeros(pooled.shape, np.uint8)
    for b, c in np.ndindex(x.shape[0], x.shape[3]):
        for (i, j), pixels in windows(x.shape[1:3], ceil_mode):
            y, z = pixels[np.argmax([x[b, y, z, c] for y, z in pixels])]
            pooled[b, i, j, c] = x[b, y, z, c]
            switches[b, i, j, c] = 2 * (y - 2 * i) + (z - 2 * j)
    return pooled, switches


def unpool_by_hand(x, switches, size):
    maps = np.zeros((x.shape[0], *size, x.shape[3]), x.dtype)
    for b, i, j, c in np.ndindex(x.shape):
        dy, dx = divmod(int(switches[b, i, j, c]), 2)
        if 2 * i + dy < size[0] and 2 * j + dx < size[1]:
            maps[b, 2 * i + dy, 2 * j + dx, c] = x[b, i, j, c]
    return maps


def gather_by_hand(maps, switches):
    values = np.zeros(switches.shape, maps.dtype)
    for b, i, j, c in np.ndindex(switches.shape):
        dy, dx = divmod(int(switches[b, i, j, c]), 2)
        if 2 * i + dy < maps.shape[1] and 2 * j + dx < maps.shape[2]:
            values[b, i, j, c] = maps[b, 2 * i + dy, 2 * j + dx, c]
    return values


def residuals_of(function, *args):
    """The arrays that the backward pass of `function` keeps."""
    jaxpr = jax.make_jaxpr(lambda *args: jax.vjp(function, *args)[1])(*args)
    return [(str(aval.dtype), aval.shape) for aval in jaxpr.out_avals]


@pytest.mark.parametrize("ceil_mode", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_pooling_equals_its_definition(variant, size, ceil_mode):
    x = difficult_maps(size)
    pooled, switches = variant(
        lambda x: max_pool_with_switches(x, ceil_mode=ceil_mode)
    )(x)
    expected_pooled, expected_switches = pool_by_hand(x, ceil_mode)
    np.testing.assert_array_equal(pooled, expected_pooled)
    np.testing.assert_array_equal(switches, expected_switches)
    assert pooled.dtype == jnp.float32
    assert switches.dtype == jnp.uint8


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (5, 1)])
def test_pooling_of_one_row_or_column_in_ceil_mode(size):
    x = difficult_maps(size)
    pooled, switches = jax.jit(max_pool_with_switches)(x)
    expected_pooled, expected_switches = pool_by_hand(x, True)
    np.testing.assert_array_equal(pooled, expected_pooled)
    np.testing.assert_array_equal(switches, expected_switches)


def test_pooling_of_the_lecture_example(variant):
    x = np.float32([[1, 2, 6, 3], [3, 5, 2, 1], [1, 2, 2, 1], [7, 3, 4, 8]])
    pooled, switches = variant(max_pool_with_switches)(x[None, :, :, None])
    np.testing.assert_array_equal(pooled[0, :, :, 0], [[5, 6], [7, 8]])
    np.testing.assert_array_equal(switches[0, :, :, 0], [[3, 0], [2, 3]])

    values = np.float32([[1, 2], [3, 4]])[None, :, :, None]
    maps = variant(lambda x, s: max_unpool(x, s, size=(4, 4)))(values, switches)
    np.testing.assert_array_equal(
        maps[0, :, :, 0], [[0, 0, 2, 0], [0, 1, 0, 0], [0, 0, 0, 0], [3, 0, 0, 4]]
    )


@pytest.mark.parametrize("ceil_mode", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_gradient_of_pooling_goes_to_the_selected_pixel(variant, size, ceil_mode):
    x = difficult_maps(size)
    _, switches = pool_by_hand(x, ceil_mode)
    weights = np.random.default_rng(1).normal(size=switches.shape).astype(np.float32)

    def gradient(x, weights):
        pool = lambda x: max_pool_with_switches(x, ceil_mode=ceil_mode)[0]  # noqa: E731
        return jax.vjp(pool, x)[1](weights)[0]

    np.testing.assert_array_equal(
        variant(gradient)(x, jnp.asarray(weights)),
        unpool_by_hand(weights, switches, size),
    )


@pytest.mark.parametrize("ceil_mode", [True, False])
@pytest.mark.parametrize("size", [(4, 6), (5, 7)])
def test_gradient_of_pooling_equals_finite_differences(size, ceil_mode):
    # Values further apart than the step, so that no step changes a maximum.
    x = np.random.default_rng(0).permutation(2 * size[0] * size[1] * 3)
    x = x.reshape(2, *size, 3).astype(np.float32) / 10
    check_grads(
        lambda x: max_pool_with_switches(x, ceil_mode=ceil_mode)[0] ** 2,
        (x,),
        order=2,
        modes=["rev"],
        eps=1e-2,
        rtol=1e-2,
    )


@pytest.mark.parametrize("size", [*itertools.product((5, 6, 7), (7, 8, 9))])
def test_unpooling_and_its_gradient_equal_their_definition(variant, size):
    rng = np.random.default_rng(0)
    switches = rng.integers(0, 4, (2, 3, 4, 5)).astype(np.uint8)
    x = rng.normal(size=switches.shape).astype(np.float32)
    weights = rng.normal(size=(2, *size, 5)).astype(np.float32)

    def unpool(x, switches, weights):
        maps, vjp = jax.vjp(lambda x: max_unpool(x, switches, size=size), x)
        return maps, vjp(weights)[0]

    maps, gradient = variant(unpool)(x, switches, jnp.asarray(weights))
    np.testing.assert_array_equal(maps, unpool_by_hand(x, switches, size))
    np.testing.assert_array_equal(gradient, gather_by_hand(weights, switches))


@pytest.mark.parametrize("size", [(5, 9), (6, 8)])
def test_gradient_of_unpooling_equals_finite_differences(size):
    rng = np.random.default_rng(0)
    switches = rng.integers(0, 4, (1, 3, 4, 2)).astype(np.uint8)
    x = rng.normal(size=switches.shape).astype(np.float32)
    check_grads(
        lambda x: max_unpool(x, switches, size=size) ** 2,
        (x,),
        order=2,
        modes=["rev"],
        eps=1e-2,
        rtol=1e-2,
    )


@pytest.mark.parametrize("ceil_mode", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_unpooling_the_maxima_keeps_them_in_place(size, ceil_mode):
    x = random_maps(size) - 10
    pooled, switches = max_pool_with_switches(x, ceil_mode=ceil_mode)
    maps = np.asarray(max_unpool(pooled, switches, size=size))
    kept = maps != 0
    np.testing.assert_array_equal(maps[kept], x[kept])
    assert kept.sum() == pooled.size


def test_backward_passes_keep_nothing_but_switches():
    x = random_maps((5, 8))
    kept = [("uint8", (2, 3, 4, 3))]
    assert residuals_of(lambda x: max_pool_with_switches(x)[0], x) == kept
    pooled, switches = max_pool_with_switches(x)
    unpool = lambda x: max_unpool(x, switches, size=(5, 8))  # noqa: E731
    assert residuals_of(unpool, pooled) == kept


def test_switches_carry_no_gradient():
    x = jnp.asarray(random_maps((4, 4)))

    def pool_and_unpool(x):
        pooled, switches = max_pool_with_switches(x)
        return max_unpool(pooled, switches, size=(4, 4))

    # The round trip keeps the maxima, so its derivative is the mask of the maxima.
    mask = pool_and_unpool(x) != 0
    gradient = jax.grad(lambda x: pool_and_unpool(x).sum())(x)
    np.testing.assert_array_equal(gradient, mask.astype(np.float32))


def test_no_scatter_and_no_gather_in_either_direction():
    x = jnp.asarray(random_maps((5, 7)))

    def loss(x):
        pooled, switches = max_pool_with_switches(x)
        return (max_unpool(pooled**2, switches, size=(5, 7)) * x).sum()

    program = jax.jit(jax.grad(loss)).lower(x).as_text()
    assert "scatter" not in program
    assert "gather" not in program


def test_bfloat16_stays_bfloat16(variant):
    x = random_maps((5, 7)).astype(jnp.bfloat16)

    def roundtrip(x):
        pooled, switches = max_pool_with_switches(x)
        return pooled, switches, max_unpool(pooled, switches, size=(5, 7))

    pooled, switches, maps = variant(roundtrip)(x)
    assert pooled.dtype == maps.dtype == jnp.bfloat16
    expected_pooled, expected_switches = pool_by_hand(x.astype(np.float32), True)
    np.testing.assert_array_equal(pooled.astype(np.float32), expected_pooled)
    np.testing.assert_array_equal(switches, expected_switches)
    _, vjp = jax.vjp(lambda x: roundtrip(x)[2], x)
    assert vjp(maps)[0].dtype == jnp.bfloat16


def test_vmap_over_an_extra_axis_equals_a_loop():
    x = np.stack([random_maps((5, 6), seed) for seed in range(3)])

    def loss(x):
        pooled, switches = max_pool_with_switches(x)
        return (max_unpool(pooled**2, switches, size=(5, 6)) * x).sum()

    gradient = jax.grad(loss)
    np.testing.assert_array_equal(
        jax.jit(jax.vmap(gradient))(x), np.stack([*map(jax.jit(gradient), x)])
    )


def test_impossible_shapes_are_named():
    switches = jnp.zeros((1, 3, 4, 2), jnp.uint8)
    x = jnp.zeros((1, 3, 4, 2))
    with pytest.raises(ValueError, match=r"3x4 to 8x8"):
        max_unpool(x, switches, size=(8, 8))
    with pytest.raises(ValueError, match=r"3x4 to 6x10"):
        max_unpool(x, switches, size=(6, 10))
    with pytest.raises(ValueError, match=r"\(1, 3, 4, 2\).*\(1, 3, 4, 1\)"):
        max_unpool(x, switches[..., :1], size=(6, 8))
    with pytest.raises(ValueError, match="1x4"):
        max_pool_with_switches(jnp.zeros((1, 1, 4, 2)), ceil_mode=False)
    with pytest.raises(AssertionError):
        max_pool_with_switches(jnp.zeros((4, 4, 2)))
    with pytest.raises(AssertionError):
        max_unpool(x, switches.astype(jnp.int32), size=(6, 8))


def test_packing_of_a_byte_worked_by_hand(variant):
    # 3 + 0 * 4 + 1 * 16 + 2 * 64 = 147, and a fifth channel starts the next byte.
    switches = np.uint8([3, 0, 1, 2, 1]).reshape(1, 1, 1, 5)
    packed = variant(pack_switches)(switches)
    np.testing.assert_array_equal(packed, np.uint8([[[[147, 1]]]]))


@pytest.mark.parametrize("channels", range(1, 10))
def test_packing_round_trip(channels):
    rng = np.random.default_rng(channels)
    switches = rng.integers(0, 4, (2, 3, 4, channels)).astype(np.uint8)
    packed = jax.jit(pack_switches)(switches)
    assert packed.shape == (2, 3, 4, (channels + 3) // 4)
    assert packed.dtype == jnp.uint8
    unpacked = unpack_switches(packed, channels=channels)
    assert unpacked.dtype == jnp.uint8
    np.testing.assert_array_equal(unpacked, switches)


def test_unpacking_a_wrong_number_of_channels():
    with pytest.raises(ValueError, match=r"9 channels pack into 3 bytes.*1, 1, 2\)"):
        unpack_switches(jnp.zeros((1, 1, 1, 2), jnp.uint8), channels=9)


def test_other_platforms_pack_the_same_bytes(monkeypatch):
    switches = np.random.default_rng(0).integers(0, 4, (1, 2, 3, 10)).astype(np.uint8)
    packed = pack_switches(switches)
    unpacked = unpack_switches(packed, channels=10)
    monkeypatch.setattr(
        jax.lax, "platform_dependent", lambda *args, cpu, default: default(*args)
    )
    np.testing.assert_array_equal(pack_switches(switches), packed)
    np.testing.assert_array_equal(unpack_switches(packed, channels=10), unpacked)


def test_the_program_keeps_packed_bytes_and_not_the_input_until_it_unpools():
    def use(x, values):
        pooled, switches = max_pool_with_switches(x)
        switches = unpack_switches(pack_switches(switches), channels=8)
        return pooled, max_unpool(values, switches, size=x.shape[1:3])

    x, values = jnp.zeros((1, 12, 16, 8)), jnp.zeros((1, 6, 8, 8))
    program = jax.jit(use).lower(x, values).compile().as_text()
    lines = program[program.index("\nENTRY") :].splitlines()
    (name,) = [line.split()[0] for line in lines if " parameter(0)" in line]
    used = re.compile(rf"[( ]{re.escape(name)}[,)]")
    results = {line.split()[2] for line in lines if used.search(line)}
    assert any(result.startswith("u8[1,6,8,2]") for result in results), results
    assert not any("12,16" in result for result in results), results
