"""DeconvNet: VGG16 with its fully connected layers, and back through its switches."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from segjax.errors import InputError
from segjax.models.decoders.segnet import SegNetDecoder
from segjax.models.encoders import scale_channels, vgg16
from segjax.models.features import Features
from segjax.models.layers import ConvNormAct, ConvTranspose, Remat
from segjax.models.segmenter import Segmenter

_WINDOW = 7
_STAGES = (
    (512, 512, 512),
    (512, 512, 256),
    (256, 256, 128),
    (128, 64),
    (64, 64),
)


def deconvnet(
    num_classes: int, *, width: float = 1.0, dropout: float = 0.0, **options
) -> Segmenter:
    """DeconvNet: on 224x224 pixels, these layers (sides in pixels, channels).

        13 convolutions 3x3, five poolings     7, 512, and five sets of switches
        fc6: convolution 7x7 without padding   1, 4096
        fc7: convolution 1x1                   1, 4096
        fc6_deconv: transposed convolution 7x7 7, 512
        five times: unpool, convolve 3x3       14, 28, 56, 112, 224
        classifier: convolution 1x1            224, num_classes

    Batch normalisation and ReLU follow every layer but the classifier. As the fully
    connected layers are convolutions, any image works whose map at stride 32 is at
    least 7x7: from 193 pixels a side. A smaller one raises `InputError`.

    It has 251,805,653 parameters at 21 classes, the number of the authors'
    `DeconvNet_inference_deploy.prototxt`; 82 % of them are in fc6 and fc6_deconv.

    Source: Noh et al. (arXiv 1505.04366), section 3, and that prototxt. In it the
    decoder's 3x3 layers are transposed convolutions; here they are convolutions.
    With stride 1 and padding 1 the two are the same function but for the kernel turned
    by 180 degrees, so parameters and what can be learned are the same (turn the
    kernels, and swap their channel axes, to load the release). Differs from them:

    - Every kernel starts from He's normal distribution. The authors start the 13
      convolutions from VGG16's weights and the rest from N(0, 0.01^2).
    - Batch normalisation starts at shift 0 (theirs .001), has epsilon 1e-5, and
      keeps running statistics with momentum 0.9.
    - It segments whole images of any size: object proposals and their aggregation,
      the ensemble with FCN-8s and the CRF are not part of the network.
    - `dropout`, where asked for, acts on fc6 and fc7 as in VGG16; theirs has none.

    Args:
      num_classes: channels of the logits.
      width: factor on every number of channels but the classes.
      dropout: rate of the dropout after fc6 and after fc7.
      **options: `dtype` and `axis_name`, as in the encoder.
    """
    return Segmenter(
        DeconvNetEncoder(width=width, dropout=dropout, **options),
        DeconvNetDecoder(num_classes, width=width, **options),
    )


class DeconvNetEncoder(nn.Module):
    """VGG16 with batch normalisation, fc6 and fc7: the "convolution network".

    Maps an image `[b h w c]` (normalised, float) to `Features`. Their deepest map is
    that of fc7, at stride 32 but 6 pixels smaller a side than pool5's.

    Attributes:
      width: factor on every number of channels.
      dropout: rate of the dropout after fc6 and after fc7.
      dtype: of the computation; parameters and statistics are float32.
      axis_name: pmapped axis over which batch statistics are synchronised.
      remat: what the backward pass computes again; see `segjax.models.layers.Remat`.
    """

    width: float = 1.0
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None
    remat: Remat = "none"

    @property
    def max_stride(self) -> int:
        """Stride of the deepest map."""
        return 32

    @property
    def margin(self) -> int:
        """Pixels without scores on every side: none, fc6_deconv undoes fc6's border."""
        return 0

    @nn.nowrap
    def input_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The smallest image that it takes and that covers `size`."""
        smallest = self.max_stride * (_WINDOW - 1) + 1
        return tuple(max(side, smallest) for side in size)

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> Features:
        options = {"dtype": self.dtype, "axis_name": self.axis_name}
        vgg = vgg16(width=self.width, remat=self.remat, name="vgg16", **options)
        features = vgg(image, train=train)
        self._check(image.shape[1:3])
        (channels,) = scale_channels((4096,), self.width)
        x = features.maps[self.max_stride]
        for name, kernel_size in (("fc6", _WINDOW), ("fc7", 1)):
            layer = ConvNormAct(
                channels, kernel_size, padding="VALID", name=name, **options
            )
            x = layer(x, train=train)
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return features.replace(maps={**features.maps, self.max_stride: x})

    @nn.nowrap
    def _check(self, size: tuple[int, int]) -> None:
        needed = self.input_size(size)
        if size != needed:
            raise InputError(
                f"image is {size[0]}x{size[1]} pixels, but DeconvNet needs at least "
                f"{needed[0]}x{needed[1]}: its map at stride {self.max_stride} must "
                f"hold the {_WINDOW}x{_WINDOW} window of fc6"
            )


class DeconvNetDecoder(nn.Module):
    """fc6_deconv, then SegNet's scheme: the "deconvolution network".

    Attributes:
      num_classes: channels of the logits.
      width: factor on every number of channels but the classes.
      dtype: of the computation; parameters, statistics and the classifier are
        float32.
      axis_name: pmapped axis over which batch statistics are synchronised.
      remat: what the backward pass computes again; see `segjax.models.layers.Remat`.
    """

    num_classes: int
    width: float = 1.0
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None
    remat: Remat = "none"

    @nn.compact
    def __call__(self, features: Features, *, train: bool) -> jax.Array:
        options = {"dtype": self.dtype, "axis_name": self.axis_name}
        stride = features.max_stride
        x = ConvTranspose(
            features.channels(stride),
            _WINDOW,
            stride=1,
            dtype=self.dtype,
            name="fc6_deconv",
        )(features.maps[stride])
        x = nn.BatchNorm(
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            name="fc6_deconv_bn",
            **options,
        )(x)
        decoder = SegNetDecoder(
            self.num_classes,
            tuple(scale_channels(stage, self.width) for stage in _STAGES),
            classifier_kernel_size=1,
            remat=self.remat,
            name="unpooling",
            **options,
        )
        deepest = {**features.maps, stride: nn.relu(x)}
        return decoder(features.replace(maps=deepest), train=train)
