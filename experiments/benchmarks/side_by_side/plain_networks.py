"""The networks as one writes them first in Flax: no operation of segjax in them.

Convolutions are `nn.Conv`, transposed ones `nn.ConvTranspose`, pooling `nn.max_pool`.
Parameters have the names that they have in segjax.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from side_by_side.plain_fcn import FCN8s
from side_by_side.plain_layers import VGG16, ConvBlock, Encoder, scale_channels
from side_by_side.plain_pooling import max_unpool

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_VGG16_DECODER = ((512,) * 3, (512, 512, 256), (256, 256, 128), (128, 64), (64,))
_UNET = ((64, 64), (128, 128), (256, 256), (512, 512))


def build_plain(
    network: str, *, num_classes: int, width: float = 1.0, dtype: Any = jnp.float32
) -> nn.Module:
    """The plain twin of a network of `segjax.models.zoo.MODELS`.

    Its `apply(variables, image, train=...)` maps a normalised image `[b h w 3]` to
    float32 logits `[b h' w' num_classes]`.

    Args:
      network: a key of NETWORKS.
      num_classes: channels of the logits.
      width: factor on all other numbers of channels.
      dtype: of the computation; parameters, statistics and logits are float32.
    """
    return NETWORKS[network](num_classes=num_classes, width=width, dtype=dtype)


def normalize(image: jax.Array) -> jax.Array:
    """uint8 `[b h w 3]` to float32 with ImageNet's mean and deviation."""
    mean = jnp.array(_MEAN).reshape(1, 1, 1, 3)
    std = jnp.array(_STD).reshape(1, 1, 1, 3)
    return (image.astype(jnp.float32) / 255 - mean) / std


class SegNetDecoder(nn.Module):
    """Unpool, then convolve, level by level; `stages` are deepest first.

    The convolutions of SegNet-Basic are 7x7 and have no ReLU; its variants add the
    encoder's map (`addition`) or work on every channel by itself (`single_channel`).
    """

    num_classes: int
    stages: tuple[tuple[int, ...], ...]
    kernel_size: int = 3
    classifier_kernel_size: int = 3
    activation: Callable[[jax.Array], jax.Array] | None = nn.relu
    addition: bool = False
    single_channel: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, encoded, train: bool) -> jax.Array:
        x, maps, _, indices = encoded
        for level in reversed(range(len(maps))):
            x = max_unpool(x, indices[level], maps[level].shape[1:3])
            for j, features in enumerate(self.stages[-1 - level], start=1):
                x = ConvBlock(
                    features,
                    self.kernel_size,
                    groups=features if self.single_channel else 1,
                    activation=self.activation,
                    dtype=self.dtype,
                    name=f"conv{2**level}_{j}",
                )(x, train)
            if self.addition:
                x = x + maps[level]
        side = self.classifier_kernel_size
        classifier = nn.Conv(self.num_classes, (side, side), name="classifier")
        return classifier(x.astype(jnp.float32))


class UNetDecoder(nn.Module):
    """Transposed convolution, concatenation, two convolutions, level by level."""

    num_classes: int
    norm: bool = True
    padding: str = "SAME"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, encoded, train: bool) -> jax.Array:
        x, maps, _, _ = encoded
        for level in reversed(range(len(maps))):
            skip, name = maps[level], 2**level
            channels = skip.shape[-1]
            x = nn.ConvTranspose(
                channels,
                (2, 2),
                strides=(2, 2),
                padding="VALID",
                dtype=self.dtype,
                name=f"up{name}",
            )(x)
            _, height, width, _ = x.shape
            top, left = (skip.shape[1] - height) // 2, (skip.shape[2] - width) // 2
            skip = skip[:, top : top + height, left : left + width]
            x = jnp.concatenate([skip, x], axis=-1)
            for j in (1, 2):
                x = ConvBlock(
                    channels,
                    norm=self.norm,
                    padding=self.padding,
                    dtype=self.dtype,
                    name=f"conv{name}_{j}",
                )(x, train)
        classifier = nn.Conv(self.num_classes, (1, 1), name="classifier")
        return classifier(x.astype(jnp.float32))


class ScoreNeck(nn.Module):
    """FCN-Basic: pooled maps to scores by 1x1 convolutions, the deepest `levels`."""

    num_classes: int
    levels: int

    @nn.compact
    def __call__(self, pooled: list[jax.Array]) -> list[jax.Array]:
        scored = list(pooled)
        for level in range(len(pooled) - self.levels, len(pooled)):
            score = nn.Conv(self.num_classes, (1, 1), name=f"score{2 ** (level + 1)}")
            scored[level] = score(pooled[level].astype(jnp.float32))
        return scored


