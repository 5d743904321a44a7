"""Archives that mean harm."""

import itertools
import stat
import zipfile

import pytest

from segjax.data.archives import unpack_zip
from segjax.errors import InputError


def make_zip(path, members):
    """Members are (name, content) or (ZipInfo, content)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def unpack(archive, target, **options):
    unpack_zip(archive, target, below="CamVid", source="the.zip", **options)


def test_files_below_the_folder_are_unpacked(tmp_path):
    members = [("x/CamVid/train/a.png", b"a"), ("x/other", b"o"), ("x/CamVid/b", b"b")]
    unpack(make_zip(tmp_path / "a.zip", members), tmp_path / "out")
    found = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert found == {"train/a.png": b"a", "b": b"b"}


def unix(name, mode):
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ("CamVid/../../evil", "unsafe path"),
        ("/CamVid/evil", "unsafe path"),
        ("CamVid/..\\..\\evil", "unsafe path"),
        ("CamVid/C:evil", "unsafe path"),
        ("CamVid/a\nb", "unsafe path"),
        (unix("CamVid/link", stat.S_IFLNK | 0o777), "is a link or a device"),
        (unix("CamVid/pipe", stat.S_IFIFO | 0o644), "is a link or a device"),
    ],
)
def test_dangerous_members_are_refused(tmp_path, member, message):
    archive = make_zip(tmp_path / "a.zip", [(member, b"/etc/passwd")])
    with pytest.raises(InputError, match=f"^the.zip: .*{message}"):
        unpack(archive, tmp_path / "deep" / "out")
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["a.zip"]


def test_bomb_is_stopped_while_it_unpacks(tmp_path):
    # 10 MB of zeros in 10 kB; whatever the header claims.
    archive = make_zip(tmp_path / "a.zip", [("CamVid/zeros", bytes(10_000_000))])
    assert archive.stat().st_size < 20_000
    with pytest.raises(InputError, match="unpacks to more than 2000000 bytes"):
        unpack(archive, tmp_path / "out", max_bytes=2_000_000)
    assert (tmp_path / "out" / "zeros").stat().st_size <= 2_000_000


def test_bomb_of_many_files_is_stopped(tmp_path):
    members = [(f"CamVid/{i}", b"") for i in range(20)]
    archive = make_zip(tmp_path / "a.zip", members)
    with pytest.raises(InputError, match="more than 10 files"):
        unpack(archive, tmp_path / "out", max_files=10)


def test_same_name_twice_is_refused(tmp_path):
    members = [("CamVid/a", b"1"), ("x/CamVid/a", b"2")]
    with pytest.raises(InputError, match="holds a twice"):
        unpack(make_zip(tmp_path / "a.zip", members), tmp_path / "out")


def test_every_damaged_byte_is_found_or_harmless(tmp_path):
    archive = make_zip(tmp_path / "a.zip", [("CamVid/a", bytes(range(256)))])
    content = archive.read_bytes()
    for position, bits in itertools.product(range(len(content)), (0x40, 0x81, 0xFF)):
        damaged = bytearray(content)
        damaged[position] ^= bits
        archive.write_bytes(damaged)
        out = tmp_path / f"out{position}-{bits}"
        try:
            unpack(archive, out)
        except InputError:
            continue
        for path in out.rglob("*"):
            assert path.is_dir() or path.read_bytes() == bytes(range(256))
