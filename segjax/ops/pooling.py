"""Max pooling that remembers where each maximum was, and its partial inverse.

A *switch* is the position of the maximum in its 2×2 window: `2 * dy + dx`, so 0 is
the top left and 3 the bottom right pixel. Unpooling writes each value back to the
position that its switch names and leaves zero everywhere else (SegNet,
arXiv:1511.00561, section 3; DeconvNet, arXiv:1505.04366, section 3.2).

Both directions are compare-and-select over 2×2 blocks rather than a scatter: the
compiler fuses them into one pass over memory, and they stay local when the rows of
an image are sharded over devices.

Both functions define their own reverse-mode derivative (`jax.grad`, `jax.vjp`);
like every such function in JAX they have no forward mode (`jax.jvp`).
"""

import functools

import chex
import jax
import jax.numpy as jnp


def max_pool_with_switches(
    x: jax.Array, *, ceil_mode: bool = True
) -> tuple[jax.Array, jax.Array]:
    """Pools 2×2 windows with stride 2 and says where each maximum came from.

    The first maximum in row-major order wins a tie. NaN counts as larger than every
    number, so the first NaN of a window wins, as in `np.argmax`. A
    window cut by the border only ever selects pixels of the image, even where they
    are all `-inf`.

    The backward pass keeps the switches (one byte for each pooled value) and neither
    the input nor the output.

    Args:
      x: Floating-point maps `[b h w c]`.
      ceil_mode: Whether an odd last row or column forms windows of its own, so the
        output is `ceil(h / 2) × ceil(w / 2)` (Caffe, and so every published SegNet
        and FCN), or is ignored, so the output is `floor(h / 2) × floor(w / 2)`.

    Returns:
      The pooled maps `[b h' w' c]` in the type of `x`, and the switches uint8 of
      the same shape, with values 0..3. Switches carry no gradient.

    Raises:
      ValueError: The input is too small to hold one window.
    """
    chex.assert_rank(x, 4)
    chex.assert_type(x, float)
    height, width = x.shape[1:3]
    smallest = 1 if ceil_mode else 2
    if height < smallest or width < smallest:
        raise ValueError(
            f"cannot pool maps of {height}x{width}: "
            f"each side must be at least {smallest} with {ceil_mode=}"
        )
    odd = int(ceil_mode)
    return _max_pool(x, (height, width), ((height + odd) // 2, (width + odd) // 2))


def max_unpool(
    x: jax.Array, switches: jax.Array, *, size: tuple[int, int]
) -> jax.Array:
    """Writes each value to the position its switch names in a larger map of zeros.

    The inverse of the pooling on the values that pooling kept. `x` may come from
    anywhere (a decoder), only its shape must be that of the pooled maps.

    The output size is explicit because two sizes pool to the same one. Each of its
    sides is `2n - 1` (the inverse of an odd size in ceil mode; a value whose
    switch points outside is dropped), `2n`, or `2n + 1` (the inverse of an odd
    size in floor mode; the last row or column is zero), for a side `n` of `x`.

    The backward pass gathers the gradient at the switches and keeps only them.

    Args:
      x: Floating-point values `[b h w c]`.
      switches: Positions 0..3, uint8, of the same shape.
      size: Height and width of the output.

    Returns:
      Maps `[b *size c]` in the type of `x`.

    Raises:
      ValueError: The shapes of `x` and `switches` differ, or no pooling of maps
        of `size` gives maps of the size of `x`.
    """
    chex.assert_rank(x, 4)
    chex.assert_type([x, switches], [float, jnp.uint8])
    if x.shape != switches.shape:
        raise ValueError(
            f"values of shape {x.shape} need switches of the same shape, "
            f"got {switches.shape}"
        )
    height, width = size
    if any(
        not 2 * small - 1 <= side <= 2 * small + 1
        for side, small in zip(size, x.shape[1:3], strict=True)
    ):
        raise ValueError(
            f"cannot unpool maps of {x.shape[1]}x{x.shape[2]} to {height}x{width}: "
            "each side must be twice as large, give or take one"
        )
    return _max_unpool(x, switches, (height, width))


def pack_switches(switches: jax.Array) -> jax.Array:
    """Packs the 2-bit switches of four neighbouring channels into each byte.

    Channel `4i + j` lands in bits `2j` and `2j + 1` of byte `i`; bits beyond
    the last channel are zero.

    Args:
      switches: Positions 0..3, uint8 `[b h w c]`.

    Returns:
      Bytes, uint8 `[b h w ceil(c / 4)]`.
    """
    chex.assert_rank(switches, 4)
    chex.assert_type(switches, jnp.uint8)
    channels = switches.shape[-1]
    num_bytes = -(-channels // 4)
    padded = jnp.pad(switches, [(0, 0)] * 3 + [(0, 4 * num_bytes - channels)])
    quads = padded.reshape(*switches.shape[:-1], num_bytes, 4)
    first, second, third, fourth = (quads[..., j] for j in range(4))
    return first | second << 2 | third << 4 | fourth << 6


def unpack_switches(packed: jax.Array, *, channels: int) -> jax.Array:
    """Undoes `pack_switches`.

    Args:
      packed: Bytes, uint8 `[b h w ceil(c / 4)]`.
      channels: The number of channels `c` that were packed.

    Returns:
      Positions 0..3, uint8 `[b h w c]`.

    Raises:
      ValueError: `packed` does not hold that number of channels.
    """
    chex.assert_rank(packed, 4)
    chex.assert_type(packed, jnp.uint8)
    if packed.shape[-1] != -(-channels // 4):
        raise ValueError(
            f"{channels} channels pack into {-(-channels // 4)} bytes, "
            f"got an array of shape {packed.shape}"
        )
    quads = jnp.stack([(packed >> 2 * j) & 3 for j in range(4)], axis=-1)
    return quads.reshape(*packed.shape[:-1], -1)[..., :channels]


# `size` is an argument of its own because the backward pass needs it, and everything
# else that it needs is in the switches: keeping `x` for its shape would keep `x`.
@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _max_pool(x, size, pooled_size):
    del size
    # Padding is the smallest value and comes after a pixel of the image in every
    # window, so a comparison that keeps the earlier of two equals never selects it.
    pooled, *others = _window_pixels(x, pooled_size, fill=-jnp.inf)
    switches = jnp.zeros(pooled.shape, jnp.uint8)
    for code, candidate in enumerate(others, start=1):
        # "Not at most" instead of "greater": true for a NaN candidate, too.
        wins = ~(candidate <= pooled) & ~jnp.isnan(pooled)
        pooled = jnp.where(wins, candidate, pooled)
        switches = jnp.where(wins, jnp.uint8(code), switches)
    return pooled, switches


def _max_pool_forward(x, size, pooled_size):
    pooled, switches = _max_pool(x, size, pooled_size)
    return (pooled, switches), switches


def _max_pool_backward(size, pooled_size, switches, gradients):
    del pooled_size
    return (_max_unpool(gradients[0], switches, size),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _max_unpool(x, switches, size):
    batch, height, width, channels = x.shape
    codes = jnp.arange(4, dtype=jnp.uint8).reshape(1, 1, 2, 1, 2, 1)
    chosen = switches[:, :, None, :, None, :] == codes
    blocks = jnp.where(chosen, x[:, :, None, :, None, :], jnp.zeros((), x.dtype))
    maps = blocks.reshape(batch, 2 * height, 2 * width, channels)
    return _cut_or_fill(maps, size, fill=0)


def _max_unpool_forward(x, switches, size):
    return _max_unpool(x, switches, size), switches


def _max_unpool_backward(size, switches, gradient):
    del size
    gathered = jnp.zeros(switches.shape, gradient.dtype)
    pixels = _window_pixels(gradient, switches.shape[1:3], fill=0)
    for code, pixel in enumerate(pixels):
        gathered = jnp.where(switches == code, pixel, gathered)
    return gathered, None


_max_unpool.defvjp(_max_unpool_forward, _max_unpool_backward)


def _window_pixels(x, pooled_size, *, fill):
    """The pixels at positions 0, 1, 2 and 3 of all windows, each `[b *pooled_size c]`.

    Strided slices, filled up one by one: filling up `x` itself would copy it.
    """
    return [
        _cut_or_fill(x[:, dy::2, dx::2], pooled_size, fill=fill)
        for dy in range(2)
        for dx in range(2)
    ]


def _cut_or_fill(x, size, *, fill):
    """Cuts or adds rows at the bottom and columns at the right to reach `size`."""
    after = [0, size[0] - x.shape[1], size[1] - x.shape[2], 0]
    return jax.lax.pad(x, jnp.asarray(fill, x.dtype), [(0, n, 0) for n in after])
