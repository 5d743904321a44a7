import io
import itertools
from decimal import Decimal

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from segjax.commands.explain_score import explain_score
from segjax.data.datasets import open_dataset
from segjax.data.labels import VOID, LabelTable, default_colors
from segjax.errors import InputError
from segjax.explain.policies import explain_policies
from segjax.explain.predictions import Side, explain_predictions
from segjax.inference.label_files import write_label
from segjax.policies import MISTAKES, POLICIES, count_pixels, named
from segjax.report.explanation_grids import explanation_grids
from segjax.report.tables import rich_table

NAMES = ("sky", "road", "pole", "car")
TABLE = LabelTable(NAMES, default_colors(4), {i: i for i in range(4)} | {9: VOID})


def examples(labels):
    return [
        {"image": None, "label": label.astype(np.uint8), "id": f"frame_{i}"}
        for i, label in enumerate(labels)
    ]


def folder(path, predictions):
    path.mkdir()
    for i, prediction in enumerate(predictions):
        write_label(path / f"frame_{i}.png", prediction.astype(np.uint8), TABLE)
    return path


def random_labels(seed, shape=(5, 12, 16)):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, shape)
    labels[rng.random(shape) < 0.1] = VOID
    labels[0] = VOID
    return labels


def random_predictions(labels, seed, classes=4):
    rng = np.random.default_rng(seed)
    guess = rng.integers(0, classes, labels.shape)
    right = (rng.random(labels.shape) < 0.7) & (labels != VOID)
    return np.where(right, labels, guess)


def check_sums(explanation):
    """Every step starts where the one before ended, and so do the printed ones."""
    waypoints = [explanation.start, *(s.after for s in explanation.steps)]
    assert [s.before for s in explanation.steps] == waypoints[:-1]
    assert waypoints[-1] == explanation.end
    swap = [s for s in explanation.steps if s.name.startswith("predictions")]
    for steps in (explanation.classes, explanation.images):
        assert bool(steps) == bool(swap)
        if steps:
            assert steps[0].before == swap[0].before
            assert steps[-1].after == swap[0].after
            for one, two in itertools.pairwise(steps):
                assert one.after == two.before
            for count in ("gained", "lost"):
                total = sum(getattr(step, count) for step in steps)
                assert total == getattr(swap[0], count)
    for grid in explanation_grids(explanation):
        column = grid.columns.index("difference")
        *lines, last = [row[column][0] for row in grid.rows]
        total = sum((Decimal(line) for line in lines if line), Decimal(0))
        assert total == Decimal(last)
        if grid.key == "steps":
            first, *_, end = [Decimal(row[1][0]) for row in grid.rows]
            assert end - first == total


# Policies. Two images: class 2 is predicted but never true, class 3 is nowhere.
COUNTS = np.zeros((2, 4, 4), np.int64)
COUNTS[0, 0, :3] = 6, 1, 1
COUNTS[0, 1, 1] = 2
COUNTS[1, 0, 0] = 1


def test_absent_classes_by_hand():
    explanation = explain_policies(COUNTS, "segjax", "hrnet")
    (step,) = explanation.steps
    assert step.name == "absent classes: left out -> count 0"
    assert step.difference == pytest.approx((7 / 9 + 2 / 3) * (1 / 4 - 1 / 3))
    assert "1 of 4 IoUs" in explanation.notes[0]
    check_sums(explanation)


def test_averaging_and_absent_classes_by_hand():
    one = (6 / 8 + 2 / 3 + 0) / 3
    scores = [
        (7 / 9 + 2 / 3 + 0) / 3,
        (one + 1) / 2,  # mean over images; the second has one class, all right
        ((3 * one + 1) / 4 + 1) / 2,  # absent classes count 1
    ]
    there = explain_policies(COUNTS, "segjax", "smp-macro-imagewise")
    assert [s.name for s in there.steps] == [
        "averaging: all images -> image by image",
        "absent classes: left out -> count 1",
    ]
    assert [s.after for s in there.steps] == pytest.approx(scores[1:])
    assert "4 of 8 IoUs" in there.notes[0]
    # The way back is the same way.
    back = explain_policies(COUNTS, "smp-macro-imagewise", "segjax")
    assert [s.before for s in back.steps] == pytest.approx(scores[:0:-1])
    assert back.end == pytest.approx(scores[0])


