"""U-Net on the ISBI 2012 electron microscopy challenge: membranes and cells.

    python experiments/isbi_em_unet.py --data-dir ISBI_EM_FOLDER

After U-Net (arXiv 1505.04597): its network with channels halved twice, so that CPU
cores can run it. The paper trains on 572x572 tiles of 30 slices with batch 1, momentum
0.99, elastic deformation and a border-weighted loss, and reports a warping error of
0.000353 and a rand error of 0.0382 on the hidden test slices. Differs from the paper:
width 1/4, batch normalisation, same padding, 256x256 crops, scales instead of
deformation, median-frequency weights instead of the border map, and the score is the
IoU on the last fifth of the labelled slices.

Measured 2026-11-23 on two shared cores (AMD EPYC, AVX2), jax 0.10.2: 78.5 mIoU, 91.3
pixel accuracy on the last 4 of 24 slices after 6 minutes.
"""

from segjax import cli, experiment
from segjax.configuration import Config

CONFIG = Config(
    name="isbi_em_unet",
    dataset="isbi_em",
    model="unet_bn",
    width=0.25,
    dropout=0.5,
    image_size=None,
    crop_size=(256, 256),
    scale_range=(0.8, 1.25),
    flip=True,
    photometric=0.2,
    class_weights="median_frequency",
    optimizer="adamw",
    learning_rate=2e-3,
    schedule="cosine",
    warmup_steps=20,
    momentum=0.9,
    weight_decay=1e-2,
    steps=300,
    batch_size=2,
    eval_batch_size=1,
    eval_every=100,
    log_every=10,
    panels=2,
    seed=0,
)

if __name__ == "__main__":
    cli.main(experiment.main, CONFIG)
