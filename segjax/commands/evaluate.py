"""`python -m segjax evaluate`."""

from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.text import Text

from segjax import evaluation, policies
from segjax.commands import RUN_OPTION
from segjax.errors import InputError
from segjax.evaluation_counts import Parts
from segjax.report import evaluation_documents
from segjax.report.evaluation_tables import evaluation_grids
from segjax.report.figures import draw_confusion
from segjax.report.tables import rich_table
from segjax.training import parallel, processes


def evaluate(
    run: Annotated[Path, RUN_OPTION],
    split: str | None = None,
    output: Path | None = None,
    policy: tuple[str, ...] = (),
    boundaries: bool = True,
    sizes: bool = True,
    calibration: bool = False,
    intervals: bool = True,
    data_dir: Path | None = None,
    prepared_dir: Path | None = None,
    batch_size: int | None = None,
    mesh: str | None = None,
    figure: Path | None = None,
) -> None:
    """Scores a run on a split of its data set and prints the tables.

    Args:
      run: folder of the run; its checkpoint says everything else.
      split: "train" (without augmentation), "val" or "test"; None is the one that the
        run reported.
      output: folder for the tables as JSON, CSV and Markdown and for the figures.
      policy: names of other tools' rules, whose score is printed, too: mmseg, hrnet,
        torchmetrics, smp-micro, smp-macro, smp-micro-imagewise, smp-macro-imagewise,
        segnet-bf; mmseg/8 is the mean over batches of eight.
      boundaries: boundary F1 and boundary IoU.
      sizes: IoU by the size of objects.
      calibration: expected calibration error, with --output the reliability diagram.
      intervals: bootstrap intervals over images.
      data_dir: the data set's folder, if it lies elsewhere now.
      prepared_dir: likewise of the prepared records.
      batch_size: images at once, over all devices; None is the run's own.
      mesh: data=4,space=2: devices that split a batch and the images' height. None
        splits batches over all devices.
      figure: PNG to draw the confusion matrix to.
    """
    # What can be refused is refused before the network runs.
    rules = [policies.named(name) for name in policy]
    for rule in rules:
        if rule.void != "excluded":
            raise InputError(
                f"policy {rule.name!r} counts pixels without a label, which an "
                f"evaluation leaves out; expected one of {', '.join(policies.POLICIES)}"
            )
    if output is not None:
        evaluation_documents.check_folder(output)
    processes.keep_compiled_programs(processes.Launch())
    result = evaluation.evaluate(
        run,
        split=split,
        data_dir=data_dir,
        prepared_dir=prepared_dir,
        batch_size=batch_size,
        mesh=parallel.open_mesh(mesh),
        parts=Parts(
            boundaries=boundaries,
            sizes=sizes,
            calibration=calibration,
            intervals=intervals,
        ),
    )
    console = Console()
    for grid in evaluation_grids(result, policies=rules):
        console.print(rich_table(grid))
        for note in grid.notes:
            console.print(Text(note, style="dim"))
        console.print()
    if figure is not None:
        total = result.confusions.sum(axis=0)
        draw_confusion(figure, total, names=result.table.names)
        console.print(f"confusion matrix: {figure}", soft_wrap=True)
    if output is not None:
        files = evaluation_documents.write_evaluation(output, result, policies=rules)
        names = ", ".join(path.name for path in files)
        console.print(f"{output}: {names}", soft_wrap=True, highlight=False)
