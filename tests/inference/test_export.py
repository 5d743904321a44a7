"""Exported files against the network that they are of, in each decoder style."""

import functools
import json
import sys
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export as jax_export

from segjax import __main__ as verbs
from segjax.commands import export as command
from segjax.data.labels import LabelTable
from segjax.errors import InputError
from segjax.inference.export import export
from segjax.inference.exported import ImageShape, load_exported
from segjax.inference.predictor import Predictor, make_predictor
from segjax.models.decoders.fcn import FCNDecoder
from segjax.models.decoders.segnet import SegNetDecoder
from segjax.models.decoders.unet import UNetDecoder
from segjax.models.encoders import PooledEncoder
from segjax.models.segmenter import Segmenter
from segjax.training.steps import predict_logits

pytest.importorskip("flatbuffers")

TABLE = LabelTable(
    names=("sky", "road", "car"),
    colors=((0, 0, 200), (90, 90, 90), (200, 0, 0)),
    raw_ids={0: 0, 1: 1, 2: 2},
    thin=("car",),
)


# The three decoder styles on encoders of two levels: transposed convolutions with
# summed skips, concatenated skips, unpooling.
NETWORKS = {
    "fcn": Segmenter(encoder := PooledEncoder(((4,), (6,))), FCNDecoder(3, (2,))),
    "unet": Segmenter(encoder.clone(ceil_mode=False), UNetDecoder(3)),
    "segnet": Segmenter(encoder, SegNetDecoder(3, ((4,), (4,)))),
}


@functools.cache
def network(name):
    """A network of random weights and statistics, and its variables."""
    model = NETWORKS[name]
    variables = jax.jit(lambda key, x: model.init(key, x, train=False))(
        jax.random.key(0), jnp.zeros((1, 8, 8, 3))
    )
    random = np.random.default_rng(1)
    stats = jax.tree.map(
        lambda x: jnp.asarray(random.uniform(0.5, 2, x.shape), x.dtype),
        variables.get("batch_stats", {}),
    )
    return model, {"params": variables["params"], "batch_stats": stats}


def predictor_of(name):
    return make_predictor(
        *network(name), name=name, step=7, table=TABLE, image_size=(8, 12)
    )


def images_of(batch, height, width):
    random = np.random.default_rng(2)
    return random.integers(0, 256, (batch, height, width, 3), np.uint8)


def expected(name, images):
    """By the network itself, and none of the code of prediction or export."""
    model, variables = network(name)
    logits = jax.jit(
        lambda images: predict_logits(
            variables, images, model=model, size=images.shape[1:3]
        )
    )(images)
    scores = np.exp(np.asarray(logits, np.float64))
    return scores / scores.sum(axis=-1, keepdims=True)


# Encoders that round up take all sizes, two poolings that do not need multiples of 4.
@pytest.mark.parametrize(
    ("name", "multiple", "other"),
    [
        ("fcn", 1, (37, 50)),
        ("unet", 4, (36, 20)),
        ("segnet", 1, (37, 50)),
    ],
)
def test_stablehlo_of_any_number_and_size(name, multiple, other, tmp_path):
    path = tmp_path / "net.stablehlo"
    report = export(predictor_of(name), path, batch=None, size=None)
    assert report.share == 0
    assert report.max_difference < 1e-5
    assert len({h for _, h, _ in report.checked}) > 1
    assert len({b for b, _, _ in report.checked}) > 1
    exported = load_exported(path)
    assert exported.shape.multiple_of == multiple
    assert (exported.name, exported.step) == (name, 7)
    assert exported.table.names == TABLE.names
    assert exported.table.colors == TABLE.colors
    assert exported.table.thin == TABLE.thin
    assert exported.image_size == (8, 12)
    assert exported.platforms == ("cpu", "cuda", "tpu")
    images = images_of(2, *other)
    found = exported.probabilities(images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected(name, images), atol=1e-5)
    if multiple > 1:
        with pytest.raises(InputError, match=r"multiples of 4, got uint8 \[1, 37, 50"):
            exported.probabilities(images_of(1, 37, 50))
    with pytest.raises(InputError, match=r"takes images uint8 \[any h w 3.*float32"):
        exported.probabilities(images_of(1, 32, 48).astype(np.float32))


