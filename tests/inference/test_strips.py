import errno

import numpy as np
import pytest
from PIL import Image

from segjax.data.labels import CAMVID
from segjax.errors import InputError
from segjax.inference.strips import label_strips, predict_file
from segjax.inference.windows import predict_windows


def random_image(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3)).astype(np.uint8)


def eleven_scores(images):
    """Scores that depend on the window as well as on the pixel."""
    x = images.astype(np.float32)
    place = np.sin(np.arange(images.shape[2], dtype=np.float32))[None, None, :]
    base = x @ np.float32([0.5, 0.3, 0.2]) + 30 * place
    base += x.mean(axis=(1, 2, 3)).reshape(-1, 1, 1)
    classes = np.arange(11, dtype=np.float32) * 25
    return -np.abs(base[..., None] - classes)


def check_strips(size, **options):
    image = random_image(*size)
    strips = list(
        label_strips(lambda a, b: image[a:b], eleven_scores, size=size, **options)
    )
    scores = predict_windows(image, eleven_scores, **options)
    assert all(strip.dtype == np.uint8 for strip in strips)
    np.testing.assert_array_equal(
        np.concatenate(strips), np.argmax(scores, axis=-1).astype(np.uint8)
    )
    return strips


@pytest.mark.parametrize("blend", ["gaussian", "cosine", "uniform"])
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.7])
@pytest.mark.parametrize("size", [(1, 1), (7, 60), (61, 9), (64, 47)])
def test_equal_to_prediction_in_memory(size, overlap, blend):
    check_strips(size, input_size=(16, 12), overlap=overlap, blend=blend, batch_size=3)


def test_strips_are_no_higher_than_the_step_of_the_windows():
    strips = check_strips((64, 40), input_size=(16, 16), overlap=0.5)
    assert [len(strip) for strip in strips] == [8] * 6 + [16]


def test_reading_stays_one_window_ahead_of_writing():
    image = random_image(200, 20)
    last_read = 0

    def read(start, stop):
        nonlocal last_read
        assert start == last_read
        last_read = stop
        return image[start:stop]

    written = 0
    for strip in label_strips(
        read, eleven_scores, size=(200, 20), input_size=(16, 16), batch_size=1
    ):
        written += len(strip)
        # One window is below the finished rows, one is in flight in the next row.
        assert last_read <= written + 16 + 8
    assert (written, last_read) == (200, 200)


@pytest.mark.parametrize("source_suffix", [".png", ".tif", ".npy"])
@pytest.mark.parametrize("target_suffix", [".png", ".tif", ".npy"])
def test_file_to_file(tmp_path, source_suffix, target_suffix):
    image = random_image(150, 90)
    source = tmp_path / f"image{source_suffix}"
    target = tmp_path / f"label{target_suffix}"
    if source_suffix == ".npy":
        np.save(source, image)
    else:
        Image.fromarray(image).save(source)
    progress = []
    predict_file(
        source,
        target,
        eleven_scores,
        table=CAMVID,
        input_size=(32, 32),
        batch_size=4,
        progress=lambda done, rows: progress.append((done, rows)),
    )
    scores = predict_windows(image, eleven_scores, input_size=(32, 32))
    label = np.load(target) if target_suffix == ".npy" else np.array(Image.open(target))
    np.testing.assert_array_equal(label, np.argmax(scores, axis=-1))
    assert progress[-1] == (150, 150)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [source.name, target.name]
    )


def test_nothing_is_left_when_prediction_fails_half_way(tmp_path):
    np.save(tmp_path / "image.npy", random_image(100, 40))
    calls = iter(range(3))

    def fails(images):
        if next(calls, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return eleven_scores(images)

    with pytest.raises(InputError, match=r"label.png: cannot be written: No space"):
        predict_file(
            tmp_path / "image.npy",
            tmp_path / "label.png",
            fails,
            table=CAMVID,
            input_size=(32, 32),
        )
    assert [path.name for path in tmp_path.iterdir()] == ["image.npy"]


def test_target_is_checked_before_anything_is_predicted(tmp_path):
    np.save(tmp_path / "image.npy", random_image(10, 10))

    def never(images):
        raise AssertionError

    for name, message in [
        ("label.jpg", "label.jpg: expected a label file in .png"),
        ("nowhere/label.png", "cannot be written: no folder"),
    ]:
        with pytest.raises(InputError, match=message):
            predict_file(
                tmp_path / "image.npy",
                tmp_path / name,
                never,
                table=CAMVID,
                input_size=(8, 8),
            )


def test_refuses_more_classes_than_a_label_holds():
    image = random_image(8, 8)
    strips = label_strips(
        lambda a, b: image[a:b],
        lambda images: np.zeros((1, 8, 8, 256), np.float32),
        size=(8, 8),
        input_size=(8, 8),
    )
    with pytest.raises(InputError, match="256 classes; a label holds at most 255"):
        list(strips)
