import errno
import resource
import signal
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zarr
from PIL import Image

from segjax.data.labels import CAMVID, LabelTable
from segjax.errors import InputError
from segjax.inference.label_files import read_label
from segjax.inference.members import Views
from segjax.inference.overlap_tile import exact_tiles, predict_tiles
from segjax.inference.predictor import Predictor, make_predictor, predict_image
from segjax.inference.strips import label_strips, network_blocks, predict_file
from segjax.inference.windows import blended_blocks, predict_windows
from segjax.inference.zarr_files import open_prediction
from segjax.models.zoo import build_model


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
    blocks = blended_blocks(
        lambda a, b: image[a:b], eleven_scores, size=size, **options
    )
    strips = list(label_strips(blocks, size=size))
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
    blocks = blended_blocks(
        read, eleven_scores, size=(200, 20), input_size=(16, 16), batch_size=1
    )
    for strip in label_strips(blocks, size=(200, 20)):
        written += len(strip)
        # One window is below the finished rows, one is in flight in the next row.
        assert last_read <= written + 16 + 8
    assert (written, last_read) == (200, 200)


def save_image(path, image):
    if path.suffix == ".npy":
        np.save(path, image)
    elif path.suffix == ".zarr":
        # As another program may have: Zarr 2, chunks that fit nothing.
        array = zarr.create_array(
            store=path, shape=image.shape, dtype="u1", chunks=(37, 50, 2), zarr_format=2
        )
        array[:] = image
    else:
        Image.fromarray(image).save(path)


def read_back(path):
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix == ".zarr":
        return open_prediction(path).values[:]
    return read_label(path)


def windows(predict=eleven_scores, *, input_size=(32, 32), **options):
    return partial(blended_blocks, predict=predict, input_size=input_size, **options)


def left_in(folder):
    return sorted(path.name for path in folder.iterdir())


SUFFIXES = [".png", ".tif", ".npy", ".zarr"]


@pytest.mark.parametrize("source_suffix", SUFFIXES)
@pytest.mark.parametrize("target_suffix", SUFFIXES)
def test_file_to_file(tmp_path, source_suffix, target_suffix):
    image = random_image(150, 90)
    source = tmp_path / f"image{source_suffix}"
    target = tmp_path / f"label{target_suffix}"
    save_image(source, image)
    progress = []
    predict_file(
        source,
        target,
        windows(batch_size=4),
        table=CAMVID,
        progress=lambda done, rows: progress.append((done, rows)),
    )
    scores = predict_windows(image, eleven_scores, input_size=(32, 32))
    np.testing.assert_array_equal(read_back(target), np.argmax(scores, axis=-1))
    assert progress[-1] == (150, 150)
    assert left_in(tmp_path) == sorted([source.name, target.name])


@pytest.mark.parametrize("size", [(150, 90), (1, 1), (300, 20)])
@pytest.mark.parametrize("target_suffix", [".png", ".zarr"])
def test_probabilities_beside_the_label(tmp_path, target_suffix, size):
    image = random_image(*size)
    np.save(tmp_path / "image.npy", image)
    target = tmp_path / f"label{target_suffix}"
    for _ in range(2):  # the second time over the first one's files
        predict_file(
            tmp_path / "image.npy",
            target,
            windows(),
            table=CAMVID,
            probabilities=tmp_path / "scores.zarr",
        )
    scores = predict_windows(image, eleven_scores, input_size=(32, 32))
    kept = open_prediction(tmp_path / "scores.zarr")
    np.testing.assert_array_equal(kept.values[:], scores.astype(np.float16))
    assert kept.names == CAMVID.names
    np.testing.assert_array_equal(read_back(target), np.argmax(scores, axis=-1))
    assert left_in(tmp_path) == ["image.npy", target.name, "scores.zarr"]


def random_variables(model):
    """He's weights without compiling the initialiser."""
    smallest = jnp.zeros((1, *model.input_size((1, 1)), 3))
    shapes = jax.eval_shape(
        partial(model.init, train=False), jax.random.key(0), smallest
    )
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: (
            rng.normal(0, (2 / np.prod(leaf.shape[:-1])) ** 0.5, leaf.shape)
            * (len(leaf.shape) > 1)
        ).astype(np.float32),
        shapes,
    )


