"""Copies are near, other pictures are far."""

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from segjax.data.perceptual_hash import NEAR, near_pairs, perceptual_hash
from segjax.data.street_scenes import draw_example


def bits(a, b):
    return int(np.bitwise_count(perceptual_hash(a) ^ perceptual_hash(b)))


@pytest.fixture(scope="module")
def scenes():
    return [
        draw_example(seed=0, split="train", index=index, size=(96, 128))[0]
        for index in range(12)
    ]


def resized(image):
    return np.asarray(Image.fromarray(image).resize((70, 61), Image.Resampling.BOX))


def recompressed(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=50)
    return np.asarray(Image.open(buffer))


def brightened(image):
    return np.asarray(ImageEnhance.Brightness(Image.fromarray(image)).enhance(1.15))


def noisy(image):
    rng = np.random.default_rng(0)
    return np.clip(image + rng.normal(0, 5, image.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("change", [resized, recompressed, brightened, noisy])
def test_copies_are_near(scenes, change):
    assert max(bits(image, change(image)) for image in scenes) <= NEAR


def test_other_scenes_are_far(scenes):
    for i, image in enumerate(scenes):
        assert (
            min(bits(image, other) for other in scenes[i + 1 :] or [255 - image]) > NEAR
        )


def test_half_of_the_bits_are_set(scenes):
    for image in scenes:
        assert int(np.bitwise_count(perceptual_hash(image))) == 32


def test_a_flat_image_has_a_hash():
    flat = np.full((9, 7, 3), 50, np.uint8)
    assert bits(flat, flat + 1) <= NEAR


def test_near_pairs_against_brute_force():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 2**64, 30, np.uint64)
    second = np.concatenate([first[::3] ^ np.uint64(0b1011), first[:3]])
    expected = [
        (i, j, bin(int(a) ^ int(b)).count("1"))
        for i, a in enumerate(first)
        for j, b in enumerate(second)
        if bin(int(a) ^ int(b)).count("1") <= 3
    ]
    assert near_pairs(first, second, most=3) == expected
    assert len(expected) == 13
    assert near_pairs(first, second[:0], most=3) == []
