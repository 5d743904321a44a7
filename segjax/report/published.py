"""What the SegNet paper reports, to be put beside what was measured here.

Badrinarayanan, Kendall, Cipolla: "SegNet: A Deep Convolutional Encoder-Decoder
Architecture for Image Segmentation" (arXiv:1511.00561), Table 1: eight decoders on
one encoder, CamVid, one number each without a spread.
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal

Training = Literal["median_frequency", "natural_frequency"]

SOURCE = "SegNet paper, Table 1 (arXiv:1511.00561)"


@dataclasses.dataclass(frozen=True)
class Variant:
    """One line of Table 1, in the paper's units; scores are those on the test set.

    Attributes:
      title: the paper's name.
      parameters: in millions.
      storage: how many times the memory of one map the decoder needs of the first
        encoder ("storage multiplier"), the paper's reckoning; None: not applicable.
      milliseconds: forward pass of one 360x480 image.
      median_frequency: global accuracy, class accuracy, mIoU and boundary F1 in
        percent after training with median-frequency balancing.
      natural_frequency: likewise without balancing.
    """

    title: str
    parameters: float
    storage: int | None
    milliseconds: float
    median_frequency: tuple[float, float, float, float]
    natural_frequency: tuple[float, float, float, float]


TABLE_1: Mapping[str, Variant] = {
    "bilinear_basic": Variant(
        "Bilinear-Interpolation",
        0.625,
        0,
        24.2,
        (77.9, 61.1, 43.3, 20.83),
        (82.7, 52.5, 43.8, 23.08),
    ),
    "segnet_basic": Variant(
        "SegNet-Basic",
        1.425,
        1,
        52.6,
        (82.7, 62.0, 47.7, 35.78),
        (84.0, 54.6, 46.3, 36.67),
    ),
    "segnet_basic_encoder_addition": Variant(
        "SegNet-Basic-EncoderAddition",
        1.425,
        64,
        53.0,
        (83.4, 63.6, 48.5, 35.92),
        (84.2, 56.5, 47.7, 36.27),
    ),
    "segnet_basic_single_channel": Variant(
        "SegNet-Basic-SingleChannelDecoder",
        0.625,
        1,
        33.1,
        (81.2, 60.7, 46.1, 31.62),
        (83.5, 53.9, 45.2, 32.45),
    ),
    "fcn_basic": Variant(
        "FCN-Basic",
        0.65,
        11,
        24.2,
        (81.7, 62.4, 47.3, 38.11),
        (83.9, 55.6, 45.0, 37.33),
    ),
    "fcn_basic_no_addition": Variant(
        "FCN-Basic-NoAddition",
        0.65,
        None,
        23.8,
        (80.5, 58.6, 44.1, 31.96),
        (82.3, 53.9, 44.2, 29.43),
    ),
    "fcn_basic_no_dim_reduction": Variant(
        "FCN-Basic-NoDimReduction",
        1.625,
        64,
        44.8,
        (84.1, 63.4, 50.1, 37.37),
        (83.5, 57.3, 47.0, 37.13),
    ),
    "fcn_basic_no_addition_no_dim_reduction": Variant(
        "FCN-Basic-NoAddition-NoDimReduction",
        1.625,
        0,
        43.9,
        (80.5, 61.6, 45.9, 30.47),
        (83.7, 54.8, 45.5, 33.17),
    ),
}
"""Network of `segjax.models.zoo` -> what the paper reports for it."""


def published(
    name: str, *, training: Training = "median_frequency"
) -> dict[str, float] | None:
    """What the paper reports for a network, as `Strategy.published` wants it.

    Args:
      name: of a network; any other name gives None.
      training: which of the paper's two losses.

    Returns:
      `pixel_accuracy`, `class_accuracy`, `miou` and `boundary_f1` as shares in 0..1,
      `parameters` as a count, `milliseconds`, and `storage` where the paper has it.
    """
    if name not in TABLE_1:
        return None
    variant = TABLE_1[name]
    percent = {
        "median_frequency": variant.median_frequency,
        "natural_frequency": variant.natural_frequency,
    }[training]
    names = ("pixel_accuracy", "class_accuracy", "miou", "boundary_f1")
    # Rounded, so that 47.7 % is the number 0.477 and not the one beside it.
    shares = {n: round(value / 100, 6) for n, value in zip(names, percent, strict=True)}
    storage = {} if variant.storage is None else {"storage": float(variant.storage)}
    return {
        **shares,
        "parameters": float(round(variant.parameters * 1e6)),
        "milliseconds": variant.milliseconds,
        **storage,
    }


PROTOCOL: Mapping[str, str] = {
    "data": "CamVid, 11 classes, 367 training images",
    "scored on": "CamVid test, 233 images",
    "image size": "360x480",
    "input": "local contrast normalisation (the authors' code: LRN over channels)",
    "encoder": "4 x (7x7 convolution, 64 channels, BN, ReLU, 2x2 max-pooling)",
    "biases": "none (the authors' code has them)",
    "initialisation": "He et al.",
    "optimiser": "SGD, learning rate 0.1 fixed, momentum 0.9",
    "weight decay": "not in the paper (the authors' code: 5e-4)",
    "batch size": "12 (the authors' code: 4)",
    "class weights": "median-frequency balancing",
    "length": "not in the paper (the authors' code: 10,000 steps)",
    "selection": "best global accuracy on the validation split, every 1000 steps",
    "batch statistics": "one pass over the training set (the authors' code)",
    "scoring": "one confusion matrix over the split, void left out",
    "boundary F1": "tolerance 0.75 % of the diagonal, one-to-one matching",
    "seeds": "one number per variant, no spread",
    "hardware": "NVIDIA Titan, cuDNN v3",
}
"""The protocol behind the table's median-frequency columns."""

