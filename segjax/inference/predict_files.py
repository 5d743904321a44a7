"""Images in files to label files, overlays and probabilities."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from segjax.data.labels import LabelTable, colorize
from segjax.errors import InputError
from segjax.inference.image_files import read_image
from segjax.inference.label_files import write_label

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".gif")
"""Endings of the files that a folder's images are taken from."""


def find_images(source: Path) -> list[Path]:
    """The image files of a folder in the order of their names, or the file itself.

    Files of other endings than SUFFIXES are left out, as are hidden ones and folders.

    Raises:
      InputError: nothing is there, the folder has no image, or two images differ only
        in their ending, so that their labels would have one name.
    """
    if source.is_file():
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


def predict_files(
    paths: list[Path],
    output: Path,
    predict_image: Callable[[np.ndarray], np.ndarray],
    *,
    table: LabelTable,
    overlays: bool = True,
    probabilities: bool = False,
) -> Iterator[Path]:
    """Labels image files one by one; every file is written whole or not at all.

    For an image `a.jpg` writes `a.png`, an indexed PNG of train ids in the class
    colours (`label_files.read_label` reads it back), `overlays/a.png`, and
    `probabilities/a.npz` with float16 `probabilities` `[h w k]` and `names`.

    Args:
      paths: of the images, see `find_images`.
      output: folder of the results; made if missing. Files of these names in it are
        replaced.
      predict_image: image uint8 `[h w 3]` -> probabilities `[h w k]`.
      table: class names and colours.
      overlays: whether to write the image with the classes' colours over it.
      probabilities: whether to write them.

    Yields:
      The path of each label as it is finished.

    Raises:
      InputError: an image cannot be read, or the output cannot be written. What was
        finished before stays.
    """
    folders = {"overlays": overlays, "probabilities": probabilities}
    try:
        for folder in (output, *(output / name for name, on in folders.items() if on)):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"output {output} cannot be made: {error}") from error
    for path in paths:
        image = read_image(path)
        scores = predict_image(image)
        label = scores.argmax(axis=-1).astype(np.uint8)
        target = output / f"{path.stem}.png"
        if target.exists() and target.samefile(path):
            raise InputError(
                f"{path}: its label would replace it; give another output than {output}"
            )
        try:
            if overlays:
                _write_png(
                    output / "overlays" / target.name, overlay(image, label, table)
                )
            if probabilities:
                _write_npz(
                    output / "probabilities" / f"{path.stem}.npz",
                    probabilities=scores.astype(np.float16),
                    names=np.array(table.names),
                )
            # Last: a label that is there says that its image is done.
            write_label(target, label, table)
        except OSError as error:
            raise InputError(f"output {target} cannot be written: {error}") from error
        yield target


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


def _write_png(path: Path, picture: np.ndarray) -> None:
    scratch = path.with_suffix(".tmp")
    Image.fromarray(picture).save(scratch, format="PNG")
    scratch.replace(path)


def _write_npz(path: Path, **arrays: np.ndarray) -> None:
    scratch = path.with_suffix(".tmp")
    with scratch.open("wb") as file:
        np.savez_compressed(file, **arrays)
    scratch.replace(path)
