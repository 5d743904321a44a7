"""PyTorch's FCN-32s, -16s and -8s on VGG16 with fc6 and fc7."""

import torch
from side_by_side.torch_decoders import crop_to
from side_by_side.torch_layers import scaled
from torch import nn
from torch.nn import functional as F

_STAGES = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)
# Stride of a skip -> its upsampling, its score layer, where the skip's scores are
# cropped, and what at-once training multiplies the pooled maps by.
_SKIPS = {
    16: ("upscore2", "score_pool4", 5, 0.01),
    8: ("upscore_pool4", "score_pool3", 9, 0.0001),
}
# Stride of the finest scores -> where their upsampling is cropped to the image.
_CROPS = {32: 19, 16: 27, 8: 31}


class FCNVGG16(nn.Module):
    """The authors' release: the image padded by 100, scores cropped to fit.

    Upsamplings are fixed bilinear interpolation, or those by 2 `learned` transposed
    convolutions; `at_once` scales the pooled maps before they are scored. No dropout.
    """

    def __init__(
        self,
        num_classes: int,
        width: float,
        *,
        stride: int,
        at_once: bool = False,
        learned: bool = False,
    ):
        super().__init__()
        self.stride = stride
        self.at_once = at_once
        self.learned = learned
        self.skips = [skip for skip in _SKIPS if skip >= stride]
        self.layers = []
        c_in = 3
        channels = {}
        for i, stage in enumerate(_STAGES, start=1):
            names = [f"conv{i}_{j}" for j in range(1, len(stage) + 1)]
            self.layers.append(names)
            for name, c_out in zip(names, scaled(stage, width), strict=True):
                padding = 100 if name == "conv1_1" else 1
                self.add_module(name, nn.Conv2d(c_in, c_out, 3, padding=padding))
                c_in = c_out
            channels[2**i] = c_in
        (hidden,) = scaled((4096,), width)
        self.fc6 = nn.Conv2d(c_in, hidden, 7)
        self.fc7 = nn.Conv2d(hidden, hidden, 1)
        self.score_fr = nn.Conv2d(hidden, num_classes, 1)
        for skip in self.skips:
            upsampling, score, _, _ = _SKIPS[skip]
            self.add_module(score, nn.Conv2d(channels[skip], num_classes, 1))
            if learned:
                layer = nn.ConvTranspose2d(
                    num_classes, num_classes, 4, stride=2, bias=False
                )
                self.add_module(upsampling, layer)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x, pooled = image, {}
        for i, names in enumerate(self.layers, start=1):
            for name in names:
                x = F.relu(getattr(self, name)(x), inplace=True)
            x = F.max_pool2d(x, 2, ceil_mode=True)
            if 2**i in self.skips:
                pooled[2**i] = x
        x = F.relu(self.fc6(x), inplace=True)
        x = F.relu(self.fc7(x), inplace=True)

        scores = self.score_fr(x)
        for skip in self.skips:
            upsampling, score, offset, scale = _SKIPS[skip]
            if self.learned:
                scores = getattr(self, upsampling)(scores)
            else:
                scores = _interpolate(scores, ratio=2)
            x = pooled[skip] * scale if self.at_once else pooled[skip]
            x = getattr(self, score)(x)
            scores = scores + crop_to(x, scores.shape[2:], offset=(offset, offset))
        scores = _interpolate(scores, ratio=self.stride)
        offset = _CROPS[self.stride]
        return crop_to(scores, image.shape[2:], offset=(offset, offset))


def _interpolate(x, *, ratio):
    """What a transposed convolution with a bilinear kernel of side `2 * ratio` gives.

    Zeros around the maps, and the border that PyTorch interpolates from there cut
    off: many times fewer operations than the dense kernel of the release, equal sums.
    """
    x = F.interpolate(
        F.pad(x, (1, 1, 1, 1)),
        scale_factor=ratio,
        mode="bilinear",
        align_corners=False,
    )
    border = ratio // 2
    size = tuple(side - ratio for side in x.shape[2:])
    return crop_to(x, size, offset=(border, border))
