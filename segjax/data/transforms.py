"""Joint (image, label) transforms on host arrays: pure, seeded by the caller.

An example is a dict with `image` uint8 `[h w 3]` and `label` uint8 `[h w]`, whose
values are class indices or `VOID`. Every function returns a new example, keeps the
other fields and never writes into its input; what it returns may be a view of it. A
random transform depends on the `numpy.random.Generator` it is given and nothing else.

Geometry: pixel `i` covers `[i, i + 1)`, its centre is `i + 0.5`. An image and its
label are always resampled at the same centres: the image by a bilinear filter that
widens when it reduces (no aliasing), the label by the pixel that holds the centre
(the lower or right one when the centre falls between two).
"""

import numpy as np
import scipy  # whole: it loads `ndimage` on first use
from PIL import Image

from segjax.data.labels import VOID
from segjax.data.source import Example

Size = tuple[int, int]
"""Height and width in pixels."""


def resize(example: Example, size: Size) -> Example:
    """Resizes an example to a fixed size.

    Args:
      example: dict with `image` uint8 `[h w 3]` and `label` uint8 `[h w]`.
      size: `(height, width)` in pixels.

    Returns:
      The example with `image` uint8 `[*size 3]` and `label` uint8 `[*size]`.
    """
    height, width = size
    whole = (0, 0, height, width)
    return {
        **example,
        "image": _resample_image(example["image"], scaled=size, box=whole),
        "label": _resample_label(example["label"], scaled=size, box=whole),
    }


def resize_image(image: np.ndarray, size: Size) -> np.ndarray:
    """Resizes an image alone, for evaluation at the label's own resolution.

    Args:
      image: uint8 `[h w 3]`.
      size: `(height, width)` in pixels.

    Returns:
      uint8 `[*size 3]`.
    """
    height, width = size
    return _resample_image(image, scaled=size, box=(0, 0, height, width))


def random_flip(example: Example, rng: np.random.Generator) -> Example:
    """Mirrors an example left to right, half of the time.

    Args:
      example: dict with `image` uint8 `[h w 3]` and `label` uint8 `[h w]`.
      rng: `numpy.random.Generator`.

    Returns:
      The example, mirrored or not.
    """
    if rng.random() >= 0.5:
        return dict(example)
    image = np.empty_like(example["image"], order="C")
    # By channel: copying a view mirrored in its middle axis, as batching would, moves
    # three bytes at a time and takes seven times as long.
    for channel in range(3):
        image[..., channel] = example["image"][:, ::-1, channel]
    return {**example, "image": image, "label": example["label"][:, ::-1]}


def random_scale_crop(
    example: Example,
    rng: np.random.Generator,
    *,
    crop_size: Size,
    scale_range: tuple[float, float],
    image_size: Size | None = None,
) -> Example:
    """Scales an example by a random factor and cuts a random window out of it.

    Equals resizing the whole example to `round(scale * size)` and cropping, but only
    the window is computed. Where the scaled example is smaller than the crop it is
    put at a random place in it; the image is continued by its mirror image, so that
    batch statistics see natural pixels, and the label is void there.

    Args:
      example: dict with `image` uint8 `[h w 3]` and `label` uint8 `[h w]`.
      rng: `numpy.random.Generator`.
      crop_size: `(height, width)` of the window.
      scale_range: `(lowest, highest)` scale, drawn uniformly; both > 0.
      image_size: `(height, width)` that scale 1 means; the example's own if None.

    Returns:
      The example with `image` uint8 `[*crop_size 3]` and `label` uint8 `[*crop_size]`.
    """
    base = example["label"].shape if image_size is None else image_size
    scale = rng.uniform(*scale_range)
    scaled = tuple(max(1, round(scale * side)) for side in base)
    # The window's corner in the scaled example; negative where the example is
    # smaller than the window and starts inside it.
    top, left = (
        int(rng.integers(min(0, side - crop), max(0, side - crop) + 1))
        for side, crop in zip(scaled, crop_size, strict=True)
    )
    box = (
        max(0, top),
        max(0, left),
        min(scaled[0], top + crop_size[0]),
        min(scaled[1], left + crop_size[1]),
    )
    image = _resample_image(example["image"], scaled=scaled, box=box)
    label = _resample_label(example["label"], scaled=scaled, box=box)
    return {
        **example,
        "image": pad_image(image, crop_size, top=max(0, -top), left=max(0, -left)),
        "label": pad_label(label, crop_size, top=max(0, -top), left=max(0, -left)),
    }


