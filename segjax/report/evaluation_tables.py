"""The tables of `python -m segjax evaluate`."""

from rich.table import Table

from segjax.evaluation import Evaluation
from segjax.report import units


def evaluation_tables(result: Evaluation) -> tuple[Table, Table]:
    """Scores of one network with their intervals, and its classes."""
    where = f"{result.dataset} {result.split}, {len(result.ids)} images"
    overall = Table(title=f"{result.model}, step {result.step}: {where}")
    overall.add_column("score")
    overall.add_column("value", justify="right")
    overall.add_column("95 % interval over images", justify="right")
    for name in (
        "miou",
        "pixel_accuracy",
        "class_accuracy",
        "fwiou",
        "thin_iou",
        "boundary_f1",
        "boundary_f1_dilated",
    ):
        interval = result.intervals.get(name)
        overall.add_row(
            name,
            units.share(result.scores[name]),
            "-"
            if interval is None
            else f"{units.share(interval.low)} to {units.share(interval.high)}",
        )
    total = result.confusions.sum(axis=0).astype(float)
    true, called = total.sum(axis=1), total.sum(axis=0)
    classes = Table(title="by class")
    classes.add_column("class")
    for column in ("share of pixels", "IoU", "recall", "precision"):
        classes.add_column(column, justify="right")
    for i, name in enumerate(result.table.names):
        classes.add_row(
            name,
            units.share(true[i] / true.sum() if true.sum() else None),
            units.share(result.scores["iou"][i]),
            units.share(total[i, i] / true[i] if true[i] else None),
            units.share(total[i, i] / called[i] if called[i] else None),
        )
    return overall, classes
