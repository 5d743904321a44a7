"""A classifier of small patches, slid over the image without repeating any work."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from segjax.errors import InputError
from segjax.models.encoders import scale_channels
from segjax.models.layers import Conv, check_maps


class PatchClassifier(nn.Module):
    """Names the class of a pixel from the patch around it.

    Stages of [convolution without padding, BN, ReLU], each followed by a 2x2
    max-pooling; then dense layers (BN, ReLU) and a dense classifier. Two forms of
    one network, with the same parameters:

    - `model.apply(variables, patches, train=..., method="classify")` maps patches
      `[n p p c]` to the logits `[n k]` of their centre pixels.
    - `model.apply(variables, image, train=...)` maps an image `[b h w c]` of any size
      to `{"logits": float32 [b h w k]}`: at every pixel those of the patch around it.

    The second form computes what overlapping patches share once. Every pooling slides
    by one pixel instead of two, which gives the pooled maps of all patches, woven
    together; the layers after it take pixels twice as far apart, so that each patch
    reads its own. Dense layers are convolutions in both forms: the first by as large
    a kernel as the map that is left of a patch, the others 1x1. `count_multiply_adds`
    says what that saves.

    The centre of a patch is its pixel `(p // 2, p // 2)`: the middle one if `p` is
    odd; if `p` is even, the lower right of the four in the middle, so that a patch has
    one pixel more above and to the left of its centre than below and to the right.
    Beyond its border the image is continued by mirroring, without repeating the
    border pixels.

    Without training the two forms agree up to rounding. In training both normalise
    by the statistics of the maps they compute: the image's form counts a position
    of a map once, patches as often as it occurs in them.

    Source: the first starting point of CS231n's lecture on segmentation, "sliding
    window"; as a system, Ciresan et al. (NIPS 2012), who segment neuronal membranes
    like this. Computing all positions at once is from Giusti et al. (arXiv
    1302.1700), there in fragments, here by dilation. The sizes are ours: the
    lecture gives none.

    Attributes:
      num_classes: channels of the logits.
      stages: for each stage, the channels of its convolutions.
      dense: units of the dense layers before the classifier.
      patch: side `p` of the patches, in pixels; every pooling must meet an even side.
      kernel_size: side of the convolutions' kernels.
      width: factor on the channels and units.
      dropout: rate of the dropout after every dense layer but the classifier.
      dtype: of the computation; parameters, statistics and the classifier are
        float32.
      axis_name: pmapped axis over which batch statistics are synchronised.

    Raises:
      InputError: patches or image are not float arrays of the shapes above, or
        `patch` is a size that the poolings cannot halve.
    """

    num_classes: int
    stages: tuple[tuple[int, ...], ...] = ((32, 32), (64, 64))
    dense: tuple[int, ...] = (128,)
    patch: int = 32
    kernel_size: int = 3
    width: float = 1.0
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @property
    def margin(self) -> int:
        """Pixels of context lost on every side: none, the border is mirrored."""
        return 0

    @nn.nowrap
    def input_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The smallest image whose logits cover `size`: that size."""
        return tuple(size)

    def __call__(self, image: jax.Array, *, train: bool) -> dict[str, jax.Array]:
        check_maps("image", image, "[b h w c]")
        before = self.patch // 2
        ends = (before, self.patch - 1 - before)
        padded = jnp.pad(image, [(0, 0), ends, ends, (0, 0)], mode="reflect")
        return {"logits": self._score(padded, slide=True, train=train)}

    def classify(self, patches: jax.Array, *, train: bool) -> jax.Array:
        """Classifies the centre pixel of each patch: `[n p p c] -> [n k]`."""
        check_maps("patches", patches, f"[n {self.patch} {self.patch} c]")
        if patches.shape[1:3] != (self.patch, self.patch):
            raise InputError(
                f"patches are {patches.shape[1]}x{patches.shape[2]} pixels, but this "
                f"network classifies {self.patch}x{self.patch}"
            )
        return self._score(patches, slide=False, train=train)[:, 0, 0]

    @nn.compact
    def _score(self, x: jax.Array, *, slide: bool, train: bool) -> jax.Array:
        """Logits `[b h-p+1 w-p+1 k]` if sliding, of whole patches `[n 1 1 k]` if not."""
        *hidden, classifier = layers_of(self)

        def convolve(x, layer, dtype):
            return Conv(
                layer.features,
                (layer.kernel_size, layer.kernel_size),
                padding="VALID",
                kernel_dilation=layer.dilation if slide else 1,
                dtype=dtype,
                name=layer.name,
            )(x)

        x = x.astype(self.dtype)
        for layer in hidden:
            x = nn.BatchNorm(
                use_running_average=not train,
                momentum=0.9,
                epsilon=1e-5,
                dtype=self.dtype,
                axis_name=self.axis_name,
                name=f"{layer.name}_bn",
            )(convolve(x, layer, self.dtype))
            x = nn.relu(x)
            if layer.pool and slide:
                x = _sliding_max_pool(x, layer.dilation)
            elif layer.pool:
                x = nn.max_pool(x, (2, 2), strides=(2, 2))
            if layer.dense:
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return convolve(x.astype(jnp.float32), classifier, jnp.float32)


