"""Bilinear resizing, bilinear kernels and crops.

All sizes are static: a new size is a new compilation.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np


def resize_bilinear(
    x: jax.Array, size: tuple[int, int], *, align_corners: bool
) -> jax.Array:
    """Resizes maps by bilinear interpolation, without smoothing when they shrink.

    Equal to PyTorch's `interpolate(mode='bilinear', antialias=False)`. The sums
    are taken in float32 and rounded once to the type of `x`.

    Args:
      x: Floating-point maps `[b h w c]`.
      size: Height and width of the result.
      align_corners: Whether the centres of the corner pixels of input and output
        coincide (`out[y] = x[y * (h - 1) / (size - 1)]`), or the outer edges of
        the corner pixels do (`out[y] = x[(y + .5) * h / size - .5]`, clamped to
        the image).

    Returns:
      Maps `[b *size c]` in the type of `x`.

    Raises:
      ValueError: A side of the input or of `size` is not positive.
    """
    chex.assert_rank(x, 4)
    chex.assert_type(x, float)
    if any(side < 1 for side in (*x.shape[1:3], *size)):
        raise ValueError(f"cannot resize maps of shape {x.shape} to {tuple(size)}")
    if x.shape[1:3] == tuple(size):
        return x
    if not align_corners and size[0] % x.shape[1] == size[1] % x.shape[2] == 0:
        ratios = (side // n for side, n in zip(size, x.shape[1:3], strict=True))
        return _enlarge(x, *ratios)
    rows, columns = (
        _interpolation_matrix(source, target, align_corners)
        for source, target in zip(x.shape[1:3], size, strict=True)
    )
    # Columns first: the product over rows, the larger one when maps grow, then works
    # on whole rows of pixels and channels.
    exact = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
    resized = exact("bhwc,xw->bhxc", x.astype(jnp.float32), columns)
    resized = exact("bhxc,yh->byxc", resized, rows)
    return resized.astype(x.dtype)


def bilinear_kernel(
    kernel_size: int, channels: int, *, dtype: jnp.dtype = jnp.float32
) -> jax.Array:
    """Makes the kernel with which a transposed convolution interpolates bilinearly.

    With `f = ceil(kernel_size / 2)` and the centre `m` of the kernel, each channel
    is mapped to itself by `(1 - |i - m| / f) * (1 - |j - m| / f)`. The kernel size
    for upsampling by `s` is `2 * s - s % 2` (FCN, arXiv:1411.4038, section 3.3;
    formula of the authors' `surgery.py`).

    Args:
      kernel_size: Height and width of the kernel.
      channels: Number of input and of output channels.
      dtype: Type of the result.

    Returns:
      A kernel `[kernel_size kernel_size channels channels]`, zero between different
      channels.

    Raises:
      ValueError: A size is not positive.
    """
    if kernel_size < 1 or channels < 1:
        raise ValueError(
            f"a kernel needs positive sizes, got {kernel_size=} and {channels=}"
        )
    factor = (kernel_size + 1) // 2
    centre = (kernel_size - 1) / 2
    tent = 1 - np.abs(np.arange(kernel_size) - centre) / factor
    window = tent[:, None] * tent[None, :]
    return jnp.asarray(
        window[:, :, None, None] * np.eye(channels)[None, None], dtype=dtype
    )


def upsample_bilinear(x: jax.Array, *, ratio: int) -> jax.Array:
    """Interpolates bilinearly as a transposed convolution does, much cheaper.

    What `conv_transpose` gives with `bilinear_kernel(2 * ratio - ratio % 2, c)`,
    stride `ratio` and no padding (the fixed deconvolutions of FCN, arXiv:1411.4038,
    section 3.3), by two multiplications for each pixel and axis instead of a dense
    kernel that is mostly zeros. Output row `y` lies at row
    `(y - (k - 1) / 2) / ratio` of the input for a kernel of size `k`, and the maps
    fade to zero beyond their outermost pixels.

    Args:
      x: Floating-point maps `[b h w c]`.
      ratio: Rows and columns of the output from one of the input to the next.

    Returns:
      Maps `[b h' w' c]` in the type of `x`, with sides
      `(n + 1) * ratio - ratio % 2`.

    Raises:
      ValueError: The ratio is not positive.
    """
    chex.assert_rank(x, 4)
    chex.assert_type(x, float)
    if ratio < 1:
        raise ValueError(f"cannot upsample by a ratio of {ratio}")
    # Columns first: the larger pass, over rows, then works on whole rows of pixels.
    return _upsample_axis(_upsample_axis(x, 2, ratio), 1, ratio)


def crop_to(
    x: jax.Array, size: tuple[int, int], *, offset: tuple[int, int] = (0, 0)
) -> jax.Array:
    """Cuts a window out of maps or labels.

    Args:
      x: Maps or labels `[b h w ...]` of any type.
      size: Height and width of the window.
      offset: Row and column of its top left pixel.

    Returns:
      The window `[b *size ...]`.

    Raises:
      ValueError: The window does not lie inside the maps.
    """
    if x.ndim < 3:
        raise ValueError(f"expected an array [b h w ...], got shape {x.shape}")
    (top, left), (height, width) = offset, size
    if (
        any(n < 0 for n in (top, left, height, width))
        or top + height > x.shape[1]
        or left + width > x.shape[2]
    ):
        raise ValueError(
            f"a window of {height}x{width} at offset ({top}, {left}) does not fit "
            f"into an array of shape {x.shape}"
        )
    return x[:, top : top + height, left : left + width]


def _upsample_axis(x: jax.Array, axis: int, ratio: int) -> jax.Array:
    """Transposed convolution of rows (1) or columns (2) as `upsample_bilinear` does."""
    # Each output pixel lies between two inputs. Their shares are the rising and the
    # falling half of the kernel; a kernel of odd size lacks the last, a zero.
    rising = (np.arange(ratio) + (1 if ratio % 2 else 0.5)) / ratio
    shares = jnp.asarray(np.stack([rising, 1 - rising]), x.dtype)

    def padded(before, after):
        widths = [(0, 0)] * 4
        widths[axis] = (before, after)
        return jnp.pad(x, widths)

    # A matrix product, because its gradient is one, too: the sum that is the gradient
    # of a broadcast takes XLA's CPU backend several times as long.
    maps = jnp.einsum(
        "nbhwc,nr->bhrwc" if axis == 1 else "nbhwc,nr->bhwrc",
        jnp.stack([padded(0, 1), padded(1, 0)]),
        shares,
        precision=jax.lax.Precision.HIGHEST,
    )
    size = list(x.shape)
    size[axis] = (x.shape[axis] + 1) * ratio
    maps = maps.reshape(size)
    return jax.lax.slice_in_dim(maps, 0, size[axis] - ratio % 2, axis=axis)


def _enlarge(x: jax.Array, rows: int, columns: int) -> jax.Array:
    """`resize_bilinear` by whole numbers, between the edges of the corner pixels.

    Every pixel becomes a block that depends on itself and its neighbours. So the rows
    of an image may lie on several devices, where the products with a matrix need
    all of them.
    """
    resized = _enlarge_axis(x.astype(jnp.float32), 2, columns)
    return _enlarge_axis(resized, 1, rows).astype(x.dtype)


def _enlarge_axis(x: jax.Array, axis: int, ratio: int) -> jax.Array:
    if ratio == 1:
        return x
    # Where the pixels of a block lie, in pixels of the input from the block's own.
    offset = (np.arange(ratio) + 0.5) / ratio - 0.5
    shares = np.stack([np.maximum(-offset, 0), 1 - abs(offset), np.maximum(offset, 0)])

    def neighbour(step):
        """The next pixel on one side; at the border the pixel itself."""
        config = [(0, 0, 0)] * 4
        config[axis] = (-step, step, 0)
        shifted = jax.lax.pad(x, jnp.zeros((), x.dtype), config)
        border = 0 if step < 0 else x.shape[axis] - 1
        position = jax.lax.broadcasted_iota(jnp.int32, x.shape, axis)
        return jnp.where(position == border, x, shifted)

    maps = jnp.einsum(
        "nbhwc,nr->bhrwc" if axis == 1 else "nbhwc,nr->bhwrc",
        jnp.stack([neighbour(-1), x, neighbour(1)]),
        shares.astype(np.float32),
        precision=jax.lax.Precision.HIGHEST,
    )
    size = list(x.shape)
    size[axis] *= ratio
    return maps.reshape(size)


def _interpolation_matrix(
    source: int, target: int, align_corners: bool
) -> np.ndarray | jax.Array:
    """The weight of each of `source` pixels in each of `target` pixels."""
    # `jax.export` has sizes that are symbols: then the program makes the matrix.
    is_static = isinstance(source, int) and isinstance(target, int)
    xp, dtype = (np, np.float64) if is_static else (jnp, jnp.float32)
    last, end = (xp.asarray(side - 1, dtype) for side in (source, target))
    if align_corners:
        position = xp.arange(target, dtype=dtype) * (last / xp.maximum(end, 1))
    else:
        ratio = (last + 1) / (end + 1)
        position = (xp.arange(target, dtype=dtype) + 0.5) * ratio - 0.5
    position = xp.clip(position, 0, last)
    distance = xp.abs(position[:, None] - xp.arange(source, dtype=dtype)[None, :])
    return xp.maximum(0, 1 - distance).astype(np.float32)
