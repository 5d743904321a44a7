"""FCN: VGG16 made fully convolutional, with the crops of the authors' release."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from segjax.errors import InputError
from segjax.models.encoders import scale_channels
from segjax.models.layers import Conv, Remat, bilinear_init, run_block
from segjax.ops.pooling import max_pool_with_switches
from segjax.ops.resampling import crop_to, upsample_bilinear
from segjax.ops.transposed_convolution import conv_transpose

_VGG16_STAGES = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)
# Stride of a skip -> its upsampling layer, its score layer, where the skip's scores are
# cropped, and what at-once training multiplies the pooled maps by.
_SKIPS = {
    16: ("upscore2", "score_pool4", 5, 0.01),
    8: ("upscore_pool4", "score_pool3", 9, 0.0001),
}
# Stride of the finest scores -> where their upsampling is cropped to the image.
_CROPS = {32: 19, 16: 27, 8: 31}


class FCN(nn.Module):
    """FCN-32s, -16s, -8s and -8s-at-once on VGG16 with its fully connected layers.

    `model.apply(variables, image, train=...)` maps a normalised float image
    `[b h w c]` of any size to `{"logits": float32 [b h w num_classes]}`. Zeros are
    the mean colour then, which is what the release pads with. With `train=True`
    dropout draws from the `dropout` random stream.

    The image is padded by 100 pixels, so that the 7x7 convolution `fc6` has a place
    to stand on however small the image is; the five poolings round up. Scores at
    stride 32 are upsampled by 2 and summed with cropped skip scores until `stride`,
    then upsampled at once to the image and cropped. The crop offsets line all scores
    up: row `y` of the image is row `(y - 12.5) / 32` of the scores at stride 32,
    `(y + 11.5) / 16` of those at stride 16 and `(y + 23.5) / 8` at stride 8.

    Layers have the release's names: `conv1_1` ... `conv5_3`, `fc6`, `fc7`,
    `score_fr`, `score_pool4`, `score_pool3`, `upscore2`, `upscore_pool4`. So
    `training.initialization.transfer` starts a finer net from a coarser one, and any
    of them from a classifier by way of `models.convolutionalize`. Score layers start
    at zero: a new skip changes nothing until it is trained.

    Source: FCN (arXiv 1411.4038) sections 4.1-4.3, and the authors' release
    (github.com/shelhamer/fcn.berkeleyvision.org, `voc-fcn*/net.py`). Trainable
    parameters with 21 classes, counted on the release: 134,346,581 (32s),
    134,357,354 (16s), 134,362,751 (8s and at-once).

    Paper and release differ in two points. The paper learns the upsamplings by 2
    from a bilinear start and fixes only the last one (`learned=True`); in the
    release all are fixed (`learned=False`), with no significant difference in
    accuracy according to its README. At-once training is in the release only.

    Differs from both: fixed upsamplings are constants and not parameters, and are
    computed separably (the release's count as parameters and come to 1,806,336,
    458,640 and 127,008 more); without a classifier's weights convolutions start
    from He's distribution; scores are computed in float32 whatever `dtype` is.

    Attributes:
      num_classes: channels of the logits.
      stride: of the finest scores: 32, 16 or 8 for FCN-32s, -16s, -8s.
      at_once: multiply pool4 by 0.01 and pool3 by 0.0001 before they are scored, so
        that all skips can be trained at once. The weights of the skips' score
        layers do not mean the same with and without it.
      learned: learn the upsamplings by 2. FCN-32s has none.
      width: factor on every number of channels but the classes.
      dropout: rate of the dropout after `fc6` and after `fc7`.
      dtype: of the computation up to the score layers; parameters are float32.
      remat: what the backward pass computes again; a stage with its pooling is a block.
    """

    num_classes: int
    stride: int
    at_once: bool = False
    learned: bool = False
    width: float = 1.0
    dropout: float = 0.5
    dtype: jnp.dtype = jnp.float32
    remat: Remat = "none"

    @property
    def margin(self) -> int:
        """Pixels of context lost on every side: none."""
        return 0

    @nn.nowrap
    def input_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the smallest image whose logits cover `size`: itself."""
        return tuple(max(1, side) for side in size)

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> dict[str, jax.Array]:
        self._check(image)

        def convolve(x, features, kernel_size, padding, name):
            (scaled,) = scale_channels((features,), self.width)
            kernel = (kernel_size, kernel_size)
            x = Conv(scaled, kernel, padding=padding, dtype=self.dtype, name=name)(x)
            return nn.relu(x)

        def convolve_all(_, x, i, stage):
            for j, features in enumerate(stage, start=1):
                padding = 100 if i == j == 1 else 1
                x = convolve(x, features, 3, padding, f"conv{i}_{j}")
            return max_pool_with_switches(x)[0]

        def score(x, name, scale=1.0):
            x = x.astype(jnp.float32) * scale
            zeros = nn.initializers.zeros
            return Conv(self.num_classes, (1, 1), kernel_init=zeros, name=name)(x)

        x, pooled = image.astype(self.dtype), {}
        for i, stage in enumerate(_VGG16_STAGES, start=1):
            block = partial(convolve_all, i=i, stage=stage)
            x = run_block(block, self, x, remat=self.remat)
            pooled[2**i] = x
        for name, kernel_size in (("fc6", 7), ("fc7", 1)):
            x = convolve(x, 4096, kernel_size, 0, name)
            x = nn.Dropout(self.dropout, deterministic=not train)(x)

        scores = score(x, "score_fr")
        for skip, (upsampling, name, offset, scale) in _SKIPS.items():
            if skip < self.stride:
                break
            scores = _Upsampling(2, self.learned, name=upsampling)(scores)
            skipped = score(pooled[skip], name, scale if self.at_once else 1.0)
            scores += crop_to(skipped, scores.shape[1:3], offset=(offset, offset))
        scores = _Upsampling(self.stride, name=f"upscore{self.stride}")(scores)
        offset = _CROPS[self.stride]
        logits = crop_to(scores, image.shape[1:3], offset=(offset, offset))
        return {"logits": logits}

    def _check(self, image):
        if self.stride not in _CROPS:
            raise InputError(f"FCN's stride is {self.stride}: expected 32, 16 or 8")
        if self.stride == 32 and (self.at_once or self.learned):
            raise InputError(
                f"FCN-32s has neither skips nor upsamplings by 2, got at_once="
                f"{self.at_once} and learned={self.learned}: expected False"
            )
        if (
            image.ndim != 4
            or not jnp.issubdtype(image.dtype, jnp.floating)
            or any(side < 1 for side in image.shape[1:])
        ):
            raise InputError(
                "image must be a normalised float array [b h w c] with positive "
                f"sides, got {image.dtype} {list(image.shape)}"
            )


class _Upsampling(nn.Module):
    """Bilinear upsampling by `ratio`, by a transposed convolution if `learned`.

    `[b h w c]` to sides `(n + 1) * ratio` with zeros around the maps, without bias.
    """

    ratio: int
    learned: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        if not self.learned:
            return upsample_bilinear(x, ratio=self.ratio)
        shape = (2 * self.ratio, 2 * self.ratio, x.shape[-1], x.shape[-1])
        kernel = self.param("kernel", bilinear_init, shape)
        return conv_transpose(x, kernel, stride=self.ratio)