class Layer(NamedTuple):
    """A layer of a PatchClassifier.

    Attributes:
      name: of its parameters.
      features: output channels.
      kernel_size: side of the kernel.
      side: of its output on one patch, before pooling.
      dilation: pixels from one tap of the kernel to the next in the sliding form.
      pool: whether a 2x2 max-pooling follows.
      dense: whether it sees all that is left of a patch.
    """

    name: str
    features: int
    kernel_size: int
    side: int
    dilation: int
    pool: bool = False
    dense: bool = False


def layers_of(model: PatchClassifier) -> list[Layer]:
    """The layers of `model`, first to last; raises `InputError` if they do not fit."""
    shrink = model.kernel_size - 1
    smallest = 1
    for stage in reversed(model.stages):
        smallest = 2 * smallest + shrink * len(stage)
    step = 2 ** len(model.stages)
    if model.patch < smallest or (model.patch - smallest) % step:
        raise InputError(
            f"patch is {model.patch} pixels, but {len(model.stages)} poolings between "
            f"these convolutions need {smallest}, {smallest + step}, "
            f"{smallest + 2 * step} or any further multiple of {step} more"
        )

    layers = []
    side, dilation = model.patch, 1
    for i, stage in enumerate(model.stages, start=1):
        channels = scale_channels(stage, model.width)
        for j, features in enumerate(channels, start=1):
            side -= shrink
            pool = j == len(channels)
            layers.append(
                Layer(f"conv{i}_{j}", features, model.kernel_size, side, dilation, pool)
            )
        side //= 2
        dilation *= 2
    for i, features in enumerate(scale_channels(model.dense, model.width), start=1):
        layers.append(Layer(f"dense{i}", features, side, 1, dilation, dense=True))
        side = 1
    return [*layers, Layer("classifier", model.num_classes, side, 1, dilation)]


class MultiplyAdds(NamedTuple):
    """Multiply-adds that classify every pixel of an image, pooling not counted.

    Attributes:
      separate: patch by patch.
      sliding: of the form without repetition.
    """

    separate: int
    sliding: int

    @property
    def ratio(self) -> float:
        """How many times fewer the sliding form needs."""
        return self.separate / self.sliding


def count_multiply_adds(
    model: PatchClassifier, *, size: tuple[int, int], channels: int = 3
) -> MultiplyAdds:
    """Counts the multiply-adds of both forms, from the sizes of the layers.

    Args:
      model: the classifier.
      size: height and width of the image, in pixels.
      channels: of the image.

    Returns:
      The counts for one image.
    """
    height, width = size
    separate = sliding = 0
    beyond = model.patch - 1  # rows and columns of the map more than of the image
    for layer in layers_of(model):
        weights = layer.kernel_size**2 * channels * layer.features
        beyond -= (layer.kernel_size - 1) * layer.dilation
        separate += height * width * layer.side**2 * weights
        sliding += (height + beyond) * (width + beyond) * weights
        beyond -= layer.dilation if layer.pool else 0
        channels = layer.features
    return MultiplyAdds(separate, sliding)


def _sliding_max_pool(x: jax.Array, dilation: int) -> jax.Array:
    """Maxima of 2x2 pixels `dilation` apart, at every position: no stride."""
    x = jnp.maximum(x[:, :-dilation], x[:, dilation:])
    return jnp.maximum(x[:, :, :-dilation], x[:, :, dilation:])
