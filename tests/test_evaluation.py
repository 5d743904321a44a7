"""The evaluator against scikit-learn and brute force, and what common mistakes give.

The network of most tests reads its prediction off the image: grey 20 c is class c. So
every test knows what is predicted, and each pixel goes the evaluator's whole way.
"""

import dataclasses
import json
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from segjax import __main__ as verbs
from segjax import boundary, configuration, evaluation, metrics, scoring
from segjax.configuration import Config
from segjax.data.datasets import Dataset
from segjax.data.labels import CAMVID, VOID, LabelTable
from segjax.errors import InputError
from segjax.evaluation_counts import Parts, count_image
from segjax.inference.predictor import load_predictor, predict_image
from segjax.models.zoo import build_model
from segjax.ops.normalization import IMAGENET_MEAN, IMAGENET_STD
from segjax.policies import named
from segjax.training import checkpoint, parallel

CLASSES = 4
TABLE = LabelTable(
    names=("a", "b", "c", "d"),
    colors=((0, 0, 0), (90, 0, 0), (0, 90, 0), (0, 0, 90)),
    raw_ids={**{i: i for i in range(CLASSES)}, VOID: VOID},
    thin=("c",),
)
COUNTS_ONLY = Parts(boundaries=False, sizes=False)


class Reader(nn.Module):
    """Logits 4 for the class that the image's grey says, 0 for the others."""

    margin = 0

    def input_size(self, size):
        return size

    @nn.compact
    def __call__(self, x, *, train):
        grey = (x[..., 0] * IMAGENET_STD[0] + IMAGENET_MEAN[0]) * 255.0
        classes = jnp.round(grey / 20.0).astype(jnp.int32)
        return {"logits": 4.0 * jax.nn.one_hot(classes, CLASSES)}


class Source:
    """Examples of pairs of a prediction and a label; counts how often it is read."""

    def __init__(self, pairs):
        self.pairs = pairs
        self.reads = [0] * len(pairs)

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        self.reads[index] += 1
        prediction, label = self.pairs[index]
        image = np.repeat(20 * prediction[..., None], 3, axis=-1).astype(np.uint8)
        return {"image": image, "label": label, "id": f"image {index}"}


def random_pairs(seed, sizes, classes=CLASSES):
    rng = np.random.default_rng(seed)
    pairs = []
    for size in sizes:
        label = rng.integers(0, classes, size).astype(np.uint8)
        wrong = rng.random(size) < 0.4
        prediction = np.where(wrong, rng.integers(0, classes, size), label)
        label[rng.random(size) < 0.2] = VOID
        pairs.append((prediction.astype(np.uint8), label))
    return pairs


def count(pairs, *, batch_size=2, image_size=None, parts=COUNTS_ONLY):
    source = Source(pairs)
    mesh = parallel.make_mesh()
    ids, counts = evaluation.count_split(
        evaluation.jit_count_step(Reader(), CLASSES, parts=parts, mesh=mesh),
        {},
        Dataset("made up", TABLE, {"val": source}),
        "val",
        image_size=image_size,
        batch_size=batch_size,
        parts=parts,
        mesh=mesh,
    )
    assert ids == tuple(f"image {i}" for i in range(len(pairs)))
    return counts, source


def brute_force(prediction, label):
    counts = [[0] * CLASSES for _ in range(CLASSES)]
    for p, t in zip(prediction.ravel().tolist(), label.ravel().tolist(), strict=True):
        if t != VOID:
            counts[t][p] += 1
    return counts


