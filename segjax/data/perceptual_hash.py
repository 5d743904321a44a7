"""Telling near-duplicate images by a 64-bit hash."""

import numpy as np
from PIL import Image
from scipy import fft

NEAR = 6
"""Most bits in which the hashes of a picture and its copy differ; see the tests."""


def perceptual_hash(image: np.ndarray) -> np.uint64:
    """A hash that hardly changes when an image is resized, recompressed or brightened.

    Source: the DCT hash of phash.org (Zauner, "Implementation and benchmarking of
    perceptual image hash functions", 2010), in the form of the library ImageHash: the
    luma at 32x32, its two-dimensional cosine transform, of that the 8x8 lowest
    frequencies, a bit each for being above their median.

    Args:
      image: uint8 `[h w 3]`.

    Returns:
      64 bits. Unrelated images differ in about 32 of them, so that more than
      `NEAR` says "another picture".
    """
    grey = Image.fromarray(np.ascontiguousarray(image)).convert("L")
    small = grey.resize((32, 32), Image.Resampling.LANCZOS)
    low = fft.dctn(np.asarray(small, np.float64), norm="ortho")[:8, :8]
    bits = low > np.median(low)
    return np.packbits(bits).view(np.uint64)[0]


def near_pairs(
    first: np.ndarray, second: np.ndarray, *, most: int = NEAR
) -> list[tuple[int, int, int]]:
    """The pairs of hashes that differ in few bits.

    Args:
      first: uint64 `[n]`.
      second: uint64 `[m]`.
      most: bits that may differ.

    Returns:
      `(i, j, bits)` of every pair `first[i]`, `second[j]`, by i and j.
    """
    found = []
    for i, value in enumerate(first):  # one row of the table at a time
        bits = np.bitwise_count(second ^ value)
        found += [(i, int(j), int(bits[j])) for j in np.flatnonzero(bits <= most)]
    return found
