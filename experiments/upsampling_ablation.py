"""Three ways back to image resolution, side by side: FCN, U-Net and SegNet.

One encoder (U-Net's contracting path with batch normalisation, a quarter of its
channels), one recipe, one seed; only the decoder differs. Prints the comparison and
writes `comparison.png` and `comparison.json` beside the three runs. Sized for minutes on
two CPU cores: a single seed, so differences of a point or two mean nothing.

Measured 2026-11-23 on two cores (AMD EPYC, AVX2), jax 0.10.2, 4 min 49 s: mIoU 0.758
(FCN), 0.781 (U-Net), 0.559 (SegNet) on the 96 test scenes.

    python experiments/upsampling_ablation.py
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from segjax import cli, configuration, experiment
from segjax.configuration import Config
from segjax.report.panels import draw_panels
from segjax.report.tables import Row, class_table, comparison_table
from segjax.training.loop import json_scores
from segjax.training.workdir import write_json


@dataclasses.dataclass(frozen=True)
class Ablation(Config):
    """Networks compared under one recipe; `model` is each of `models` in turn."""

    model: Annotated[str, tyro.conf.Suppress] = "each of models"
    models: tuple[str, ...] = ("fcn_unet", "unet_bn", "segnet_unet")
    """Networks to compare. They should differ in nothing but the decoder."""


CONFIG = Ablation(
    name="upsampling_ablation",
    dataset="street_scenes",
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
    panels=4,
    seed=0,
)


def main(config: Ablation) -> None:
    """Runs every network and reports them together."""
    console = Console()
    if config.smoke:
        config = configuration.smoke(config)
    workdir = config.workdir or Path("runs") / config.name
    results = {}
    for model in config.models:
        one = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
        del one["models"]
        one |= {"model": model, "workdir": workdir / model}
        results[model] = experiment.run(Config(**one), console=console)

    rows = [
        Row(model, result.scores, result.parameters, result.step_seconds)
        for model, result in results.items()
    ]
    first = next(iter(results.values()))
    rows.append(Row("majority class", first.baseline, None, None))
    where = f"{config.dataset} {first.split}, {first.scores['num_images']} images"
    console.print(comparison_table(rows, title=f"Upsampling ablation: {where}"))
    console.print(class_table(rows, first.dataset.table, title="IoU by class"))
    if config.panels:
        draw_panels(
            workdir / "comparison.png",
            images=first.images,
            labels=first.labels,
            predictions={model: r.predictions for model, r in results.items()},
            table=first.dataset.table,
            errors=False,
        )
    summary = [json_scores(dataclasses.asdict(row)) for row in rows]
    write_json(workdir / "comparison.json", {"rows": summary})
    console.print(f"runs, comparison.png and comparison.json: {workdir}")


if __name__ == "__main__":
    cli.main(main, CONFIG)