def test_void_by_hand():
    label = np.array([[0, 0, 1, 1], [1, VOID, VOID, VOID]])
    prediction = np.array([[0, 0, 1, 0], [1, 0, 1, 1]])
    counts = count_pixels(prediction, label, 2)[None]
    explanation = explain_policies(counts, "segjax", "void-wrong", num_classes=2)
    (step,) = explanation.steps
    assert step.name == "void: excluded -> wrong"
    assert step.before == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert step.after == pytest.approx((2 / 4 + 2 / 5) / 2)
    assert explanation.notes == ("37.5 % of the pixels have no label.",)


def test_float32_is_named():
    counts = np.zeros((1001, 2, 2), np.int64)
    counts[0, 0, 0] = 2**24
    counts[1:, 0, 1] = 1
    (step,) = explain_policies(counts, "segjax", "mmseg").steps
    assert step.name == "sums: exact -> float32"
    assert step.difference == 1 / 2 - 2**24 / (2**24 + 1000) / 2


@pytest.mark.parametrize("a", [*POLICIES, *MISTAKES, "segjax/2", "mmseg/3"])
def test_steps_between_any_two_policies_add_up(a):
    labels = random_labels(0)
    predictions = random_predictions(labels, 1, classes=3)
    counts = np.stack(
        [count_pixels(p, t, 4) for p, t in zip(predictions, labels, strict=True)]
    )
    for b in (*POLICIES, *MISTAKES, "smp-micro/2"):
        explanation = explain_policies(counts, a, b, num_classes=4)
        assert explanation.start == named(a)(counts, num_classes=4)
        assert explanation.end == named(b)(counts, num_classes=4)
        check_sums(explanation)
        if a == b:
            assert explanation.steps == ()


def test_policies_that_cannot_be_explained():
    with pytest.raises(InputError, match="unknown policy 'voc'"):
        explain_policies(COUNTS, "segjax", "voc")
    with pytest.raises(InputError, match="void pixels are not in"):
        explain_policies(COUNTS, "segjax", "void-class")
    with pytest.raises(InputError, match="no pixel has a label"):
        explain_policies(0 * COUNTS, "segjax", "hrnet")
    void_only = np.zeros((1, 3, 3), np.int64)
    void_only[0, 2, 0] = 5
    with pytest.raises(InputError, match="no pixel has a label"):
        explain_policies(void_only, "segjax", "hrnet", num_classes=2)


# Predictions.


def iou(prediction, label, c):
    known = label != VOID
    both = (prediction == c) & (label == c)
    return both.sum() / (((prediction == c) | (label == c)) & known).sum()


def test_classes_by_hand(tmp_path):
    label = np.array([[0, 0, 0, 0], [1, 1, 2, 2], [3, 3, 3, VOID]])
    a = np.array([[0, 0, 0, 1], [1, 1, 2, 1], [3, 3, 3, 0]])
    b = np.array([[0, 0, 0, 0], [1, 2, 2, 2], [3, 3, 3, 2]])
    explanation = explain_predictions(
        Side(folder(tmp_path / "a", [a])),
        Side(folder(tmp_path / "b", [b])),
        labels=examples([label]),
        table=TABLE,
    )
    check_sums(explanation)
    (step,) = explanation.steps
    assert (step.name, step.gained, step.lost) == ("predictions: A -> B", 2, 1)
    assert explanation.start == np.mean([iou(a, label, c) for c in range(4)])
    assert explanation.end == np.mean([iou(b, label, c) for c in range(4)])
    # Where the same classes occur, a class gives its own share: nothing is arbitrary.
    assert [s.name for s in explanation.classes] == ["sky", "road", "pole"]
    assert [s.difference for s in explanation.classes] == pytest.approx(
        [(iou(b, label, c) - iou(a, label, c)) / 4 for c in range(3)]
    )
    assert [s.gained for s in explanation.classes] == [1, 0, 1]
    assert [s.lost for s in explanation.classes] == [0, 1, 0]


def test_the_weightiest_images_are_named(tmp_path):
    labels = np.zeros((4, 4, 8), int)
    labels[:, :, 4:] = 1
    a = np.zeros_like(labels)
    b = a.copy()
    b[1, :, 7] = b[3, :, 5:] = 1  # 4 and 12 pixels gained
    b[2, 0, 0] = 1  # 1 pixel lost
    explanation = explain_predictions(
        Side(folder(tmp_path / "a", a)),
        Side(folder(tmp_path / "b", b)),
        labels=examples(labels),
        table=TABLE,
        top=1,
    )
    check_sums(explanation)
    assert [s.name for s in explanation.images] == ["frame_3", "2 other images"]
    assert [(s.gained, s.lost) for s in explanation.images] == [(12, 0), (4, 1)]
    with_third = b.copy()
    with_third[[1, 2]] = 0
    expected = np.mean([iou(with_third, labels, c) for c in range(2)])
    assert explanation.images[0].after == expected


