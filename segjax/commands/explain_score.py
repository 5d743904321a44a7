"""`python -m segjax explain-score`."""

from pathlib import Path

import tyro
from rich.console import Console

from segjax import evaluation
from segjax.data.datasets import open_dataset
from segjax.errors import InputError
from segjax.evaluation_counts import Parts
from segjax.explain.policies import explain_policies
from segjax.explain.predictions import Resize, Side, explain_predictions
from segjax.policies import POLICIES
from segjax.report.explanation_grids import explanation_grids
from segjax.report.tables import rich_table


def explain_score(
    a: tyro.conf.Positional[str],
    b: tyro.conf.Positional[str],
    run: Path | None = None,
    dataset: str | None = None,
    split: str = "val",
    policies: tuple[str, str] = ("segjax", "segjax"),
    resize: tuple[Resize, Resize] = ("refuse", "refuse"),
    data_dir: Path | None = None,
    prepared_dir: Path | None = None,
    taxonomy: str | None = None,
) -> None:
    """Says where the difference between two scores comes from, step by step.

    Args:
      a: folder of predictions (indexed PNGs named by the examples' ids), or a policy.
      b: the same of the other score. Policies are other tools' ways to average:
        segjax, mmseg, hrnet, torchmetrics, smp-micro, smp-macro,
        smp-micro-imagewise, smp-macro-imagewise, segnet-bf; mmseg/8 is the mean
        over batches of eight.
      run: with two policies, the folder of the run that both score.
      dataset: with two folders, the data set that they predict.
      split: of that data set.
      policies: of folder a and of folder b.
      resize: what to do with predictions of another size than their label.
      data_dir: folder of the data set.
      prepared_dir: of its prepared records.
      taxonomy: with two folders, the table in whose classes they are (a CSV or TSV
        file, or "urban"); a run knows its own.
    """
    if all(name.partition("/")[0] in POLICIES for name in (a, b)):
        if run is None:
            raise InputError("two policies need --run, the run that both score")
        result = evaluation.evaluate(
            run,
            data_dir=data_dir,
            prepared_dir=prepared_dir,
            parts=Parts(boundaries=False, sizes=False, intervals=False),
        )
        explanation = explain_policies(result.confusions, a, b)
    else:
        if dataset is None:
            raise InputError(
                f"{a} and {b} are not both policies, so folders of predictions: they "
                "need --dataset, the data set that they predict"
            )
        opened = open_dataset(
            dataset, data_dir=data_dir, prepared_dir=prepared_dir, taxonomy=taxonomy
        )
        if split not in opened.splits:
            raise InputError(
                f"data set {dataset!r} has no split {split!r}: expected one of "
                f"{', '.join(opened.splits)}"
            )
        explanation = explain_predictions(
            *(
                Side(Path(folder), policy=policy, resize=how)
                for folder, policy, how in zip((a, b), policies, resize, strict=True)
            ),
            labels=opened.splits[split],
            table=opened.table,
        )
    console = Console()
    for grid in explanation_grids(explanation):
        console.print(rich_table(grid))
        for note in grid.notes:
            console.print(note)
