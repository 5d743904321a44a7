"""An evaluation as tables and files, read back."""

import csv
import json
import math

import numpy as np
import pytest

from segjax.calibration import confidence_counts
from segjax.data.labels import VOID, LabelTable
from segjax.errors import InputError
from segjax.evaluation import Evaluation
from segjax.evaluation_counts import Counts, Parts, count_image
from segjax.evaluation_scores import all_intervals, all_scores
from segjax.policies import named
from segjax.report.evaluation_documents import check_folder, write_evaluation
from segjax.report.evaluation_tables import evaluation_grids

NAMES = ("sky", "post|box", "under_score*")


@pytest.fixture
def result():
    rng = np.random.default_rng(0)
    table = LabelTable(
        names=NAMES,
        colors=((0, 0, 0), (90, 0, 0), (0, 90, 0)),
        raw_ids={0: 0, 1: 1, 2: 2, VOID: VOID},
        thin=(),
    )
    images, confusions = [], []
    for _ in range(3):
        # Class 2 never occurs.
        label, prediction = rng.integers(0, 2, (2, 12, 15)).astype(np.uint8)
        cells = np.bincount(label.ravel() * 3 + prediction.ravel(), minlength=9)
        confusions.append(cells.reshape(3, 3))
        image = count_image(prediction, label, None, num_classes=3, parts=Parts())
        sure = rng.random(label.shape, np.float32)
        image["calibration"] = confidence_counts(sure, prediction, label)
        images.append(image)
    counts = Counts(
        confusions=np.stack(confusions),
        **{name: np.stack([image[name] for image in images]) for name in images[0]},
    )
    scores = all_scores(counts, table)
    return Evaluation(
        model="net",
        step=5,
        dataset="made_up",
        split="val",
        table=table,
        ids=("x", "y", "z"),
        counts=counts,
        scores=scores,
        intervals=all_intervals(counts, table, scores),
    )


def lines_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_files_hold_every_digit(result, tmp_path):
    policies = (named("hrnet"),)
    files = write_evaluation(tmp_path / "new" / "folder", result, policies=policies)
    folder = tmp_path / "new" / "folder"
    assert sorted(files) == sorted(folder.iterdir())

    value = json.loads((folder / "evaluation.json").read_text())
    assert value["scores"]["miou"] == result.scores["miou"]
    assert value["scores"]["iou"][2] is None
    assert value["scores"]["confusion"] == result.scores["confusion"].tolist()
    assert value["intervals"]["miou"]["low"] == result.intervals["miou"].low
    assert value["policies"]["hrnet"] == named("hrnet")(result.confusions)
    pixels = [row[0] for row in value["calibration_counts"]]
    assert sum(pixels) == 3 * 12 * 15

    scores = {line["score"]: line for line in lines_of(folder / "scores.csv")}
    assert float(scores["miou"]["value"]) == result.scores["miou"]
    assert float(scores["boundary_f1"]["high"]) == result.intervals["boundary_f1"].high
    assert scores["expected_calibration_error"]["low"] == ""
    assert scores["thin_iou"]["value"] == ""

    classes = lines_of(folder / "classes.csv")
    assert [line["class"] for line in classes] == list(NAMES)
    assert float(classes[1]["dice"]) == result.scores["dice"][1]
    assert float(classes[0]["recall_small"]) == result.scores["size_recall"][0][0]
    assert classes[2]["iou"] == ""
    assert int(classes[0]["pixels"]) == result.confusions[:, 0].sum()

    images = lines_of(folder / "images.csv")
    assert [line["id"] for line in images] == ["x", "y", "z"]
    right = np.trace(result.confusions[1]) / result.confusions[1].sum()
    assert float(images[1]["pixel_accuracy"]) == right


def test_markdown_shows_the_tables(result, tmp_path):
    write_evaluation(tmp_path, result, policies=(named("hrnet"),))
    markdown_it = pytest.importorskip("markdown_it")
    parser = markdown_it.MarkdownIt("gfm-like", {"linkify": False})
    tokens = parser.parse((tmp_path / "evaluation.md").read_text())
    texts = [
        "".join(child.content for child in token.children)
        for token in tokens
        if token.type == "inline"
    ]
    assert "net, step 5: made_up val, 3 images" in texts
    for name in NAMES:
        assert texts.count(name) == 2  # by class, and outlines
    at = texts.index("mIoU")
    assert texts[at + 1] == f"{result.scores['miou']:.3f}"
    at = texts.index("hrnet", texts.index("policy"))
    assert texts[at + 1] == f"{named('hrnet')(result.confusions):.6f}"


def test_tables_leave_out_what_was_not_measured(result):
    assert [grid.key for grid in evaluation_grids(result)] == [
        *("scores", "classes", "shapes")
    ]
    counts = Counts(confusions=result.confusions)
    bare = Evaluation(
        **{
            **vars(result),
            "counts": counts,
            "scores": all_scores(counts, result.table),
            "intervals": {},
        }
    )
    scores, classes = evaluation_grids(bare)
    assert "boundary" not in str(scores)
    assert all(row[2] == ("-",) for row in scores.rows)
    names, *columns = zip(*classes.rows, strict=True)
    assert [name for (name,) in names] == list(NAMES)
    assert columns[0][2] == ("-",)  # IoU of the class that does not occur
    assert math.isnan(bare.scores["iou"][2])


def test_folders_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file: cannot be written: File exists"):
        check_folder(tmp_path / "file")
    check_folder(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []
