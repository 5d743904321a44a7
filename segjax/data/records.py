"""One example as it lies on disk: PNG or JPEG bytes in an ArrayRecord file.

All data sets are stored in this one form, so there is one way to read them.
"""

import functools
import io
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

# Examples per file. TFDS keeps the encoded examples of one file in memory while it
# writes, so this bounds the memory that preparing needs.
SHARD_LENGTH = 256


def features() -> tfds.features.FeaturesDict:
    """Returns the TFDS features of every data set here.

    `image` is any RGB PNG or JPEG file `[h w 3]`, `label` a grey 8-bit PNG file
    `[h w 1]` of train ids (void already mapped), `id` names the example.
    """
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.Image(
                shape=(None, None, 1), dtype=np.uint8, encoding_format="png"
            ),
            "id": tfds.features.Text(),
        }
    )


def info(
    builder: tfds.core.DatasetBuilder, description: str, *, homepage: str | None = None
) -> tfds.core.DatasetInfo:
    """Returns what a builder's `_info` has to say."""
    return tfds.core.DatasetInfo(
        builder=builder,
        description=description,
        features=features(),
        homepage=homepage,
    )


def encode_png(array: np.ndarray) -> bytes:
    """Encodes uint8 `[h w 3]` or `[h w]` as a PNG file, without loss."""
    if array.dtype != np.uint8:
        raise TypeError(f"image is {array.dtype}, expected uint8")
    buffer = io.BytesIO()
    # Level 1: three times faster than the default for a file a few percent larger.
    Image.fromarray(array).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def decode(record: dict) -> dict:
    """Decodes one stored example.

    Args:
      record: `image` and `label` as file contents (bytes), `id` as bytes.

    Returns:
      dict of `image` uint8 `[h w 3]`, `label` uint8 `[h w]` in
      `0..num_classes-1` or 255 = void, `id` str.
    """
    return {
        # Not left to TFDS: it decodes with OpenCV where that is installed and with
        # Pillow where not, and the two disagree on 16-bit files and EXIF rotation.
        "image": _decode_image(record["image"]),
        "label": _decode_image(record["label"]),
        "id": record["id"].decode(),
    }


def decoded_bytes(record: dict) -> int:
    """Bytes of the arrays that `decode` makes of a record, without decoding it."""
    return _array_bytes(record["image"]) + _array_bytes(record["label"])


def shards(read: Callable[[object], dict | None], items: Sequence) -> list:
    """Splits the examples of one split over files, in order.

    Args:
      read: item -> example (a dict of the features), or None to leave it out.
      items: what the examples are made from.

    Returns:
      what `tfds.core.ShardBasedBuilder` asks for: one function per file that
      iterates over (key, example).
    """

    def generate(start: int) -> Iterator[tuple[int, dict]]:
        for index in range(start, min(start + SHARD_LENGTH, len(items))):
            example = read(items[index])
            if example is not None:
                yield index, example

    return [
        functools.partial(generate, start)
        for start in range(0, len(items), SHARD_LENGTH)
    ]


def _decode_image(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def _array_bytes(data: bytes) -> int:
    with Image.open(io.BytesIO(data)) as image:
        return image.width * image.height * len(image.getbands())
