"""Images to label files, overlays, probabilities and maps of uncertainty."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from segjax.data.labels import LabelTable, colorize
from segjax.errors import InputError
from segjax.inference.heat_maps import write_heat_map
from segjax.inference.label_files import write_label
from segjax.inference.stream import Maps, Source, predict_stream
from segjax.whole_file import whole_file

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".gif")
"""Endings of the files that a folder's images are taken from."""

WRITERS = 2
"""Threads that write results; compressing releases Python's lock."""


def find_images(source: Path) -> list[Path]:
    """The image files of a folder in the order of their names, or the file itself.

    Files of other endings than SUFFIXES are left out, as are hidden ones and folders.

    Raises:
      InputError: nothing is there, the folder has no image, or two images differ only
        in their ending, so that their labels would have one name.
    """
    # A Zarr array is a folder.
    if source.is_file() or (source.is_dir() and source.suffix == ".zarr"):
        return [source]
    if not source.is_dir():
        raise InputError(f"{source}: no such file or folder")
    paths = sorted(
        path
        for path in source.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )
    if not paths:
        raise InputError(
            f"{source}: holds no image; expected files ending in {', '.join(SUFFIXES)}"
        )
    stems: dict[str, Path] = {}
    for path in paths:
        if path.stem in stems:
            raise InputError(
                f"{source}: {stems[path.stem].name} and {path.name} would both become "
                f"{path.stem}.png; rename one"
            )
        stems[path.stem] = path
    return paths


def check_targets(paths: list[Path], output: Path) -> None:
    """Raises InputError if the label of an image would replace the image."""
    for path in paths:
        target = output / f"{path.stem}.png"
        if target.exists() and target.samefile(path):
            raise InputError(
                f"{path}: its label would replace it; give another output than {output}"
            )


def predict_files(
    sources: Iterable[Source],
    output: Path,
    predict: Callable[[np.ndarray], Maps],
    *,
    table: LabelTable,
    overlays: bool = True,
    batch_size: int = 1,
    read_ahead: int = 8,
    visit: Callable[[np.ndarray, Maps], None] = lambda image, maps: None,
) -> Iterator[Path]:
    """Labels images; every file is written whole or not at all.

    For an image named `a` writes `a.png`, an indexed PNG of train ids in the class
    colours (`label_files.read_label` reads it back), and of what `predict` gives
    `probabilities/a.npz` (float16 `probabilities` `[h w k]` and `names`) and, as heat
    maps (`heat_maps.read_heat_map`), `entropy/a.png` and `mutual_information/a.png`,
    scaled to 0..log(k) nats. Threads read and write while the device works.

    Args:
      sources: names and readers of the images.
      output: folder of the results; made if missing. Files of these names in it are
        replaced.
      predict: see `maps.predict_maps`.
      table: class names and colours.
      overlays: whether to write `overlays/a.png`, the image under the colours.
      batch_size: images that the network sees at once, if their sizes are equal.
      read_ahead: see `stream.predict_stream`.
      visit: called with every image and its maps, in order, before they are written.

    Yields:
      The path of each label as it is finished, in order.

    Raises:
      InputError: an image cannot be read, or the output cannot be written. What was
        finished before stays.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"output {output} cannot be made: {error.strerror}") from error
    predicted = predict_stream(
        sources, predict, batch_size=batch_size, read_ahead=read_ahead
    )
    with ThreadPoolExecutor(WRITERS) as pool:
        writing = deque()
        try:
            for name, image, maps in predicted:
                visit(image, maps)
                job = pool.submit(
                    _write, output, name, image, maps, table=table, overlays=overlays
                )
                writing.append(job)
                while writing[0].done() or len(writing) > 2 * WRITERS:
                    yield writing.popleft().result()
                    if not writing:
                        break
        except InputError:
            while writing:
                yield writing.popleft().result()
            raise
        while writing:
            yield writing.popleft().result()


def _write(output, name, image, maps, *, table, overlays) -> Path:
    label = maps["label"]
    if overlays:
        # Compressed fast: at the default level this takes longer than small networks.
        picture = Image.fromarray(overlay(image, label, table))
        with whole_file(output / "overlays" / f"{name}.png") as scratch:
            picture.save(scratch, format="PNG", compress_level=1)
    for key in ("entropy", "mutual_information"):
        if key in maps:
            path = output / key / f"{name}.png"
            write_heat_map(path, maps[key], highest=math.log(table.num_classes))
    if "probabilities" in maps:
        path = output / "probabilities" / f"{name}.npz"
        with whole_file(path) as scratch, scratch.open("wb") as file:
            np.savez_compressed(
                file, probabilities=maps["probabilities"], names=np.array(table.names)
            )
    # Last: a label that is there says that its image is done.
    target = output / f"{name}.png"
    write_label(target, label, table)
    return target


def overlay(
    image: np.ndarray, label: np.ndarray, table: LabelTable, *, opacity: float = 0.5
) -> np.ndarray:
    """The classes' colours over the image, uint8 `[h w 3]`.

    Args:
      image: uint8 `[h w 3]`.
      label: uint8 `[h w]`, train ids or 255 = void, which leaves the image as it is.
      table: class colours.
      opacity: of the colours, 0..1.
    """
    mixed = (1 - opacity) * image + opacity * colorize(label, table)
    known = (label < table.num_classes)[..., None]
    return np.where(known, np.round(mixed), image).astype(np.uint8)
