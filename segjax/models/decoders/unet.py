"""U-Net-style decoder: 2x2 transposed convolutions, concatenated skips."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from segjax.models.features import Features
from segjax.models.layers import Conv, ConvNormAct, ConvTranspose
from segjax.ops.resampling import crop_to


class UNetDecoder(nn.Module):
    """Per level: 2x2 transposed convolution, concatenate the skip, two 3x3.

    A level has as many channels as the encoder's map at its stride. The
    concatenation is [skip, upsampled]; the last layer is a 1x1 convolution.

    Source: U-Net (arXiv 1505.04597), figure 1. Differs from the paper: same
    padding, so skips are not cropped (the upsampled map is, by one row or column,
    where pooling rounded up); batch normalisation if `norm`.

    Attributes:
      num_classes: channels of the logits.
      norm: batch normalisation after the 3x3 convolutions.
      dtype: of the computation; the classifier is float32.
      axis_name: pmapped axis over which batch statistics are synchronised.
    """

    num_classes: int
    norm: bool = True
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, features: Features, *, train: bool) -> jax.Array:
        stride = features.max_stride
        x = features.maps[stride]
        while stride > 1:
            stride //= 2
            skip = features.maps[stride]
            channels = skip.shape[-1]
            x = ConvTranspose(
                channels, kernel_size=2, stride=2, dtype=self.dtype, name=f"up{stride}"
            )(x)
            x = jnp.concatenate([skip, crop_to(x, features.size(stride))], axis=-1)
            for j in (1, 2):
                x = ConvNormAct(
                    channels,
                    norm=self.norm,
                    dtype=self.dtype,
                    axis_name=self.axis_name,
                    name=f"conv{stride}_{j}",
                )(x, train=train)
        x = x.astype(jnp.float32)
        return Conv(self.num_classes, (1, 1), name="classifier")(x)