def valid_unet():
    model = build_model("unet_valid", num_classes=3, width=1 / 32)
    table = LabelTable(
        names=("a", "b", "c"),
        colors=((255, 0, 0), (0, 255, 0), (0, 0, 255)),
        raw_ids={0: 0, 1: 1, 2: 2},
    )
    return make_predictor(
        model,
        random_variables(model),
        name="unet_valid",
        step=0,
        table=table,
        image_size=None,
    )


def test_valid_unet_by_strips_is_the_unet_on_the_whole_image(tmp_path):
    predictor = valid_unet()
    # Several tiles along each axis, and multiples of nothing.
    image = random_image(75, 53)
    np.save(tmp_path / "image.npy", image)
    whole = predict_image(predictor, image, image_size=None)
    options = exact_tiles(predictor.input_size, predictor.margin, tile=(17, 17))
    # Sizes are 16 n + 124; 204 leaves tiles of 20 pixels.
    assert options == {"input_size": (204, 204), "margin": 92, "align": 16}
    tiled = predict_tiles(image, predictor.tile, batch_size=2, **options)
    np.testing.assert_allclose(tiled, whole, atol=1e-5)
    assert np.ptp(whole) > 0.1
    predict_file(
        tmp_path / "image.npy",
        tmp_path / "label.png",
        network_blocks(predictor, Views(tile=(17, 17)), batch_size=2),
        table=predictor.table,
        probabilities=tmp_path / "scores.zarr",
    )
    label = read_label(tmp_path / "label.png")
    np.testing.assert_array_equal(label, np.argmax(tiled, axis=-1))
    np.testing.assert_array_equal(label, np.argmax(whole, axis=-1))
    assert len(np.unique(label)) > 1
    np.testing.assert_array_equal(
        open_prediction(tmp_path / "scores.zarr").values[:], tiled.astype(np.float16)
    )


def toy_predictor(tile, *, margin=0):
    return Predictor(
        name="toy",
        step=0,
        table=CAMVID,
        image_size=None,
        margin=margin,
        input_size=lambda size: tuple(side + 2 * margin for side in size),
        probabilities=None,
        tile=tile,
    )


def test_blocks_of_a_network_by_windows():
    image = random_image(50, 40)
    views = Views(window=(16, 12), overlap=0.3, blend="cosine")

    def tile(images):
        assert images.shape == (3, 22, 18, 3)
        return eleven_scores(images[:, 3:-3, 3:-3])

    blocks = network_blocks(toy_predictor(tile, margin=3), views, batch_size=3)
    strips = label_strips(blocks(lambda a, b: image[a:b], size=(50, 40)), size=(50, 40))
    scores = predict_windows(
        image,
        tile,
        input_size=(22, 18),
        margin=3,
        overlap=0.3,
        blend="cosine",
        batch_size=3,
    )
    np.testing.assert_array_equal(np.concatenate([*strips]), np.argmax(scores, axis=-1))


@pytest.mark.parametrize(
    ("views", "message"),
    [
        (Views(), "strips need the size of a window or of a tile"),
        (Views(window=(8, 8), flip=True), "cannot be averaged"),
        (Views(tile=(8, 8), scales=(1.0, 2.0)), "cannot be averaged"),
        (Views(tile=(8, 8), context=2), "needs 3 pixels around a tile"),
    ],
)
def test_views_that_strips_cannot_have(views, message):
    with pytest.raises(InputError, match=message):
        network_blocks(toy_predictor(None, margin=3), views)


