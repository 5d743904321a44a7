"""`python -m segjax predict`."""

from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, track

from segjax.errors import InputError
from segjax.inference.image_files import read_image
from segjax.inference.maps import predict_maps
from segjax.inference.members import Views, make_members
from segjax.inference.predict_files import check_targets, find_images, predict_files
from segjax.inference.predictor import load_predictor
from segjax.inference.strips import predict_file
from segjax.inference.windows import Blend


def predict(
    run: tuple[Path, ...],
    input: Path,
    output: Path = Path("predictions"),
    native_size: bool = False,
    scales: tuple[float, ...] = (1.0,),
    flip: bool = False,
    window: tuple[int, int] | None = None,
    overlap: float = 0.5,
    blend: Blend = "gaussian",
    tile: tuple[int, int] | None = None,
    context: int | None = None,
    strips: bool = False,
    dropout_samples: int = 0,
    seed: int = 0,
    overlays: bool = True,
    probabilities: bool = False,
    uncertainty: bool = False,
    batch_size: int = 4,
) -> None:
    """Labels images with a run's network, or with an ensemble of several runs.

    Args:
      run: folder of the run, its checkpoint says everything else; several are an
        ensemble, whose probabilities are averaged.
      input: image file, or folder of image files.
      output: folder of the labels (indexed PNGs), overlays and maps.
      native_size: the network sees images at their own size and not at the size that
        it was trained at.
      scales: average over these scales of the image.
      flip: average over the image and its mirror image.
      window: height and width of a sliding window, blended; None predicts the whole
        image at once. Windows see the image at its own size.
      overlap: least share of a window in common with the next one.
      blend: weights of a window's pixels: gaussian, cosine or uniform.
      tile: height and width of tiles that do not overlap, each seen with the image
        around it (overlap-tile); the image is mirrored at its borders.
      context: pixels around a tile; None is the margin that the network loses.
      strips: read, label and write strip by strip, for images larger than memory;
        needs `window` and `pip install segjax[gigapixel]`, writes labels only.
      dropout_samples: average over this many predictions with dropout left on.
      seed: of the dropout.
      overlays: write the image with the classes' colours over it.
      probabilities: write them, too, as NPZ.
      uncertainty: write the entropy and, of several predictions, the mutual
        information, as heat maps.
      batch_size: images of equal size that the network sees at once.
    """
    if window is not None and tile is not None:
        raise InputError("window and tile exclude each other")
    predictors = [load_predictor(folder) for folder in run]
    views = Views(native_size, window, overlap, blend, tile, context, scales, flip)
    members = make_members(
        predictors, views, dropout_samples=dropout_samples, seed=seed
    )
    paths = find_images(input)
    check_targets(paths, output)
    if strips:
        if views != Views(window=window, overlap=overlap) or window is None:
            raise InputError("strips needs window, and goes with overlap alone")
        if len(members) > 1 or dropout_samples or probabilities or uncertainty:
            raise InputError("strips writes the labels of one run, nothing else")
        _predict_strips(predictors[0], paths, output, views)
        return
    console = Console()
    done = predict_files(
        [(path.stem, partial(read_image, path)) for path in paths],
        output,
        partial(
            predict_maps,
            members=members,
            with_probabilities=probabilities,
            with_uncertainty=uncertainty,
        ),
        table=predictors[0].table,
        overlays=overlays,
        batch_size=batch_size,
    )
    name = ", ".join(predictor.name for predictor in predictors)
    for _ in track(done, name, total=len(paths), console=console):
        pass
    console.print(f"{len(paths)} labels: {output}", soft_wrap=True)


def _predict_strips(predictor, paths, output, views):
    output.mkdir(parents=True, exist_ok=True)
    with Progress(console=Console()) as progress:
        for path in paths:
            task = progress.add_task(path.name, total=None)
            predict_file(
                path,
                output / f"{path.stem}.png",
                predictor.tile,
                table=predictor.table,
                input_size=predictor.input_size(views.window),
                margin=predictor.margin,
                overlap=views.overlap,
                progress=lambda done, rows, task=task: progress.update(
                    task, completed=done, total=rows
                ),
            )
