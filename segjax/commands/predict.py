"""`python -m segjax predict`."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from rich.console import Console
from rich.progress import Progress, track

from segjax.commands import RUN_OPTION
from segjax.data.labels import LabelTable
from segjax.errors import InputError
from segjax.inference.frames import Frames, open_frames
from segjax.inference.maps import predict_maps
from segjax.inference.members import Views, make_members
from segjax.inference.predict_files import check_targets, overlay, predict_files
from segjax.inference.predictor import load_predictor
from segjax.inference.stream import Maps
from segjax.inference.video_files import open_video
from segjax.inference.windows import Blend
from segjax.training import parallel, processes


def predict(
    run: Annotated[tuple[Path, ...], RUN_OPTION],
    input: str,
    output: Path = Path("predictions"),
    every: int = 1,
    limit: int | None = None,
    native_size: bool = False,
    scales: tuple[float, ...] = (1.0,),
    flip: bool = False,
    window: tuple[int, int] | None = None,
    overlap: float = 0.5,
    blend: Blend = "gaussian",
    tile: tuple[int, int] | None = None,
    context: int | None = None,
    strips: bool = False,
    label_format: Literal["png", "tif", "zarr"] = "png",
    dropout_samples: int = 0,
    seed: int = 0,
    overlays: bool = True,
    video: Path | None = None,
    probabilities: bool = False,
    uncertainty: bool = False,
    batch_size: int = 4,
    mesh: str | None = None,
) -> None:
    """Labels images with a run's network, or with an ensemble of several runs.

    Args:
      run: folder of the run, its checkpoint says everything else; several are an
        ensemble, whose probabilities are averaged.
      input: image file, folder of image files, video file, "camera:0", or "-":
        standard input, an image or PNG, JPEG and PPM images in a row.
      output: folder of the labels (indexed PNGs), overlays and maps.
      every: take the first image and then every n-th.
      limit: take at most so many.
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
        needs `window` or `tile` and `pip install segjax[gigapixel]`, writes labels and
        probabilities.
      label_format: of the labels of `strips`; everything else is written as PNG.
      dropout_samples: average over this many predictions with dropout left on.
      seed: of the dropout.
      overlays: write the image with the classes' colours over it.
      video: write the overlays as a video: .mp4, .avi or (lossless) .mkv.
      probabilities: write them, too, as NPZ, or of `strips` as Zarr.
      uncertainty: write the entropy and, of several predictions, the mutual
        information, as heat maps.
      batch_size: images of equal size that the network sees at once.
      mesh: data=4,space=2: devices that split a batch and the images' height. None is
        one device.
    """
    if window is not None and tile is not None:
        raise InputError("window and tile exclude each other")
    processes.keep_compiled_programs(processes.Launch())
    devices = parallel.open_mesh(mesh) if mesh else None
    predictors = [load_predictor(folder, mesh=devices) for folder in run]
    views = Views(native_size, window, overlap, blend, tile, context, scales, flip)
    members = make_members(
        predictors, views, dropout_samples=dropout_samples, seed=seed
    )
    with open_frames(input, every=every, limit=limit) as frames:
        check_targets(list(frames.paths), output)
        if strips:
            if len(members) > 1 or dropout_samples or uncertainty:
                raise InputError(
                    "strips writes labels and probabilities of one run, nothing else"
                )
            if not frames.paths:
                raise InputError(f"strips needs image files; {input} is none")
            _predict_strips(
                predictors[0],
                frames.paths,
                output,
                views,
                suffix=f".{label_format}",
                probabilities=probabilities,
                batch_size=batch_size,
            )
            return
        with _overlay_video(video, frames, predictors[0].table) as show:
            live = frames.kind == "camera"
            done = predict_files(
                frames.sources,
                output,
                partial(
                    predict_maps,
                    members=members,
                    with_probabilities=probabilities,
                    with_uncertainty=uncertainty,
                ),
                table=predictors[0].table,
                overlays=overlays,
                batch_size=1 if live else batch_size,
                read_ahead=0 if live else 8,
                visit=show,
            )
            console = Console()
            name = ", ".join(predictor.name for predictor in predictors)
            count = 0
            for _ in track(done, name, total=frames.count, console=console):
                count += 1
        console.print(f"{count} labels: {output}", soft_wrap=True)


@contextlib.contextmanager
def _overlay_video(
    path: Path | None, frames: Frames, table: LabelTable
) -> Iterator[Callable[[np.ndarray, Maps], None]]:
    if path is None:
        yield lambda image, maps: None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_video(path, fps=frames.fps or 25) as add:
        yield lambda image, maps: add(overlay(image, maps["label"], table))


def _predict_strips(
    predictor, paths, output, views, *, suffix, probabilities, batch_size
):
    try:
        from segjax.inference.strips import network_blocks, predict_file
    except ImportError as error:
        raise InputError(
            f"strips need pip install segjax[gigapixel] ({error})"
        ) from error
    blocks = network_blocks(predictor, views, batch_size=batch_size)
    scores = output / "probabilities"
    with Progress(console=Console()) as progress:
        for path in paths:
            task = progress.add_task(path.name, total=None)
            predict_file(
                path,
                output / f"{path.stem}{suffix}",
                blocks,
                table=predictor.table,
                probabilities=scores / f"{path.stem}.zarr" if probabilities else None,
                progress=lambda done, rows, task=task: progress.update(
                    task, completed=done, total=rows
                ),
            )