class FCNBasicDecoder(nn.Module):
    """Upsample by 8x8 transposed convolutions, adding the pooled maps."""

    num_classes: int
    addition: bool = True
    reduction: bool = True

    @nn.compact
    def __call__(self, maps: list[jax.Array], pooled: list[jax.Array]) -> jax.Array:
        x = pooled[-1]
        for level in reversed(range(len(maps))):
            _, height, width, _ = maps[level].shape
            x = nn.ConvTranspose(
                x.shape[-1],
                (8, 8),
                strides=(2, 2),
                padding=((4, 4), (4, 4)),
                use_bias=False,
                dtype=x.dtype,
                name=f"up{2 ** (level + 1)}",
            )(x)
            x = x[:, :height, :width]
            if self.addition and level:
                x = x + pooled[level - 1]
        if self.reduction:
            return x
        classifier = nn.Conv(self.num_classes, (1, 1), name="classifier")
        return classifier(x.astype(jnp.float32))


class BilinearDecoder(nn.Module):
    """A 1x1 classifier of the deepest map, enlarged."""

    num_classes: int

    @nn.compact
    def __call__(self, encoded) -> jax.Array:
        x, maps, _, _ = encoded
        x = nn.Conv(self.num_classes, (1, 1), name="classifier")(x.astype(jnp.float32))
        b, h, w, c = x.shape
        ratio = 2 ** len(maps)
        x = jax.image.resize(x, (b, ratio * h, ratio * w, c), "bilinear")
        _, height, width, _ = maps[0].shape
        return x[:, :height, :width]


class BasicNet(nn.Module):
    """SegNet-Basic's encoder and one of table 1's decoders."""

    num_classes: int
    decoder: str = "segnet"
    addition: bool = True
    reduction: bool = True
    single_channel: bool = False
    width: float = 1.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> jax.Array:
        stages = (scale_channels((64,), self.width),) * 4
        encoder = Encoder(stages, kernel_size=7, dtype=self.dtype, name="encoder")
        encoded = encoder(image, train)
        if self.decoder == "bilinear":
            return BilinearDecoder(self.num_classes, name="decoder")(encoded)
        if self.decoder == "segnet":
            return SegNetDecoder(
                self.num_classes,
                stages,
                kernel_size=7,
                classifier_kernel_size=1,
                activation=None,
                addition=self.addition,
                single_channel=self.single_channel,
                dtype=self.dtype,
                name="decoder",
            )(encoded, train)
        _, maps, pooled, _ = encoded
        if self.reduction:
            levels = 4 if self.addition else 1
            pooled = ScoreNeck(self.num_classes, levels, name="neck")(pooled)
        decoder = FCNBasicDecoder(
            self.num_classes, self.addition, self.reduction, name="decoder"
        )
        return decoder(maps, pooled)


class SegNetVGG16(nn.Module):
    """SegNet on VGG16, with batch normalisation."""

    num_classes: int
    width: float = 1.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> jax.Array:
        stages, decoder_stages = (
            tuple(scale_channels(stage, self.width) for stage in stages)
            for stages in (VGG16, _VGG16_DECODER)
        )
        encoded = Encoder(stages, dtype=self.dtype, name="encoder")(image, train)
        decoder = SegNetDecoder(
            self.num_classes, decoder_stages, dtype=self.dtype, name="decoder"
        )
        return decoder(encoded, train)


class UNet(nn.Module):
    """U-Net, as published with `padding` VALID and without `norm`."""

    num_classes: int
    norm: bool = True
    padding: str = "SAME"
    width: float = 1.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> jax.Array:
        options = {"norm": self.norm, "padding": self.padding, "dtype": self.dtype}
        encoder = Encoder(
            tuple(scale_channels(stage, self.width) for stage in _UNET),
            scale_channels((1024, 1024), self.width),
            name="encoder",
            **options,
        )
        decoder = UNetDecoder(self.num_classes, name="decoder", **options)
        return decoder(encoder(image, train), train)


_fcn_basic = partial(BasicNet, decoder="fcn")

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "bilinear_basic": partial(BasicNet, decoder="bilinear"),
    "segnet_basic": partial(BasicNet, addition=False),
    "segnet_basic_encoder_addition": BasicNet,
    "segnet_basic_single_channel": partial(
        BasicNet, addition=False, single_channel=True
    ),
    "fcn_basic": _fcn_basic,
    "fcn_basic_no_addition": partial(_fcn_basic, addition=False),
    "fcn_basic_no_dim_reduction": partial(_fcn_basic, reduction=False),
    "fcn_basic_no_addition_no_dim_reduction": partial(
        _fcn_basic, addition=False, reduction=False
    ),
    "segnet_vgg16_bn": SegNetVGG16,
    "fcn8s": FCN8s,
    "unet": partial(UNet, norm=False),
    "unet_bn": UNet,
    "unet_valid": partial(UNet, norm=False, padding="VALID"),
}