def test_nothing_is_left_when_prediction_fails_half_way(tmp_path):
    np.save(tmp_path / "image.npy", random_image(100, 40))
    calls = iter(range(3))

    def fails(images):
        if next(calls, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return eleven_scores(images)

    with pytest.raises(InputError, match=r"label.png cannot be written: No space"):
        predict_file(
            tmp_path / "image.npy", tmp_path / "label.png", windows(fails), table=CAMVID
        )
    assert left_in(tmp_path) == ["image.npy"]


@pytest.mark.parametrize("target_suffix", SUFFIXES)
def test_nothing_is_left_when_the_image_ends_half_way(tmp_path, target_suffix):
    Image.fromarray(random_image(600, 100)).save(tmp_path / "image.tif")
    whole = (tmp_path / "image.tif").read_bytes()
    (tmp_path / "image.tif").write_bytes(whole[: len(whole) * 6 // 10])
    done = []
    with pytest.raises(InputError, match=r"image\.tif: not a readable image") as caught:
        predict_file(
            tmp_path / "image.tif",
            tmp_path / f"label{target_suffix}",
            windows(),
            table=CAMVID,
            probabilities=tmp_path / "scores.zarr",
            progress=lambda rows, _: done.append(rows),
        )
    assert 0 < done[-1] < 600
    assert "\n" not in str(caught.value)
    assert left_in(tmp_path) == ["image.tif"]


@pytest.mark.parametrize("target_suffix", SUFFIXES)
@pytest.mark.parametrize("probabilities", [False, True])
def test_nothing_is_left_when_the_disk_is_full(tmp_path, target_suffix, probabilities):
    image = random_image(700, 300)
    np.save(tmp_path / "image.npy", image)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(InputError, match="cannot be written: File too large"):
            predict_file(
                tmp_path / "image.npy",
                tmp_path / f"label{target_suffix}",
                windows(input_size=(64, 64)),
                table=CAMVID,
                probabilities=tmp_path / "scores.zarr" if probabilities else None,
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert left_in(tmp_path) == ["image.npy"]


KILLED = """
import sys, time
from functools import partial
from pathlib import Path
import numpy as np
from segjax.data.labels import CAMVID, LabelTable
from segjax.inference.strips import predict_file
from segjax.inference.windows import blended_blocks

folder = Path(sys.argv[1])

def stop(done, rows):
    if done > rows // 2:
        print("half-way", flush=True)
        time.sleep(60)

predict_file(
    folder / "image.npy",
    folder / sys.argv[2],
    partial(
        blended_blocks,
        predict=lambda images: images.astype(np.float32),
        input_size=(32, 32),
    ),
    table=CAMVID,
    progress=stop,
)
"""


@pytest.mark.parametrize("target_suffix", [".png", ".zarr"])
def test_a_killed_process_leaves_nothing_under_the_name(tmp_path, target_suffix):
    np.save(tmp_path / "image.npy", random_image(1200, 64))
    target = tmp_path / f"label{target_suffix}"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path), target.name],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "half-way\n"
        process.send_signal(signal.SIGKILL)
    assert not target.exists()
    assert (tmp_path / f"{target.name}.tmp").exists()
    # The next one is not in its way and clears it up.
    predict_file(
        tmp_path / "image.npy", target, windows(input_size=(64, 64)), table=CAMVID
    )
    assert read_back(target).shape == (1200, 64)
    assert left_in(tmp_path) == ["image.npy", target.name]


def test_target_is_checked_before_anything_is_predicted(tmp_path):
    np.save(tmp_path / "image.npy", random_image(10, 10))
    (tmp_path / "folder.zarr").mkdir()
    (tmp_path / "file").touch()

    def never(images):
        raise AssertionError

    for name, scores, message in [
        ("label.jpg", None, "label.jpg: expected a label file in .png"),
        ("file/label.png", None, "file/label.png cannot be written"),
        ("file/label.zarr", None, "file/label.zarr cannot be written"),
        ("file/below/label.png", None, "below/label.png cannot be written"),
        ("folder.zarr", None, "folder.zarr: is there and not a Zarr array"),
        ("image.npy", None, "image.npy: its label would replace it"),
        ("label.png", "scores.npz", "scores.npz: expected the ending .zarr"),
        ("label.png", "folder.zarr", "folder.zarr: is there and not a Zarr array"),
        ("label.png", "file/scores.zarr", "file/scores.zarr cannot be written"),
    ]:
        with pytest.raises(InputError, match=message):
            predict_file(
                tmp_path / "image.npy",
                tmp_path / name,
                windows(never, input_size=(8, 8)),
                table=CAMVID,
                probabilities=None if scores is None else tmp_path / scores,
            )
    assert left_in(tmp_path) == ["file", "folder.zarr", "image.npy"]


def test_refuses_more_classes_than_a_label_holds():
    image = random_image(8, 8)
    blocks = blended_blocks(
        lambda a, b: image[a:b],
        lambda images: np.zeros((1, 8, 8, 256), np.float32),
        size=(8, 8),
        input_size=(8, 8),
    )
    with pytest.raises(InputError, match="256 classes; a label holds at most 255"):
        list(label_strips(blocks, size=(8, 8)))
