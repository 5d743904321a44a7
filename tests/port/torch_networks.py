"""The public PyTorch networks with their modules' names, as narrow as one likes.

Written from the sources that the docstrings of `segjax.port` name; `width` multiplies
every number of channels, and `frame` is what an image is surrounded with instead of the
zeros of its first convolution.
"""

import torch
from torch import nn
from torch.nn import functional as F

VGG16 = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)


def scaled(channels, width):
    return max(1, round(channels * width))


def randomize(module, seed, *, first_scale=1.0):
    """Weights that keep maps at about unit variance, statistics that are not trivial."""
    torch.manual_seed(seed)
    convolutions = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for m in convolutions:
        nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
        if m.bias is not None:
            nn.init.normal_(m.bias, std=0.1)
    with torch.no_grad():
        convolutions[0].weight *= first_scale
    for name, m in module.named_modules():
        if isinstance(m, nn.ConvTranspose2d) and m.bias is not None:
            nn.init.normal_(m.weight, std=(1 / m.in_channels) ** 0.5)
            nn.init.normal_(m.bias, std=0.1)
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 0.8, 1.2)
            nn.init.normal_(m.bias, std=0.1)
            nn.init.normal_(m.running_mean, std=0.1)
            nn.init.uniform_(m.running_var, 1.0, 2.0)
            if name.endswith("bn3"):  # many are added up
                nn.init.uniform_(m.weight, 0.1, 0.3)
    return module.eval()


class VGG(nn.Module):
    """torchvision's, or timm's head; `scan` classifies every window of a padded image."""

    def __init__(self, width, *, norm, head="torchvision"):
        super().__init__()
        layers, c_in = [], 3
        for stage in VGG16:
            for channels in stage:
                c_out = scaled(channels, width)
                layers.append(nn.Conv2d(c_in, c_out, 3, padding=1))
                layers += [nn.BatchNorm2d(c_out)] if norm else []
                layers.append(nn.ReLU())
                c_in = c_out
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        hidden = scaled(4096, width)
        if head == "torchvision":
            self.classifier = nn.Sequential(
                nn.Linear(c_in * 49, hidden),
                nn.ReLU(),
                nn.Dropout(),
                nn.Linear(hidden, hidden),
                nn.ReLU(),
                nn.Dropout(),
                nn.Linear(hidden, 10),
            )
        else:
            self.pre_logits = nn.Module()
            self.pre_logits.fc1 = nn.Conv2d(c_in, hidden, 7)
            self.pre_logits.fc2 = nn.Conv2d(hidden, hidden, 1)
            self.head = nn.Module()
            self.head.fc = nn.Linear(hidden, 10)

    def forward(self, x):
        return self.features(x)

    def scan(self, x):
        """Dense layers at every window of an image that is padded as FCN pads it."""
        self.features[0].padding = (100, 100)
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                layer.ceil_mode = True
        x = self.features(x)
        if hasattr(self, "pre_logits"):
            return self.pre_logits.fc2(F.relu(self.pre_logits.fc1(x)))
        windows = F.unfold(x, 7).transpose(1, 2)  # [n positions c*7*7]
        return self.classifier[:4](windows)