WEIGHTS: Mapping[Training, str] = {
    "median_frequency": "median-frequency balancing",
    "natural_frequency": "none",
}
"""Its "class weights", the only setting in which the other columns differ."""


@dataclasses.dataclass(frozen=True)
class Count:
    """Parameters that follow from a variant's layers.

    Attributes:
      parameters: weights of the convolutions at 11 classes, no biases, no batch
        normalisation.
      layers: the sum that gives them.
      remark: where the paper's number does not follow; empty where it does.
    """

    parameters: int
    layers: str
    remark: str = ""


_ENCODER = "encoder 7*7*3*64 + 3 * 7*7*64*64 = 611,520"
_TOO_MANY = (
    "The paper says 1.625 M. Four 8x8 transposed convolutions from 64 to 64 channels "
    "(1,048,576), the encoder (611,520) and the 1x1 classifier (704) are 1.661 M, and "
    "no rounding to a multiple of 0.025 M makes 1.625 of that."
)

ARITHMETIC: Mapping[str, Count] = {
    "bilinear_basic": Count(
        612_224,
        f"{_ENCODER}; classifier 64*11",
        "The paper says 0.625 M. The weights alone are 0.612 M, which rounds to 0.600; "
        "0.625 comes out only if the encoder's 512 batch normalisation parameters are "
        "counted too (612,736).",
    ),
    "segnet_basic": Count(
        1_415_040, f"{_ENCODER}; decoder 4 * 7*7*64*64; classifier 64*11"
    ),
    "segnet_basic_encoder_addition": Count(
        1_415_040, f"{_ENCODER}; decoder 4 * 7*7*64*64; classifier 64*11"
    ),
    "segnet_basic_single_channel": Count(
        624_768, f"{_ENCODER}; decoder 4 * 7*7*64; classifier 64*11"
    ),
    "fcn_basic": Count(
        645_312, f"{_ENCODER}; 4 reductions 64*11; decoder 4 * 8*8*11*11"
    ),
    "fcn_basic_no_addition": Count(
        643_200, f"{_ENCODER}; 1 reduction 64*11; decoder 4 * 8*8*11*11"
    ),
    "fcn_basic_no_dim_reduction": Count(
        1_660_800, f"{_ENCODER}; decoder 4 * 8*8*64*64; classifier 64*11", _TOO_MANY
    ),
    "fcn_basic_no_addition_no_dim_reduction": Count(
        1_660_800, f"{_ENCODER}; decoder 4 * 8*8*64*64; classifier 64*11", _TOO_MANY
    ),
}
"""Network -> the count that follows from its layers, beside the paper's number."""

ROUNDING = (
    "The paper's parameter counts are all multiples of 0.025 M, so they are rounded."
)

STORAGE_REMARK = (
    "Storage: the paper's column is a multiplier reckoned for the first encoder's maps. "
    "64 maps of 180x240 take 11.06 MB as float32 (the paper: 11 MB) and 11 maps "
    "1.90 MB (the paper: 1.9 MB), but their pooling indices take 0.69 MB at 2 bits "
    "each; the paper's 0.17 MB is what 90x120 indices would take. Indices thus take a "
    "sixteenth of the maps, not a 64th."
)