def test_a_fixed_size_may_be_one_that_the_network_pads(tmp_path):
    path = tmp_path / "net.stablehlo"
    report = export(
        predictor_of("unet"), path, batch=2, size=(21, 35), platforms=("cpu",)
    )
    assert report.shape == ImageShape(2, (21, 35))
    exported = load_exported(path)
    images = images_of(2, 21, 35)
    np.testing.assert_allclose(
        exported.probabilities(images), expected("unet", images), atol=1e-5
    )
    with pytest.raises(InputError, match=r"takes images uint8 \[2 21 35 3\], got"):
        exported.probabilities(images_of(1, 21, 35))


def test_a_file_is_read_without_segjax(tmp_path):
    path = tmp_path / "net.stablehlo"
    export(predictor_of("segnet"), path, batch=None, size=(32, 32))
    with zipfile.ZipFile(path) as archive:
        about = json.loads(archive.read("segjax.json"))
        exported = jax_export.deserialize(bytearray(archive.read("exported.bin")))
    images = images_of(3, 32, 32)
    np.testing.assert_allclose(
        exported.call(images), expected("segnet", images), atol=1e-5
    )
    # The weights are inside: images are all that it wants.
    assert len(exported.in_avals) == 1
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert about["classes"] == {
        "names": ["sky", "road", "car"],
        "colors": [[0, 0, 200], [90, 90, 90], [200, 0, 0]],
        "thin": ["car"],
    }
    assert about["normalization"]["mean"] == [0.485, 0.456, 0.406]
    assert about["images"]["size"] == [32, 32]


def toy(probabilities, image_size=(4, 6)):
    return Predictor(
        name="toy",
        step=1,
        table=TABLE,
        image_size=image_size,
        margin=0,
        input_size=lambda size: size,
        probabilities=probabilities,
        tile=None,
    )


def thirds(images, size):
    return jnp.full((images.shape[0], *size, 3), 1 / 3, jnp.float32)


def test_a_file_that_differs_from_the_network_is_not_written(tmp_path):
    def by_the_way_it_runs(images, size):
        traced = isinstance(images, jax.core.Tracer)
        return thirds(images, size) * (jnp.float32(1.01) if traced else 1)

    path = tmp_path / "net.stablehlo"
    path.write_bytes(b"what was there")
    with pytest.raises(InputError, match=r"100 % .* largest by 0.0033"):
        export(toy(by_the_way_it_runs), path, batch=None, size=(4, 6))
    assert [p.name for p in tmp_path.iterdir()] == ["net.stablehlo"]
    assert path.read_bytes() == b"what was there"


def test_nan_counts_as_different(tmp_path):
    def nan_when_traced(images, size):
        traced = isinstance(images, jax.core.Tracer)
        return thirds(images, size) * (jnp.nan if traced else 1)

    with pytest.raises(InputError, match=r"100 % .* largest by inf"):
        export(toy(nan_when_traced), tmp_path / "a.stablehlo", batch=1, size=(4, 6))
    assert not list(tmp_path.iterdir())


def test_a_network_that_cannot_leave_the_size_open_says_so(tmp_path):
    def for_small_images(images, size):
        return thirds(images, size) if min(size) < 9000 else 1 / 0

    with pytest.raises(InputError, match="toy cannot leave the images' size open"):
        export(toy(for_small_images), tmp_path / "a.stablehlo", batch=1, size=None)
    export(toy(for_small_images), tmp_path / "a.stablehlo", batch=1, size=(8, 8))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.pb", {}, "expected a name ending .stablehlo or .onnx"),
        ("no/a.stablehlo", {}, "there is no folder .*no$"),
        ("folder.stablehlo", {}, "is a folder, expected a file"),
        ("a.stablehlo", {"size": (0, 8)}, "image size is 0x8"),
        ("a.stablehlo", {"batch": 0}, "batch is 0"),
        ("a.stablehlo", {"platforms": ("tpu",)}, "this process's, cpu: add it"),
        ("a.onnx", {"size": None}, "ONNX needs a fixed size of images"),
        ("a.onnx", {"batch": None}, "ONNX needs a fixed number of images"),
    ],
)
def test_options_that_are_refused(name, options, message, tmp_path):
    (tmp_path / "folder.stablehlo").mkdir()
    options = {"batch": 1, "size": (4, 6), **options}
    with pytest.raises(InputError, match=message):
        export(toy(thirds), tmp_path / name, **options)
    assert [p.name for p in tmp_path.iterdir()] == ["folder.stablehlo"]


