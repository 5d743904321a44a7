"""VGG16, with and without batch normalisation, of torchvision and of timm.

The tables serve three kinds of networks: every encoder-decoder on VGG16's 13
convolutions; FCN, whose `fc6` and `fc7` are the classifier's first two dense layers made
convolutions (`segjax.models.convolutionalize`); and DeconvNet, likewise. The last layer,
which tells ImageNet's classes apart, is not used.

A VGG16 without batch normalisation also fits a network with it, as SegNet's authors
start theirs: convolutions are taken, the normalisation is left as new. The other way
round does not fit.

Both libraries feed RGB of 0..1 less ImageNet's mean, divided by its standard deviation,
as `segjax.ops.normalization` does, and pad with zeros after that: there is nothing to
convert. torchvision's `IMAGENET1K_FEATURES`, of the same names, expects another
normalisation; its classifier has no values and the file is refused where they are NaN.

Sources: `torchvision/models/vgg.py` (configuration D) and `timm/models/vgg.py`, whose
`ConvMlp` keeps the dense layers as convolutions.
"""

import numpy as np

from segjax.models.convolutionalize import convolutionalize
from segjax.port.layers import BATCH_NORM_COUNTERS, batch_norm, convolution
from segjax.port.table import CONV, Layout, Port, Row

# Layer here -> index in `features` without batch normalisation, and with it, where the
# normalisation has the next index.
_FEATURES = {
    "conv1_1": (0, 0),
    "conv1_2": (2, 3),
    "conv2_1": (5, 7),
    "conv2_2": (7, 10),
    "conv3_1": (10, 14),
    "conv3_2": (12, 17),
    "conv3_3": (14, 20),
    "conv4_1": (17, 24),
    "conv4_2": (19, 27),
    "conv4_3": (21, 30),
    "conv5_1": (24, 34),
    "conv5_2": (26, 37),
    "conv5_3": (28, 40),
}
_WINDOW = (7, 7)


def _dense(window: tuple[int, int]) -> Layout:
    """A dense layer `[n, c * h * w]` over maps `[c h w]` to a kernel `[h w c n]`."""

    def convert(x: np.ndarray) -> np.ndarray:
        return np.asarray(convolutionalize(x.T, window, order="chw"))

    return Layout(convert, lambda s: (s[3], s[2] * s[0] * s[1]))


# Where the 13 convolutions are, the name of their `nn.Conv`, and where fc6 and fc7 are.
_ENCODER = ("encoder/", "/conv", None)
_FCN = ("", "", "{}")
_DECONVNET = ("encoder/vgg16/", "/conv", "encoder/{}/conv")

# Library -> the layers that are fc6 and fc7, with their layouts, and the last layer.
_CLASSIFIERS = {
    "torchvision": (
        {
            "classifier.0": ("fc6", _dense(_WINDOW)),
            "classifier.3": ("fc7", _dense((1, 1))),
        },
        "classifier.6.*",
    ),
    "timm": (
        {"pre_logits.fc1": ("fc6", CONV), "pre_logits.fc2": ("fc7", CONV)},
        "head.fc.*",
    ),
}


def _features(place: tuple[str, str, str | None], *, norm: bool) -> tuple[Row, ...]:
    before, after, _ = place
    rows = []
    for layer, (plain, normalised) in _FEATURES.items():
        index = normalised if norm else plain
        rows += convolution(f"features.{index}", f"{before}{layer}{after}")
        if norm:
            rows += batch_norm(f"features.{index + 1}", f"{before}{layer}/bn")
    return tuple(rows)


def _encoder(*, norm: bool) -> Port:
    return Port(
        f"VGG16{'-BN' * norm} of torchvision or timm",
        _features(_ENCODER, norm=norm),
        unused=("classifier.*", "pre_logits.*", "head.fc.*", *BATCH_NORM_COUNTERS),
    )


def _with_classifier(library: str, place, *, norm: bool) -> Port:
    dense, last = _CLASSIFIERS[library]
    rows = list(_features(place, norm=norm))
    for source, (layer, layout) in dense.items():
        rows += convolution(source, place[2].format(layer), layout=layout)
    return Port(
        f"VGG16{'-BN' * norm} of {library}",
        tuple(rows),
        unused=(last, *BATCH_NORM_COUNTERS),
    )


PORTS = (
    _encoder(norm=False),
    _encoder(norm=True),
    *(
        _with_classifier(library, place, norm=norm)
        for library in _CLASSIFIERS
        for place, norm in ((_FCN, False), (_DECONVNET, False), (_DECONVNET, True))
    ),
)
