"""Images per second of the training input, beside torchvision's in a DataLoader.

    python experiments/benchmarks/input_beside_torchvision.py

Both read the same PNG files from memory and give batches of uint8: decode, scale by a
random factor, crop, mirror, batch; normalising is the device's. segjax is
`segjax.data.pipeline.train_batches` on threads; the other side is a
`torch.utils.data.DataLoader` whose data set decodes with Pillow and applies
`torchvision.transforms.v2` (ScaleJitter, RandomCrop, RandomHorizontalFlip) to tensors
or to Pillow images. "Cached" rows start from decoded arrays instead of files: what
`--cache memory` gives, and a data set that keeps arrays in the other's processes.

Not the same in one respect: torchvision resizes the whole image and then cuts the crop
out of it, segjax computes the crop alone (with an equal result), which is its own
implementation's gain and not torchvision's loss. Where the scaled image is smaller than
the crop torchvision's is filled with 0, segjax's with its mirror image.

PyTorch and torchvision are optional; without them only segjax's rows are printed. A
torchvision whose compiled operators do not fit the installed PyTorch is used without
them, which is said: these transforms are PyTorch's own operators. Programs take turns,
figures are medians over the rounds, an image per second and core is the rate divided by
the threads or processes that prepare batches.
"""

import contextlib
import dataclasses
import functools
import io
import json
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from made_images import label_like, photo_like
from PIL import Image
from rich.console import Console
from rich.table import Table

from segjax import cli
from segjax.data import records
from segjax.data.cache import Cached
from segjax.data.labels import VOID
from segjax.data.pipeline import train_batches

EXAMPLES = 367
"""What both read, as many as CamVid has; those that there are, again and again."""


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What to time."""

    size: tuple[int, int] = (360, 480)
    """Of the images of the first table; crops are as large."""

    large: tuple[int, int] = (1024, 2048)
    """Of the images of the second table."""

    large_crop: tuple[int, int] = (512, 1024)
    """Crops of the second table."""

    scale: tuple[float, float] = (0.5, 2.0)
    """Range of the random scale."""

    count: int = 16
    """Different images of each size."""

    batch_size: int = 8
    """Images per batch."""

    workers: int = os.cpu_count() or 1
    """Threads of segjax and processes of the DataLoader, beside one of each."""

    rounds: int = 5
    """Repetitions, all programs in turn."""

    seconds: float = 4.0
    """Least time of one repetition of one program."""

    json: Path | None = None
    """Where to write the figures, too."""


class Files:
    """Examples as PNG files in memory; a source of segjax."""

    def __init__(self, size: tuple[int, int], count: int):
        """Draws and encodes them."""
        self.files = [
            {
                "image": records.encode_png(photo_like(seed, size)),
                "label": records.encode_png(label_like(seed, size)),
                "id": b"%d" % seed,
            }
            for seed in range(count)
        ]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict:
        return records.decode(self.files[index])


class Repeated:
    """A source of `length` examples that are those of `source` again and again.

    Grain's shuffling of few is slow: of 4 it takes longer than augmenting one.
    """

    def __init__(self, source, length: int):
        """Keeps both."""
        self._source = source
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict:
        return self._source[index % len(self._source)]


class TorchExamples:
    """A map-style data set: decodes with Pillow, then applies v2 transforms."""

    def __init__(self, files: Files, *, crop, scale, on: str, cached: bool):
        """`on` is "tensors" or "Pillow": what the transforms work on."""
        self._files = files.files
        self._on = on
        self._arrays = [files[i] for i in range(len(files))] if cached else None
        # Made where it is used: a worker must first import torchvision.
        self._transform = None
        self._options = {
            "size": files[0]["label"].shape,
            "crop": crop,
            "scale": scale,
        }

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_transform": None}

    def __len__(self) -> int:
        # Long enough for a worker never to have to begin anew while it is timed.
        return len(self._files) * 100_000

    def __getitem__(self, index: int):
        if self._transform is None:
            import_torchvision()
            self._transform = v2_transforms(**self._options)
        import torch
        from torchvision import tv_tensors
        from torchvision.transforms.v2 import functional

        index %= len(self._files)
        if self._arrays is None:
            opened = (
                Image.open(io.BytesIO(self._files[index][name]))
                for name in ("image", "label")
            )
            image, label = opened
            image.load()
            label.load()
            if self._on == "tensors":
                image = functional.pil_to_tensor(image)
                label = functional.pil_to_tensor(label)
        else:
            example = self._arrays[index]
            # Copied: PyTorch has no read-only tensors.
            image = torch.tensor(example["image"]).permute(2, 0, 1)
            label = torch.tensor(example["label"])[None]
            if self._on == "Pillow":
                image, label = map(functional.to_pil_image, (image, label))
        # Masks are resized by their nearest pixel and filled with void.
        if self._on == "Pillow":
            label = functional.pil_to_tensor(label)
        image, label = self._transform(image, tv_tensors.Mask(label))
        if self._on == "Pillow":
            image = functional.pil_to_tensor(image)
        return torch.as_tensor(image), torch.as_tensor(label)


def v2_transforms(*, size, crop, scale):
    """Scale, crop and flip, as torchvision's own recipe for segmentation has them."""
    from PIL.Image import Image as PillowImage
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    return v2.Compose(
        [
            # Relative to a target of the image's own size, so to the image.
            v2.ScaleJitter(target_size=size, scale_range=scale, antialias=True),
            v2.RandomCrop(
                crop,
                pad_if_needed=True,
                fill={tv_tensors.Mask: VOID, PillowImage: 0, "others": 0},
            ),
            v2.RandomHorizontalFlip(),
        ]
    )


