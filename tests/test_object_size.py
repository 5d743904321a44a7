import numpy as np
import pytest
from scipy import ndimage

from segjax.data.labels import VOID
from segjax.errors import InputError
from segjax.object_size import object_counts, size_scores


def flood(mask):
    """The pixels of each connected component, corners included, by flooding."""
    left = set(map(tuple, np.argwhere(mask)))
    while left:
        queue = [left.pop()]
        component = []
        while queue:
            row, column = queue.pop()
            component.append((row, column))
            for y in (row - 1, row, row + 1):
                for x in (column - 1, column, column + 1):
                    if (y, x) in left:
                        left.remove((y, x))
                        queue.append((y, x))
        yield component


def reference(prediction, label, *, num_classes, edges):
    counts = np.zeros((num_classes, len(edges) + 1, 3), int)
    known = label != VOID
    for k in range(num_classes):
        for component in flood(label == k):
            group = sum(len(component) >= edge for edge in edges)
            counts[k, group, 0] += sum(prediction[pixel] == k for pixel in component)
            counts[k, group, 1] += len(component)
        for component in flood((prediction == k) & known):
            group = sum(len(component) >= edge for edge in edges)
            counts[k, group, 2] += sum(label[pixel] != k for pixel in component)
    return counts


def random_label(rng, size, num_classes):
    fields = rng.normal(size=(num_classes, *size))
    return ndimage.gaussian_filter(fields, (0, 1, 1)).argmax(axis=0)


def test_by_hand():
    label = np.zeros((6, 8), int)
    label[0, 0] = label[1, 1] = 1  # one object of two pixels, which touch at a corner
    label[3:6, 4:8] = 1  # twelve pixels
    prediction = np.zeros((6, 8), int)
    prediction[1, 1] = 1  # half of the small one
    prediction[3:6, 3:7] = 1  # nine of the large one, and three false pixels
    prediction[0, 7] = 1  # a false object of one pixel
    counts = object_counts(prediction, label, num_classes=3, edges=(3, 40))
    np.testing.assert_array_equal(counts[1], [[1, 2, 1], [9, 12, 3], [0, 0, 0]])
    # The background is one object of 34 pixels, the predicted one of 34: right are all
    # but the four false ones; false are one pixel of the small and three of the large.
    np.testing.assert_array_equal(counts[0], [[0, 0, 0], [30, 34, 4], [0, 0, 0]])
    assert not counts[2].any()
    scores = size_scores(counts)
    np.testing.assert_allclose(scores.recall[1], [1 / 2, 3 / 4, np.nan])
    np.testing.assert_allclose(scores.iou[1], [1 / 3, 9 / 15, np.nan])


def test_thresholds_of_coco():
    label = np.zeros((200, 300), int)
    label[:31, :33] = 1  # 1023 pixels
    label[40:72, :32] = 2  # 1024
    label[:95, 100:197] = 3  # 9215
    label[100:196, 100:196] = 4  # 9216
    counts = object_counts(label, label, num_classes=5)
    assert [list(counts[k, :, 1]) for k in range(1, 5)] == [
        [1023, 0, 0],
        [0, 1024, 0],
        [0, 9215, 0],
        [0, 0, 9216],
    ]


@pytest.mark.parametrize("seed", range(3))
def test_against_flooding(seed):
    rng = np.random.default_rng(seed)
    size = (24, 31)
    label, prediction = (random_label(rng, size, 4) for _ in range(2))
    label[random_label(rng, size, 5) == 0] = VOID
    edges = (4, 15, 60)
    counts = object_counts(prediction, label, num_classes=5, edges=edges)
    expected = reference(prediction, label, num_classes=5, edges=edges)
    assert expected[:4].any(axis=(0, 2)).all()
    np.testing.assert_array_equal(counts, expected)


def test_groups_add_up_to_the_confusion_matrix():
    rng = np.random.default_rng(5)
    label, prediction = (random_label(rng, (40, 50), 4) for _ in range(2))
    label[:7] = VOID
    known = label != VOID
    total = object_counts(prediction, label, num_classes=4, edges=(10, 50)).sum(axis=1)
    for k in range(4):
        true, predicted = (label == k) & known, (prediction == k) & known
        expected = (true & predicted).sum(), true.sum(), (predicted & ~true).sum()
        np.testing.assert_array_equal(total[k], expected)


def test_predictions_inside_void_change_nothing():
    rng = np.random.default_rng(6)
    label, prediction = (random_label(rng, (30, 40), 3) for _ in range(2))
    label[random_label(rng, (30, 40), 3) == 0] = VOID
    expected = object_counts(prediction, label, num_classes=3, edges=(10,))
    for value in range(3):
        changed = np.where(label == VOID, value, prediction)
        counts = object_counts(changed, label, num_classes=3, edges=(10,))
        np.testing.assert_array_equal(counts, expected)


def test_void_alone_and_scores_of_nothing():
    void = np.full((4, 5), VOID)
    counts = object_counts(np.zeros((4, 5), int), void, num_classes=2)
    assert counts.shape == (2, 3, 3)
    assert not counts.any()
    assert np.isnan(size_scores(counts).recall).all()
    assert np.isnan(size_scores(counts).iou).all()


@pytest.mark.parametrize("edges", [(0,), (5, 5), (9, 4), (-1, 3)])
def test_refuses_edges_that_do_not_rise(edges):
    zeros = np.zeros((4, 5), int)
    with pytest.raises(InputError, match="edges"):
        object_counts(zeros, zeros, num_classes=1, edges=edges)


def test_one_group_is_the_whole_class():
    rng = np.random.default_rng(7)
    label, prediction = (random_label(rng, (10, 12), 2) for _ in range(2))
    counts = object_counts(prediction, label, num_classes=2, edges=())
    for k in range(2):
        both = ((label == k) & (prediction == k)).sum()
        either = ((label == k) | (prediction == k)).sum()
        assert size_scores(counts).iou[k, 0] == pytest.approx(both / either)


def test_refuses_sizes_that_differ():
    with pytest.raises(InputError, match=r"object sizes: .*\(3, 3\).*\(3, 4\)"):
        object_counts(np.zeros((3, 3), int), np.zeros((3, 4), int), num_classes=1)