@pytest.mark.parametrize("sizes", [[(13, 17)] * 5, [(13, 17), (8, 21), (20, 5)]])
def test_counts_against_brute_force_and_scikit_learn(sizes):
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    pairs = random_pairs(0, sizes)
    # Five images in batches of four, and sizes that are padded.
    counts, _ = count(pairs, batch_size=4)
    assert counts.confusions.dtype == np.int64
    assert counts.confusions.tolist() == [brute_force(*pair) for pair in pairs]
    predictions, labels = (
        np.concatenate([pair[i].ravel() for pair in pairs]) for i in (0, 1)
    )
    known = labels != VOID
    labels, predictions = labels[known], predictions[known]
    total = counts.confusions.sum(axis=0)
    independent = sklearn_metrics.confusion_matrix(labels, predictions)
    np.testing.assert_array_equal(total, independent)
    scores = metrics.scores(total)
    # One rounding each, of the same quotient of integers: equal, not close.
    iou = sklearn_metrics.jaccard_score(labels, predictions, average=None)
    assert scores["iou"] == iou.tolist()
    macro = sklearn_metrics.jaccard_score(labels, predictions, average="macro")
    assert scores["miou"] == macro
    accuracy = sklearn_metrics.accuracy_score(labels, predictions)
    assert scores["pixel_accuracy"] == accuracy
    rows = metrics.class_scores(total)
    for name, function in (
        ("accuracy", sklearn_metrics.recall_score),
        ("precision", sklearn_metrics.precision_score),
    ):
        expected = function(labels, predictions, average=None)
        assert getattr(rows, name).tolist() == expected.tolist()
    weighted = sklearn_metrics.jaccard_score(labels, predictions, average="weighted")
    assert scores["fwiou"] == pytest.approx(weighted, rel=1e-15)


def test_void_as_background_is_another_number():
    pairs = random_pairs(1, [(12, 12)] * 2)
    counts, _ = count(pairs)
    mistaken = [brute_force(p, np.where(t == VOID, 0, t)) for p, t in pairs]
    right = metrics.scores(counts.confusions.sum(axis=0))["miou"]
    assert right == metrics.scores(np.sum([brute_force(*p) for p in pairs], 0))["miou"]
    assert abs(right - metrics.scores(np.sum(mistaken, axis=0))["miou"]) > 0.02


def test_absent_class_as_zero_or_one_is_another_number():
    # Class 3 is nowhere; class 2 only in a prediction.
    label = np.array([[0, 0, 0, 1]], np.uint8)
    prediction = np.array([[0, 0, 2, 1]], np.uint8)
    counts, _ = count([(prediction, label)])
    scores = metrics.scores(counts.confusions.sum(axis=0))
    assert scores["iou"][:3] == [2 / 3, 1.0, 0.0]
    assert math.isnan(scores["iou"][3])
    assert scores["miou"] == (2 / 3 + 1) / 3
    assert named("hrnet")(counts.confusions) == pytest.approx((2 / 3 + 1) / 4)
    assert named("smp-macro")(counts.confusions) == pytest.approx((2 / 3 + 2) / 4)


def test_ragged_last_batch_is_another_number_as_mean_or_dropped():
    pairs = random_pairs(2, [(9, 9)] * 4)
    # The last image is all wrong, and alone in its batch.
    pairs.append((np.zeros((9, 9), np.uint8), np.full((9, 9), 2, np.uint8)))
    each = np.array([brute_force(*pair) for pair in pairs])
    for batch_size in (2, 4, 8):
        counts, _ = count(pairs, batch_size=batch_size)
        np.testing.assert_array_equal(counts.confusions, each)
    right = metrics.scores(each.sum(axis=0))["miou"]
    dropped = metrics.scores(each[:4].sum(axis=0))["miou"]
    of_batches = np.mean(
        [metrics.scores(each[i : i + 4].sum(axis=0))["miou"] for i in (0, 4)]
    )
    assert abs(right - dropped) > 0.05
    assert abs(right - of_batches) > 0.05
    assert named("segjax/4")(counts.confusions) == pytest.approx(of_batches)


def test_logits_are_resized_and_labels_are_not():
    # A column of class 1 three pixels wide in a label of 12x12, seen at 6x6. Of a
    # label made smaller, every other column would be scored: another number.
    label = np.zeros((12, 12), np.uint8)
    label[:, 5:8] = 1
    counts, source = count([(label, label)] * 2, image_size=(6, 6))
    assert counts.confusions.sum(axis=(1, 2)).tolist() == [144, 144]
    assert counts.confusions[0].trace() < 144
    # Nothing but the first example, for its size, is decoded twice.
    assert source.reads == [2, 1]


