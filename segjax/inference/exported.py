"""Exported networks: a file that labels images without the network's Python code.

`segjax.inference.export` writes them. Both forms map uint8 RGB images `[b h w 3]` to
float32 class probabilities `[b h w k]` of the same pixels; normalisation and weights
are inside. `load_exported` reads both; so do a few lines without segjax:

    archive = zipfile.ZipFile("model.stablehlo")
    exported = jax.export.deserialize(bytearray(archive.read("exported.bin")))
    about = json.loads(archive.read("segjax.json"))
    probabilities = jax.jit(exported.call)(images)

    session = onnxruntime.InferenceSession("model.onnx")
    about = json.loads(session.get_modelmeta().custom_metadata_map["segjax"])
    (probabilities,) = session.run(None, {"images": images})
"""

import dataclasses
import importlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export as jax_export

from segjax.data.labels import VOID, LabelTable
from segjax.errors import InputError

PROGRAM, ABOUT = "exported.bin", "segjax.json"
"""Members of a `.stablehlo` file, a ZIP archive: the program and what it is."""

ONNX_ABOUT = "segjax"
"""Key of the same JSON in the metadata of an `.onnx` file."""


@dataclasses.dataclass(frozen=True)
class ImageShape:
    """The images that an exported network takes.

    Attributes:
      batch: number of images in a call; None is any number.
      size: `(height, width)`; None is any size with
      multiple_of: which both sides are divisible by, and
      at_least: which both sides are no smaller than. Both are 1 for a fixed size.
    """

    batch: int | None
    size: tuple[int, int] | None
    multiple_of: int = 1
    at_least: int = 1

    def __str__(self) -> str:
        batch = "any" if self.batch is None else self.batch
        if self.size is not None:
            return f"[{batch} {self.size[0]} {self.size[1]} 3]"
        rules = [f"from {self.at_least}"] if self.at_least > 1 else []
        if self.multiple_of > 1:
            rules.append(f"multiples of {self.multiple_of}")
        sides = f"h w 3], h and w any {' and '.join(rules)}".rstrip()
        return f"[{batch} {sides}"

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether images of `shape` `[b h w c]` can be given to the network."""
        if len(shape) != 4 or shape[0] < 1 or shape[3] != 3:
            return False
        sides = shape[1:3]
        return self.batch in (None, shape[0]) and (
            self.size == sides
            if self.size is not None
            else all(n >= self.at_least and n % self.multiple_of == 0 for n in sides)
        )


@dataclasses.dataclass(frozen=True)
class Exported:
    """An exported network, ready to label images.

    Attributes:
      name: of the network.
      step: updates that its weights had seen.
      table: names and colours of its classes.
      image_size: `(height, width)` that it was trained at; None is the images' own.
      shape: the images that it takes.
      platforms: that it runs on.
      probabilities: `images uint8 [b h w 3] -> float32 [b h w k]`; raises
        `InputError` for images of a shape that it does not take.
    """

    name: str
    step: int
    table: LabelTable
    image_size: tuple[int, int] | None
    shape: ImageShape
    platforms: tuple[str, ...]
    probabilities: Callable[[np.ndarray], np.ndarray]


def load_exported(path: Path) -> Exported:
    """Reads a `.stablehlo` or `.onnx` file that segjax exported.

    Args:
      path: of the file. Needs `pip install segjax[export]`.

    Raises:
      InputError: no such file, or not one that segjax exported; or it runs on other
        platforms than this process.
    """
    read = {".stablehlo": read_stablehlo, ".onnx": read_onnx}.get(path.suffix)
    if read is None:
        raise InputError(f"{path}: expected a file .stablehlo or .onnx")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    about, call = read(path)
    try:
        labels, shape = about["classes"], about["images"]
        table = LabelTable(
            names=tuple(labels["names"]),
            colors=tuple(map(tuple, labels["colors"])),
            raw_ids={**{i: i for i in range(len(labels["names"]))}, VOID: VOID},
            thin=tuple(labels["thin"]),
        )
        takes = ImageShape(**{**shape, "size": _pair(shape["size"])})
        platforms = tuple(about["platforms"])
        exported = Exported(
            name=about["model"],
            step=about["step"],
            table=table,
            image_size=_pair(about["image_size"]),
            shape=takes,
            platforms=platforms,
            probabilities=lambda images: call(_checked(images, takes, path)),
        )
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{path}: was exported by another version of segjax ({error})"
        ) from error
    here = jax_export.default_export_platform()
    if path.suffix == ".stablehlo" and here not in platforms:
        raise InputError(
            f"{path}: runs on {', '.join(platforms)}, but this process is on {here}"
        )
    return exported


def read_stablehlo(path: Path) -> tuple[dict[str, Any], Callable]:
    """What the file says of itself, and its program as a jitted function.

    Raises:
      InputError: it is not a file that segjax exported, or flatbuffers is missing.
    """
    need("flatbuffers")
    try:
        with zipfile.ZipFile(path) as archive:
            about = json.loads(archive.read(ABOUT))
            program = archive.read(PROGRAM)
        call = jax.jit(jax_export.deserialize(bytearray(program)).call)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: is not a StableHLO file that segjax exported: {error}"
        ) from error
    return about, lambda images: np.asarray(call(images))


def read_onnx(path: Path) -> tuple[dict[str, Any], Callable]:
    """What the file says of itself, and a function that runs it on the CPU.

    Raises:
      InputError: it is not a file that segjax exported, or onnxruntime is missing.
    """
    onnxruntime = need("onnxruntime")
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        about = json.loads(session.get_modelmeta().custom_metadata_map[ONNX_ABOUT])
    # onnxruntime's exceptions are many, and have no public base class of their own.
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"{path}: is not an ONNX file that segjax exported: {reason}"
        ) from error
    return about, lambda images: session.run(None, {"images": images})[0]


def need(package: str) -> Any:
    """Imports a package that only exported files need, or says how to install it."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        how = "pip install 'segjax[export]'"
        if package == "jax2onnx":  # it pins a package that it does not need
            how += " && pip install --no-deps jax2onnx==0.17.1"
        raise InputError(
            f"this needs the package {error.name}, which is not installed: {how}"
        ) from error


def _pair(size):
    return None if size is None else tuple(size)


def _checked(images, takes, path):
    if images.dtype != np.uint8 or not takes.takes(images.shape):
        raise InputError(
            f"{path}: takes images uint8 {takes}, got {images.dtype} "
            f"{list(images.shape)}"
        )
    return images