def random_elastic(
    example: Example, rng: np.random.Generator, *, sigma: float
) -> Example:
    """Deforms an example smoothly by a random displacement on a 3x3 grid.

    Source: U-Net (arXiv 1505.04597), section 3.1, with a `sigma` of 10 pixels.

    Args:
      example: dict with `image` uint8 `[h w 3]` and `label` uint8 `[h w]`.
      rng: `numpy.random.Generator`.
      sigma: standard deviation of both components of the nine displacements, in
        pixels of the example; 0 leaves it as it is.

    Returns:
      The example, deformed; see `deform`.
    """
    return deform(example, sigma * rng.standard_normal((3, 3, 2)))


def deform(example: Example, grid: np.ndarray) -> Example:
    """Moves the pixels of an example by displacements given on a coarse grid.

    Output pixel `p` is taken from `p + dense_displacement(grid, size)[p]`: the image
    by bilinear interpolation, continued by its mirror image; the label from the pixel
    that holds the point, void where there is none.

    Args:
      example: dict with `image` uint8 `[h w 3]` and `label` uint8 `[h w]`.
      grid: `[n m 2]`, down and to the right, in pixels.

    Returns:
      The example with `image` and `label` of the same sizes.
    """
    height, width = example["label"].shape
    points = dense_displacement(grid, (height, width))
    points[0] += np.arange(height)[:, None]
    points[1] += np.arange(width)[None, :]
    image = np.empty(example["image"].shape, np.uint8)
    for channel in range(3):
        plane = example["image"][..., channel]
        if channel and np.array_equal(plane, example["image"][..., 0]):
            image[..., channel] = image[..., 0]  # a grey image, say of a microscope
            continue
        values = scipy.ndimage.map_coordinates(
            plane,
            points,
            output=np.float32,
            order=1,
            mode="reflect",  # in scipy's words; the edge pixel is repeated
        )
        image[..., channel] = np.rint(values)
    rows, columns = np.floor(points + 0.5).astype(int)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    label = np.full((height, width), VOID, np.uint8)
    label[inside] = example["label"][rows[inside], columns[inside]]
    return {**example, "image": image, "label": label}


def dense_displacement(grid: np.ndarray, size: Size) -> np.ndarray:
    """Interpolates displacements on a coarse grid to every pixel.

    The grid's first and last points lie on the centres of the corner pixels. Between
    them goes the interpolating cubic B-spline of each axis (scipy's order 3, mirrored
    at the ends), which is what "bicubic" means here.

    Args:
      grid: `[n m 2]`, n and m at least 2.
      size: `(height, width)` in pixels.

    Returns:
      float64 `[2 *size]`.
    """
    rows, columns = (
        _spline_weights(points, side)
        for points, side in zip(grid.shape[:2], size, strict=True)
    )
    return np.einsum("yi,xj,ijd->dyx", rows, columns, grid, optimize=True)


def _spline_weights(points: int, side: int) -> np.ndarray:
    """The weight of each of `points` grid points in each of `side` pixels."""
    where = np.linspace(0, points - 1, side)[None]
    return np.stack(
        [
            scipy.ndimage.map_coordinates(unit, where, order=3, mode="mirror")
            for unit in np.eye(points)
        ],
        axis=1,
    )


