"""The axis of the ablation: any way to upsample, any way to use skips, any encoder.

A way to upsample is a function `(x, features, stride) -> x`: it maps the decoder's
`[b h w c]` at `stride` to `[b h' w' c]`, the size of the encoder's map at
`stride // 2`. A way to use skips says what is kept of an encoder's map and how it
joins the decoder's. Functions may make Flax modules; they run inside the decoder's
scope. A strategy of your own is one such function:

    def my_upsample(x, features, stride):
        ...
    decoder = StrategyDecoder(num_classes, upsample=my_upsample, skip=SKIPS["sum"])
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from segjax.errors import InputError
from segjax.models.features import Features
from segjax.models.layers import (
    Classifier,
    Conv,
    ConvNormAct,
    ConvTranspose,
    Remat,
    bilinear_init,
    he_normal,
    run_block,
)
from segjax.ops.resampling import crop_to, resize_bilinear

Upsample = Callable[[jax.Array, Features, int], jax.Array]


def nearest(x: jax.Array, features: Features, stride: int) -> jax.Array:
    """Repeats every pixel 2x2."""
    x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
    return crop_to(x, features.size(stride // 2))


def bilinear(x: jax.Array, features: Features, stride: int) -> jax.Array:
    """Bilinear interpolation between the centres of the pooling's windows."""
    _, height, width, _ = x.shape
    x = resize_bilinear(x, (2 * height, 2 * width), align_corners=False)
    return crop_to(x, features.size(stride // 2))


def transposed(
    x: jax.Array, features: Features, stride: int, *, kernel_init: Callable
) -> jax.Array:
    """Transposed convolution, 4x4 with stride 2: FCN's kernel of twice the ratio."""
    x = ConvTranspose(
        x.shape[-1],
        kernel_size=4,
        stride=2,
        padding=1,
        use_bias=False,
        kernel_init=kernel_init,
        dtype=x.dtype,
        name=f"up{stride}",
    )(x)
    return crop_to(x, features.size(stride // 2))


def resize_convolution(x: jax.Array, features: Features, stride: int) -> jax.Array:
    """Nearest neighbour, then a 3x3 convolution: no checkerboard by construction.

    Source: Odena et al., "Deconvolution and Checkerboard Artifacts" (2016).
    """
    x = nearest(x, features, stride)
    return Conv(x.shape[-1], (3, 3), dtype=x.dtype, name=f"up{stride}")(x)


def pixel_shuffle(x: jax.Array, features: Features, stride: int) -> jax.Array:
    """A 3x3 convolution to four times the channels, laid out as 2x2 pixels.

    Source: Shi et al. (arXiv 1609.05158), sub-pixel convolution.
    """
    batch, height, width, channels = x.shape
    x = Conv(4 * channels, (3, 3), dtype=x.dtype, name=f"up{stride}")(x)
    x = x.reshape(batch, height, width, 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(batch, 2 * height, 2 * width, channels)
    return crop_to(x, features.size(stride // 2))


def max_unpool(x: jax.Array, features: Features, stride: int) -> jax.Array:
    """Every value back to where the encoder's pooling found its maximum (SegNet)."""
    return features.unpool(x, stride)


UPSAMPLINGS: dict[str, Upsample] = {
    "nearest": nearest,
    "bilinear": bilinear,
    "transposed": functools.partial(transposed, kernel_init=bilinear_init),
    "transposed_random": functools.partial(transposed, kernel_init=he_normal),
    "resize_conv": resize_convolution,
    "pixel_shuffle": pixel_shuffle,
    "max_unpool": max_unpool,
}


@dataclasses.dataclass(frozen=True)
class Skip:
    """What the decoder gets of an encoder's map, and how it joins.

    Attributes:
      keep: `(map, num_classes, stride) -> map`, on the encoder's side, so that only
        its result crosses; None if nothing does.
      join: `(x, kept, stride) -> x`, on the decoder's side.
    """

    keep: Callable[[jax.Array, int, int], jax.Array] | None
    join: Callable[[jax.Array, jax.Array, int], jax.Array]


def _as_it_is(x, num_classes, stride):
    del num_classes, stride
    return x


def _reduced(x, num_classes, stride):
    return Conv(num_classes, (1, 1), dtype=x.dtype, name=f"reduce{stride}")(x)


def _no_join(x, kept, stride):
    del kept, stride
    return x


def _add(x, kept, stride):
    _check_joint(x, kept, stride, also_channels=True)
    return x + kept


def _concatenate(x, kept, stride):
    _check_joint(x, kept, stride, also_channels=False)
    return jnp.concatenate([kept, x], axis=-1)


def _expand_and_add(x, kept, stride):
    _check_joint(x, kept, stride, also_channels=False)
    return x + Conv(x.shape[-1], (1, 1), dtype=x.dtype, name=f"expand{stride}")(kept)


SKIPS: dict[str, Skip] = {
    "none": Skip(keep=None, join=_no_join),
    "sum": Skip(keep=_as_it_is, join=_add),
    "concat": Skip(keep=_as_it_is, join=_concatenate),
    # As many channels cross as there are classes, FCN-Basic's reduction.
    "reduced_sum": Skip(keep=_reduced, join=_expand_and_add),
}


class SkipNeck(nn.Module):
    """The encoder's side of a skip: its maps reduced to what the decoder is given."""

    num_classes: int
    skip: Skip

    @nn.compact
    def __call__(self, features: Features, *, train: bool) -> Features:
        del train
        if self.skip.keep is None:
            return features
        deepest = features.max_stride
        kept = {
            stride: x
            if stride == deepest
            else self.skip.keep(x, self.num_classes, stride)
            for stride, x in features.maps.items()
        }
        return features.replace(maps=kept)


class StrategyDecoder(nn.Module):
    """Per level: upsample, join the skip, convolve; nothing else differs.

    Level by level the decoder upsamples as many channels as the encoder pooled there,
    whatever the strategy; where the deepest map has others (U-Net's 1024 against 512),
    a 1x1 convolution matches them first. `convolutions` 3x3 convolutions follow, the
    last of them leading to the channels of the next level.

    Attributes:
      num_classes: channels of the logits.
      upsample: a value of UPSAMPLINGS or a function of that form.
      skip: a value of SKIPS; its `keep` belongs in a `SkipNeck`.
      convolutions: 3x3 convolutions per level.
      norm: batch normalisation after every convolution but the classifier.
      dtype: of the computation; the classifier is float32.
      axis_name: pmapped axis over which batch statistics are synchronised.
      remat: what the backward pass computes again; a level's convolutions are a block.

    Raises:
      InputError: the encoder lacks switches, or sizes of skip and map differ.
    """

    num_classes: int
    upsample: Upsample
    skip: Skip
    convolutions: int = 2
    norm: bool = True
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None
    remat: Remat = "none"

    @nn.compact
    def __call__(self, features: Features, *, train: bool) -> jax.Array:
        convolution = functools.partial(
            ConvNormAct, norm=self.norm, dtype=self.dtype, axis_name=self.axis_name
        )

        def level(_, x, widths, stride):
            for j, width in enumerate(widths, start=1):
                x = convolution(width, name=f"conv{stride}_{j}")(x, train=train)
            return x

        stride = features.max_stride
        x = features.maps[stride]
        while stride > 1:
            channels = features.channels(stride)
            if x.shape[-1] != channels:
                x = convolution(channels, 1, name=f"match{stride}")(x, train=train)
            x = self.upsample(x, features, stride)
            stride //= 2
            x = self.skip.join(x, features.maps[stride], stride)
            onward = features.channels(stride) if stride > 1 else channels
            widths = [channels] * (self.convolutions - 1) + [onward]
            block = functools.partial(level, widths=widths, stride=stride)
            x = run_block(block, self, x, remat=self.remat)
        return Classifier(self.num_classes, name="classifier")(x)


def _check_joint(x, kept, stride, *, also_channels):
    last = 4 if also_channels else 3
    if x.shape[:last] != kept.shape[:last]:
        raise InputError(
            f"skip at stride {stride}: the decoder's map is {list(x.shape)}, the "
            f"encoder's {list(kept.shape)}; expected the same "
            + ("shape" if also_channels else "height and width")
        )
