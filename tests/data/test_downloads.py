"""Downloads of published data sets, from archives of the real structure."""

import dataclasses
import hashlib
import io
import tarfile
import zipfile

import miniatures
import pytest

from segjax.data import (
    ade20k,
    cell_tracking,
    coco_panoptic,
    coco_stuff,
    oxford_pet,
    pascal_voc,
)
from segjax.data.datasets import open_dataset
from segjax.data.downloads import Archive, download
from segjax.data.published import PUBLISHED
from segjax.errors import InputError


def zipped(path, folder, prefix):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.*")):
            archive.write(file, f"{prefix}/{file.relative_to(folder)}")


def tarred(path, folder, prefix, mode="w"):
    with tarfile.open(path, mode) as archive:
        archive.add(folder, prefix)


def local(archive, path):
    """The archive, at `path`, with that file's checksum."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return dataclasses.replace(
        archive, url=path.as_uri(), checksum=archive.checksum and f"sha256:{digest}"
    )


def counts(name, prepared):
    splits = open_dataset(name, prepared_dir=prepared).splits
    return {split: len(source) for split, source in splits.items()}


def test_pascal_voc_with_sbd(tmp_path, monkeypatch):
    miniatures.pascal_voc(tmp_path / "data")
    miniatures.sbd(tmp_path / "data")
    voc, sbd = tmp_path / "voc.tar", tmp_path / "benchmark.tgz"
    tarred(voc, tmp_path / "data/VOCdevkit", "VOCdevkit")
    tarred(sbd, tmp_path / "data/benchmark_RELEASE", "benchmark_RELEASE", "w:gz")
    for name, path in (("VOC_ARCHIVES", voc), ("SBD_ARCHIVES", sbd)):
        (archive,) = getattr(pascal_voc, name)
        monkeypatch.setattr(pascal_voc, name, (local(archive, path),))
    prepared = tmp_path / "prepared"
    assert counts("pascal_voc", prepared) == {"train": 2, "val": 1}
    voc.unlink()  # downloaded once for both
    assert counts("pascal_voc_aug", prepared) == {"train": 4, "val": 1}


def test_oxford_pet(tmp_path, monkeypatch):
    miniatures.oxford_pet(tmp_path / "data")
    archives = []
    for archive, name in zip(
        oxford_pet.ARCHIVES, ("images", "annotations"), strict=True
    ):
        # "The actual archives format is uncompressed tar" at times, says TFDS.
        tarred(tmp_path / f"{name}.tar.gz", tmp_path / "data" / name, name)
        archives.append(local(archive, tmp_path / f"{name}.tar.gz"))
    monkeypatch.setattr(oxford_pet, "ARCHIVES", archives)
    expected = {"train": 5, "val": 1, "test": 1}
    assert counts("oxford_pet", tmp_path / "prepared") == expected


def test_ade20k(tmp_path, monkeypatch):
    miniatures.ade20k(tmp_path / "data")
    zipped(tmp_path / "a.zip", tmp_path / "data", "ADEChallengeData2016")
    (archive,) = ade20k.ARCHIVES
    monkeypatch.setattr(ade20k, "ARCHIVES", [local(archive, tmp_path / "a.zip")])
    assert counts("ade20k", tmp_path / "prepared") == {"train": 2, "val": 1}


def coco_images(tmp_path):
    archives = []
    for archive, split in zip(
        coco_stuff.IMAGE_ARCHIVES, ("train2017", "val2017"), strict=True
    ):
        path = tmp_path / f"{split}.zip"
        zipped(path, tmp_path / "data/images" / split, split)
        archives.append(local(archive, path))
    return archives


def test_coco_stuff(tmp_path, monkeypatch):
    miniatures.coco_stuff(tmp_path / "data")
    monkeypatch.setattr(coco_stuff, "IMAGE_ARCHIVES", coco_images(tmp_path))
    path = tmp_path / "maps.zip"
    with zipfile.ZipFile(path, "w") as maps:
        for file in sorted((tmp_path / "data/annotations").rglob("*.png")):
            maps.write(file, file.relative_to(tmp_path / "data/annotations"))
    (archive,) = coco_stuff.LABEL_ARCHIVES
    monkeypatch.setattr(coco_stuff, "LABEL_ARCHIVES", [local(archive, path)])
    assert counts("coco_stuff", tmp_path / "prepared") == {"train": 2, "val": 1}


def test_coco_panoptic_has_archives_in_its_archive(tmp_path, monkeypatch):
    miniatures.coco_panoptic(tmp_path / "data")
    monkeypatch.setattr(coco_panoptic, "IMAGE_ARCHIVES", coco_images(tmp_path))
    annotations, path = tmp_path / "data/annotations", tmp_path / "annotations.zip"
    with zipfile.ZipFile(path, "w") as outer:
        for name in ("panoptic_train2017", "panoptic_val2017"):
            zipped(tmp_path / "inner.zip", annotations / name, name)
            outer.write(tmp_path / "inner.zip", f"annotations/{name}.zip")
            outer.write(annotations / f"{name}.json", f"annotations/{name}.json")
    (archive,) = coco_panoptic.LABEL_ARCHIVES
    monkeypatch.setattr(coco_panoptic, "LABEL_ARCHIVES", [local(archive, path)])
    prepared = tmp_path / "prepared"
    assert counts("coco_panoptic", prepared) == {"train": 2, "val": 1}
    assert not list((prepared / "downloads").rglob("*.zip"))


@pytest.mark.parametrize(
    ("name", "folder"), [("phc_u373", "PhC-C2DH-U373"), ("dic_hela", "DIC-C2DH-HeLa")]
)
def test_cell_tracking(tmp_path, monkeypatch, name, folder):
    miniatures.cell_tracking(tmp_path / "data")
    zipped(tmp_path / "a.zip", tmp_path / "data", folder)
    archive = local(cell_tracking.ARCHIVES[folder], tmp_path / "a.zip")
    monkeypatch.setitem(cell_tracking.ARCHIVES, folder, archive)
    assert counts(name, tmp_path / "prepared") == {"train": 2, "val": 2}


def test_registration_is_asked_for_where_there_is_no_download():
    without = {name for name, entry in PUBLISHED.items() if entry.download is None}
    assert without == {"cityscapes", "sun_rgbd"}


def assert_fails(tmp_path, archives, message):
    with pytest.raises(InputError, match=message):
        download(tmp_path / "prepared", "name", archives)
    assert not (tmp_path / "prepared").exists()


def test_another_file_than_published(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK another")
    archive = Archive((tmp_path / "a.zip").as_uri(), {"x": "."}, checksum="md5:0123")
    assert_fails(tmp_path, [archive], r"a\.zip: md5 is [0-9a-f]{32}, expected 0123")


def test_second_archive_fails(tmp_path):
    miniatures.ade20k(tmp_path / "data")
    zipped(tmp_path / "a.zip", tmp_path / "data", "x")
    good = Archive((tmp_path / "a.zip").as_uri(), {"x": "."})
    bad = Archive((tmp_path / "b.zip").as_uri(), {"x": "."})
    assert_fails(tmp_path, [good, bad], r"b\.zip: download failed .*name by hand")


def test_inner_archive_is_missing(tmp_path):
    miniatures.ade20k(tmp_path / "data")
    zipped(tmp_path / "a.zip", tmp_path / "data", "x")
    archive = Archive(
        (tmp_path / "a.zip").as_uri(), {"x": "."}, nested=("images/inner.zip",)
    )
    assert_fails(tmp_path, [archive], r"a\.zip: no inner\.zip in the archive")


def tar_of(path, *members):
    with tarfile.open(path, "w") as archive:
        for name, kind in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            info.size = 3 if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(b"abc"))
    return path


FILE = tarfile.REGTYPE


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("x/../../evil", FILE)], "unsafe path"),
        ([("/x/evil", FILE)], "unsafe path"),
        ([("x/a:b", FILE)], "unsafe path"),
        ([("x/evil", tarfile.SYMTYPE)], "is a link or a device"),
        ([("x/evil", tarfile.LNKTYPE)], "is a link or a device"),
        ([("x/evil", tarfile.CHRTYPE)], "is a link or a device"),
        ([("x/a", FILE), ("x/a", FILE)], "holds a twice"),
        ([("y/a", FILE)], "no folder x in the archive"),
        ([], "no folder x in the archive"),
    ],
)
def test_tar_that_means_harm(tmp_path, members, message):
    path = tar_of(tmp_path / "a.tar", *members)
    assert_fails(tmp_path, [Archive(path.as_uri(), {"x": "."})], message)
    assert not list(tmp_path.rglob("evil"))


def test_too_much(tmp_path):
    path = tar_of(tmp_path / "a.tar", ("x/a", FILE), ("x/b", FILE))
    archive = Archive(path.as_uri(), {"x": "."}, max_bytes=5)
    assert_fails(tmp_path, [archive], "unpacks to more than 5 bytes")


@pytest.mark.parametrize("keep", [0, 10, 600])
def test_tar_cut_off(tmp_path, keep):
    path = tar_of(tmp_path / "a.tar", ("x/a", FILE), ("x/b", FILE))
    path.write_bytes(path.read_bytes()[:keep])
    archive = Archive(path.as_uri(), {"x": "."})
    assert_fails(tmp_path, [archive], "not a readable tar file|no folder x")
