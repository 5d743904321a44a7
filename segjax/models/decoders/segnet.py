"""SegNet-style decoder: unpooling with the encoder's switches, no skip maps."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from segjax.models.features import Features
from segjax.models.layers import Conv, ConvNormAct, Remat, run_level


class SegNetDecoder(nn.Module):
    """Per level: unpool through the encoder's switches, then convolve.

    Only switches (2 bits each) cross from encoder to decoder. Unpooling needs as
    many channels as the switches have; where the deepest map has others (U-Net's
    1024 against 512), a 1x1 convolution matches them first.

    Source: SegNet (arXiv 1511.00561) section 3 and the authors' `segnet_train.prototxt`,
    whose layers `stages` of `segnet_vgg16_bn` are. Differs from them: no dropout in the
    decoder (the SUN version has 0.5 after three of its convolutions, and after the
    last three poolings); batch normalisation has epsilon 1e-5 and running averages
    instead of a pass over the training set; the image is normalised per channel
    instead of by local contrast.

    Attributes:
      num_classes: channels of the logits.
      stages: for each level, deepest first, the channels of its convolutions; the
        last must equal the channels of the next level's switches. None mirrors
        the encoder: as many channels as the level's map, then as the next one's.
      classifier_kernel_size: side of the last convolution's kernel (SegNet has 3,
        DeconvNet 1).
      norm: batch normalisation after every convolution but the classifier.
      dtype: of the computation; the classifier is float32.
      axis_name: pmapped axis over which batch statistics are synchronised.
      remat: what the backward pass computes again; a level is a block.
    """

    num_classes: int
    stages: tuple[tuple[int, ...], ...] | None = None
    classifier_kernel_size: int = 3
    norm: bool = True
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None
    remat: Remat = "none"

    @nn.compact
    def __call__(self, features: Features, *, train: bool) -> jax.Array:
        convolution = partial(
            ConvNormAct, norm=self.norm, dtype=self.dtype, axis_name=self.axis_name
        )

        def level(_, x, stage, stride):
            x = features.unpool(x, stride)
            stride //= 2
            for j, channels in enumerate(stage, start=1):
                x = convolution(channels, name=f"conv{stride}_{j}")(x, train=train)
            return x

        stride = features.max_stride
        x = features.maps[stride]
        for stage in self.stages or mirrored_stages(features):
            if x.shape[-1] != features.channels(stride):
                match = convolution(features.channels(stride), 1, name=f"match{stride}")
                x = match(x, train=train)
            block = partial(level, stage=stage, stride=stride)
            x = run_level(block, self, x, remat=self.remat)
            stride //= 2
        x = x.astype(jnp.float32)
        kernel = (self.classifier_kernel_size, self.classifier_kernel_size)
        return Conv(self.num_classes, kernel, name="classifier")(x)


def mirrored_stages(features: Features) -> tuple[tuple[int, ...], ...]:
    """Two convolutions per level: this level's channels, then the next one's."""
    strides = sorted(features.pooled, reverse=True)
    channels = [features.channels(s) for s in strides]
    return tuple(
        (here, onward)
        for here, onward in zip(channels, [*channels[1:], channels[-1]], strict=True)
    )
