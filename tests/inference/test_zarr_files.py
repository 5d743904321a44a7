import errno
import json

import numpy as np
import pytest
import zarr

from segjax.data.labels import CAMVID
from segjax.errors import InputError
from segjax.inference.row_files import open_rows
from segjax.inference.zarr_files import check_target, open_prediction, write_rows


def random_pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


RGB = random_pixels(101, 130, 3)


def save(path, values, **options):
    zarr.create_array(store=path, shape=values.shape, dtype=values.dtype, **options)[
        ...
    ] = values


def read_all(path, step):
    with open_rows(path) as image:
        starts = range(0, image.size[0], step)
        return np.concatenate(
            [image.read(a, min(a + step, image.size[0])) for a in starts]
        )


@pytest.mark.parametrize("step", [1, 16, 40, 200])
@pytest.mark.parametrize(
    "options",
    [
        {"chunks": (16, 16, 3), "zarr_format": 2},
        {"chunks": (40, 130, 1)},
        {"chunks": (5, 20, 3), "shards": (20, 40, 3)},
        {"chunks": (500, 500, 3), "compressors": None},
    ],
)
def test_reads_images_exactly(tmp_path, options, step):
    save(tmp_path / "image.zarr", RGB, **options)
    np.testing.assert_array_equal(read_all(tmp_path / "image.zarr", step), RGB)


def test_reads_grey(tmp_path):
    save(tmp_path / "image.zarr", RGB[..., 0], chunks=(30, 30))
    np.testing.assert_array_equal(
        read_all(tmp_path / "image.zarr", 17), np.repeat(RGB[..., :1], 3, axis=-1)
    )


def test_every_chunk_is_decoded_once(tmp_path, monkeypatch):
    save(tmp_path / "image.zarr", RGB, chunks=(20, 130, 3))
    asked = []
    get = zarr.Array.__getitem__

    def spy(array, rows):
        asked.append((rows.start, rows.stop))
        return get(array, rows)

    monkeypatch.setattr(zarr.Array, "__getitem__", spy)
    read_all(tmp_path / "image.zarr", 13)
    assert asked == [(0, 20), (20, 40), (40, 60), (60, 80), (80, 100), (100, 101)]


def save_group(path):
    zarr.create_group(path)


def save_broken(path):
    save(path, RGB, chunks=(50, 50, 3))
    (path / "zarr.json").write_text("{")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "not a readable Zarr array: .* does not exist"),
        (lambda path: path.mkdir(), "not a readable Zarr array"),
        (lambda path: path.write_bytes(b"x"), "not a readable Zarr array"),
        (save_group, "not a readable Zarr array: .*group"),
        (save_broken, "not a readable Zarr array"),
        (lambda path: save(path, RGB[..., :2], chunks=(9, 9, 2)), "expected uint8"),
        (lambda path: save(path, RGB[0, :, 0], chunks=(9,)), "expected uint8"),
        (lambda path: save(path, np.float32(RGB), chunks=(9, 9, 3)), "is float32"),
        (lambda path: save(path, RGB[:0], chunks=(9, 9, 3)), "at least one pixel"),
    ],
)
def test_refused(tmp_path, make, message):
    path = tmp_path / "image.zarr"
    make(path)
    with pytest.raises(InputError, match=message) as caught, open_rows(path):
        pass
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0, 0.5])
@pytest.mark.parametrize("compressors", [None, zarr.codecs.ZstdCodec()])
def test_damaged_chunks_are_refused(tmp_path, compressors, share):
    path = tmp_path / "image.zarr"
    save(path, RGB, chunks=(50, 130, 3), compressors=compressors)
    chunk = path / "c" / "1" / "0" / "0"
    data = chunk.read_bytes()
    chunk.write_bytes(data[: int(share * len(data))])
    with open_rows(path) as image:
        np.testing.assert_array_equal(image.read(0, 50), RGB[:50])
        with pytest.raises(InputError, match=r"image\.zarr: not a readable"):
            image.read(50, 60)


def write(path, values, step):
    strips = [values[start : start + step] for start in range(0, len(values), step)]
    write_strips(path, strips, shape=values.shape, dtype=values.dtype)


def write_strips(path, strips, *, shape, dtype=np.uint8):
    with write_rows(path, shape=shape, dtype=dtype, table=CAMVID) as put:
        for strip in strips:
            put(strip)


@pytest.mark.parametrize("step", [1, 128, 500, 512, 2000])
@pytest.mark.parametrize("size", [(1, 1), (512, 600), (1100, 30)])
def test_writes_labels_exactly(tmp_path, size, step):
    label = random_pixels(*size) % 11
    label[::3] = 255
    write(tmp_path / "label.zarr", label, step)
    saved = open_prediction(tmp_path / "label.zarr")
    assert saved.values.dtype == np.uint8
    assert saved.names == CAMVID.names
    assert saved.colors == CAMVID.colors
    np.testing.assert_array_equal(saved.values[:], label)
    assert [path.name for path in tmp_path.iterdir()] == ["label.zarr"]


