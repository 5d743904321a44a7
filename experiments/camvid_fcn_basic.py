"""FCN-style decoder on SegNet-Basic's encoder, on CamVid.

    python experiments/camvid_fcn_basic.py --data-dir CAMVID_FOLDER

The recipe of `camvid_segnet_basic.py`, number for number, so that the two differ in
the decoder only. After FCN-Basic of SegNet (arXiv 1511.00561, table 1), which reports
45.0 mIoU (no class balancing) on the test split at 360x480; that net has 8x8 where
this one has 4x4 transposed convolutions.

Measured 2026-11-23 on two shared cores (AMD EPYC, AVX2), jax 0.10.2: 47.8 mIoU, 87.2
pixel accuracy on the 101 validation images after 28 minutes.
"""

from segjax import cli, experiment
from segjax.configuration import Config

CONFIG = Config(
    name="camvid_fcn_basic",
    dataset="camvid",
    model="fcn_basic_4x4",
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
