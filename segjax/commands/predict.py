"""`python -m segjax predict`."""

from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, track

from segjax.errors import InputError
from segjax.inference.augmented import predict_augmented
from segjax.inference.predict_files import find_images, predict_files
from segjax.inference.predictor import load_predictor, predict_image
from segjax.inference.strips import predict_file
from segjax.inference.windows import predict_windows


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


def _predict_strips(predictor, paths, output, *, window, overlap):
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