class FCN(nn.Module):
    """wkentaro/pytorch-fcn's FCN32s, FCN16s and FCN8s."""

    def __init__(self, classes, stride, width, frame=(0.0, 0.0, 0.0)):
        super().__init__()
        self.stride, self.frame = stride, frame
        c_in = 3
        for i, stage in enumerate(VGG16, start=1):
            for j, channels in enumerate(stage, start=1):
                c_out = scaled(channels, width)
                padding = 0 if i == j == 1 else 1
                setattr(
                    self, f"conv{i}_{j}", nn.Conv2d(c_in, c_out, 3, padding=padding)
                )
                c_in = c_out
        hidden = scaled(4096, width)
        self.fc6 = nn.Conv2d(c_in, hidden, 7)
        self.fc7 = nn.Conv2d(hidden, hidden, 1)
        self.score_fr = nn.Conv2d(hidden, classes, 1)

        def up(size, by):
            layer = nn.ConvTranspose2d(classes, classes, size, stride=by, bias=False)
            ramp = 1 - (torch.arange(size) - (size - 1) / 2).abs() / (size // 2)
            with torch.no_grad():
                layer.weight.zero_()
                for c in range(classes):
                    layer.weight[c, c] = ramp[:, None] * ramp[None, :]
            return layer

        if stride < 32:
            self.score_pool4 = nn.Conv2d(scaled(512, width), classes, 1)
            self.upscore2 = up(4, 2)
        if stride == 8:
            self.score_pool3 = nn.Conv2d(scaled(256, width), classes, 1)
            self.upscore_pool4 = up(4, 2)
        self.last = {32: "upscore", 16: "upscore16", 8: "upscore8"}[stride]
        setattr(self, self.last, up(2 * stride, stride))

    def forward(self, image):
        colour = torch.tensor(self.frame).reshape(1, 3, 1, 1)
        x = F.pad(image - colour, (100,) * 4) + colour
        pooled = {}
        for i, stage in enumerate(VGG16, start=1):
            for j in range(1, len(stage) + 1):
                x = F.relu(getattr(self, f"conv{i}_{j}")(x))
            x = pooled[i] = F.max_pool2d(x, 2, 2, ceil_mode=True)
        h = self.score_fr(F.relu(self.fc7(F.relu(self.fc6(x)))))

        def add(h, score, crop):
            return h + score[..., crop : crop + h.shape[2], crop : crop + h.shape[3]]

        if self.stride < 32:
            h = add(self.upscore2(h), self.score_pool4(pooled[4]), 5)
        if self.stride == 8:
            h = add(self.upscore_pool4(h), self.score_pool3(pooled[3]), 9)
        h = getattr(self, self.last)(h)
        crop = {32: 19, 16: 27, 8: 31}[self.stride]
        return h[..., crop : crop + image.shape[2], crop : crop + image.shape[3]]


SEGNET_DECODER = {
    5: {3: (512, 512), 2: (512, 512), 1: (512, 512)},
    4: {3: (512, 512), 2: (512, 512), 1: (512, 256)},
    3: {3: (256, 256), 2: (256, 256), 1: (256, 128)},
    2: {2: (128, 128), 1: (128, 64)},
    1: {2: (64, 64), 1: (64, None)},
}


class SegNet(nn.Module):
    """delta-onera/segnet_pytorch; with `vinceecws` names, vinceecws/SegNet_PyTorch."""

    def __init__(self, classes, width, *, vinceecws):
        super().__init__()
        self.vinceecws = vinceecws
        c_in = 3
        for i, stage in enumerate(VGG16, start=1):
            for j, channels in enumerate(stage, start=1):
                self._add("En", f"{i}{j}", c_in, scaled(channels, width))
                c_in = scaled(channels, width)
        for i, stage in SEGNET_DECODER.items():
            for j, (c_in, c_out) in stage.items():
                out = classes if c_out is None else scaled(c_out, width)
                last = c_out is None and not vinceecws
                self._add("De", f"{i}{j}", scaled(c_in, width), out, norm=not last)

    def _names(self, side, place):
        if self.vinceecws:
            return f"Conv{side}{place}", f"BN{side}{place}"
        suffix = {"En": "", "De": "d"}[side]
        return f"conv{place}{suffix}", f"bn{place}{suffix}"

    def _add(self, side, place, c_in, c_out, norm=True):
        conv, bn = self._names(side, place)
        setattr(self, conv, nn.Conv2d(c_in, c_out, 3, padding=1))
        if norm:
            setattr(self, bn, nn.BatchNorm2d(c_out))

    def _layer(self, x, side, place):
        conv, bn = (getattr(self, name) for name in self._names(side, place))
        return F.relu(bn(conv(x)))

    def forward(self, x):
        indices = []
        for i, stage in enumerate(VGG16, start=1):
            for j in range(1, len(stage) + 1):
                x = self._layer(x, "En", f"{i}{j}")
            x, index = F.max_pool2d(x, 2, 2, return_indices=True)
            indices.append(index)
        for i, stage in SEGNET_DECODER.items():
            x = F.max_unpool2d(x, indices.pop(), 2, 2)
            for j in stage:
                if (i, j) != (1, 1):
                    x = self._layer(x, "De", f"{i}{j}")
        return getattr(self, self._names("De", "11")[0])(x)


class DoubleConv(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(c_in, c_out, 3, padding=1),
            nn.BatchNorm2d(c_out),
            nn.ReLU(),
            nn.Conv2d(c_out, c_out, 3, padding=1),
            nn.BatchNorm2d(c_out),
            nn.ReLU(),
        )

    def forward(self, x):
        return self.double_conv(x)


class Down(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), DoubleConv(c_in, c_out))

    def forward(self, x):
        return self.maxpool_conv(x)


