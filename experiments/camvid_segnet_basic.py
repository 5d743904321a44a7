"""SegNet-Basic on CamVid: unpooling with the encoder's switches.

    python experiments/camvid_segnet_basic.py --data-dir CAMVID_FOLDER

Recipe of the SegNet paper (arXiv 1511.00561, section 3.3) at half resolution so that
two CPU cores can run it. The paper trains at 360x480 with SGD, fixed learning rate
0.1, momentum 0.9, batch 12, median-frequency weights, and reports 47.7 mIoU on the
test split. Differs from it: 180x240, AdamW with a cosine schedule, batch 8, no
class weights, flips and scales, few epochs. Scores are taken at 360x480.
"""

from segjax import cli, experiment

CONFIG = experiment.Config(
    name="camvid_segnet_basic",
    dataset="camvid",
    model="segnet_basic",
)

if __name__ == "__main__":
    cli.main(experiment.main, CONFIG)