@pytest.mark.parametrize("step", [50, 128, 300])
def test_writes_probabilities_exactly(tmp_path, step):
    values = np.random.default_rng(0).random((300, 40, 11)).astype(np.float16)
    write(tmp_path / "scores.zarr", values, step)
    saved = open_prediction(tmp_path / "scores.zarr")
    assert saved.values.dtype == np.float16
    np.testing.assert_array_equal(saved.values[:], values)


def test_metadata_as_the_specification_has_it(tmp_path):
    """Zarr core specification 3.1: what other programs read."""
    write(tmp_path / "label.zarr", np.zeros((1100, 600), np.uint8), 100)
    metadata = json.loads((tmp_path / "label.zarr" / "zarr.json").read_text())
    assert metadata["zarr_format"] == 3
    assert metadata["node_type"] == "array"
    assert metadata["shape"] == [1100, 600]
    assert metadata["data_type"] == "uint8"
    assert metadata["fill_value"] == 255
    assert metadata["dimension_names"] == ["y", "x"]
    assert metadata["chunk_grid"]["configuration"]["chunk_shape"] == [512, 512]
    assert metadata["attributes"] == {
        "class_names": list(CAMVID.names),
        "class_colors": [list(color) for color in CAMVID.colors],
        "void": 255,
    }
    chunks = (tmp_path / "label.zarr" / "c").rglob("*")
    assert sum(path.is_file() for path in chunks) == 3 * 2


def test_an_array_is_replaced_only_by_a_whole_one(tmp_path):
    path = tmp_path / "label.zarr"
    old, new = random_pixels(700, 20), random_pixels(600, 30, seed=1)
    write(path, old, 100)

    def stops():
        yield new[:550]
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_strips(path, stops(), shape=(600, 30))
    np.testing.assert_array_equal(open_prediction(path).values[:], old)
    for leftover in ("label.zarr.tmp", "label.zarr.old.tmp"):
        (tmp_path / leftover / "c").mkdir(parents=True)
    write(path, new, 100)
    np.testing.assert_array_equal(open_prediction(path).values[:], new)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "strips",
    [
        [np.zeros((5, 7), np.uint8)],
        [np.zeros((6, 7), np.uint8), np.zeros((5, 7), np.uint8)],
        [np.zeros((10, 8), np.uint8)],
        [np.zeros((10, 7), np.uint16)],
        [],
    ],
)
def test_strips_that_do_not_fit_are_refused(tmp_path, strips):
    with pytest.raises(InputError, match=r"label.zarr: strip.*expected"):
        write_strips(tmp_path / "label.zarr", strips, shape=(10, 7))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_that_shows_at_the_end(tmp_path, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match=r"label.zarr cannot be written: No space"):
        write(tmp_path / "label.zarr", random_pixels(20, 20), 20)
    assert list(tmp_path.iterdir()) == []


def test_a_scratch_name_that_is_taken(tmp_path):
    (tmp_path / "label.zarr.tmp").write_text("a user's file")
    with pytest.raises(InputError, match=r"label.zarr cannot be written"):
        write(tmp_path / "label.zarr", random_pixels(20, 20), 20)
    assert (tmp_path / "label.zarr.tmp").read_text() == "a user's file"


def test_targets_that_are_not_ours(tmp_path):
    (tmp_path / "photos.zarr").mkdir()
    (tmp_path / "file.zarr").touch()
    for name, message in [
        ("photos.zarr", "not a Zarr array; expected a new name"),
        ("file.zarr", "not a Zarr array; expected a new name"),
        ("a.zip", r"expected the ending \.zarr"),
    ]:
        with pytest.raises(InputError, match=message):
            check_target(tmp_path / name)


def test_arrays_of_others_are_no_predictions(tmp_path):
    save(tmp_path / "image.zarr", RGB, chunks=(50, 50, 3))
    with pytest.raises(InputError, match="lacks class_names or class_colors"):
        open_prediction(tmp_path / "image.zarr")


def test_writes_one_chunk_at_a_time(tmp_path, monkeypatch):
    """Several at once go on in Zarr's threads when one of them fails."""
    written = []
    put = zarr.Array.__setitem__

    def spy(array, place, values):
        written.append(tuple((axis.start, axis.stop) for axis in place))
        put(array, place, values)

    monkeypatch.setattr(zarr.Array, "__setitem__", spy)
    write(tmp_path / "label.zarr", np.zeros((600, 1100), np.uint8), 300)
    columns = [(0, 512), (512, 1024), (1024, 1536)]
    assert written == [
        (rows, axis) for rows in [(0, 512), (512, 600)] for axis in columns
    ]
