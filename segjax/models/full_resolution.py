"""The network that never leaves image resolution: convolutions and no pooling."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from segjax.models.encoders import scale_channels
from segjax.models.layers import Conv, ConvNormAct, Remat, check_maps, run_block


class FullResolutionNet(nn.Module):
    """A stack of [3x3 convolution, BN, ReLU] at image resolution, then a 1x1 classifier.

    `model.apply(variables, image, train=...)` maps a normalised float image
    `[b h w c]` of any size to `{"logits": float32 [b h w num_classes]}`. Nothing has to
    be upsampled; what pooling buys instead is the reason not to do it this way:

    - Receptive field: each layer adds 2 pixels, so eight see 17x17. SegNet-Basic,
      also of eight convolutions, sees 106x106 at the end of its encoder; without
      pooling that takes 53 layers of 3x3.
    - Memory: 64 maps of a 360x480 image are 44.2 MB in float32, in every layer. The
      outputs of the eight convolutions are 353.9 MB for one image, and training
      keeps them; those of SegNet-Basic's eight are 117.5 MB, and of its encoder's
      four alone 58.8 MB.

    Source: the second starting point of CS231n's lecture on segmentation: convolutions
    at image resolution that predict all pixels at once. The lecture gives no sizes;
    these are SegNet-Basic's eight convolutions of 64 channels, so that the two can be
    compared.

    Attributes:
      num_classes: channels of the logits.
      channels: of the 3x3 convolutions.
      width: factor on `channels`.
      dropout: rate of the dropout before the classifier.
      dtype: of the computation; parameters, statistics and the classifier are
        float32.
      axis_name: pmapped axis over which batch statistics are synchronised.
      remat: what the backward pass computes again; each convolution is a block.

    Raises:
      InputError: the image is not a float array `[b h w c]`.
    """

    num_classes: int
    channels: tuple[int, ...] = (64,) * 8
    width: float = 1.0
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None
    remat: Remat = "none"

    @property
    def margin(self) -> int:
        """Pixels of context lost on every side: none, convolutions pad with zeros."""
        return 0

    @property
    def receptive_field(self) -> int:
        """Side of the square of pixels that one pixel's logits depend on."""
        return 1 + 2 * len(self.channels)

    @nn.nowrap
    def input_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The smallest image whose logits cover `size`: that size."""
        return tuple(size)

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> dict[str, jax.Array]:
        check_maps("image", image, "[b h w c]")
        x = image.astype(self.dtype)

        def convolve(_, x, i, features):
            return ConvNormAct(
                features, dtype=self.dtype, axis_name=self.axis_name, name=f"conv{i}"
            )(x, train=train)

        for i, features in enumerate(scale_channels(self.channels, self.width), 1):
            block = partial(convolve, i=i, features=features)
            x = run_block(block, self, x, remat=self.remat)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = x.astype(jnp.float32)
        return {"logits": Conv(self.num_classes, (1, 1), name="classifier")(x)}
