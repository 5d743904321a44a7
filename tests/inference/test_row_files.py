import errno
import io
import resource
import struct

import numpy as np
import pytest
import pyvips
import tifffile
import zarr
from PIL import Image

from segjax.data.labels import CAMVID
from segjax.errors import InputError
from segjax.inference.image_files import read_image
from segjax.inference.label_files import read_label
from segjax.inference.row_files import open_rows, write_label_rows


def random_pixels(*shape, dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def read_all(path, step):
    """The whole image, read in bands of `step` rows."""
    with open_rows(path) as image:
        height, width = image.size
        bands = [
            image.read(start, min(start + step, height))
            for start in range(0, height, step)
        ]
    pixels = np.concatenate(bands)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (height, width, 3)
    return pixels


def save_plain_png(path, image):
    Image.fromarray(image).save(path)


def save_deflate_tiles(path, image):
    tifffile.imwrite(path, image, tile=(32, 48), compression="zlib", photometric="rgb")


def save_big_tiff(path, image):
    tifffile.imwrite(path, image, bigtiff=True, rowsperstrip=7, photometric="rgb")


def save_planes(path, image):
    tifffile.imwrite(
        path, image.transpose(2, 0, 1), planarconfig="separate", photometric="rgb"
    )


def save_lzw(path, image):
    Image.fromarray(image).save(path, compression="tiff_lzw")


def save_pyramid(path, image):
    with tifffile.TiffWriter(path) as file:
        file.write(image, subifds=0, photometric="rgb")
        file.write(image[::2, ::2], subfiletype=1, photometric="rgb")


@pytest.mark.parametrize("step", [1, 40, 64, 500])
@pytest.mark.parametrize(
    ("suffix", "save"),
    [
        (".npy", np.save),
        (".png", save_plain_png),
        (".tif", save_deflate_tiles),
        (".tif", save_big_tiff),
        (".tif", save_planes),
        (".tif", save_lzw),
        (".tif", save_pyramid),
    ],
)
def test_reads_rgb_exactly(tmp_path, suffix, save, step):
    image = random_pixels(201, 130, 3)
    path = tmp_path / f"image[page=3]{suffix}"  # libvips options are no part of it
    save(path, image)
    np.testing.assert_array_equal(read_all(path, step), image)


GREY, WIDE = random_pixels(50, 31), random_pixels(50, 31, dtype=np.uint16)
RGB, RGBA = random_pixels(50, 31, 3), random_pixels(50, 31, 4)


def palette_picture():
    picture = Image.fromarray(GREY)
    picture.putpalette(random_pixels(768, seed=1).tobytes())
    return picture


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (Image.fromarray(GREY), np.dstack([GREY] * 3)),
        (Image.fromarray(WIDE), np.dstack([WIDE >> 8] * 3)),
        (Image.fromarray(RGBA), RGBA[..., :3]),
        (Image.fromarray(RGBA[..., :2], "LA"), np.dstack([RGBA[..., 0]] * 3)),
        (palette_picture(), np.array(palette_picture().convert("RGB"))),
        (
            Image.fromarray(GREY).convert("1", dither=Image.Dither.NONE),
            np.dstack([np.where(GREY >= 128, 255, 0)] * 3),
        ),
    ],
    ids=["grey", "16-bit", "alpha", "grey-alpha", "palette", "bits"],
)
def test_reads_every_kind_as_read_image_does(tmp_path, picture, expected, suffix):
    path = tmp_path / f"image{suffix}"
    picture.save(path)
    np.testing.assert_array_equal(read_all(path, 17), expected)
    np.testing.assert_array_equal(read_image(path), expected)


def test_reads_16_bit_rgb(tmp_path):
    image = random_pixels(20, 30, 3, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "image.tif", image, photometric="rgb")
    np.testing.assert_array_equal(read_all(tmp_path / "image.tif", 7), image >> 8)


