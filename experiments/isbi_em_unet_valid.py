"""U-Net as published, on the ISBI 2012 electron microscopy challenge.

    python experiments/isbi_em_unet_valid.py --data-dir ISBI_EM_FOLDER

U-Net (arXiv 1505.04597): valid convolutions, 572x572 tiles that label 388x388 pixels,
batch 1, momentum 0.99, random elastic deformation (10 px on a 3x3 grid), and the
border weight map (w0 = 10, sigma = 5 px around cells, class 1). The paper reports a
warping error of 0.000353 and a rand error of 0.0382 on the hidden test slices, averaged
over seven rotations. Differs from it: no rotations; gray values vary by `photometric`;
the learning rate, which the paper does not state, is 1e-3 after 100 steps of warm-up;
images are normalised; the score is the IoU on the last fifth of the labelled slices.

Measured: not run at this size (a GPU's work).
"""

from segjax import cli, experiment
from segjax.configuration import Config

CONFIG = Config(
    name="isbi_em_unet_valid",
    dataset="isbi_em",
    model="unet_valid",
    dropout=0.5,
    image_size=None,
    crop_size=(572, 572),
    scale_range=(1.0, 1.0),
    flip=True,
    photometric=0.2,
    elastic=10.0,
    border_weight=(10.0, 5.0, 1),
    class_weights="median_frequency",
    optimizer="sgd",
    learning_rate=1e-3,
    schedule="cosine",
    warmup_steps=100,
    momentum=0.99,
    weight_decay=0.0,
    steps=6000,
    batch_size=1,
    eval_batch_size=1,
    eval_every=500,
    log_every=10,
    panels=2,
    seed=0,
)

if __name__ == "__main__":
    cli.main(experiment.main, CONFIG)
