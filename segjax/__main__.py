"""`python -m segjax VERB`: what is not an experiment."""

import sys
from functools import partial
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from rich.progress import Progress, track
from rich.table import Table

from segjax.errors import InputError
from segjax.models.decoders.strategies import SKIPS, UPSAMPLINGS
from segjax.models.zoo import ENCODERS, MODELS, build_model, count_parameters

Resize = Literal["refuse", "predictions", "labels"]


def models(num_classes: int = 11, width: float = 1.0) -> None:
    """Lists the networks: name, parameters, encoder, decoder, source.

    Args:
      num_classes: classes that parameters are counted for.
      width: factor on the number of channels.
    """
    table = Table(title=f"parameters at {num_classes} classes, width {width:g}")
    table.add_column("name", no_wrap=True)
    table.add_column("parameters", justify="right", no_wrap=True)
    for column in ("encoder", "decoder", "arXiv"):
        table.add_column(column, overflow="fold")
    for name, entry in MODELS.items():
        model = build_model(name, num_classes=num_classes, width=width)
        table.add_row(
            name,
            f"{count_parameters(model):,}",
            entry.encoder,
            entry.decoder,
            entry.source,
        )
    console = Console()
    console.print(table)
    for title, parts in (
        ("encoders", ENCODERS),
        ("upsamplings", UPSAMPLINGS),
        ("skips", SKIPS),
    ):
        console.print(f"{title}: {', '.join(parts)}")
    console.print("and any ENCODER:UPSAMPLING+SKIP, e.g. unet_bn:max_unpool+none")


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
    from segjax import evaluation
    from segjax.report.evaluation_tables import evaluation_tables
    from segjax.report.figures import draw_confusion

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


def predict(
    run: Path,
    input: Path,
    output: Path = Path("predictions"),
    native_size: bool = False,
    scales: tuple[float, ...] = (1.0,),
    flip: bool = False,
    window: tuple[int, int] | None = None,
    overlap: float = 0.5,
    strips: bool = False,
    overlays: bool = True,
    probabilities: bool = False,
) -> None:
    """Labels an image or a folder of images with a run's network.

    Args:
      run: folder of the run; its checkpoint says everything else.
      input: image file, or folder of image files.
      output: folder of the labels (indexed PNGs), overlays and probabilities.
      native_size: the network sees images at their own size and not at the size that
        it was trained at.
      scales: average over these scales of the image.
      flip: average over the image and its mirror image.
      window: height and width of a sliding window, blended by Gaussian weights; None
        predicts the whole image at once. Windows see the image at its own size.
      overlap: least share of a window in common with the next one.
      strips: read, label and write strip by strip, for images larger than memory;
        needs `window` and `pip install segjax[gigapixel]`, writes labels only.
      overlays: write the image with the classes' colours over it.
      probabilities: write them, too, as NPZ.
    """
    from segjax.inference.augmented import predict_augmented
    from segjax.inference.predict_files import find_images, predict_files
    from segjax.inference.predictor import load_predictor, predict_image
    from segjax.inference.windows import predict_windows

    if strips and (window is None or scales != (1.0,) or flip or probabilities):
        raise InputError(
            "strips needs window, and goes without scales, flip and probabilities"
        )
    paths = find_images(input)
    predictor = load_predictor(run)
    if strips:
        _predict_strips(predictor, paths, output, window=window, overlap=overlap)
        return
    if window is None:
        size = None if native_size else predictor.image_size
        one = partial(predict_image, predictor, image_size=size)
    else:
        one = partial(
            predict_windows,
            predict=lambda images: predictor.probabilities(images, images.shape[1:3]),
            input_size=window,
            overlap=overlap,
        )
    if scales != (1.0,) or flip:
        one = partial(
            predict_augmented, predict_image=one, scales=scales, horizontal_flip=flip
        )
    console = Console()
    done = predict_files(
        paths,
        output,
        one,
        table=predictor.table,
        overlays=overlays,
        probabilities=probabilities,
    )
    for _ in track(done, f"{predictor.name}", total=len(paths), console=console):
        pass
    console.print(f"{len(paths)} labels: {output}", soft_wrap=True)


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
    """
    from segjax import evaluation, explain
    from segjax.data.datasets import open_dataset
    from segjax.policies import POLICIES
    from segjax.report.explanation_grids import explanation_grids
    from segjax.report.tables import rich_table

    if all(name.partition("/")[0] in POLICIES for name in (a, b)):
        if run is None:
            raise InputError("two policies need --run, the run that both score")
        result = evaluation.evaluate(run, data_dir=data_dir, prepared_dir=prepared_dir)
        explanation = explain.explain_policies(result.confusions, a, b)
    else:
        if dataset is None:
            raise InputError(
                f"{a} and {b} are not both policies, so folders of predictions: they "
                "need --dataset, the data set that they predict"
            )
        opened = open_dataset(dataset, data_dir=data_dir, prepared_dir=prepared_dir)
        if split not in opened.splits:
            raise InputError(
                f"data set {dataset!r} has no split {split!r}: expected one of "
                f"{', '.join(opened.splits)}"
            )
        explanation = explain.explain_predictions(
            *(
                explain.Side(Path(folder), policy=policy, resize=how)
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


def _predict_strips(predictor, paths, output, *, window, overlap):
    from segjax.inference.strips import predict_file

    output.mkdir(parents=True, exist_ok=True)
    with Progress(console=Console()) as progress:
        for path in paths:
            task = progress.add_task(path.name, total=None)
            predict_file(
                path,
                output / f"{path.stem}.png",
                lambda images: predictor.probabilities(images, images.shape[1:3]),
                table=predictor.table,
                input_size=window,
                overlap=overlap,
                progress=lambda done, rows, task=task: progress.update(
                    task, completed=done, total=rows
                ),
            )


def main() -> None:
    """The command line; what a user can mend is one line and status 2."""
    verbs = {
        "models": models,
        "evaluate": evaluate,
        "explain-score": explain_score,
        "predict": predict,
    }
    try:
        tyro.extras.subcommand_cli_from_dict(verbs, prog="python -m segjax")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
