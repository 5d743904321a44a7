"""`python -m segjax evaluate`."""

from pathlib import Path

from rich.console import Console

from segjax import evaluation
from segjax.report.evaluation_tables import evaluation_tables
from segjax.report.figures import draw_confusion


def evaluate(
    run: Path,
    split: str | None = None,
    data_dir: Path | None = None,
    prepared_dir: Path | None = None,
    figure: Path | None = None,
) -> None:
    """Scores a run on a split of its data set and prints the tables.

    Args:
      run: folder of the run; its checkpoint says everything else.
      split: "val" or "test"; None is the one that the run reported.
      data_dir: the data set's folder, if it lies elsewhere now.
      prepared_dir: likewise of the prepared records.
      figure: PNG to draw the confusion matrix to.
    """
    result = evaluation.evaluate(
        run, split=split, data_dir=data_dir, prepared_dir=prepared_dir
    )
    console = Console()
    for table in evaluation_tables(result):
        console.print(table)
    if figure is not None:
        total = result.confusions.sum(axis=0)
        draw_confusion(figure, total, names=result.table.names)
        console.print(f"confusion matrix: {figure}", soft_wrap=True)