class Up(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.up = nn.ConvTranspose2d(c_in, c_in // 2, 2, stride=2)
        self.conv = DoubleConv(c_in, c_out)

    def forward(self, x, skip):
        return self.conv(torch.cat([skip, self.up(x)], dim=1))


class OutConv(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 1)

    def forward(self, x):
        return self.conv(x)


class MilesialUNet(nn.Module):
    """milesial/Pytorch-UNet with bilinear=False."""

    def __init__(self, classes, width, frame=(0.0, 0.0, 0.0)):
        super().__init__()
        self.frame = frame
        c = [scaled(64 * 2**i, width) for i in range(5)]
        self.inc = DoubleConv(3, c[0])
        self.inc.double_conv[0].padding = (0, 0)
        self.down1, self.down2 = Down(c[0], c[1]), Down(c[1], c[2])
        self.down3, self.down4 = Down(c[2], c[3]), Down(c[3], c[4])
        self.up1, self.up2 = Up(c[4], c[3]), Up(c[3], c[2])
        self.up3, self.up4 = Up(c[2], c[1]), Up(c[1], c[0])
        self.outc = OutConv(c[0], classes)

    def forward(self, image):
        colour = torch.tensor(self.frame).reshape(1, 3, 1, 1)
        x1 = self.inc(F.pad(image - colour, (1,) * 4) + colour)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        x4 = self.down3(x3)
        x = self.up1(self.down4(x4), x4)
        x = self.up2(x, x3)
        x = self.up3(x, x2)
        return self.outc(self.up4(x, x1))


class MateuszbudaUNet(nn.Module):
    """mateuszbuda/brain-segmentation-pytorch; logits, without its sigmoid."""

    def __init__(self, features, out_channels=1):
        super().__init__()
        f = features
        self.encoder1 = self._block(3, f, "enc1")
        self.encoder2 = self._block(f, 2 * f, "enc2")
        self.encoder3 = self._block(2 * f, 4 * f, "enc3")
        self.encoder4 = self._block(4 * f, 8 * f, "enc4")
        self.bottleneck = self._block(8 * f, 16 * f, "bottleneck")
        for level in (4, 3, 2, 1):
            c = f * 2 ** (level - 1)
            setattr(self, f"upconv{level}", nn.ConvTranspose2d(2 * c, c, 2, stride=2))
            setattr(self, f"decoder{level}", self._block(2 * c, c, f"dec{level}"))
        self.conv = nn.Conv2d(f, out_channels, 1)

    @staticmethod
    def _block(c_in, c_out, name):
        block = nn.Sequential()
        for j, c in ((1, c_in), (2, c_out)):
            conv = nn.Conv2d(c, c_out, 3, padding=1, bias=False)
            block.add_module(f"{name}conv{j}", conv)
            block.add_module(f"{name}norm{j}", nn.BatchNorm2d(c_out))
            block.add_module(f"{name}relu{j}", nn.ReLU())
        return block

    def forward(self, x):
        skips = {}
        for level in (1, 2, 3, 4):
            x = skips[level] = getattr(self, f"encoder{level}")(x)
            x = F.max_pool2d(x, 2, 2)
        x = self.bottleneck(x)
        for level in (4, 3, 2, 1):
            x = torch.cat([getattr(self, f"upconv{level}")(x), skips[level]], dim=1)
            x = getattr(self, f"decoder{level}")(x)
        return self.conv(x)


class Bottleneck(nn.Module):
    def __init__(self, c_in, c, stride, dilation, downsample):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c)
        self.conv2 = nn.Conv2d(
            c, c, 3, stride=stride, padding=dilation, dilation=dilation, bias=False
        )
        self.bn2 = nn.BatchNorm2d(c)
        self.conv3 = nn.Conv2d(c, 4 * c, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * c)
        if downsample:
            self.downsample = nn.Sequential(
                nn.Conv2d(c_in, 4 * c, 1, stride=stride, bias=False),
                nn.BatchNorm2d(4 * c),
            )

    def forward(self, x):
        around = self.downsample(x) if hasattr(self, "downsample") else x
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + around)


# Output stride -> stride of the four layers, dilation of the first block of each and
# that of its others: what torchvision's replace_stride_with_dilation comes to.
STRIDES = {
    32: ((1, 1, 1), (2, 1, 1), (2, 1, 1), (2, 1, 1)),
    16: ((1, 1, 1), (2, 1, 1), (2, 1, 1), (1, 1, 2)),
    8: ((1, 1, 1), (2, 1, 1), (1, 1, 2), (1, 2, 4)),
}


class ResNet(nn.Module):
    """torchvision's and timm's resnet50 and resnet101; `fc` makes it a classifier."""

    def __init__(self, blocks, width, output_stride, *, fc):
        super().__init__()
        c_in = scaled(64, width)
        self.conv1 = nn.Conv2d(3, c_in, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(c_in)
        numbers = STRIDES[output_stride]
        for n, (count, (stride, first, others)) in enumerate(
            zip(blocks, numbers, strict=True), start=1
        ):
            c = scaled(64 * 2 ** (n - 1), width)
            layer = [Bottleneck(c_in, c, stride, first, True)]
            layer += [Bottleneck(4 * c, c, 1, others, False) for _ in range(count - 1)]
            setattr(self, f"layer{n}", nn.Sequential(*layer))
            c_in = 4 * c
        if fc:
            self.fc = nn.Linear(c_in, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, padding=1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class FCNResNet(nn.Module):
    """torchvision's fcn_resnet50 and fcn_resnet101, with the second head's tensors."""

    def __init__(self, blocks, width, classes):
        super().__init__()
        self.backbone = ResNet(blocks, width, 8, fc=False)
        self.classifier = self._head(4 * scaled(512, width), classes)
        self.aux_classifier = self._head(4 * scaled(256, width), classes)

    @staticmethod
    def _head(c_in, classes):
        return nn.Sequential(
            nn.Conv2d(c_in, c_in // 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(c_in // 4),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Conv2d(c_in // 4, classes, 1),
        )

    def forward(self, x):
        scores = self.classifier(self.backbone(x))
        size = x.shape[-2:]
        return F.interpolate(scores, size=size, mode="bilinear", align_corners=False)
