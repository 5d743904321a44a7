import errno

import pytest

from segjax.errors import InputError
from segjax.whole_file import whole_file


def test_takes_its_name_at_the_end(tmp_path):
    path = tmp_path / "a.txt"
    with whole_file(path) as scratch:
        scratch.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def fail_half_way(path, error):
    with whole_file(path) as scratch:
        scratch.write_text("half")
        raise error


def test_what_was_there_stays_when_writing_fails(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(InputError, match=r"a\.txt cannot be written: No space left$"):
        fail_half_way(path, OSError(errno.ENOSPC, "No space left"))
    with pytest.raises(KeyError):
        fail_half_way(path, KeyError("x"))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_its_folder_is_made(tmp_path):
    path = tmp_path / "new" / "deep" / "a.txt"
    with whole_file(path) as scratch:
        scratch.write_text("x")
    assert path.read_text() == "x"


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "a.txt"
    with (
        pytest.raises(InputError, match=r"a\.txt cannot be written: File exists"),
        whole_file(path) as scratch,
    ):
        scratch.write_text("x")