def test_files_that_are_not_ours_are_named(tmp_path):
    path = tmp_path / "a.stablehlo"
    with pytest.raises(InputError, match=r"a\.stablehlo: no such file"):
        load_exported(path)
    path.write_bytes(b"not a zip")
    with pytest.raises(InputError, match="is not a StableHLO file that segjax"):
        load_exported(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("segjax.json", "{}")
    with pytest.raises(InputError, match="is not a StableHLO file that segjax"):
        load_exported(path)
    with pytest.raises(InputError, match=r"expected a file \.stablehlo or \.onnx"):
        load_exported(tmp_path / "a.txt")
    export(toy(thirds), path, batch=1, size=(4, 6))
    with zipfile.ZipFile(path) as archive:
        program = archive.read("exported.bin")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("segjax.json", "{}")
        archive.writestr("exported.bin", program)
    with pytest.raises(InputError, match="another version of segjax"):
        load_exported(path)


def test_the_images_that_a_file_takes():
    anything = ImageShape(None, None)
    assert str(anything) == "[any h w 3], h and w any"
    assert anything.takes((5, 1, 9, 3))
    assert not anything.takes((5, 1, 9, 4))
    assert not anything.takes((0, 1, 9, 3))
    rules = ImageShape(2, None, multiple_of=16, at_least=32)
    assert str(rules) == "[2 h w 3], h and w any from 32 and multiples of 16"
    assert rules.takes((2, 32, 48, 3))
    assert not rules.takes((2, 16, 48, 3))
    assert not rules.takes((2, 32, 40, 3))
    assert not rules.takes((1, 32, 48, 3))


def call(monkeypatch, *args):
    monkeypatch.setattr(sys, "argv", ["segjax", *map(str, args)])
    verbs.main()


def test_verb(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        call(
            monkeypatch,
            *("export", "--run", tmp_path, "--output", tmp_path / "a.stablehlo"),
        )
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path}/checkpoints: no such folder")

    size = (4, 6)
    monkeypatch.setattr(command, "load_predictor", lambda _: toy(thirds, size))
    path = tmp_path / "a.stablehlo"
    call(monkeypatch, "export", "--run", "x", "--output", path)
    out = capsys.readouterr().out
    assert "takes images uint8 [any 4 6 3], on cpu, cuda, tpu" in out
    assert load_exported(path).shape == ImageShape(None, (4, 6))
    options = ["--image-size", "dynamic", "--batch", 2, "--platforms", "cpu"]
    call(monkeypatch, "export", "--run", "x", "--output", path, *options)
    assert load_exported(path).shape == ImageShape(2, None)
    assert load_exported(path).platforms == ("cpu",)
    call(monkeypatch, *["export", "--run", "x", "--output", path, "--image-size", 8, 2])
    assert load_exported(path).shape == ImageShape(None, (8, 2))
    size = None
    with pytest.raises(SystemExit):
        call(monkeypatch, "export", "--run", "x", "--output", path)
    assert "give a height and a width, or dynamic" in capsys.readouterr().err


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(InputError, match=r"needs the package jax2onnx, .* --no-deps"):
        export(toy(thirds), tmp_path / "a.onnx", batch=1, size=(4, 6))


@pytest.mark.filterwarnings("ignore")  # of jax2onnx and what it imports
@pytest.mark.parametrize("name", ["fcn", "unet", "segnet"])
def test_onnx(name, tmp_path):
    pytest.importorskip("jax2onnx")
    pytest.importorskip("onnxruntime")
    path = tmp_path / "net.onnx"
    report = export(predictor_of(name), path, batch=2, size=(24, 35))
    assert report.share == 0
    exported = load_exported(path)
    images = images_of(2, 24, 35)
    np.testing.assert_allclose(
        exported.probabilities(images), expected(name, images), atol=1e-4
    )
    assert exported.table.names == TABLE.names
    with pytest.raises(InputError, match=r"takes images uint8 \[2 24 35 3\]"):
        exported.probabilities(images_of(1, 24, 35))


@pytest.mark.filterwarnings("ignore")
def test_an_onnx_file_that_is_not_ours_is_named(tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "a.onnx").write_bytes(b"not a model")
    with pytest.raises(InputError, match=r"a\.onnx: is not an ONNX file that segjax"):
        load_exported(tmp_path / "a.onnx")
