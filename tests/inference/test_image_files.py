import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from segjax.errors import InputError
from segjax.inference.image_files import read_image


def random_pixels(*shape, dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


RGB, RGBA = random_pixels(6, 9, 3), random_pixels(6, 9, 4)
GREY, WIDE = random_pixels(6, 9), random_pixels(6, 9, dtype=np.uint16)


def saved(tmp_path, name, picture, **options):
    picture.save(tmp_path / name, **options)
    return tmp_path / name


def palette_picture():
    picture = Image.fromarray(GREY)
    picture.putpalette(random_pixels(256, 3, seed=1).tobytes())
    return picture


@pytest.mark.parametrize(
    ("name", "picture", "expected"),
    [
        ("rgb.png", Image.fromarray(RGB), RGB),
        ("rgb.bmp", Image.fromarray(RGB), RGB),
        ("rgb.tif", Image.fromarray(RGB), RGB),
        ("grey.png", Image.fromarray(GREY), np.dstack([GREY] * 3)),
        ("bits.png", Image.fromarray(GREY > 99), np.dstack([(GREY > 99) * 255] * 3)),
        ("wide.png", Image.fromarray(WIDE), np.dstack([WIDE // 256] * 3)),
        ("wide.tif", Image.fromarray(WIDE), np.dstack([WIDE // 256] * 3)),
        ("alpha.png", Image.fromarray(RGBA), RGBA[..., :3]),
        (
            "grey_alpha.png",
            Image.fromarray(RGBA[..., :2], "LA"),
            np.dstack([RGBA[..., 0]] * 3),
        ),
        ("palette.png", palette_picture(), random_pixels(256, 3, seed=1)[GREY]),
        ("palette.gif", palette_picture(), random_pixels(256, 3, seed=1)[GREY]),
    ],
)
def test_every_kind_becomes_rgb(tmp_path, name, picture, expected):
    image = read_image(saved(tmp_path, name, picture))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, expected)


def test_transparent_palette_keeps_its_colours(tmp_path):
    path = saved(tmp_path, "image.png", palette_picture(), transparency=int(GREY[0, 0]))
    np.testing.assert_array_equal(read_image(path), random_pixels(256, 3, seed=1)[GREY])


def test_16_bit_rgb_keeps_the_upper_bits(tmp_path):
    image = random_pixels(6, 9, 3, dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in image)
    path = tmp_path / "image.png"
    path.write_bytes(png(header(9, 6, depth=16), rows))
    np.testing.assert_array_equal(read_image(path), image >> 8)


def test_cmyk_becomes_rgb(tmp_path):
    # No ink, all black, pure cyan.
    inks = np.uint8([[[0, 0, 0, 0], [0, 0, 0, 255], [255, 0, 0, 0]]])
    path = saved(tmp_path, "image.tif", Image.fromarray(inks, "CMYK"))
    np.testing.assert_array_equal(
        read_image(path), [[[255] * 3, [0] * 3, [0, 255, 255]]]
    )


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_tiff_keeps_the_upper_bits(tmp_path, channels, byteorder):
    image = random_pixels(6, 9, channels, dtype=np.uint16)
    kind = "minisblack" if channels == 1 else "rgb"
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, image.squeeze(), photometric=kind, byteorder=byteorder)
    expected = np.broadcast_to(image[..., :3] >> 8, (6, 9, 3))
    np.testing.assert_array_equal(read_image(path), expected)


def test_planes_and_white_as_zero(tmp_path):
    path = tmp_path / "image.tif"
    planes = RGB.transpose(2, 0, 1)
    tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_image(path), RGB)
    tifffile.imwrite(path, GREY, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(path), np.dstack([255 - GREY] * 3))


def test_cmyk_of_a_jpeg_becomes_rgb(tmp_path):
    # Programs store such JPEGs inverted (Adobe); magenta and yellow make red.
    inks = np.tile(np.uint8([0, 255, 255, 0]), (16, 16, 1))
    path = saved(tmp_path, "image.jpg", Image.fromarray(inks, "CMYK"), quality=95)
    np.testing.assert_allclose(read_image(path), np.tile([255, 0, 0], (16, 16, 1)))


# How each EXIF orientation has to be turned to stand upright (EXIF 2.32, 4.6.4).
UPRIGHT = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: np.rot90(x),
}


@pytest.mark.parametrize("name", ["image.png", "image.webp", "image.tif"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_rotation_of_the_camera_is_applied(tmp_path, orientation, name):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if name.endswith("webp") else {}
    path = saved(tmp_path, name, Image.fromarray(RGB), exif=exif, **options)
    np.testing.assert_array_equal(read_image(path), UPRIGHT[orientation](RGB))


def test_rotation_of_a_jpeg_is_applied(tmp_path):
    # Halves of one colour each, in whole blocks, survive the compression.
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, 16:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path, "image.jpg", Image.fromarray(pixels), exif=exif)
    np.testing.assert_array_equal(read_image(path), np.rot90(pixels, -1))


def test_damaged_metadata_is_passed_over(tmp_path):
    path = saved(
        tmp_path, "image.png", Image.fromarray(RGB), exif=b"Exif\0\0II*\0\xff\xff\xff"
    )
    np.testing.assert_array_equal(read_image(path), RGB)


def test_first_picture_of_a_phone_jpeg_counts(tmp_path):
    pictures = [
        Image.fromarray(np.full((16, 16, 3), value, np.uint8)) for value in (255, 0)
    ]
    path = saved(
        tmp_path,
        "image.jpg",
        pictures[0],
        format="MPO",
        save_all=True,
        append_images=pictures[1:],
    )
    np.testing.assert_array_equal(read_image(path), np.full((16, 16, 3), 255))


def test_open_files_are_named_by_source():
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, format="PNG")
    file.seek(0)
    np.testing.assert_array_equal(read_image(file, source="standard input"), RGB)
    with pytest.raises(InputError, match="standard input: not a readable image"):
        read_image(io.BytesIO(b"nothing"), source="standard input")


def header(width, height, *, depth=8):
    return struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)


def png(first, rows):
    """A PNG out of the bytes of its header and of its rows, right or wrong."""
    data = b"\x89PNG\r\n\x1a\n"
    for name, part in [
        (b"IHDR", first),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]:
        data += struct.pack(">I", len(part)) + name + part
        data += struct.pack(">I", zlib.crc32(name + part))
    return data


def animation(path):
    frames = [Image.fromarray(np.full((6, 9), value, np.uint8)) for value in (0, 99)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def cut_off(path):
    Image.fromarray(random_pixels(90, 90, 3)).save(path)
    path.write_bytes(path.read_bytes()[:2000])


def damaged_avif(path):
    Image.fromarray(RGB).save(path)
    data = path.read_bytes()
    # An item of a kind that does not exist.
    path.write_bytes(data.replace(b"av01", b"av02"))


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.png", lambda path: None, "cannot be read: No such file or directory$"),
        ("a.png", lambda path: path.mkdir(), "cannot be read: Is a directory$"),
        ("a.png", lambda path: path.write_bytes(b""), "not a readable image"),
        ("a.png", lambda path: path.write_text("text"), "not a readable image"),
        ("a.png", cut_off, "not a readable image"),
        ("a.jpg", cut_off, "not a readable image"),
        ("a.tif", cut_off, "not a readable image"),
        ("a.webp", cut_off, "not a readable image"),
        ("a.avif", damaged_avif, "not a readable image"),
        (
            "a.tif",
            lambda path: tifffile.imwrite(
                path,
                WIDE[None].repeat(3, 0),
                photometric="rgb",
                planarconfig="separate",
            ),
            "has one plane of 16 bits for each colour",
        ),
        ("a.gif", animation, "has 2 frames or pages; expected a single image"),
        ("a.png", animation, "has 2 frames or pages"),
        ("a.webp", animation, "has 2 frames or pages"),
        ("a.tif", animation, "has 2 frames or pages"),
        ("a.png", lambda path: path.write_bytes(png(header(0, 5), b"")), r"a\.png"),
        ("a.png", lambda path: path.write_bytes(png(header(5, 0), b"")), r"a\.png"),
        (
            "a.png",
            lambda path: path.write_bytes(png(header(20_000, 20_000), b"")),
            "more than 178956970 pixels, too large for prediction in memory; predict it "
            r"strip by strip \(--strips",
        ),
        (
            "a.tif",
            lambda path: tifffile.imwrite(path, GREY.astype(np.float32)),
            "floating-point pixels",
        ),
        (
            "a.tif",
            lambda path: tifffile.imwrite(path, GREY.astype(np.int32) + 2**20),
            "beyond 16 bits",
        ),
    ],
)
def test_refused(tmp_path, name, write, message):
    path = tmp_path / name
    write(path)
    with pytest.raises(InputError, match=message) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