def test_more_than_2_to_the_24_pixels_in_an_image():
    side = 4097
    label = np.ones((2, side, side), np.uint8)
    label[1, 0, :7] = VOID
    prediction = np.zeros_like(label)
    prediction[:, -1, -1] = 1
    count_pixels = jax.jit(metrics.image_confusions, static_argnums=2)
    counts = np.asarray(count_pixels(prediction, label, 2))
    pixels = side * side
    assert counts.tolist() == [
        [[0, 0], [pixels - 1, 1]],
        [[0, 0], [pixels - 8, 1]],
    ]
    # What sums in float32 would have made of it.
    assert int(np.float32(pixels - 8)) != pixels - 8


def test_totals_beyond_2_to_the_31_pixels():
    # Made-up counts, each of which an int32 holds, of five batches of two images.
    most = 2**31 - 1
    matrix = np.array([[most, 1], [3, most]], np.int32)
    batches = [{"image": np.zeros((2, 1, 1, 3), np.uint8)}] * 5
    mesh = parallel.make_mesh()
    table = dataclasses.replace(
        TABLE,
        names=("a", "b"),
        colors=TABLE.colors[:2],
        raw_ids={0: 0, 1: 1, VOID: VOID},
        thin=(),
    )

    def step(variables, batch):
        return {
            "confusion": jnp.asarray(matrix),
            "seen": jnp.int32(2),
            "loss_sum": jnp.float32(16777216.0),
            "loss_weight": jnp.float32(3.0),
        }

    scores, _ = scoring.score(
        step, {}, batches, [None] * 10, table=table, mesh=mesh, boundaries=False
    )
    assert scores["confusion"].tolist() == [[5 * most, 5], [15, 5 * most]]
    assert scores["loss"] == 16777216 / 3
    assert scores["iou"][0] == 5 * most / (5 * most + 20)

    def step_by_image(variables, batch):
        return {"confusion": jnp.asarray([matrix, matrix]), "seen": jnp.int32(2)}

    results, _ = scoring.run_pass(
        step_by_image, {}, batches, mesh=mesh, num_examples=10
    )
    each = np.concatenate([r["confusion"] for r in results])
    counts = evaluation.stack_counts(each, [])
    assert counts.confusions.sum(axis=0)[0].tolist() == [10 * most, 10]


def test_images_that_are_missed_or_seen_twice_are_an_error():
    source = Source(random_pairs(3, [(4, 4)] * 3))
    mesh = parallel.make_mesh()
    step = evaluation.jit_count_step(Reader(), CLASSES, parts=COUNTS_ONLY, mesh=mesh)
    batches = list(evaluation.pipeline.eval_batches(source, batch_size=2))
    for wrong, seen in ((batches[:1], 2), ([*batches, batches[0]], 5)):
        with pytest.raises(RuntimeError, match=f"evaluated {seen} images .* of 3"):
            scoring.run_pass(step, {}, wrong, mesh=mesh, num_examples=3)


def test_measures_come_in_order_and_their_errors_come_through():
    source = Source(random_pairs(4, [(4, 4)] * 9))
    mesh = parallel.make_mesh()
    parts = Parts()
    step = evaluation.jit_count_step(Reader(), CLASSES, parts=parts, mesh=mesh)

    def run(measure):
        batches = evaluation.pipeline.eval_batches(source, batch_size=2)
        return scoring.run_pass(
            step, {}, batches, mesh=mesh, num_examples=9, measure=measure, threads=3
        )[1]

    measured = run(lambda index, maps: (index, maps["prediction"]))
    for i, (index, prediction) in enumerate(measured):
        assert index == i
        np.testing.assert_array_equal(prediction, source.pairs[i][0])

    def broken(index, maps):
        raise InputError(f"image {index}")

    with pytest.raises(InputError, match="image 0"):
        run(broken)


