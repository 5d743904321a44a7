"""ResNet-50 and -101 of torchvision and timm, and torchvision's FCN on them.

timm's `resnet50` and `resnet101` have torchvision's names and arithmetic. Both read RGB of
0..1 less ImageNet's mean, divided by its deviation, as `segjax.ops.normalization` does.
A trunk made for stride 32 fits any output stride: the kernels are the same. Dense
classifiers are not used, nor is the FCN's second head (`aux_classifier`), which only
training reads.

Sources: `torchvision/models/resnet.py` and `torchvision/models/segmentation/fcn.py`.
"""

from segjax.models.resnet import RESNET50, RESNET101
from segjax.port.layers import BATCH_NORM_COUNTERS, batch_norm, convolution
from segjax.port.table import Port, Row


def _trunk(blocks: tuple[int, ...], before: str) -> list[Row]:
    """Rows of everything up to layer 4, whose names there begin with `before`."""

    def layer(conv, norm, place, conv_here, norm_here):
        source, target = f"{before}{place[0]}", f"encoder/{place[1]}"
        rows.extend(convolution(f"{source}{conv}", f"{target}{conv_here}", bias=False))
        rows.extend(batch_norm(f"{source}{norm}", f"{target}{norm_here}"))

    rows: list[Row] = []
    layer("conv1", "bn1", ("", ""), "conv1", "bn1")
    for number, count in enumerate(blocks, start=1):
        for i in range(count):
            place = (f"layer{number}.{i}.", f"layer{number}_{i}/")
            for j in (1, 2, 3):
                layer(f"conv{j}", f"bn{j}", place, f"conv{j}", f"bn{j}")
            if i == 0:
                here = ("downsample_conv", "downsample_bn")
                layer("downsample.0", "downsample.1", place, *here)
    return rows


def trunk_port(name: str, blocks: tuple[int, ...]) -> Port:
    """The table of a classifier with these blocks in its layers."""
    rows = tuple(_trunk(blocks, ""))
    return Port(name, rows, unused=("fc.*", *BATCH_NORM_COUNTERS))


def fcn_port(name: str, blocks: tuple[int, ...]) -> Port:
    """The table of torchvision's FCN on such a trunk."""
    rows = (
        *_trunk(blocks, "backbone."),
        *convolution("classifier.0", "decoder/conv", bias=False),
        *batch_norm("classifier.1", "decoder/bn"),
        *convolution("classifier.4", "decoder/classifier", classes=True),
    )
    return Port(name, rows, unused=("aux_classifier.*", *BATCH_NORM_COUNTERS))


PORTS = (
    trunk_port("ResNet-50 of torchvision or timm", RESNET50),
    trunk_port("ResNet-101 of torchvision or timm", RESNET101),
    fcn_port("FCN on ResNet-50 of torchvision", RESNET50),
    fcn_port("FCN on ResNet-101 of torchvision", RESNET101),
)