def import_torchvision() -> str | None:
    """Makes torchvision importable where it can be; what to call it, or None."""
    try:
        import torch
    except ImportError:
        return None
    without = ""
    try:
        import torchvision
    except ImportError:
        return None
    except RuntimeError:
        # Its compiled operators are of another PyTorch. Importing needs the names.
        boxes = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", boxes)
        try:
            import torchvision
        except (ImportError, RuntimeError):
            return None
        without = " without its compiled operators"
    return (
        f"torchvision {torchvision.__version__}{without}, PyTorch {torch.__version__}"
    )


def segjax_program(source, *, crop, scale, batch_size, threads) -> Iterator:
    """Endless batches of segjax."""
    return train_batches(
        source,
        batch_size=batch_size,
        crop_size=crop,
        scale_range=scale,
        flip=True,
        photometric=0.0,
        seed=0,
        num_threads=threads,
    )


def torch_program(examples, *, batch_size, workers) -> Iterator:
    """Endless batches of a DataLoader."""
    import torch
    from torch.utils.data import DataLoader

    # As its workers do it: one thread per process that prepares batches.
    torch.set_num_threads(1)
    return iter(
        DataLoader(
            examples,
            batch_size=batch_size,
            shuffle=False,  # an order of so long a data set takes memory, not time
            num_workers=workers,
            multiprocessing_context="spawn" if workers else None,
        )
    )


def main(benchmark: Benchmark) -> None:
    """Prints a table for each size."""
    console = Console()
    torchvision = import_torchvision()
    console.print(torchvision or "torchvision: not installed, or not with this PyTorch")
    figures = []
    for size, crop in (
        (benchmark.size, benchmark.size),
        (benchmark.large, benchmark.large_crop),
    ):
        files = Files(size, benchmark.count)
        programs = _programs(benchmark, files, crop, with_torch=bool(torchvision))
        rates = _time(benchmark, programs)
        figures += _show(console, benchmark, size, crop, programs, rates)
    if benchmark.json is not None:
        benchmark.json.write_text(json.dumps(figures, indent=1) + "\n")


def _programs(benchmark, files, crop, *, with_torch) -> dict[str, tuple[int, Callable]]:
    """Name -> (threads or processes that prepare, what starts the iterator)."""
    several = sorted({1, benchmark.workers})
    options = {"crop": tuple(crop), "scale": tuple(benchmark.scale)}
    programs = {}
    for cached in (False, True):
        source, what = files, ""
        if cached:
            source, what = Cached(files, limit=1 << 62), ", cached"
            for index in range(len(files)):
                source[index]
        source = Repeated(source, EXAMPLES)
        for threads in (0, *several):
            programs[f"segjax, {threads} threads{what}"] = (
                max(1, threads),
                functools.partial(
                    segjax_program,
                    source,
                    batch_size=benchmark.batch_size,
                    threads=threads,
                    **options,
                ),
            )
        for on in ("tensors", "Pillow") if with_torch else ():
            examples = TorchExamples(files, on=on, cached=cached, **options)
            for workers in (0, *several):
                programs[f"torchvision v2 on {on}, {workers} workers{what}"] = (
                    max(1, workers),
                    functools.partial(
                        torch_program,
                        examples,
                        batch_size=benchmark.batch_size,
                        workers=workers,
                    ),
                )
    return programs


def _time(benchmark, programs) -> dict[str, list[float]]:
    rates = {name: [] for name in programs}
    for _ in range(benchmark.rounds):
        for name, (_, start) in programs.items():
            batches = start()
            # What is ready before the clock starts is not speed: two batches of each
            # worker (DataLoader), eight in all (segjax).
            for _ in range(max(9, 2 * benchmark.workers + 1)):
                next(batches)
            done, started = 0, time.perf_counter()
            while (spent := time.perf_counter() - started) < benchmark.seconds:
                next(batches)
                done += benchmark.batch_size
            rates[name].append(done / spent)
            with contextlib.suppress(AttributeError):
                batches.close()
            del batches  # ends the DataLoader's workers
    return rates


def _show(console, benchmark, size, crop, programs, rates) -> list[dict]:
    table = Table(
        title=f"images {size[0]}x{size[1]}, crops {crop[0]}x{crop[1]}, scale "
        f"{benchmark.scale[0]:g} to {benchmark.scale[1]:g}, batch {benchmark.batch_size}"
    )
    columns = ("program", "img/s", "per core", "of segjax, 0 threads", "spread")
    for column in columns:
        table.add_column(column)
    reference = rates["segjax, 0 threads"]
    figures = []
    for name, (cores, _) in programs.items():
        rate = statistics.median(rates[name])
        cores = min(cores, os.cpu_count() or 1)
        ratios = [a / b for a, b in zip(rates[name], reference, strict=True)]
        table.add_row(
            name,
            f"{rate:.1f}",
            f"{rate / cores:.1f}",
            f"{statistics.median(ratios):.2f}",
            f"{min(ratios):.2f} to {max(ratios):.2f}",
        )
        figures.append(
            {
                "size": list(size),
                "crop": list(crop),
                "name": name,
                "images_per_second": rate,
                "per_core": rate / cores,
                "ratio": statistics.median(ratios),
                "spread": [min(ratios), max(ratios)],
            }
        )
    console.print(table)
    return figures


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=UserWarning, module="torch")
    cli.main(main, Benchmark())