@pytest.mark.parametrize("image_size", [None, (11, 14)])
def test_host_counts_are_those_of_the_cropped_maps(image_size):
    sizes = [(11, 14)] * 3 if image_size else [(11, 14), (9, 20), (16, 7)]
    pairs = random_pairs(5, sizes)
    parts = Parts(calibration=True)
    counts, _ = count(pairs, image_size=image_size, parts=parts)
    # Softmax of one logit 4 and three logits 0.
    sure = np.float32(np.exp(4) / (np.exp(4) + 3))
    for i, (prediction, label) in enumerate(pairs):
        expected = count_image(
            prediction,
            label,
            np.full(label.shape, sure),
            num_classes=CLASSES,
            parts=parts,
        )
        for name, value in expected.items():
            found = getattr(counts, name)[i]
            if name == "calibration":
                np.testing.assert_array_equal(found[:, :2], value[:, :2])
                # Units of 2^-24 times pixels, of a softmax in float32.
                np.testing.assert_allclose(found[:, 2], value[:, 2], rtol=1e-6)
            else:
                np.testing.assert_array_equal(found, value)


def test_seen_labels_are_forgotten_in_order():
    source = Source(random_pairs(6, [(3, 3)] * 5))
    seen = scoring.SeenLabels(source, limit=2)
    for i in (0, 1, 2):
        seen[i]
    np.testing.assert_array_equal(seen.take_label(2), source.pairs[2][1])
    np.testing.assert_array_equal(seen.take_label(0), source.pairs[0][1])
    assert source.reads == [2, 1, 1, 0, 0]  # 0 was forgotten
    seen.take_label(1)
    assert source.reads[1] == 1
    seen.take_label(1)  # taken: read again
    assert source.reads[1] == 2
    assert seen.ids()[4] == "image 4"


# From here on with a checkpoint of a real, untrained network.


