import numpy as np
import pytest
from PIL import Image

from segjax.errors import InputError
from segjax.inference.heat_maps import read_heat_map, write_heat_map


def test_read_back_to_half_a_level(tmp_path):
    values = np.random.default_rng(0).uniform(0, 2.4, (7, 9)).astype(np.float32)
    write_heat_map(tmp_path / "a.png", values, highest=2.4)
    assert np.abs(read_heat_map(tmp_path / "a.png") - values).max() <= 2.4 / 510 + 1e-6
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_ends_are_exact_and_what_is_beyond_is_cut(tmp_path):
    values = np.float32([[0, 3, -1, 5]])
    write_heat_map(tmp_path / "a.png", values, highest=3.0)
    np.testing.assert_array_equal(read_heat_map(tmp_path / "a.png"), [[0, 3, 0, 3]])
    # Viridis goes from dark violet to yellow.
    with Image.open(tmp_path / "a.png") as picture:
        colors = np.asarray(picture.convert("RGB"))
    assert colors[0, :2].tolist() == [[68, 1, 84], [253, 231, 36]]


def test_other_files_are_refused(tmp_path):
    Image.new("P", (2, 2)).save(tmp_path / "label.png")
    with pytest.raises(InputError, match=r"label\.png: not a heat map"):
        read_heat_map(tmp_path / "label.png")
    with pytest.raises(InputError, match=r"gone\.png: cannot be read"):
        read_heat_map(tmp_path / "gone.png")
    with pytest.raises(InputError, match=r"a\.png cannot be written: File exists"):
        write_heat_map(tmp_path / "label.png" / "a.png", np.zeros((2, 2)), highest=1.0)
