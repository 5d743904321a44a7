"""A run's prediction as one file: StableHLO (`jax.export`) or ONNX.

The program maps uint8 RGB images `[b h w 3]` to float32 class probabilities
`[b h w k]` of the same pixels, with the normalisation, the weights and the mirrored
padding of networks that need it inside. Probabilities and not logits, because that is
what a reader wants without asking; their logarithm is the logits less a number that
all classes of a pixel share. `segjax.inference.exported` reads the files, and says
how to without segjax.

StableHLO is lowered for several platforms at once. The number of images may be left
open, and so may their size: all networks of `MODELS` can be traced so. Those with
U-Net's encoder and padding "SAME" then take multiples of 16 pixels, the others any
size. There is a smallest size (`Report.shape`; 256 pixels a side for DeconvNet),
because the program is one for all sizes and must not have to tell small ones apart.

ONNX has a fixed number of images of a fixed size; see
`segjax.inference.export_onnx`.

Every file is checked before it is written: what will be written is read back, labels
random images of several sizes and numbers, and must agree with the run's network.
"""

import dataclasses
import io
import itertools
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export
from jax.extend.core import InconclusiveDimensionOperation

from segjax.errors import InputError
from segjax.inference.export_onnx import to_onnx
from segjax.inference.exported import (
    ABOUT,
    PROGRAM,
    ImageShape,
    need,
    read_onnx,
    read_stablehlo,
)
from segjax.inference.predictor import Predictor
from segjax.ops.normalization import IMAGENET_MEAN, IMAGENET_STD
from segjax.whole_file import whole_file

PLATFORMS = ("cpu", "cuda", "tpu")

# What may differ: probabilities by more than `TOLERANCE` in at most this share. The
# sums of a convolution are taken in another order in another program, and where two
# pixels of a pooling window are equal but for rounding, an unpooled value then lands
# on the other one.
TOLERANCE = 1e-4
_MAX_SHARE = 1e-4

# Any size: the sides are multiples of the first of these that the network can be
# traced with, and at least the first of those.
_MULTIPLES = (1, 2, 4, 8, 16, 32)
_SMALLEST = (1, 16, 32, 64, 128, 256)


@dataclasses.dataclass(frozen=True)
class Report:
    """What was exported, and how it was checked.

    Attributes:
      shape: the images that the file takes.
      platforms: that it runs on.
      checked: shapes `(b, h, w)` of the random images that it labelled.
      max_difference: largest difference of a probability to the run's network.
      share: of the probabilities that differ by more than `TOLERANCE`.
      size: of the file, in bytes.
    """

    shape: ImageShape
    platforms: tuple[str, ...]
    checked: tuple[tuple[int, int, int], ...]
    max_difference: float
    share: float
    size: int


