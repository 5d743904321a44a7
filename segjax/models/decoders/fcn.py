"""FCN-style decoder: score maps, transposed convolutions, summed skips."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from segjax.models.features import Features
from segjax.models.layers import Conv, ConvTranspose, bilinear_init
from segjax.ops.resampling import crop_to


class FCNDecoder(nn.Module):
    """1x1 score layers; learned upsampling from bilinear; skips summed.

    The deepest map is scored, upsampled to the next skip's stride, added to that
    skip's scores, and so on; a last transposed convolution goes from the finest
    skip to image resolution in one step. Skips read the pooled maps. Transposed
    convolutions have kernel `2r`, stride `r`, padding `r/2`, no bias, and start as
    bilinear interpolation. Whatever rounding up made too large is cropped.

    Source: FCN (arXiv 1411.4038) section 4.2-4.3. Differs from the paper: no
    padding of the image by 100 and therefore no crop offsets; score layers start
    random, not at zero, because all skips are trained at once from scratch; the
    last upsampling is learned too.

    Attributes:
      num_classes: channels of the logits.
      skips: strides of the skips, deepest first; e.g. (16, 8) for FCN-8s on VGG16.
    """

    num_classes: int
    skips: tuple[int, ...]

    @nn.compact
    def __call__(self, features: Features, *, train: bool) -> jax.Array:
        del train  # nothing here behaves differently

        def score(x, stride):
            x = x.astype(jnp.float32)
            return Conv(self.num_classes, (1, 1), name=f"score{stride}")(x)

        def upsample(x, stride, target):
            ratio = stride // target
            x = ConvTranspose(
                self.num_classes,
                kernel_size=2 * ratio,
                stride=ratio,
                padding=ratio // 2,
                use_bias=False,
                kernel_init=bilinear_init,
                name=f"upscore{stride}",
            )(x)
            return crop_to(x, features.size(target))

        stride = features.max_stride
        x = score(features.maps[stride], stride)
        for skip in self.skips:
            x = upsample(x, stride, skip) + score(features.pooled[skip], skip)
            stride = skip
        return upsample(x, stride, 1)
