"""Decoder libraries beside each other, and ways to store pixels without loss.

    python experiments/benchmarks/decoding.py --images CAMVID_FOLDER/train

Prints, for JPEG and PNG files at two sizes, how many images one core decodes per second
with each library that is installed, and how what it decodes differs from Pillow's. Then
the same for lossless ways to store the pixels of the prepared records, with the bytes
that each takes. Libraries take turns; figures are medians over the rounds, the ratio is
the median of the ratios to Pillow within a round.

Only Pillow is needed. Others, where installed: opencv-python-headless, simplejpeg,
pyvips, imagecodecs, pyspng, kornia_rs, zstandard. imageio is left out: it decodes both
formats with Pillow.
"""

import dataclasses
import io
import json
import statistics
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from made_images import label_like, photo_like
from PIL import Image
from rich.console import Console
from rich.table import Table

from segjax import cli
from segjax.data import records
from segjax.errors import InputError

Decode = Callable[[bytes], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What to time."""

    images: Path | None = None
    """Folder of PNG files; they are the first size. None draws images."""

    small: tuple[int, int] = (360, 480)
    """First size where images are drawn."""

    large: tuple[int, int] = (1024, 2048)
    """Second size; images are drawn."""

    count: int = 8
    """Different images of each size."""

    quality: int = 90
    """Of the JPEG files (4:2:0, by libjpeg-turbo)."""

    rounds: int = 7
    """Repetitions, all libraries in turn."""

    seconds: float = 0.5
    """Least time of one repetition of one library."""

    json: Path | None = None
    """Where to write the figures, too."""


def main(benchmark: Benchmark) -> None:
    """Prints a table for each format and size, then the stores."""
    console = Console()
    rows = []
    for size, images in _images(benchmark):
        jpeg = [_encoded(image, "JPEG", quality=benchmark.quality) for image in images]
        png = [records.encode_png(image) for image in images]
        for name, files, decoders in (
            (f"JPEG quality {benchmark.quality}", jpeg, jpeg_decoders()),
            ("PNG", png, png_decoders()),
        ):
            rows += _compare(console, name, size, files, decoders, images, benchmark)
        labels = [label_like(seed, size) for seed in range(len(images))]
        files = [records.encode_png(label) for label in labels]
        rows += _compare(
            console, "label PNG", size, files, label_decoders(), labels, benchmark
        )
        stored = {
            name: ([encode(image) for image in images], decode)
            for name, (encode, decode) in stores(images[0].shape).items()
        }
        rows += _compare_stores(console, size, stored, images, benchmark)
    if benchmark.json is not None:
        benchmark.json.write_text(json.dumps(rows, indent=1) + "\n")


def jpeg_decoders() -> dict[str, Decode]:
    """Library -> what decodes a JPEG file to RGB, of those that are installed."""
    return _common_decoders() | _installed(
        {
            "simplejpeg": _simplejpeg,
            "kornia_rs": _kornia_rs,
            "imagecodecs": lambda: __import__("imagecodecs").jpeg8_decode,
        }
    )


def png_decoders() -> dict[str, Decode]:
    """Library -> what decodes a PNG file to RGB, of those that are installed."""
    return _common_decoders() | _installed(
        {
            "pyspng": lambda: __import__("pyspng").load,
            "imagecodecs": lambda: __import__("imagecodecs").png_decode,
        }
    )


def label_decoders() -> dict[str, Decode]:
    """Library -> what decodes a grey PNG file to `[h w]`."""
    return {"Pillow": _pillow} | _installed(
        {
            "OpenCV": lambda: _opencv(grey=True),
            "imagecodecs": lambda: __import__("imagecodecs").png_decode,
        }
    )


def stores(shape: tuple[int, ...]) -> dict[str, tuple[Callable, Decode]]:
    """Name -> (pixels to bytes, bytes to pixels), both exact."""
    pixels = int(np.prod(shape))

    def array(data) -> np.ndarray:
        found = np.frombuffer(data, np.uint8)
        assert found.size == pixels
        return found.reshape(shape)

    known = {
        f"PNG level {level}": (
            lambda image, level=level: _encoded(image, "PNG", compress_level=level),
            _pillow,
        )
        for level in (1, 0, 6, 9)
    }
    known |= {
        "WebP lossless": (
            lambda image: _encoded(image, "WEBP", lossless=True, method=0),
            _pillow,
        ),
        "raw": (lambda image: image.tobytes(), lambda data: array(data).copy()),
        "zlib level 1": (
            lambda image: zlib.compress(image.tobytes(), 1),
            lambda data: array(zlib.decompress(data)),
        ),
        "zlib level 1 of differences": (
            lambda image: zlib.compress(_differences(image).tobytes(), 1),
            lambda data: _summed(array(zlib.decompress(data))),
        ),
    }

    def zstd():
        import zstandard

        packer, unpacker = zstandard.ZstdCompressor(level=1), zstandard.ZstdDecompressor
        return {
            "zstd level 1": (
                lambda image: packer.compress(image.tobytes()),
                lambda data: array(unpacker().decompress(data)),
            ),
            "zstd level 1 of differences": (
                lambda image: packer.compress(_differences(image).tobytes()),
                lambda data: _summed(array(unpacker().decompress(data))),
            ),
        }

    def qoi():
        import imagecodecs

        return {"QOI": (imagecodecs.qoi_encode, imagecodecs.qoi_decode)}

    for found in _installed({"zstd": zstd, "qoi": qoi}).values():
        known |= found
    return known


def _common_decoders():
    return {"Pillow": _pillow} | _installed(
        {
            "OpenCV": lambda: _opencv(grey=False),
            "pyvips": _pyvips,
        }
    )


def _installed(makers):
    """What `makers` make, less those whose library is missing."""
    found = {}
    for name, make in makers.items():
        try:
            found[name] = make()
        except (ImportError, OSError):  # OSError: a wheel without its shared library
            continue
    return found


def _pillow(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def _opencv(*, grey):
    import cv2

    cv2.setNumThreads(1)
    kind = cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR_RGB
    return lambda data: cv2.imdecode(np.frombuffer(data, np.uint8), kind)


def _simplejpeg():
    import simplejpeg

    return lambda data: simplejpeg.decode_jpeg(data, "RGB")


def _pyvips():
    import pyvips

    pyvips.voperation.cache_set_max(0)
    return lambda data: pyvips.Image.new_from_buffer(
        data, "", access="sequential"
    ).numpy()


def _kornia_rs():
    from kornia_rs.io import decode_image_jpegturbo

    return lambda data: np.asarray(decode_image_jpegturbo(data, "rgb"))


def _encoded(image, file_format, **options):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, file_format, **options)
    return buffer.getvalue()


def _differences(image):
    """Each pixel less the one before it in its row, modulo 256."""
    out = image.copy()
    out[:, 1:] -= image[:, :-1]
    return out


def _summed(differences):
    return np.cumsum(differences, axis=1, dtype=np.uint8)


def _images(benchmark):
    """Yields (size, images)."""
    if benchmark.images is None:
        size, seeds = benchmark.small, range(benchmark.count)
        yield size, [photo_like(seed, size) for seed in seeds]
    else:
        files = sorted(benchmark.images.glob("*.png"))
        if not files:
            raise InputError(f"{benchmark.images}: no *.png in it")
        # From all over the folder: neighbours are frames of one video.
        files = files[:: max(1, len(files) // benchmark.count)][: benchmark.count]
        images = [_pillow(path.read_bytes())[..., :3] for path in files]
        yield images[0].shape[:2], images
    seeds = range(benchmark.count)
    yield benchmark.large, [photo_like(seed, benchmark.large) for seed in seeds]


def _rates(programs, benchmark):
    """Name -> images per second in each round; the programs in turn."""
    rates = {name: [] for name in programs}
    for _ in range(benchmark.rounds):
        for name, (files, decode) in programs.items():
            done, started = 0, time.perf_counter()
            while (spent := time.perf_counter() - started) < benchmark.seconds:
                for data in files:
                    decode(data)
                done += len(files)
            rates[name].append(done / spent)
    return rates


def _rows(rates, reference):
    """Medians and ratios: (name, images/s, ratio, least and largest ratio)."""
    for name, found in rates.items():
        pairs = zip(found, rates[reference], strict=True)
        ratios = [one / other for one, other in pairs]
        yield (
            name,
            statistics.median(found),
            statistics.median(ratios),
            (min(ratios), max(ratios)),
        )


def _compare(console, what, size, files, decoders, images, benchmark):
    expected = [_pillow(data) for data in files]
    exact = all(map(np.array_equal, expected, images))
    kind = "without loss" if exact else "with loss"
    kilobytes = statistics.mean(map(len, files)) / 1000
    title = f"{what}, {size[0]}x{size[1]}, {kilobytes:.0f} kB, {kind}"
    table = Table(title=title)
    for column in ("library", "img/s per core", "of Pillow's", "spread", "pixels"):
        table.add_column(column)
    rates = _rates({name: (files, d) for name, d in decoders.items()}, benchmark)
    rows = []
    for name, rate, ratio, spread in _rows(rates, "Pillow"):
        pixels = _difference([decoders[name](data) for data in files], expected)
        _add(table, name, rate, ratio, spread, pixels)
        rows.append(_record(what, size, name, rate, ratio, spread, pixels=pixels))
    console.print(table)
    return rows


def _compare_stores(console, size, stored, images, benchmark):
    table = Table(title=f"lossless stores, {size[0]}x{size[1]}")
    for column in ("store", "img/s per core", "of PNG 1's", "spread", "of the pixels"):
        table.add_column(column)
    for name, (files, decode) in stored.items():
        if not all(map(np.array_equal, map(decode, files), images)):
            raise RuntimeError(f"{name} changes the pixels")
    rows = []
    for name, rate, ratio, spread in _rows(_rates(stored, benchmark), "PNG level 1"):
        size_ratio = sum(map(len, stored[name][0])) / sum(i.nbytes for i in images)
        _add(table, name, rate, ratio, spread, f"{size_ratio:.2f}")
        rows.append(
            _record("store", size, name, rate, ratio, spread, of_pixels=size_ratio)
        )
    console.print(table)
    return rows


def _difference(found, expected) -> str:
    shapes = {one.shape for one in found} == {one.shape for one in expected}
    if not shapes:
        return f"another shape, {found[0].shape}"
    gaps = np.abs(np.stack(found).astype(int) - np.stack(expected))
    if not gaps.any():
        return "equal"
    return f"{(gaps > 0).mean():.1%} differ, by {gaps.max()} at most"


def _add(table, name, rate, ratio, spread, last):
    lowest, highest = spread
    table.add_row(
        name, f"{rate:.1f}", f"{ratio:.2f}", f"{lowest:.2f} to {highest:.2f}", last
    )


def _record(what, size, name, rate, ratio, spread, **others):
    return {
        "what": what,
        "size": list(size),
        "name": name,
        "images_per_second": rate,
        "ratio": ratio,
        "spread": list(spread),
        **others,
    }


if __name__ == "__main__":
    cli.main(main, Benchmark())
