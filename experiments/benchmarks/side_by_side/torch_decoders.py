"""PyTorch's decoders, with the names that segjax gives to its parameters.

Each takes the encoder's `Features` and returns logits `[b k h w]`.
"""

import torch
from side_by_side.torch_layers import ConvNormAct, Features, PooledEncoder
from torch import nn
from torch.nn import functional as F


def crop_to(
    x: torch.Tensor, size: tuple[int, int], *, offset: tuple[int, int] = (0, 0)
) -> torch.Tensor:
    """The window of `size` whose top left pixel is at `offset`: a view."""
    (top, left), (height, width) = offset, size
    return x[:, :, top : top + height, left : left + width]


class SegNet(nn.Module):
    """Per level: unpool through the encoder's indices, then convolve.

    Where `stages` is None two convolutions mirror the encoder's channels, after a 1x1
    convolution where the deepest map has others.
    """

    def __init__(
        self,
        num_classes: int,
        encoder: PooledEncoder,
        *,
        stages: tuple[tuple[int, ...], ...] | None = None,
        norm: bool = True,
    ):
        super().__init__()
        strides = sorted(encoder.channels, reverse=True)
        channels = [encoder.channels[s] for s in strides]
        if stages is None:
            onward = [*channels[1:], channels[-1]]
            stages = tuple(zip(channels, onward, strict=True))
        c_in = encoder.deepest
        self.levels = []
        for stride, pooled, stage in zip(strides, channels, stages, strict=True):
            match = f"match{stride}" if c_in != pooled else None
            if match:
                self.add_module(match, ConvNormAct(c_in, pooled, 1, norm=norm))
                c_in = pooled
            names = [f"conv{stride // 2}_{j}" for j in range(1, len(stage) + 1)]
            self.levels.append((stride, match, names))
            for name, c_out in zip(names, stage, strict=True):
                self.add_module(name, ConvNormAct(c_in, c_out, norm=norm))
                c_in = c_out
        self.classifier = nn.Conv2d(c_in, num_classes, 3, padding=1)

    def forward(self, features: Features) -> torch.Tensor:
        x = features.maps[features.max_stride]
        for stride, match, names in self.levels:
            if match:
                x = getattr(self, match)(x)
            x = features.unpool(x, stride)
            for name in names:
                x = getattr(self, name)(x)
        return self.classifier(x)


class SegNetBasic(nn.Module):
    """Per level: unpool, 7x7 convolution and batch normalisation, no activation.

    `addition` adds the encoder's map after it, `single_channel` makes the convolution
    depthwise.
    """

    def __init__(
        self,
        num_classes: int,
        encoder: PooledEncoder,
        *,
        addition: bool = False,
        single_channel: bool = False,
    ):
        super().__init__()
        self.addition = addition
        channels = encoder.deepest
        groups = channels if single_channel else 1
        for stride in encoder.channels:
            layer = ConvNormAct(channels, channels, 7, groups=groups, relu=False)
            self.add_module(f"conv{stride // 2}_1", layer)
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, features: Features) -> torch.Tensor:
        stride = features.max_stride
        x = features.maps[stride]
        while stride > 1:
            x = features.unpool(x, stride)
            stride //= 2
            x = getattr(self, f"conv{stride}_1")(x)
            if self.addition:
                x = x + features.maps[stride]
        return self.classifier(x)


class Bilinear(nn.Module):
    """A 1x1 classifier, then bilinear interpolation in one step."""

    def __init__(self, num_classes: int, encoder: PooledEncoder):
        super().__init__()
        self.classifier = nn.Conv2d(encoder.deepest, num_classes, 1)

    def forward(self, features: Features) -> torch.Tensor:
        stride = features.max_stride
        x = self.classifier(features.maps[stride])
        x = F.interpolate(x, scale_factor=stride, mode="bilinear", align_corners=False)
        return crop_to(x, features.sizes[1])


class ScoreNeck(nn.Module):
    """FCN-Basic's reduction of pooled maps to one channel per class."""

    def __init__(
        self, num_classes: int, encoder: PooledEncoder, strides: tuple[int, ...]
    ):
        super().__init__()
        self.strides = strides
        for stride in strides:
            layer = nn.Conv2d(encoder.channels[stride], num_classes, 1)
            self.add_module(f"score{stride}", layer)

    def forward(self, features: Features) -> Features:
        for stride in self.strides:
            score = getattr(self, f"score{stride}")
            features.pooled[stride] = score(features.pooled[stride])
        return features


