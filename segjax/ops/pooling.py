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
from jax import export, lax


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
    return lax.platform_dependent(quads, cpu=_joined_by_or, default=_joined)


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
    quads = lax.platform_dependent(packed, cpu=_parted_by_or, default=_parted)
    return quads.reshape(*packed.shape[:-1], -1)[..., :channels]


def _joined(quads):
    """Four switches to a byte, `[b h w n 4]` to `[b h w n]`."""
    first, second, third, fourth = (quads[..., j] for j in range(4))
    return first | second << 2 | third << 4 | fourth << 6


def _parted(packed):
    """Undoes `_joined`."""
    return jnp.stack([(packed >> 2 * j) & 3 for j in range(4)], axis=-1)


# XLA:CPU fuses both forms above into the unpooling, which then pools anew and takes
# switches apart for each of its pixels: 12 to 27 times slower than bytes, and the
# pooling's input stays in memory until then. It fuses no reduction into a loop that
# uses its result more than once; so bytes and switches are written here, a sum of bits.
def _joined_by_or(quads):
    shifts = lax.broadcasted_iota(jnp.uint8, (1, 1, 1, 1, 4), 4) * 2
    return lax.reduce_or(quads << shifts, (4,))


def _parted_by_or(packed):
    shifts = lax.broadcasted_iota(jnp.uint8, (1, 1, 1, 1, 4, 1), 4) * 2
    bits = lax.broadcasted_iota(jnp.uint8, (1, 1, 1, 1, 1, 2), 5) + 1
    return lax.reduce_or((packed[..., None, None] >> shifts) & bits, (5,))


# `size` is an argument of its own because the backward pass needs it, and everything
# else that it needs is in the switches: keeping `x` for its shape would keep `x`.
@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _max_pool(x, size, pooled_size):
    del size
    return _by_windows(_largest, x, pooled_size, fill=-jnp.inf)


def _largest(pixels):
    """The maximum of each window and its position, from pixels by position."""
    dtype = pixels[0].dtype
    # Exact, and XLA:CPU's loops over narrower types are several times slower.
    wide = jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype
    pooled = pixels[0].astype(wide)
    switches = jnp.zeros(pooled.shape, jnp.uint8)
    for code in sorted(pixels)[1:]:
        candidate = pixels[code].astype(wide)
        # "Not at most" instead of "greater": true for a NaN candidate, too.
        wins = ~(candidate <= pooled) & ~jnp.isnan(pooled)
        pooled = jnp.where(wins, candidate, pooled)
        switches = jnp.where(wins, jnp.uint8(code), switches)
    return pooled.astype(dtype), switches


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
    # The TPU's compiler moves the reshape before the comparison otherwise, and writes
    # switches and values in the size of the maps, too.
    blocks = lax.optimization_barrier(blocks)
    maps = blocks.reshape(batch, 2 * height, 2 * width, channels)
    return _cut_or_fill(maps, size, fill=0)


def _max_unpool_forward(x, switches, size):
    return _max_unpool(x, switches, size), switches


def _max_unpool_backward(size, switches, gradient):
    del size
    pooled_size = switches.shape[1:3]
    return _by_windows(_chosen, gradient, pooled_size, switches, fill=0), None


def _chosen(pixels, switches):
    """The pixel of each window that its switch names, zero where there is none."""
    gathered = jnp.zeros(switches.shape, pixels[0].dtype)
    for code, pixel in pixels.items():
        gathered = jnp.where(switches == code, pixel, gathered)
    return gathered


_max_unpool.defvjp(_max_unpool_forward, _max_unpool_backward)


def _by_windows(function, maps, pooled_size, *pooled, fill):
    """Calls a function on the pixels of all windows of `maps`.

    Windows that the border cuts are calls of their own with fewer pixels: filled up
    they would put a branch into the loop over all pixels, which XLA:CPU does not
    vectorise then. Only where the size is left open, in `jax.export`, nobody knows
    whether there are any.

    Args:
      function: `(pixels, *pooled) -> arrays`, pixels `[b i j c]` by position 0..3.
      maps: `[b h w c]`; a row or column beyond the last window is ignored.
      pooled_size: rows and columns of windows, `h'` and `w'`.
      *pooled: more arrays `[b h' w' c]` for the function.
      fill: pixels beyond the border of maps whose size is left open. The smallest
        value is never a maximum: it comes after a pixel of the image in every window.

    Returns:
      What the function returns, put together to `[b h' w' c]`.
    """
    height, width = maps.shape[1:3]
    if export.is_symbolic_dim(height) or export.is_symbolic_dim(width):
        # Filled up one by one: filling up the maps themselves would copy them.
        pixels = [maps[:, dy::2, dx::2] for dy in range(2) for dx in range(2)]
        filled = [_cut_or_fill(p, pooled_size, fill=fill) for p in pixels]
        return function(dict(enumerate(filled)), *pooled)
    rows = []
    for i, ys in _runs_of_windows(height, pooled_size[0]):
        columns = []
        for j, xs in _runs_of_windows(width, pooled_size[1]):
            pixels = {
                2 * dy + dx: maps[:, y, x]
                for dy, y in enumerate(ys)
                for dx, x in enumerate(xs)
            }
            columns.append(function(pixels, *(p[:, i, j] for p in pooled)))
        rows.append(_concatenated(columns, axis=2))
    return _concatenated(rows, axis=1)


def _runs_of_windows(side, pooled_side):
    """Windows along a side with equally many pixels each, and where these are.

    Pairs of a slice of the windows and the slices of their first and second pixels: the
    whole windows, and one that the border cuts to its first pixel.
    """
    whole = min(side // 2, pooled_side)
    if whole:
        end = 2 * whole
        yield slice(0, whole), (slice(0, end, 2), slice(1, end, 2))
    if whole < pooled_side:
        yield slice(whole, pooled_side), (slice(2 * whole, side, 2),)


def _concatenated(parts, axis):
    """Puts pytrees of arrays together along an axis."""
    return jax.tree.map(lambda *arrays: jnp.concatenate(arrays, axis), *parts)


def _cut_or_fill(x, size, *, fill):
    """Cuts or adds rows at the bottom and columns at the right to reach `size`."""
    after = [0, size[0] - x.shape[1], size[1] - x.shape[2], 0]
    return lax.pad(x, jnp.asarray(fill, x.dtype), [(0, n, 0) for n in after])