def test_reads_jpeg_as_pillow_does(tmp_path):
    path = tmp_path / "image.jpg"
    Image.fromarray(np.full((40, 50, 3), 77, np.uint8)).save(path)
    np.testing.assert_array_equal(read_all(path, 16), np.array(Image.open(path)))


def test_reads_grey_npy(tmp_path):
    np.save(tmp_path / "image.npy", GREY)
    np.testing.assert_array_equal(
        read_all(tmp_path / "image.npy", 9), np.dstack([GREY] * 3)
    )


def save_rotated(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(path, exif=exif)


def save_interlaced(path):
    image = pyvips.Image.new_from_array(RGB)
    image.pngsave(str(path), interlace=True)


@pytest.mark.parametrize(
    ("name", "save", "message"),
    [
        ("a.jpg", save_rotated, r"rotated by its metadata \(orientation 6\)"),
        ("a.png", save_interlaced, "interlaced or progressive"),
        (
            "a.jpg",
            lambda path: Image.fromarray(RGB).save(path, progressive=True),
            "interlaced or progressive",
        ),
        (
            "a.tif",
            lambda path: Image.fromarray(RGBA, "CMYK").save(path),
            "has pixels uchar cmyk; expected grey or RGB",
        ),
        (
            "a.tif",
            lambda path: tifffile.imwrite(path, GREY.astype(np.float32)),
            "has pixels float",
        ),
        (
            "a.tif",
            lambda path: tifffile.imwrite(
                path, random_pixels(3, 20, 20), photometric="minisblack"
            ),
            "has 3 pages or frames; expected one",
        ),
        ("a.png", lambda path: path.write_bytes(b""), "not a readable image"),
        ("a.png", lambda path: path.write_text("text"), "not a readable image"),
        ("a.png", lambda path: None, "cannot be read: No such file or directory$"),
        ("a.npy", lambda path: None, "cannot be read: No such file"),
        ("a.npy", lambda path: path.write_bytes(b"x"), "not a readable .npy file"),
        ("a.npy", lambda path: np.save(path, WIDE), "is uint16 with shape"),
        ("a.npy", lambda path: np.save(path, RGBA), "expected uint8"),
        ("a.npy", lambda path: np.save(path, RGB[:0]), "at least one pixel"),
        ("a.npy", lambda path: np.save(path, np.asfortranarray(RGB)), "C order"),
    ],
)
def test_refused(tmp_path, name, save, message):
    path = tmp_path / name
    save(path)
    with pytest.raises(InputError, match=message) as caught, open_rows(path):
        pass
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.3, 0.95])
@pytest.mark.parametrize(
    ("suffix", "save"),
    [
        (".npy", np.save),
        (".png", save_plain_png),
        (".jpg", save_plain_png),
        (".tif", save_big_tiff),
        (".tif", save_deflate_tiles),
    ],
)
def test_cut_off_files_are_refused(tmp_path, caplog, suffix, save, share):
    path = tmp_path / f"image{suffix}"
    save(path, random_pixels(500, 400, 3))
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(InputError, match=r"image\.\w+: (is cut off|not a readable)"):
        read_all(path, 100)
    assert caplog.records == []


def test_damaged_tiles_are_refused(tmp_path):
    path = tmp_path / "image.tif"
    save_deflate_tiles(path, random_pixels(300, 300, 3))
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        offset, count = page.dataoffsets[40], page.databytecounts[40]
    data = bytearray(path.read_bytes())
    data[offset : offset + count] = bytes(count)
    path.write_bytes(data)
    with pytest.raises(InputError, match="not a readable image"):
        read_all(path, 100)


def bands(label, step):
    return (label[start : start + step] for start in range(0, len(label), step))


