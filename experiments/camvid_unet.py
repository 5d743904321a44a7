"""U-Net-style decoder on SegNet-Basic's encoder, on CamVid.

    python experiments/camvid_unet.py --data-dir CAMVID_FOLDER

The recipe of `camvid_segnet_basic.py`, number for number, so that the two differ in
the decoder only. `--model unet_bn` trains U-Net's own contracting path instead (31 M
parameters; arXiv 1505.04597). The papers report no U-Net on CamVid.

Measured 2026-11-23 on two shared cores (AMD EPYC, AVX2), jax 0.10.2, with `--steps 800`:
28.5 mIoU, 70.1 pixel accuracy on the 101 validation images after 36 minutes; the 1600
steps were not run.
"""

from segjax import cli, experiment
from segjax.configuration import Config

CONFIG = Config(
    name="camvid_unet",
    dataset="camvid",
    model="unet_basic",
    image_size=(180, 240),
    crop_size=(128, 160),
    scale_range=(0.8, 1.3),
    flip=True,
    photometric=0.2,
    class_weights="none",
    optimizer="adamw",
    learning_rate=3e-3,
    schedule="cosine",
    warmup_steps=50,
    momentum=0.9,
    weight_decay=1e-2,
    steps=1600,
    batch_size=4,
    eval_batch_size=4,
    eval_every=400,
    log_every=20,
    panels=4,
    seed=0,
)

if __name__ == "__main__":
    cli.main(experiment.main, CONFIG)
