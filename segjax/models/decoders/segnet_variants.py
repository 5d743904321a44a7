"""The eight decoders of the SegNet paper's table 1, on SegNet-Basic's encoder.

Source: SegNet (arXiv 1511.00561), section 3.1 and figure 3. What the paper leaves
open is decided here: the 8x8 kernels of stride 2 have padding 3, which doubles a map
exactly (odd levels are cropped by one row), and start as bilinear interpolation of unit
gain; FCN-Basic's decoders have no batch normalisation; Bilinear-Interpolation scores
the deepest map and upsamples the scores sixteenfold in one step. The paper counts parameters without biases and batch
normalisation; `segjax.report.published` says where its counts do not follow from
these layers.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from segjax.models.features import Features
from segjax.models.layers import (
    Classifier,
    Conv,
    ConvNormAct,
    ConvTranspose,
    bilinear_init,
    run_level,
)
from segjax.ops.resampling import crop_to, resize_bilinear


def interpolation_init(
    key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32
) -> jax.Array:
    """Start of an 8x8 transposed convolution of stride 2: interpolation, gain 1.

    A bilinear kernel of side 8 belongs to stride 4. With stride 2 every pixel gets
    four times the weight (Caffe's bilinear filler leaves it so), and after four levels
    scores would start 256 times too large: hence a quarter of it.
    """
    return bilinear_init(key, shape, dtype) / 4


class BilinearDecoder(nn.Module):
    """Bilinear-Interpolation: a 1x1 classifier, then nothing that is learned."""

    num_classes: int

    @nn.compact
    def __call__(self, features: Features, *, train: bool) -> jax.Array:
        del train
        stride = features.max_stride
        x = features.maps[stride].astype(jnp.float32)
        x = Conv(self.num_classes, (1, 1), name="classifier")(x)
        _, height, width, _ = x.shape
        x = resize_bilinear(x, (stride * height, stride * width), align_corners=False)
        return crop_to(x, features.size(1))


class SegNetBasicDecoder(nn.Module):
    """SegNet-Basic and two variants: unpool, 7x7 convolution, BN, no activation.

    Attributes:
      num_classes: channels of the logits.
      addition: SegNet-Basic-EncoderAddition: the encoder's map of the level is added
        after the convolution.
      single_channel: SegNet-Basic-SingleChannelDecoder: every filter has one channel
        (a depthwise convolution).
      dtype: of the computation; the classifier is float32.
      axis_name: pmapped axis over which batch statistics are synchronised.
    """

    num_classes: int
    addition: bool = False
    single_channel: bool = False
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, features: Features, *, train: bool) -> jax.Array:
        def level(_, x, stride):
            channels = x.shape[-1]
            convolution = ConvNormAct(
                channels,
                kernel_size=7,
                groups=channels if self.single_channel else 1,
                activation=None,
                dtype=self.dtype,
                axis_name=self.axis_name,
                name=f"conv{stride // 2}_1",
            )
            return convolution(features.unpool(x, stride), train=train)

        stride = features.max_stride
        x = features.maps[stride]
        while stride > 1:
            x = run_level(partial(level, stride=stride), self, x, remat="none")
            stride //= 2
            if self.addition:
                x = x + features.maps[stride]
        return Classifier(self.num_classes, name="classifier")(x)


class ScoreNeck(nn.Module):
    """FCN-Basic's dimensionality reduction: pooled maps to one channel per class.

    It belongs to the encoder's side: only the scores are kept for the decoder.
    """

    num_classes: int
    strides: tuple[int, ...]

    @nn.compact
    def __call__(self, features: Features, *, train: bool) -> Features:
        del train
        scores = {
            stride: Conv(self.num_classes, (1, 1), name=f"score{stride}")(
                features.pooled[stride].astype(jnp.float32)
            )
            for stride in self.strides
        }
        return features.replace(pooled={**features.pooled, **scores})


class FCNBasicDecoder(nn.Module):
    """FCN-Basic and three variants: 8x8 transposed convolutions, pooled maps added.

    With dimensionality reduction a `ScoreNeck` has made the pooled maps scores and
    the result is the logits; without it all of the encoder's channels are upsampled
    and a 1x1 classifier follows.

    Attributes:
      num_classes: channels of the logits.
      addition: pooled maps are added; False is NoAddition.
      reduction: pooled maps are scores already; False is NoDimReduction.
      dtype: of the computation; scores are float32.
    """

    num_classes: int
    addition: bool = True
    reduction: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, features: Features, *, train: bool) -> jax.Array:
        del train
        stride = features.max_stride
        x = features.pooled[stride]
        while stride > 1:
            x = ConvTranspose(
                x.shape[-1],
                kernel_size=8,
                stride=2,
                padding=3,
                use_bias=False,
                kernel_init=interpolation_init,
                dtype=x.dtype,
                name=f"up{stride}",
            )(x)
            stride //= 2
            x = crop_to(x, features.size(stride))
            if self.addition and stride > 1:
                x = x + features.pooled[stride]
        if self.reduction:
            return x
        return Classifier(self.num_classes, name="classifier")(x)