def test_pixels_that_cancel_out_are_shown(tmp_path):
    label = np.array([[0, 0, 1, 1]])
    a, b = np.array([[0, 1, 1, 1]]), np.array([[1, 0, 1, 1]])
    explanation = explain_predictions(
        Side(folder(tmp_path / "a", [a])),
        Side(folder(tmp_path / "b", [b])),
        labels=examples([label]),
        table=TABLE,
    )
    check_sums(explanation)
    (step,) = explanation.steps
    assert (step.difference, step.gained, step.lost) == (0, 1, 1)
    assert [s.name for s in explanation.images] == ["frame_0"]


def test_void_predictions_are_misses(tmp_path):
    label = np.array([[0, 0, 1, 1]])
    a, b = np.array([[0, VOID, 1, 1]]), np.array([[0, 0, 1, VOID]])
    explanation = explain_predictions(
        Side(folder(tmp_path / "a", [a])),
        Side(folder(tmp_path / "b", [b]), policy="void-class"),
        labels=examples([label]),
        table=TABLE,
    )
    check_sums(explanation)
    assert explanation.start == (1 / 2 + 1) / 2
    assert explanation.end == (1 + 1 / 2 + 0 / 1) / 3
    assert explanation.classes[-1].name == "road"


def test_the_same_predictions_by_the_same_policy(tmp_path):
    labels = random_labels(0)
    path = folder(tmp_path / "a", random_predictions(labels, 1))
    explanation = explain_predictions(
        Side(path), Side(path), labels=examples(labels), table=TABLE
    )
    check_sums(explanation)
    assert explanation.steps == ()
    assert explanation.start == explanation.end


def test_resized_labels_by_hand(tmp_path):
    # Every second column is a pole. At half the width, pixel j has its centre on the
    # edge between columns 2j and 2j + 1, and takes 2j + 1: no poles are left.
    label = np.tile([2, 0], (4, 4))
    a = np.zeros((4, 4), int)
    explanation = explain_predictions(
        Side(folder(tmp_path / "a", [a]), resize="labels"),
        Side(folder(tmp_path / "b", [label])),
        labels=examples([label]),
        table=TABLE,
    )
    check_sums(explanation)
    sizes, swap = explanation.steps
    assert sizes.name == "sizes: labels resized -> predictions of A resized"
    assert (sizes.before, sizes.after) == (1, (1 / 2 + 0) / 2)
    assert (swap.before, swap.after) == ((1 / 2 + 0) / 2, 1)
    assert "1 of 1 predictions of A" in explanation.notes[0]


@pytest.mark.parametrize("resize", ["labels", "predictions"])
@pytest.mark.parametrize("a", ["segjax", "smp-macro-imagewise", "void-class"])
@pytest.mark.parametrize("b", ["mmseg", "smp-micro", "void-wrong", "hrnet/2"])
def test_steps_between_any_two_folders_add_up(tmp_path, a, b, resize):
    labels = random_labels(2)
    small = labels[:, ::3, 1::2]
    one = Side(
        folder(tmp_path / "a", random_predictions(labels, 3)), policy=a, resize=resize
    )
    two = Side(
        folder(tmp_path / "b", random_predictions(small, 4)), policy=b, resize=resize
    )
    for sides in ((one, two), (two, one)):
        explanation = explain_predictions(*sides, labels=examples(labels), table=TABLE)
        check_sums(explanation)
        assert sum("sizes" in s.name for s in explanation.steps) == (resize == "labels")
        # Without a second folder in play, the score is that of the policy.
        for side, score in zip(
            sides, (explanation.start, explanation.end), strict=True
        ):
            alone = explain_predictions(
                side, side, labels=examples(labels), table=TABLE
            )
            assert alone.start == alone.end == score


def test_resizing_takes_the_nearest_pixel_centre(tmp_path):
    label = np.arange(3)[None, :].repeat(2, axis=0)
    # From 5 columns to 3: centres at 5/6, 5/2, 25/6, so columns 0, 2, 4. Rows 3 to 2:
    # centres at 3/4, 9/4, so rows 0 and 2.
    prediction = np.full((3, 5), 3)
    prediction[::2, ::2] = label
    explanation = explain_predictions(
        *[Side(folder(tmp_path / "a", [prediction]), resize="predictions")] * 2,
        labels=examples([label]),
        table=TABLE,
    )
    assert explanation.start == 1