def export(
    predictor: Predictor,
    path: Path,
    *,
    batch: int | None,
    size: tuple[int, int] | None,
    platforms: Sequence[str] = PLATFORMS,
) -> Report:
    """Writes a run's network to `path`, after checking what is written.

    Args:
      predictor: the network.
      path: `.stablehlo` or `.onnx`; whole or not at all, in place of what was there.
      batch: number of images in a call; None leaves it open. Not for ONNX.
      size: `(height, width)` of the images; None leaves it open, as far as the network
        can (`Report.shape` says how far). Not for ONNX.
      platforms: of StableHLO: `cpu`, `cuda`, `rocm`, `tpu`. This process's must be
        among them, so that the file can be checked. ONNX is for any.

    Raises:
      InputError: nothing was written: an option is out of range or the network cannot
        take it, the file cannot be written, a package is missing, or the file's
        probabilities differ from the network's.
    """
    if path.suffix not in (".stablehlo", ".onnx"):
        raise InputError(f"output {path}: expected a name ending .stablehlo or .onnx")
    if not path.parent.is_dir():
        raise InputError(f"output {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise InputError(f"output {path} is a folder, expected a file")
    if size is not None and min(size) < 1:
        raise InputError(
            f"image size is {size[0]}x{size[1]}: expected positive height and width"
        )
    if batch is not None and batch < 1:
        raise InputError(f"batch is {batch}: expected a positive number of images")

    if path.suffix == ".onnx":
        if size is None or batch is None:
            opened = "size" if size is None else "number"
            raise InputError(
                f"ONNX needs a fixed {opened} of images: jax2onnx does not translate "
                "these networks with an open one; give it, or export StableHLO"
            )
        platforms, shape = (), ImageShape(batch, size)
        content = _onnx(predictor, shape)
    else:
        platforms = tuple(dict.fromkeys(platforms))
        here = jax_export.default_export_platform()
        if here not in platforms:
            raise InputError(
                f"platforms are {', '.join(platforms) or 'none'}, but the file is "
                f"checked on this process's, {here}: add it"
            )
        content, shape = _stablehlo(predictor, batch, size, platforms)

    with whole_file(path) as scratch:
        scratch.write_bytes(content)
        checked, worst, share = _differences(predictor, scratch, shape, path)
        if not share <= _MAX_SHARE:
            raise InputError(
                f"{path} was not written: {100 * share:.3g} % of its probabilities "
                f"differ from the network's by more than {TOLERANCE:g}, the largest "
                f"by {worst:.2g}; at most {100 * _MAX_SHARE:g} % may"
            )
    return Report(shape, platforms, checked, worst, share, len(content))


def _about(predictor: Predictor, shape: ImageShape, platforms: tuple[str, ...]) -> str:
    """What a file says of itself, as JSON."""
    table = predictor.table
    return json.dumps(
        {
            "model": predictor.name,
            "step": predictor.step,
            "classes": {
                "names": table.names,
                "colors": table.colors,
                "thin": table.thin,
            },
            # For the reader's information: it is part of the program.
            "normalization": {"mean": IMAGENET_MEAN, "std": IMAGENET_STD},
            "image_size": predictor.image_size,
            "images": dataclasses.asdict(shape),
            "platforms": platforms,
        },
        indent=2,
    )


def _predict(predictor: Predictor) -> Callable[[jax.Array], jax.Array]:
    return lambda images: predictor.probabilities(images, images.shape[1:3])


def _stablehlo(predictor, batch, size, platforms):
    """The content of a `.stablehlo` file, and the images that it takes."""
    need("flatbuffers")
    predict = _predict(predictor)
    for shape in _shapes(batch, size):
        images = jax.ShapeDtypeStruct(_symbolic(shape), jnp.uint8)
        try:
            jax.eval_shape(predict, images)
        except (InconclusiveDimensionOperation, TypeError, ValueError) as error:
            if size is not None and batch is not None:
                raise
            reason = str(error).partition("\n")[0]
            continue
        break
    else:
        opened = "number" if size is not None else "size"
        raise InputError(
            f"{predictor.name} cannot leave the images' {opened} open ({reason}): "
            "give it"
        )
    exported = jax_export.export(jax.jit(predict), platforms=platforms)(images)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(ABOUT, _about(predictor, shape, platforms))
        archive.writestr(PROGRAM, bytes(exported.serialize()))
    return content.getvalue(), shape


def _shapes(batch: int | None, size: tuple[int, int] | None) -> list[ImageShape]:
    """What to try, the least restricted first."""
    if size is not None:
        return [ImageShape(batch, size)]
    pairs = itertools.product(_MULTIPLES, _SMALLEST)
    return [
        ImageShape(batch, None, m, max(m, s)) for m, s in pairs if s % m == 0 or s == 1
    ]


def _symbolic(shape: ImageShape) -> tuple[Any, ...]:
    """The shape `[b h w 3]` with symbols for what is open."""
    step, rules = shape.multiple_of, []
    if shape.size is None:
        sides = f"{step}*h, {step}*w"
        rules = [f"{side} >= {shape.at_least // step}" for side in "hw"]
    else:
        sides = "{}, {}".format(*shape.size)
    batch = "b" if shape.batch is None else shape.batch
    return jax_export.symbolic_shape(f"{batch}, {sides}, 3", constraints=rules)


def _onnx(predictor: Predictor, shape: ImageShape) -> bytes:
    return to_onnx(
        _predict(predictor),
        (shape.batch, *shape.size, 3),
        about=_about(predictor, shape, ()),
    )


def _differences(
    predictor: Predictor, file: Path, shape: ImageShape, name: Path
) -> tuple[tuple[tuple[int, int, int], ...], float, float]:
    """Labels random images with the file and the network.

    Returns the images' shapes, the largest difference of a probability and the share
    of those that differ by more than `TOLERANCE`; NaN counts as different.
    """
    read = read_onnx if name.suffix == ".onnx" else read_stablehlo
    try:
        _, call = read(file)
    except InputError as error:
        raise InputError(
            f"{name} was not written, as it cannot be read: {error}"
        ) from error
    random = np.random.default_rng(0)
    checked = tuple(_cases(shape, predictor.image_size))
    worst, wrong, total = 0.0, 0, 0
    for batch, *size in checked:
        images = random.integers(0, 256, (batch, *size, 3), np.uint8)
        expected = np.asarray(predictor.probabilities(images, tuple(size)))
        found = call(images)
        if found.shape != expected.shape:
            raise InputError(
                f"{name} was not written: its probabilities are {list(found.shape)}, "
                f"the network's {list(expected.shape)}"
            )
        difference = np.abs(found - expected)
        worst = max(worst, float(np.nan_to_num(difference, nan=np.inf).max()))
        wrong += int(np.sum(~(difference <= TOLERANCE)))
        total += difference.size
    return checked, worst, wrong / total


def _cases(shape: ImageShape, trained: tuple[int, int] | None):
    """Shapes `(b, h, w)` of the images to label."""
    batches = (1, 3) if shape.batch is None else (shape.batch,)
    sizes = [shape.size]
    if shape.size is None:
        least, step = shape.at_least, shape.multiple_of
        sizes = [(least, least + 3 * step), (least + 5 * step, least + step)]
        if trained is not None and shape.takes((batches[0], *trained, 3)):
            sizes.append(trained)
    for i in range(max(len(batches), len(sizes))):
        yield batches[i % len(batches)], *sizes[i % len(sizes)]
