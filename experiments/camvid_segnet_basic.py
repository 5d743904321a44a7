"""SegNet-Basic on CamVid: unpooling with the encoder's switches.

    python experiments/camvid_segnet_basic.py --data-dir CAMVID_FOLDER

After SegNet (arXiv 1511.00561, section 3.3), at half resolution so that two CPU cores
can run it. The paper trains at 360x480 with SGD, fixed learning rate 0.1, momentum
0.9, batch 12 and no augmentation until the loss converges, and reports 46.3 mIoU
(no class balancing) on the test split. Differs from the paper: images are 180x240,
training crops 128x160 with flips, AdamW with a cosine schedule, batch 4, 17 epochs.
Scores are taken at 360x480.

Measured 2026-11-23 on two shared cores (AMD EPYC, AVX2), jax 0.10.2: 36.7 mIoU, 81.5
pixel accuracy on the 101 validation images after 52 minutes.
"""

from segjax import cli, experiment
from segjax.configuration import Config

CONFIG = Config(
    name="camvid_segnet_basic",
    dataset="camvid",
    model="segnet_basic",
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
