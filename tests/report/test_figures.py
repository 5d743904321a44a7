"""Figures hold the numbers that they are given."""

import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from segjax.errors import InputError
from segjax.report.figures import draw_confusion, draw_reliability

UNIT = 2**24


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved, to be read."""
    figures = []
    save = Figure.savefig

    def keep(figure, *args, **options):
        figures.append(figure)
        save(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def cells(figure):
    """(row, column) -> texts of the cell, from the top."""
    found = {}
    for text in figure.axes[0].texts:
        column, row = text.xy
        found.setdefault((row, column), []).append(text.get_text())
    return found


def test_confusion_by_hand(tmp_path, drawn):
    confusion = np.array([[750, 250, 0], [0, 0, 0], [2, 0, 1998]])
    path = draw_confusion(
        tmp_path / "new" / "confusion.png", confusion, names=("a", "b", "c"), title="t"
    )
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 250
    (figure,) = drawn
    texts = cells(figure)
    assert texts[0, 0] == ["75.0", "750"]
    assert texts[0, 1] == ["25.0", "250"]
    assert texts[2, 0] == ["0.1", "2"]
    assert texts[2, 2] == ["99.9", "1,998"]
    heads = texts.pop((-0.5, 2.5))
    assert heads[0].split() == ["IoU", "pixels"]
    assert set(texts) == {(0, 0), (0, 1), (2, 0), (2, 2)}
    axes = figure.axes[0]
    np.testing.assert_array_equal(
        axes.images[0].get_array(), [[0.75, 0.25, 0], [0, 0, 0], [0.001, 0, 0.999]]
    )
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    (right,) = axes.child_axes
    rows = [label.get_text().split() for label in right.get_yticklabels()]
    assert rows == [["0.749", "1,000"], ["0.000", "0"], ["0.999", "2,000"]]
    assert [path.name for path in tmp_path.joinpath("new").iterdir()] == [
        "confusion.png"
    ]


@pytest.mark.parametrize("num_classes", [1, 2, 12, 13, 40])
def test_text_stays_in_its_cell(tmp_path, drawn, num_classes):
    """Whatever the number of classes, no number reaches into a neighbour."""
    confusion = np.diag(np.full(num_classes, 858_000))
    confusion[0, -1] = 99_999
    confusion[-1, 0] = 1
    names = [f"class number {i}" for i in range(num_classes)]
    draw_confusion(tmp_path / "c.png", confusion, names=names)
    figure = drawn[0]
    figure.canvas.draw()
    axes = figure.axes[0]
    cell = np.diff(axes.transData.transform([[0, 0], [1, 1]]), axis=0)[0]
    for text in axes.texts:
        if text.xy != (num_classes - 0.5, -0.5):
            box = text.get_window_extent()
            assert box.width < abs(cell[0])
            assert box.height < abs(cell[1])
    assert len(axes.texts) > num_classes
    assert any(text.get_text().startswith("100") for text in axes.texts)
    # Names below do not run into each other.
    boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
    for left, right in itertools.pairwise(boxes):
        assert left.x1 < right.x0


def test_confusion_of_nothing(tmp_path, drawn):
    draw_confusion(tmp_path / "c.png", np.zeros((2, 2), int), names=("a", "b"))
    assert set(cells(drawn[0])) == {(-0.5, 1.5)}


def test_reliability_by_hand(tmp_path, drawn):
    # Four bins: empty, 10 pixels at 3/8 of which 5 right, empty, 30 at 7/8, 15 right.
    counts = np.array(
        [
            [0, 0, 0],
            [10, 5, 10 * 3 * UNIT // 8],
            [0, 0, 0],
            [30, 15, 30 * 7 * UNIT // 8],
        ]
    )
    path = draw_reliability(tmp_path / "reliability.png", counts, title="t")
    with Image.open(path) as picture:
        assert picture.format == "PNG"
    upper, lower = drawn[0].axes
    accuracy, gaps = upper.containers
    np.testing.assert_allclose(
        [bar.get_x() + bar.get_width() / 2 for bar in accuracy], [3 / 8, 7 / 8]
    )
    assert [bar.get_height() for bar in accuracy] == [0.5, 0.5]
    ends = [(bar.get_y(), bar.get_y() + bar.get_height()) for bar in gaps]
    assert ends == [(0.5, 3 / 8), (0.5, 7 / 8)]
    (text,) = upper.texts
    # 1/4 of the pixels are 1/8 off, 3/4 are 3/8 off.
    assert text.get_text() == "expected error 0.312\nmaximum error 0.375"
    assert [bar.get_height() for bar in lower.containers[0]] == [0.25, 0.75]
    labels = [text.get_text() for text in lower.get_legend().get_texts()]
    assert labels == ["mean confidence 75.0 %", "accuracy 50.0 %"]


def test_refuses_misuse(tmp_path):
    with pytest.raises(InputError, match="1 names for 2 classes"):
        draw_confusion(tmp_path / "c.png", np.eye(2, dtype=int), names=("a",))
    with pytest.raises(InputError, match="no pixel"):
        draw_reliability(tmp_path / "r.png", np.zeros((15, 3), int))
    assert not list(tmp_path.iterdir())


def test_refuses_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        draw_confusion(
            tmp_path / "file" / "c.png", np.eye(2, dtype=int), names=("a", "b")
        )
