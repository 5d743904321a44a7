"""U-Net-style decoder: 2x2 transposed convolutions, concatenated skips."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from segjax.errors import InputError
from segjax.models.features import Features
from segjax.models.layers import (
    Classifier,
    ConvNormAct,
    ConvTranspose,
    Padding,
    Remat,
    run_level,
)
from segjax.ops.resampling import crop_to


class UNetDecoder(nn.Module):
    """Per level: 2x2 transposed convolution, concatenate the skip, two 3x3.

    A level has as many channels as the encoder's map at its stride. The
    concatenation is [skip, upsampled]; the last layer is a 1x1 convolution.

    Source: U-Net (arXiv 1505.04597), figure 1: `padding` "VALID" without `norm`,
    where the skip, which is larger than the upsampled map, gives its centre; from a
    572x572 image the skips lose 4, 16, 40 and 88 of their pixels a side, and logits
    are 388x388. With "SAME" (not in the paper) the two have the same size, except that
    the upsampled map gives up a row or column where pooling rounded up.

    Attributes:
      num_classes: channels of the logits.
      norm: batch normalisation after the 3x3 convolutions.
      padding: of the 3x3 convolutions; the encoder's.
      dtype: of the computation; the classifier is float32.
      axis_name: pmapped axis over which batch statistics are synchronised.
      remat: what the backward pass computes again; a level is a block.
    """

    num_classes: int
    norm: bool = True
    padding: Padding = "SAME"
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None
    remat: Remat = "none"

    @nn.nowrap
    def margin(self, encoder: nn.Module) -> int:
        """Pixels of context that this decoder loses on every side after `encoder`.

        Two 3x3 convolutions lose two pixels of their map: at strides 1, 2, 4 and so
        on, up to half the deepest, `2 * (1 + 2 + 4 + ...)` pixels of the image.
        """
        return 2 * (encoder.max_stride - 1) if self.padding == "VALID" else 0

    @nn.compact
    def __call__(self, features: Features, *, train: bool) -> jax.Array:
        def level(_, x, stride):
            skip = features.maps[stride]
            channels = skip.shape[-1]
            x = ConvTranspose(
                channels, kernel_size=2, stride=2, dtype=self.dtype, name=f"up{stride}"
            )(x)
            x = join(skip, x, stride)
            for j in (1, 2):
                x = ConvNormAct(
                    channels,
                    norm=self.norm,
                    padding=self.padding,
                    dtype=self.dtype,
                    axis_name=self.axis_name,
                    name=f"conv{stride}_{j}",
                )(x, train=train)
            return x

        join = {"SAME": _join_same, "VALID": _join_valid}[self.padding]
        stride = features.max_stride
        x = features.maps[stride]
        while stride > 1:
            stride //= 2
            x = run_level(partial(level, stride=stride), self, x, remat=self.remat)
        return Classifier(self.num_classes, name="classifier")(x)


def _join_same(skip, x, stride):
    """The skip and the top left of the upsampled map, which may be one larger."""
    if any(a < b for a, b in zip(x.shape[1:3], skip.shape[1:3], strict=True)):
        raise InputError(_misfit(skip, x, stride, "padding SAME needs one as large"))
    return jnp.concatenate([skip, crop_to(x, skip.shape[1:3])], axis=-1)


def _join_valid(skip, x, stride):
    """The centre of the skip and the upsampled map, which is smaller."""
    lost = [a - b for a, b in zip(skip.shape[1:3], x.shape[1:3], strict=True)]
    if any(n < 0 or n % 2 for n in lost):
        raise InputError(
            _misfit(skip, x, stride, "padding VALID needs a larger one, evenly so")
        )
    skip = crop_to(skip, x.shape[1:3], offset=(lost[0] // 2, lost[1] // 2))
    return jnp.concatenate([skip, x], axis=-1)


def _misfit(skip, x, stride, needed):
    return (
        f"at stride {stride} the skip has {skip.shape[1]}x{skip.shape[2]} pixels and "
        f"the upsampled map {x.shape[1]}x{x.shape[2]}: {needed}"
    )