class FCNBasic(nn.Module):
    """8x8 transposed convolutions of stride 2; pooled maps, or their scores, added."""

    def __init__(
        self,
        num_classes: int,
        encoder: PooledEncoder,
        *,
        addition: bool = True,
        reduction: bool = True,
    ):
        super().__init__()
        self.addition = addition
        channels = num_classes if reduction else encoder.deepest
        for stride in encoder.channels:
            layer = nn.ConvTranspose2d(
                channels, channels, 8, stride=2, padding=3, bias=False
            )
            self.add_module(f"up{stride}", layer)
        self.classifier = None if reduction else nn.Conv2d(channels, num_classes, 1)

    def forward(self, features: Features) -> torch.Tensor:
        stride = features.max_stride
        x = features.pooled[stride]
        while stride > 1:
            x = getattr(self, f"up{stride}")(x)
            stride //= 2
            x = crop_to(x, features.sizes[stride])
            if self.addition and stride > 1:
                x = x + features.pooled[stride]
        return x if self.classifier is None else self.classifier(x)


class FCN(nn.Module):
    """1x1 score layers, learned transposed convolutions, skips of pooled maps summed."""

    def __init__(
        self, num_classes: int, encoder: PooledEncoder, *, skips: tuple[int, ...]
    ):
        super().__init__()
        strides = [max(encoder.channels), *skips]
        self.steps = list(zip(strides, [*skips, 1], strict=True))
        for stride, target in self.steps:
            ratio = stride // target
            c_in = encoder.deepest if stride == strides[0] else encoder.channels[stride]
            self.add_module(f"score{stride}", nn.Conv2d(c_in, num_classes, 1))
            upsampling = nn.ConvTranspose2d(
                num_classes,
                num_classes,
                2 * ratio,
                stride=ratio,
                padding=ratio // 2,
                bias=False,
            )
            self.add_module(f"upscore{stride}", upsampling)

    def forward(self, features: Features) -> torch.Tensor:
        x = None
        for stride, target in self.steps:
            deepest = x is None
            maps = features.maps if deepest else features.pooled
            score = getattr(self, f"score{stride}")(maps[stride])
            x = score if deepest else x + score
            x = getattr(self, f"upscore{stride}")(x)
            x = crop_to(x, features.sizes[target])
        return x


class UNet(nn.Module):
    """Per level: 2x2 transposed convolution, concatenate the skip, two 3x3."""

    def __init__(
        self,
        num_classes: int,
        encoder: PooledEncoder,
        *,
        map_channels: dict[int, int],
        norm: bool = True,
        padding: str = "SAME",
    ):
        """`map_channels` are those of the encoder's last map at each stride."""
        super().__init__()
        self.valid = padding == "VALID"
        self.strides = sorted(map_channels, reverse=True)
        c_in = encoder.deepest
        for stride in self.strides:
            c_out = map_channels[stride]
            up = nn.ConvTranspose2d(c_in, c_out, 2, stride=2)
            self.add_module(f"up{stride}", up)
            for j, wide in ((1, 2 * c_out), (2, c_out)):
                layer = ConvNormAct(wide, c_out, norm=norm, padding=padding)
                self.add_module(f"conv{stride}_{j}", layer)
            c_in = c_out
        self.classifier = nn.Conv2d(c_in, num_classes, 1)

    def forward(self, features: Features) -> torch.Tensor:
        x = features.maps[features.max_stride]
        for stride in self.strides:
            skip = features.maps[stride]
            x = getattr(self, f"up{stride}")(x)
            if self.valid:
                lost = [a - b for a, b in zip(skip.shape[2:], x.shape[2:], strict=True)]
                offset = (lost[0] // 2, lost[1] // 2)
                skip = crop_to(skip, x.shape[2:], offset=offset)
            else:
                x = crop_to(x, skip.shape[2:])
            x = torch.cat([skip, x], dim=1)
            x = getattr(self, f"conv{stride}_1")(x)
            x = getattr(self, f"conv{stride}_2")(x)
        return self.classifier(x)
