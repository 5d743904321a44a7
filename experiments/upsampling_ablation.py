r"""Ways back to image resolution, side by side: one encoder, one recipe, N seeds.

    python experiments/upsampling_ablation.py                          # the demo
    python experiments/upsampling_ablation.py --preset table1-scenes
    python experiments/upsampling_ablation.py --preset table1-camvid --data-dir CAMVID
    python experiments/upsampling_ablation.py --preset segnet-table1 --data-dir CAMVID
    python experiments/upsampling_ablation.py --preset strategies
    python experiments/upsampling_ablation.py --models unet_bn:bilinear+none \
        unet_bn:bilinear+sum unet_bn:max_unpool+none --seeds 0 1 2 --test paired-t

Trains every network with every seed, measures what it costs, and writes `report.html`
(one file, no network needed), `report.md` and `report.csv` into the work directory. A
finished run is read, one that was cut off goes on, so networks and seeds may be added.
Measured results: README.md and experiments/results/.
"""

import dataclasses
from pathlib import Path

from rich.console import Console

from segjax import ablation, cli
from segjax.ablation import Ablation
from segjax.report.comparison import Comparison
from segjax.report.documents import write_csv, write_markdown
from segjax.report.page import write_page
from segjax.report.tables import print_comparison
from segjax.training import processes

TABLE_1 = (
    "segnet_basic",
    "bilinear_basic",
    "segnet_basic_encoder_addition",
    "segnet_basic_single_channel",
    "fcn_basic",
    "fcn_basic_no_addition",
    "fcn_basic_no_dim_reduction",
    "fcn_basic_no_addition_no_dim_reduction",
)

# Three decoders on U-Net's encoder at a quarter of its channels, on drawn scenes: minutes
# on two CPU cores. One seed, so differences of a point or two mean nothing.
DEMO = Ablation(
    name="upsampling_ablation",
    preset="demo",
    dataset="street_scenes",
    models=("fcn_unet", "unet_bn", "segnet_unet"),
    seeds=(0,),
    width=0.25,
    image_size=None,
    crop_size=(64, 96),
    scale_range=(1.0, 1.0),
    flip=True,
    photometric=0.0,
    # Sky, Building, Pole, Road, Pavement, Tree, SignSymbol, Fence, Car, Pedestrian,
    # Bicyclist: thin and rare classes count more, or a run this short misses them.
    class_weights=(1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 4.0, 2.0, 1.0, 4.0, 4.0),
    optimizer="adamw",
    learning_rate=1.5e-2,
    schedule="cosine",
    warmup_steps=20,
    momentum=0.9,
    weight_decay=1e-2,
    steps=450,
    batch_size=8,
    eval_batch_size=16,
    eval_every=150,
    log_every=10,
    panels=8,
    seed=0,
)

# Every way to upsample without skips, then every way to use skips.
STRATEGIES = dataclasses.replace(
    DEMO,
    preset="strategies",
    models=(
        "unet_bn:bilinear+none",
        "unet_bn:nearest+none",
        "unet_bn:transposed+none",
        "unet_bn:transposed_random+none",
        "unet_bn:resize_conv+none",
        "unet_bn:pixel_shuffle+none",
        "unet_bn:max_unpool+none",
        "unet_bn:bilinear+reduced_sum",
        "unet_bn:bilinear+sum",
        "unet_bn:bilinear+concat",
        "unet_bn:max_unpool+sum",
        "unet_bn:max_unpool+concat",
    ),
    seeds=(0, 1, 2),
    test="paired-t",
)

# The SegNet paper's table 1 in its own protocol (section 3.1). What the paper leaves
# open is the authors' code's: 10,000 steps. The report lists what differs.
SEGNET_TABLE_1 = Ablation(
    name="upsampling_ablation",
    preset="segnet-table1",
    dataset="camvid",
    models=TABLE_1,
    seeds=(0,),
    image_size=(360, 480),
    crop_size=(360, 480),
    scale_range=(1.0, 1.0),
    flip=False,
    photometric=0.0,
    class_weights="segnet_camvid",
    optimizer="sgd",
    learning_rate=0.1,
    schedule="constant",
    momentum=0.9,
    weight_decay=0.0,
    steps=10_000,
    batch_size=12,
    eval_batch_size=12,
    eval_every=1000,
    log_every=20,
    select="pixel_accuracy",
    panels=12,
    seed=0,
)

# The same decoders at a size that two CPU cores train, three seeds each.
TABLE_1_SCENES = dataclasses.replace(
    DEMO,
    preset="table1-scenes",
    models=TABLE_1,
    seeds=(0, 1, 2),
    test="paired-t",
    width=0.25,
    steps=400,
    eval_every=200,
)
TABLE_1_CAMVID = dataclasses.replace(
    TABLE_1_SCENES,
    preset="table1-camvid",
    dataset="camvid",
    image_size=(90, 120),
    crop_size=(90, 120),
    class_weights="segnet_camvid",
    steps=800,
    eval_every=400,
    eval_batch_size=8,
)

PRESETS = {
    preset.preset: preset
    for preset in (DEMO, STRATEGIES, TABLE_1_SCENES, TABLE_1_CAMVID, SEGNET_TABLE_1)
}
CONFIG = DEMO


def main(config: Ablation) -> None:
    """Runs the ablation and writes its report in every form."""
    console = Console(quiet=not processes.is_first())
    comparison, workdir = ablation.run(
        config, preset=PRESETS[config.preset], console=console
    )
    if processes.is_first():
        write_report(comparison, workdir, console)


def write_report(comparison: Comparison, workdir: Path, console: Console) -> None:
    """Prints the comparison, and writes it as CSV, Markdown and HTML."""
    print_comparison(comparison, console)
    write_csv(workdir / "report.csv", comparison)
    write_markdown(workdir / "report.md", comparison)
    write_page(workdir / "report.html", comparison)
    address = (workdir / "report.html").resolve().as_uri()
    console.print(f"report: {address}", soft_wrap=True)


if __name__ == "__main__":
    cli.main(main, CONFIG, presets=PRESETS)
