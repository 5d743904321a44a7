import numpy as np
import pytest

from segjax.data.border_weights import border_weights
from segjax.data.labels import VOID


def components(mask):
    """Pixels of each component, found by walking to the four neighbours."""
    left = {tuple(p) for p in np.argwhere(mask)}
    found = []
    while left:
        todo, cell = [left.pop()], []
        while todo:
            row, column = todo.pop()
            cell.append((row, column))
            for step in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                neighbour = (row + step[0], column + step[1])
                if neighbour in left:
                    left.remove(neighbour)
                    todo.append(neighbour)
        found.append(np.array(cell))
    return found


def brute_force(label, *, cell_class, w0, sigma):
    cells = components(label == cell_class)
    weights = np.zeros(label.shape)
    for pixel in np.ndindex(label.shape):
        if label[pixel] == VOID:
            continue
        weights[pixel] = 1
        distances = sorted(
            np.sqrt(((cell - pixel) ** 2).sum(axis=1)).min() for cell in cells
        )
        if len(distances) > 1:
            weights[pixel] += w0 * np.exp(
                -((distances[0] + distances[1]) ** 2) / (2 * sigma**2)
            )
    return weights


def random_cells(seed, shape, count):
    """Overlapping discs of random size, some of them void."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    label = np.zeros(shape, np.uint8)
    for i in range(count):
        row, column = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        disc = np.hypot(rows - row, columns - column) < rng.uniform(0.6, 3.5)
        label[disc] = VOID if i % 5 == 4 else 2
    return label


def test_two_cells_in_a_row_by_hand():
    label = np.array([[1, 0, 1, 0, 0, VOID]], np.uint8)
    weights = border_weights(label, cell_class=1)
    # Sums of the two distances: 0 + 2, 1 + 1, 2 + 0, 1 + 3, 2 + 4.
    sums = np.array([2, 2, 2, 4, 6])
    np.testing.assert_allclose(
        weights[0, :5], 1 + 10 * np.exp(-(sums**2) / 50), rtol=1e-6
    )
    assert weights[0, 5] == 0
    assert weights.dtype == np.float32


def test_cells_that_touch_at_a_corner_are_two():
    label = np.array([[1, 0], [0, 1]], np.uint8)
    weights = border_weights(label, cell_class=1, w0=4.0, sigma=1.0)
    # Off the diagonal 1 + 1; on it 0 + the square root of 2.
    expected = [1 + 4 * np.exp(-1), 1 + 4 * np.exp(-2)]
    np.testing.assert_allclose(weights[0], expected, rtol=1e-6)


@pytest.mark.parametrize(("w0", "sigma"), [(10.0, 5.0), (3.0, 1.0), (1.0, 0.3)])
@pytest.mark.parametrize("seed", range(3))
def test_against_brute_force(seed, w0, sigma):
    label = random_cells(seed, (30, 37), 16)
    options = {"cell_class": 2, "w0": w0, "sigma": sigma}
    expected = brute_force(label, **options)
    assert len(components(label == 2)) > 5
    np.testing.assert_allclose(
        border_weights(label, **options), expected, rtol=1e-6, atol=2e-8 * w0
    )


def test_far_cells_are_left_out_within_the_bound():
    # Boxes grown by 6 sigma = 6 pixels end between the two cells; w0 is so large
    # that what they leave out would be seen if it were more than the bound.
    label = np.zeros((3, 24), np.uint8)
    label[:, [0, 23]] = 1
    options = {"cell_class": 1, "w0": 1e8, "sigma": 1.0}
    error = border_weights(label, **options) - brute_force(label, **options)
    assert np.abs(error).max() <= 1e8 * np.exp(-18)


@pytest.mark.parametrize("cells", [0, 1])
def test_fewer_than_two_cells_have_no_border(cells):
    label = np.zeros((8, 9), np.uint8)
    label[2:4, 3:5] = cells
    label[0, 0] = VOID
    np.testing.assert_array_equal(
        border_weights(label, cell_class=1), (label != VOID).astype(np.float32)
    )


def test_class_weights_are_added_to():
    label = random_cells(0, (20, 20), 12)
    one = border_weights(label, cell_class=2)
    weights = border_weights(label, cell_class=2, class_weights=(0.5, 9.0, 3.0))
    base = np.where(label == 2, 3.0, np.where(label == 0, 0.5, 0.0))
    np.testing.assert_allclose(weights - base, one - (label != VOID), atol=1e-5)


def test_border_weight_zero_is_the_class_weight_alone():
    label = random_cells(1, (20, 20), 12)
    weights = border_weights(label, cell_class=2, w0=0.0)
    np.testing.assert_array_equal(weights, (label != VOID).astype(np.float32))


@pytest.mark.parametrize(
    "label", [np.zeros((2, 3, 4), np.uint8), np.zeros((2, 3), np.int32)]
)
def test_misuse_is_refused(label):
    with pytest.raises(ValueError, match="expected uint8"):
        border_weights(label, cell_class=1)