def write_run(folder, *, classes=11, names=CAMVID.names, **changes):
    config = Config(
        name="test",
        dataset="street_scenes",
        model="fcn_basic",
        width=0.125,
        prepared_dir=folder / "prepared",
        eval_batch_size=4,
        smoke=True,
    )
    config = dataclasses.replace(config, **changes)
    model = build_model(config.model, num_classes=classes, width=config.width)
    image = jnp.zeros((1, *model.input_size((32, 48)), 3), jnp.float32)
    variables = jax.jit(lambda k, x: model.init(k, x, train=False))(
        jax.random.key(0), image
    )
    manager = checkpoint.open_checkpoints(folder / "checkpoints")
    checkpoint.save(
        manager,
        dict(variables),
        step=3,
        meta={
            "config": configuration.plain(config),
            "labels": {
                "names": list(names),
                "colors": [list(c) for c in CAMVID.colors[: len(names)]],
                "thin": list(CAMVID.thin),
            },
            "normalization": {"mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)},
        },
        scores={"miou": 0.5, "pixel_accuracy": 0.5},
    )
    manager.close()
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


def test_a_run_on_its_training_split(run):
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    result = evaluation.evaluate(run, split="train", parts=Parts(calibration=True))
    assert (result.model, result.step, result.split) == ("fcn_basic", 3, "train")
    assert len(result.ids) == 4
    source = evaluation.open_dataset(
        "street_scenes",
        prepared_dir=run / "prepared",
        **configuration.SMOKE_DATA,
    ).splits["train"]
    predictor = load_predictor(run)
    matched, gaps, pixels = [], 0.0, 0
    edges = np.linspace(0, 1, 16)
    right, sure = np.zeros(15), np.zeros(15)
    for i, confusion in enumerate(result.confusions):
        example = source[i]
        assert result.ids[i] == example["id"]
        label = example["label"]
        maps = predict_image(predictor, example["image"], image_size=None)
        prediction, known = maps.argmax(axis=-1), label != VOID
        expected = sklearn_metrics.confusion_matrix(
            label[known], prediction[known], labels=range(11)
        )
        np.testing.assert_array_equal(confusion, expected)
        matched.append(boundary.boundary_f1(prediction, label, num_classes=11).image)
        place = np.digitize(maps.max(axis=-1)[known], edges[1:], right=True)
        right += np.bincount(place, (prediction == label)[known], minlength=15)
        sure += np.bincount(place, maps.max(axis=-1)[known], minlength=15)
        pixels += known.sum()
    gaps = np.abs(right - sure).sum() / pixels
    assert result.scores["boundary_f1"] == pytest.approx(np.mean(matched), rel=1e-14)
    assert result.scores["expected_calibration_error"] == pytest.approx(gaps, rel=1e-4)
    assert {"miou", "mdice", "boundary_f1", "iou_small"} <= set(result.intervals)
    for name, interval in result.intervals.items():
        assert interval.estimate == result.scores[name]
        assert interval.low <= interval.estimate <= interval.high


def call(monkeypatch, *args):
    monkeypatch.setattr(sys, "argv", ["segjax", "evaluate", *map(str, args)])
    verbs.main()


def test_the_verb_writes_what_it_prints(run, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "scores"
    call(
        monkeypatch,
        *("--run", run, "--output", folder, "--calibration"),
        *("--policy", "hrnet", "mmseg"),
    )
    out = capsys.readouterr().out
    value = json.loads((folder / "evaluation.json").read_text())
    assert {path.name for path in folder.iterdir()} == {
        *("evaluation.json", "evaluation.md", "scores.csv", "classes.csv"),
        *("images.csv", "confusion.png", "reliability.png"),
    }
    assert (value["split"], value["scores"]["num_images"]) == ("test", 2)
    assert f"{value['scores']['miou']:.3f}" in out
    assert f"{value['scores']['boundary_f1']:.3f}" in out
    confusion = np.array(value["scores"]["confusion"])
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - confusion.diagonal()
    hrnet = (confusion.diagonal() / np.maximum(union, 1)).mean()
    assert value["policies"]["hrnet"] == pytest.approx(hrnet, rel=1e-12)
    assert f"{hrnet:.6f}" in out

    call(monkeypatch, *("--run", run), "--no-boundaries", "--no-sizes")
    out = capsys.readouterr().out
    assert "mIoU" in out
    assert "boundary" not in out


def refused(monkeypatch, capsys, *args):
    with pytest.raises(SystemExit) as stop:
        call(monkeypatch, *args)
    assert stop.value.code == 2
    (line,) = [
        line for line in capsys.readouterr().err.splitlines() if "error:" in line
    ]
    return line


def test_what_cannot_be_evaluated_is_one_line(run, tmp_path, monkeypatch, capsys):
    def line(*args):
        return refused(monkeypatch, capsys, *args)

    assert "no such folder" in line("--run", tmp_path / "nothing")
    wrong = line("--run", run, "--split", "trial")
    assert "split is 'trial', expected one of train, val, test" in wrong
    assert "policy 'void-class' counts pixels" in line(
        "--run", run, "--policy", "void-class"
    )
    assert "unknown policy 'pascal'" in line("--run", run, "--policy", "pascal")
    (tmp_path / "file").write_text("")
    wrong = line("--run", run, "--output", tmp_path / "file" / "scores")
    assert (
        f"{tmp_path / 'file' / 'scores'}: cannot be written: Not a directory" in wrong
    )
    # conftest has two devices.
    assert "batch_size is 3" in line("--run", run, "--batch-size", 3)


def test_a_checkpoint_of_other_classes_is_named(tmp_path, monkeypatch, capsys):
    other = write_run(tmp_path / "weights", classes=5)
    line = refused(monkeypatch, capsys, "--run", other)
    assert "but fcn_basic of 11 classes needs of shape" in line
    other = write_run(tmp_path / "labels", classes=3, names=CAMVID.names[:3])
    line = refused(monkeypatch, capsys, "--run", other)
    assert "knows 3 classes" in line
    assert "'street_scenes' has 11" in line
