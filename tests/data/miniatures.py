"""Published data sets in their real layout, with a few tiny images."""

import json

import numpy as np
import scipy.io
from PIL import Image

SIZE = (6, 8)


def drawn(seed, size=SIZE):
    """An RGB image."""
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def values(seed, allowed, size=SIZE):
    """A label with some of the allowed raw values."""
    return np.random.default_rng(seed).choice(np.array(allowed, np.uint8), size)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def save_palette(path, array):
    """An indexed PNG whose colours are not its values, as VOC's are."""
    image = Image.fromarray(array)
    image.putpalette([(7 * i + 3) % 256 for i in range(768)])
    assert image.mode == "P"
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


VOC_VALUES = (0, 1, 20, 255)


def pascal_voc(root):
    """Two training and one validation image, and one that only SBD labels."""
    voc = root / "VOCdevkit/VOC2012"
    lists = voc / "ImageSets/Segmentation"
    names = {"train": ["2007_000032", "2008_000008"], "val": ["2007_000033"]}
    for split, listed in names.items():
        write(lists / f"{split}.txt", "".join(f"{name}\n" for name in listed))
    all_names = [*names["train"], *names["val"], "2009_000001", "2010_000002"]
    for seed, name in enumerate(all_names):
        # Every image has another size.
        size = (SIZE[0] + seed, SIZE[1])
        save(voc / "JPEGImages" / f"{name}.jpg", drawn(seed, size))
        if seed < 3:
            label = values(seed, VOC_VALUES, size)
            save_palette(voc / "SegmentationClass" / f"{name}.png", label)


def sbd_label(seed):
    return values(100 + seed, (0, 5, 20), (SIZE[0] + seed, SIZE[1]))


def sbd(root):
    """Labels of `pascal_voc`'s images; its lists overlap with both of VOC's."""
    dataset = root / "benchmark_RELEASE/dataset"
    write(dataset / "train.txt", "2010_000002\n2007_000033\n")
    write(dataset / "val.txt", "2009_000001\n2008_000008\n")
    (dataset / "cls").mkdir(parents=True)
    for seed, name in [
        (1, "2008_000008"),
        (2, "2007_000033"),
        (3, "2009_000001"),
        (4, "2010_000002"),
    ]:
        content = {"Segmentation": sbd_label(seed), "CategoriesPresent": [5]}
        scipy.io.savemat(dataset / "cls" / f"{name}.mat", {"GTcls": content})


def oxford_pet(root):
    annotations = root / "annotations"
    trainval = [f"Abyssinian_{i}" for i in range(1, 7)]
    test = ["beagle_1"]
    for name, listed in (("trainval", trainval), ("test", test)):
        write(
            annotations / f"{name}.txt", "".join(f"{stem} 1 1 1\n" for stem in listed)
        )
    for seed, stem in enumerate(trainval + test):
        save(root / "images" / f"{stem}.jpg", drawn(seed))
        save(annotations / "trimaps" / f"{stem}.png", values(seed, (1, 2, 3)))
    # As in the archive.
    write(annotations / "trimaps/._Abyssinian_1.png", "of a file system")


def ade20k(root):
    for folder, name, count in (("training", "train", 2), ("validation", "val", 1)):
        for i in range(1, count + 1):
            stem = f"ADE_{name}_{i:08d}"
            save(root / "images" / folder / f"{stem}.jpg", drawn(i))
            label = values(i, (0, 1, 2, 150))
            save(root / "annotations" / folder / f"{stem}.png", label)


CITYSCAPES_IDS = tuple(range(34))


def cityscapes(root, *, ending="labelIds", allowed=CITYSCAPES_IDS):
    frames = {
        "train": ["aachen_000000_000019", "bochum_000000_000313"],
        "val": ["frankfurt_000000_000294"],
    }
    for split, names in frames.items():
        for seed, frame in enumerate(names):
            city = frame.split("_")[0]
            images = root / "leftImg8bit" / split / city
            labels = root / "gtFine" / split / city
            save(images / f"{frame}_leftImg8bit.png", drawn(seed))
            save(labels / f"{frame}_gtFine_{ending}.png", values(seed, allowed))
            save(labels / f"{frame}_gtFine_color.png", drawn(seed))
            write(labels / f"{frame}_gtFine_polygons.json", "{}")


def coco_images(root):
    for split, count in (("train", 2), ("val", 1)):
        for i in range(count):
            folder = root / f"images/{split}2017"
            save(folder / f"{i:012d}.jpg", drawn(i))


def coco_stuff(root):
    coco_images(root)
    for split, count in (("train", 2), ("val", 1)):
        for i in range(count):
            folder = root / f"annotations/{split}2017"
            save(folder / f"{i:012d}.png", values(i, (0, 12, 181, 255)))


def coco_panoptic(root):
    """Three segments an image: of a person, of a crowd of them, and of a rug."""
    coco_images(root)
    categories = {1: 1, 256 + 2: 1, 3 * 65536 + 4 * 256 + 5: 200}
    for split, count in (("train", 2), ("val", 1)):
        annotations = []
        for i in range(count):
            name = f"{i:012d}.png"
            numbers = np.random.default_rng(i).choice([0, *categories], SIZE)
            rgb = np.stack([numbers >> 8 * c & 255 for c in range(3)], -1)
            folder = root / f"annotations/panoptic_{split}2017"
            save(folder / name, rgb.astype(np.uint8))
            segments = [
                {"id": number, "category_id": category, "iscrowd": int(number == 258)}
                for number, category in categories.items()
            ]
            annotations.append({"file_name": name, "segments_info": segments})
        write(
            root / f"annotations/panoptic_{split}2017.json",
            json.dumps({"annotations": annotations}),
        )


def sun_rgbd(root):
    """Eleven training images are one block, and one more; two of the test."""
    labels = root / "sunrgbd_train_test_labels"
    for folder, count, first in (
        ("SUNRGBD-train_images", 101, 5051),
        ("SUNRGBD-test_images", 2, 1),
    ):
        for i in range(count):
            save(root / folder / f"img-{i + 1:06d}.jpg", drawn(i, (2, 2)))
            label = values(i + first, range(38), (2, 2))
            save(labels / f"img-{i + first:06d}.png", label)


CELL_SIZE = (110, 112)


def cell_numbers():
    """Two cells that touch, and one in the margin."""
    numbers = np.zeros(CELL_SIZE, np.uint16)
    numbers[52:57, 52:55] = 1
    numbers[52:57, 55:58] = 300
    numbers[2:4, 3:6] = 7
    return numbers


def cell_tracking(root, *, silver=True):
    for video in ("01", "02"):
        for i in range(2):
            grey = drawn(i, CELL_SIZE)[..., 0]
            save(root / video / f"t{i:03d}.tif", grey)
            if silver:
                save(root / f"{video}_ST/SEG/man_seg{i:03d}.tif", cell_numbers())
        save(root / f"{video}_GT/SEG/man_seg001.tif", cell_numbers() * 2)
        save(root / f"{video}_GT/TRA/man_track000.tif", cell_numbers())