def photometric(
    example: Example, rng: np.random.Generator, *, strength: float
) -> Example:
    """Changes brightness, contrast and saturation at random; the label stays.

    Three factors are drawn uniformly from `1 ± strength`. Brightness multiplies the
    pixels, contrast their distance to the image's mean luma, saturation their
    distance to their own luma (ITU-R 601 weights). The three are applied together,
    so a pixel is rounded and clipped to 0..255 once.

    Args:
      example: dict with `image` uint8 `[h w 3]` and `label` uint8 `[h w]`.
      rng: `numpy.random.Generator`.
      strength: in 0..1; 0 leaves the image as it is.

    Returns:
      The example with its image changed.
    """
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, 3)
    luma = np.array([0.299, 0.587, 0.114])
    mean = luma @ [example["image"][..., channel].mean() for channel in range(3)]
    # Each factor is linear in the colours, so the three make one 3x4 matrix, which
    # Pillow applies in one pass.
    mix = saturation * np.eye(3) + (1 - saturation) * np.ones((3, 1)) * luma
    matrix = np.empty((3, 4))
    matrix[:, :3] = brightness * contrast * mix
    matrix[:, 3] = brightness * (1 - contrast) * mean
    image = Image.fromarray(np.ascontiguousarray(example["image"]))
    image = image.convert("RGB", tuple(matrix.ravel()))
    return {**example, "image": np.asarray(image)}


def pad_image(
    image: np.ndarray, size: Size, *, top: int = 0, left: int = 0
) -> np.ndarray:
    """Continues an image by its mirror image up to a size.

    Args:
      image: uint8 `[h w 3]`.
      size: `(height, width)`, at least the image's.
      top: rows before the image.
      left: columns before the image.

    Returns:
      uint8 `[*size 3]`; the image itself if nothing is missing.
    """
    padding = _padding(image.shape[:2], size, top=top, left=left)
    if not any(map(any, padding)):
        return image
    return np.pad(image, (*padding, (0, 0)), mode="symmetric")


def pad_label(
    label: np.ndarray, size: Size, *, top: int = 0, left: int = 0
) -> np.ndarray:
    """Surrounds a label with void up to a size.

    Args:
      label: uint8 `[h w]`.
      size: `(height, width)`, at least the label's.
      top: rows before the label.
      left: columns before the label.

    Returns:
      uint8 `[*size]`; the label itself if nothing is missing.
    """
    padding = _padding(label.shape, size, top=top, left=left)
    if not any(map(any, padding)):
        return label
    return np.pad(label, padding, constant_values=VOID)


def _padding(shape, size, *, top, left):
    height, width = shape
    return (top, size[0] - top - height), (left, size[1] - left - width)


def _resample_image(image, *, scaled, box):
    """The window `box` (top, left, bottom, right) of `image` resized to `scaled`."""
    height, width = image.shape[:2]
    top, left, bottom, right = box
    if (height, width) == tuple(scaled):
        return image[top:bottom, left:right]
    # Pillow's filter reads past the window where the image goes on, so the window
    # equals the same window of the whole resized image.
    source_box = (
        left * width / scaled[1],
        top * height / scaled[0],
        right * width / scaled[1],
        bottom * height / scaled[0],
    )
    resized = Image.fromarray(np.ascontiguousarray(image)).resize(
        (right - left, bottom - top), Image.Resampling.BILINEAR, source_box
    )
    return np.asarray(resized)


def _resample_label(label, *, scaled, box):
    """The window `box` (top, left, bottom, right) of `label` resized to `scaled`."""
    if label.shape == tuple(scaled):
        return label[box[0] : box[2], box[1] : box[3]]
    # floor((i + 0.5) * source / scaled), in integers so that it is exact.
    rows, columns = (
        (2 * np.arange(start, stop) + 1) * source // (2 * target)
        for source, target, start, stop in zip(
            label.shape, scaled, box[:2], box[2:], strict=True
        )
    )
    # Rows, then columns: ten times faster than picking every pixel by both.
    return label[rows][:, columns]
