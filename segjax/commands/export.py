"""`python -m segjax export`."""

from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console

from segjax.commands import RUN_OPTION
from segjax.errors import InputError
from segjax.inference import export as exporting
from segjax.inference.predictor import load_predictor
from segjax.training import processes


def export(
    run: Annotated[Path, RUN_OPTION],
    output: Path,
    image_size: tuple[int, int] | Literal["dynamic"] | None = None,
    batch: int | Literal["dynamic"] | None = None,
    platforms: tuple[Literal["cpu", "cuda", "rocm", "tpu"], ...] = exporting.PLATFORMS,
) -> None:
    """Writes a run's network as one file that needs no Python code of the network.

    The file maps uint8 RGB images to the probabilities of their pixels' classes, and
    is compared with the network on random images before it is written.

    Args:
      run: folder of the run; its checkpoint says everything else.
      output: file to write: NAME.stablehlo, read by JAX, or NAME.onnx; needs
        `pip install segjax[export]`, and ONNX `pip install --no-deps jax2onnx`.
      image_size: height and width of the images, or dynamic: left open (not for
        ONNX). None is the size that the network was trained at.
      batch: number of images in a call, or dynamic: left open (not for ONNX). None is
        dynamic for StableHLO and 1 for ONNX.
      platforms: that a StableHLO file can run on.
    """
    processes.keep_compiled_programs(processes.Launch())
    predictor = load_predictor(run)
    if image_size is None and predictor.image_size is None:
        raise InputError(
            "image-size: the network was trained at its images' own sizes; give "
            "a height and a width, or dynamic"
        )
    size = predictor.image_size if image_size is None else image_size
    if batch is None:
        batch = 1 if output.suffix == ".onnx" else "dynamic"
    report = exporting.export(
        predictor,
        output,
        batch=None if batch == "dynamic" else batch,
        size=None if size == "dynamic" else size,
        platforms=platforms,
    )
    console = Console()
    for line in (
        f"{output}: {predictor.name}, {report.size / 1e6:.1f} MB",
        f"takes images uint8 {report.shape}"
        + (f", on {', '.join(report.platforms)}" if report.platforms else ""),
        f"gives the probabilities of {predictor.table.num_classes} classes, which "
        f"differ from the network's by at most {report.max_difference:.1e} on random "
        f"images {', '.join(str(list(c)) for c in report.checked)}",
    ):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
