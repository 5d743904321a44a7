r"""FCN-8s in the paper's three stages, on CamVid.

    python experiments/camvid_fcn8s.py --data-dir CAMVID --model fcn32s \
        --workdir runs/fcn32s
    python experiments/camvid_fcn8s.py --data-dir CAMVID --model fcn16s \
        --workdir runs/fcn16s --init-from runs/fcn32s --learning-rate 1e-6
    python experiments/camvid_fcn8s.py --data-dir CAMVID --model fcn8s \
        --workdir runs/fcn8s --init-from runs/fcn16s --learning-rate 1e-6

FCN (arXiv 1411.4038), section 4.3: every finer network starts from the coarser one,
with a learning rate a hundred times lower; `--model fcn8s_at_once` trains it in one go.
The paper's recipe is batch 20, learning rate 1e-4, momentum 0.9, weight decay 5e-4, no
augmentation, at least 175 epochs of PASCAL VOC; its 62.2 mIoU is on that data set.
Differs from it: CamVid; VGG16 starts from random weights and not from ImageNet's, for
which the learning rate is ten times higher; biases have the kernels' learning rate.
With ImageNet's (`convert-weights` reads torchvision's file) the paper's rate is right:

    python experiments/camvid_fcn8s.py --data-dir CAMVID --model fcn32s \
        --workdir runs/fcn32s --init-from vgg16.safetensors --learning-rate 1e-4

Measured: not run (134 million parameters; a GPU's work).
"""

from segjax import cli, experiment
from segjax.configuration import Config

CONFIG = Config(
    name="camvid_fcn8s",
    dataset="camvid",
    model="fcn32s",
    dropout=0.5,
    image_size=(360, 480),
    crop_size=(360, 480),
    scale_range=(1.0, 1.0),
    flip=False,
    photometric=0.0,
    class_weights="none",
    optimizer="sgd",
    learning_rate=1e-3,
    schedule="constant",
    momentum=0.9,
    weight_decay=5e-4,
    steps=3500,
    batch_size=20,
    eval_batch_size=4,
    eval_every=500,
    log_every=20,
    panels=4,
    seed=0,
)

if __name__ == "__main__":
    cli.main(experiment.main, CONFIG)
