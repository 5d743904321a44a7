import jax.numpy as jnp
import numpy as np
import pytest

from segjax.errors import InputError
from segjax.inference.augmented import predict_augmented, resize_scores
from segjax.ops.resampling import resize_bilinear


def random_image(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3)).astype(np.uint8)


def pointwise(image):
    """Probabilities of a pixel that depend on nothing but the pixel."""
    x = image.astype(np.float32) + 1
    return x / x.sum(axis=-1, keepdims=True)


def by_column(image):
    """Probability of class 1 rises from left to right, whatever is in the image."""
    height, width = image.shape[:2]
    one = np.broadcast_to((np.arange(width, dtype=np.float32) + 1) / 8, (height, width))
    return np.stack([1 - one, one], axis=-1)


@pytest.mark.parametrize("horizontal_flip", [False, True])
@pytest.mark.parametrize("vertical_flip", [False, True])
def test_equivariant_predictor_is_not_changed_by_flips(horizontal_flip, vertical_flip):
    image = random_image(7, 10)
    averaged = predict_augmented(
        image,
        pointwise,
        horizontal_flip=horizontal_flip,
        vertical_flip=vertical_flip,
    )
    assert averaged.dtype == np.float32
    np.testing.assert_array_equal(averaged, pointwise(image))


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_equivariant_predictor_is_not_changed_by_scales(average):
    # Scales change nothing in a picture of one colour.
    image = np.broadcast_to(np.uint8([9, 120, 240]), (12, 20, 3))
    averaged = predict_augmented(
        image,
        pointwise,
        scales=(0.5, 0.75, 1.0, 1.25, 2.0),
        horizontal_flip=True,
        average=average,
    )
    np.testing.assert_allclose(averaged, pointwise(image), rtol=3e-7)


def test_every_view_is_seen_upright_scaled_and_mirrored():
    views = []

    def predict(image):
        views.append(image.copy())
        return pointwise(image)

    image = random_image(6, 9)
    predict_augmented(
        image, predict, scales=(1, 0.5), horizontal_flip=True, vertical_flip=True
    )
    assert [view.shape[:2] for view in views] == [(6, 9)] * 4 + [(3, 4)] * 4
    np.testing.assert_array_equal(views[0], image)
    np.testing.assert_array_equal(views[1], image[:, ::-1])
    np.testing.assert_array_equal(views[2], image[::-1])
    np.testing.assert_array_equal(views[3], image[::-1, ::-1])
    np.testing.assert_array_equal(views[7], views[4][::-1, ::-1])


def test_flip_by_hand():
    # Class 1 has 1/8, 2/8, 3/8, 4/8 in both views; mirrored back 4/8, 3/8, 2/8, 1/8.
    averaged = predict_augmented(
        random_image(2, 4), by_column, horizontal_flip=True, vertical_flip=True
    )
    np.testing.assert_array_equal(averaged[..., 1], np.full((2, 4), 5 / 16))
    np.testing.assert_array_equal(averaged[..., 0], np.full((2, 4), 11 / 16))


def test_scale_by_hand():
    # Scale 2 predicts 1/8 ... 8/8; halved, neighbours are averaged: 1.5/8, 3.5/8, ...
    # With the 1/8, 2/8, 3/8, 4/8 of scale 1: 2.5/16, 5.5/16, 8.5/16, 11.5/16.
    averaged = predict_augmented(random_image(1, 4), by_column, scales=(1, 2))
    np.testing.assert_array_equal(
        averaged[0, :, 1], np.float32([2.5, 5.5, 8.5, 11.5]) / 16
    )


def test_averages_by_hand():
    # Probabilities 1/2 and 1/10 of class 0. Mean: 3/10. Geometric means:
    # sqrt(1/20) and sqrt(9/20), a ratio of 1 to 3: 1/4.
    answers = {"probabilities": [0.3, 0.7], "logits": [0.25, 0.75]}
    for average, expected in answers.items():
        given = iter(np.float32([[[[0.5, 0.5]]], [[[0.1, 0.9]]]]))
        averaged = predict_augmented(
            random_image(1, 1),
            lambda image, given=given: next(given),
            horizontal_flip=True,
            average=average,
        )
        np.testing.assert_allclose(averaged[0, 0], expected, rtol=2e-7)


def test_average_of_logits_is_softmax_of_averaged_logits():
    logits = np.random.default_rng(0).normal(size=(2, 5, 4, 3)) * 5

    def softmax(x):
        return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)

    given = iter([softmax(logits[0]), softmax(logits[1])[:, ::-1]])
    averaged = predict_augmented(
        random_image(5, 4),
        lambda image: next(given),
        horizontal_flip=True,
        average="logits",
    )
    np.testing.assert_allclose(averaged, softmax(logits.mean(axis=0)), rtol=1e-6)


def test_average_of_logits_takes_a_probability_of_zero():
    averaged = predict_augmented(
        random_image(2, 2),
        lambda image: np.broadcast_to(np.float32([0, 1]), (2, 2, 2)),
        average="logits",
    )
    np.testing.assert_allclose(averaged[0, 0], [0, 1], atol=1e-37)


@pytest.mark.parametrize("size", [(1, 1), (3, 4), (5, 9), (8, 6), (13, 2)])
def test_resize_scores_by_brute_force(size):
    scores = np.random.default_rng(0).normal(size=(5, 6, 2))
    expected = np.empty((*size, 2))
    for y in range(size[0]):
        for x in range(size[1]):
            row = min(max((y + 0.5) * 5 / size[0] - 0.5, 0), 4)
            column = min(max((x + 0.5) * 6 / size[1] - 0.5, 0), 5)
            expected[y, x] = sum(
                max(0, 1 - abs(row - i)) * max(0, 1 - abs(column - j)) * scores[i, j]
                for i in range(5)
                for j in range(6)
            )
    np.testing.assert_allclose(resize_scores(scores, size), expected, atol=1e-12)


def test_resize_scores_is_the_twin_of_resize_bilinear():
    scores = np.random.default_rng(0).normal(size=(5, 6, 2)).astype(np.float32)
    device = resize_bilinear(jnp.asarray(scores)[None], (9, 4), align_corners=False)
    np.testing.assert_allclose(resize_scores(scores, (9, 4)), device[0], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": ()}, r"scales \(\): expected positive numbers"),
        ({"scales": (1.0, 0.0)}, "expected positive numbers"),
        ({"scales": (float("nan"),)}, "expected positive numbers"),
        ({"scales": (0.01,)}, "scale 0.01 leaves 0x0 pixels of an image of 8x9"),
        ({"average": "votes"}, "average 'votes': expected probabilities or logits"),
    ],
)
def test_refused(options, message):
    with pytest.raises(InputError, match=message):
        predict_augmented(random_image(8, 9), pointwise, **options)


def test_refuses_probabilities_of_another_size():
    with pytest.raises(InputError, match=r"shape \(7, 9, 3\), expected .* 8x9 pixels"):
        predict_augmented(random_image(8, 9), lambda image: pointwise(image)[1:])
