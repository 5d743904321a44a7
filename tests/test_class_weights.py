import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from segjax import class_weights
from segjax.data.labels import VOID
from segjax.errors import InputError


class Labels:
    def __init__(self, labels):
        self.labels = labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        label = np.array(self.labels[index], np.uint8)
        return {
            "image": np.zeros((*label.shape, 3), np.uint8),
            "label": label,
            "id": f"example-{index}",
        }


def test_counts_by_hand():
    source = Labels([[[0, 0], [1, VOID]], [[2, 2, 2, 0]], [[VOID]]])
    counts, sizes = class_weights.class_pixel_counts(source, 3)
    np.testing.assert_array_equal(counts, [[2, 1, 0], [1, 0, 3], [0, 0, 0]])
    np.testing.assert_array_equal(sizes, [4, 4, 1])
    assert counts.dtype == sizes.dtype == np.int64


def test_label_that_is_no_class_is_named():
    with pytest.raises(InputError, match=r"example-1: label value 3, expected 0\.\.2"):
        class_weights.class_pixel_counts(Labels([[[0]], [[1, 3, 7]]]), 3)


def test_counts_of_an_empty_source():
    with pytest.raises(InputError, match="no examples"):
        class_weights.class_pixel_counts(Labels([]), 3)


# Two images of 100 and 200 pixels; class 2 is in the second alone, 30 pixels void.
COUNTS = np.array([[60, 20, 0], [40, 60, 100]])
SIZES = np.array([100, 210])


def test_median_frequency_by_hand():
    # Totals 100, 80, 100: the median is 100.
    np.testing.assert_allclose(class_weights.median_frequency(COUNTS), [1.0, 1.25, 1.0])


def test_median_frequency_present_by_hand():
    # Frequencies 100/310, 80/310, 100/210: the median is 100/310.
    np.testing.assert_allclose(
        class_weights.median_frequency_present(COUNTS, SIZES), [1.0, 1.25, 210 / 310]
    )


def test_median_of_an_even_number_of_classes_is_the_mean_of_the_middle_two():
    weights = class_weights.median_frequency(np.array([[10, 20, 40, 80]]))
    np.testing.assert_allclose(weights, [3.0, 1.5, 0.75, 0.375])


def test_enet_by_hand():
    weights = class_weights.enet(np.array([[50, 0], [0, 150]]))
    np.testing.assert_allclose(weights, [1 / np.log(1.27), 1 / np.log(1.77)])
    # Its bounds: 50.50 for a class that never occurs, 1.42 for the only one.
    weights = class_weights.enet(np.array([[7, 0]]))
    np.testing.assert_allclose(weights, [1.42, 50.50], atol=5e-3)
    weights = class_weights.enet(np.array([[7, 0]]), c=1.2)
    np.testing.assert_allclose(weights, [1 / np.log(2.2), 1 / np.log(1.2)])


def test_class_without_pixels_has_no_median_frequency():
    counts = np.array([[3, 0, 0], [1, 0, 2]])
    with pytest.raises(InputError, match="class 1 has no pixels"):
        class_weights.median_frequency(counts)
    with pytest.raises(InputError, match="class 1 has no pixels"):
        class_weights.median_frequency_present(counts, np.array([3, 3]))


def test_enet_refuses_what_has_no_logarithm():
    with pytest.raises(InputError, match="no labelled pixel"):
        class_weights.enet(np.zeros((2, 3), np.int64))
    with pytest.raises(InputError, match=r"c 1\.0"):
        class_weights.enet(COUNTS, c=1.0)


def test_segnet_constants_cover_camvid():
    assert len(class_weights.SEGNET_CAMVID) == 11
    # Rarest to most frequent as published: SignSymbol and Bicyclist lead, Road ends.
    order = np.argsort(class_weights.SEGNET_CAMVID)[::-1]
    assert order[:2].tolist() == [6, 10]
    assert order[-1] == 3


def test_camvid_training_labels():
    """Weights of CamVid's 367 training labels, as published or recomputed by others."""
    root = os.environ.get("SEGJAX_DATA_DIR")
    if not root:
        pytest.skip("set SEGJAX_DATA_DIR to the folder that holds camvid/")
    paths = sorted(pathlib.Path(root, "camvid", "trainannot").glob("*.png"))
    assert len(paths) == 367
    labels = [np.array(Image.open(path)) for path in paths]
    for label in labels:
        label[label == 11] = VOID
    counts, sizes = class_weights.class_pixel_counts(Labels(labels), 11)
    shares = [0.1685, 0.2326, 0.0098, 0.3166, 0.0449, 0.0972]
    shares += [0.0117, 0.0113, 0.0587, 0.0064, 0.0029]
    np.testing.assert_allclose(counts.sum(0) / sizes.sum(), shares, atol=5.1e-5)
    over_all = [0.2663, 0.1929, 4.5642, 0.1417, 1, 0.4614]
    over_all += [3.8248, 3.9814, 0.7648, 7.0182, 15.3816]
    np.testing.assert_allclose(
        class_weights.median_frequency(counts), over_all, atol=5.1e-5
    )
    present = [0.2793, 0.2017, 4.7865, 0.1490, 1, 0.4217]
    present += [3.8467, 1.9736, 0.7889, 6.3747, 8.8587]
    np.testing.assert_allclose(
        class_weights.median_frequency_present(counts, sizes), present, atol=5.1e-5
    )
    enet = [5.6035, 4.2953, 33.5736, 3.3355, 15.4856, 8.7387]
    enet += [31.5420, 32.0120, 12.8288, 38.0141, 43.9074]
    np.testing.assert_allclose(class_weights.enet(counts), enet, atol=5.1e-5)