def test_grids_fit_a_terminal(tmp_path):
    labels = random_labels(5)
    explanation = explain_predictions(
        Side(folder(tmp_path / "a", random_predictions(labels, 6)), policy="mmseg"),
        Side(
            folder(tmp_path / "b", random_predictions(labels, 7)),
            policy="smp-macro-imagewise",
        ),
        labels=examples(labels),
        table=TABLE,
        top=2,
    )
    grids = explanation_grids(explanation)
    assert [grid.key for grid in grids] == ["steps", "classes", "images"]
    console = Console(width=200, file=io.StringIO())
    for grid in grids:
        console.print(rich_table(grid))
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    for word in ("B - A", "sky", "2 other images", "averaging: all images"):
        assert word in text


# Bad input.


@pytest.fixture
def sides(tmp_path):
    labels = random_labels(8, (2, 6, 6))
    predictions = random_predictions(labels, 9)
    a, b = (Side(folder(tmp_path / name, predictions)) for name in "ab")
    return a, b, {"labels": examples(labels), "table": TABLE}


def test_missing_predictions_are_refused(sides, tmp_path):
    a, b, data = sides
    (b.folder / "frame_1.png").unlink()
    with pytest.raises(InputError, match=r"b/frame_1\.png: no such prediction.* 1$"):
        explain_predictions(a, b, **data)
    with pytest.raises(InputError, match="nowhere: no such folder"):
        explain_predictions(Side(tmp_path / "nowhere"), b, **data)


def test_predictions_of_other_sizes_are_refused(sides):
    a, b, data = sides
    write_label(a.folder / "frame_0.png", np.zeros((6, 5), np.uint8), TABLE)
    with pytest.raises(InputError, match=r"a/frame_0\.png: is 6x5 .*its label 6x6"):
        explain_predictions(a, b, **data)


def test_values_outside_the_classes_are_refused(sides):
    a, b, data = sides
    write_label(b.folder / "frame_1.png", np.full((6, 6), 4, np.uint8), TABLE)
    with pytest.raises(InputError, match=r"b/frame_1\.png: value 4; expected 0\.\.3"):
        explain_predictions(a, b, **data)


def test_broken_predictions_are_refused(sides):
    a, b, data = sides
    (b.folder / "frame_1.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"b/frame_1\.png: not a readable image"):
        explain_predictions(a, b, **data)
    Image.fromarray(np.zeros((6, 6, 3), np.uint8)).save(b.folder / "frame_1.png")
    with pytest.raises(InputError, match=r"b/frame_1\.png: is RGB"):
        explain_predictions(a, b, **data)


def test_labels_that_say_nothing_are_refused(sides):
    a, b, data = sides
    with pytest.raises(InputError, match="no labels"):
        explain_predictions(a, b, labels=[], table=TABLE)
    void = examples(np.full((2, 6, 6), VOID))
    with pytest.raises(InputError, match="no pixel has a label"):
        explain_predictions(a, b, labels=void, table=TABLE)
    twice = [data["labels"][0]] * 2
    with pytest.raises(InputError, match="two examples are named 'frame_0'"):
        explain_predictions(a, b, labels=twice, table=TABLE)


def test_predictions_in_the_classes_of_a_taxonomy(tmp_path, capsys):
    label = np.array([[0, 1, 2, 2]], np.uint8)
    pictures = {"images": np.zeros((1, 4, 3), np.uint8), "labels": label}
    for split in ("train", "val"):
        for kind, picture in pictures.items():
            path = tmp_path / "data" / split / kind / "0.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(picture).save(path)
    (tmp_path / "data/classes.txt").write_text("0, wall\n1, road\n2, sky\n")
    (tmp_path / "coarse.csv").write_text("class,folder\nflat,wall|road\nsky,sky\n")
    folders = {"data_dir": tmp_path / "data", "prepared_dir": tmp_path / "prepared"}
    coarse = LabelTable(("flat", "sky"), default_colors(2), {0: 0, 1: 1})
    (example,) = open_dataset("folder", **folders).splits["val"]
    for name, predicted in (("right", [0, 0, 1, 1]), ("half", [0, 0, 0, 1])):
        path = tmp_path / name / f"{example['id']}.png"
        path.parent.mkdir()
        write_label(path, np.array([predicted], np.uint8), coarse)
    explain_score(
        str(tmp_path / "right"),
        str(tmp_path / "half"),
        dataset="folder",
        taxonomy=str(tmp_path / "coarse.csv"),
        **folders,
    )
    printed = capsys.readouterr().out
    # Flat: 2 of 2, and 2 of 3 pixels; sky: 2 of 2, and 1 of 2.
    assert "1.0000" in printed
    assert f"{(2 / 3 + 1 / 2) / 2:.4f}" in printed