@pytest.mark.parametrize("step", [1, 100, 256, 300, 1000])
@pytest.mark.parametrize("size", [(1, 1), (256, 256), (601, 300)])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF", ".npy", ".zarr"])
def test_writes_labels_exactly(tmp_path, suffix, size, step):
    label = random_pixels(*size) % 12
    label[label == 11] = 255
    path = tmp_path / f"label{suffix}"
    write_label_rows(path, bands(label, step), size=size, table=CAMVID)
    assert [path] == list(tmp_path.iterdir())
    if suffix == ".npy":
        np.testing.assert_array_equal(np.load(path), label)
        return
    if suffix == ".zarr":
        np.testing.assert_array_equal(zarr.open_array(path, mode="r")[:], label)
        return
    # `read_label` insists on a palette.
    np.testing.assert_array_equal(read_label(path), label)
    with Image.open(path) as picture:
        colors = np.array(picture.convert("RGB"))
    np.testing.assert_array_equal(
        colors, np.vstack([CAMVID.colors, np.zeros((245, 3))]).astype(np.uint8)[label]
    )
    if suffix != ".png":
        with tifffile.TiffFile(path) as file:
            assert file.is_bigtiff
            assert file.pages[0].tile == (256, 256)
            # TIFF's brightest is 65535.
            np.testing.assert_array_equal(
                file.pages[0].colormap[:, :11].T, np.uint16(CAMVID.colors) * 257
            )


def test_png_chunks_are_as_specified(tmp_path):
    path = tmp_path / "label.png"
    write_label_rows(path, bands(GREY % 11, 10), size=(50, 31), table=CAMVID)
    data = io.BytesIO(path.read_bytes())
    assert data.read(8) == b"\x89PNG\r\n\x1a\n"
    names = []
    while length := data.read(4):
        names.append(data.read(4))
        data.seek(struct.unpack(">I", length)[0] + 4, io.SEEK_CUR)
    assert names[:2] == [b"IHDR", b"PLTE"]
    assert set(names[2:-1]) == {b"IDAT"}
    assert names[-1] == b"IEND"


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy"])
def test_no_file_is_left_of_a_full_disk(tmp_path, suffix):
    path = tmp_path / f"label{suffix}"
    path.write_bytes(b"the one before")
    label = random_pixels(2000, 300) % 11

    def fails():
        yield label[:1000]
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(InputError, match=r"label.*cannot be written: No space left"):
        write_label_rows(path, fails(), size=label.shape, table=CAMVID)
    assert [path] == list(tmp_path.iterdir())
    assert path.read_bytes() == b"the one before"


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy", ".zarr"])
def test_no_file_is_left_when_the_system_stops_writing(tmp_path, suffix):
    path = tmp_path / f"label{suffix}"
    label = random_pixels(2000, 300) % 11
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(InputError, match=r"cannot be written: File too large"):
            write_label_rows(path, bands(label, 100), size=label.shape, table=CAMVID)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy", ".zarr"])
def test_no_file_is_left_when_strips_do_not_fit(tmp_path, suffix):
    path = tmp_path / f"label{suffix}"
    for label in (GREY[:0], GREY[:40], np.vstack([GREY, GREY]), GREY[:, :20], WIDE):
        with pytest.raises(InputError, match="expected"):
            write_label_rows(path, bands(label, 7), size=GREY.shape, table=CAMVID)
    assert list(tmp_path.iterdir()) == []


def test_unwritable_targets_are_refused(tmp_path):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    for name in ("folder.png", "file/label.png", "file/label.zarr", "label.gif"):
        with pytest.raises(InputError, match=f"{name}(:| cannot be written)"):
            write_label_rows(
                tmp_path / name, bands(GREY, 50), size=GREY.shape, table=CAMVID
            )
    assert {path.name for path in tmp_path.iterdir()} == {"folder.png", "file"}


@pytest.mark.parametrize("suffix", [".png", ".zarr"])
def test_folders_are_made(tmp_path, suffix):
    path = tmp_path / "new" / "folder" / f"label{suffix}"
    write_label_rows(path, bands(GREY, 50), size=GREY.shape, table=CAMVID)
    assert path.exists()
