"""torchvision's FCN head: convolve the deepest map, score it, enlarge the scores."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from segjax.models.features import Features
from segjax.models.layers import Conv
from segjax.ops.resampling import resize_bilinear


class FCNHead(nn.Module):
    """3x3 convolution to a quarter of the channels, 1x1 to scores, bilinear resizing.

    Reads the deepest map alone; scores are resized to the image at once, between the
    outer edges of the corner pixels.

    Source: torchvision's `fcn_resnet50` and `fcn_resnet101`
    (`torchvision/models/segmentation/fcn.py`), after FCN (arXiv 1411.4038). Its second
    head, which training reads layer 3 with, is not here.

    Attributes:
      num_classes: channels of the logits.
      dropout: rate between the two convolutions; torchvision's is 0.1.
      dtype: of the computation; scores are float32.
      axis_name: pmapped axis over which batch statistics are synchronised.
    """

    num_classes: int
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, features: Features, *, train: bool) -> jax.Array:
        x = features.maps[features.max_stride]
        channels = max(1, x.shape[-1] // 4)
        x = Conv(channels, (3, 3), use_bias=False, dtype=self.dtype, name="conv")(x)
        x = nn.BatchNorm(
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            dtype=self.dtype,
            axis_name=self.axis_name,
            name="bn",
        )(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(nn.relu(x))
        x = Conv(self.num_classes, (1, 1), name="classifier")(x.astype(jnp.float32))
        return resize_bilinear(x, features.size(1), align_corners=False)
