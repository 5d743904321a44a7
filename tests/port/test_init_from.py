"""Starting a run from a file of tensors or from the hub, and converting PyTorch's files."""

import functools
import logging
import re
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util
from safetensors.numpy import save_file

from segjax import configuration, experiment
from segjax.__main__ import main
from segjax.commands.convert_weights import convert_weights
from segjax.configuration import Config
from segjax.errors import InputError
from segjax.models.zoo import build_model
from segjax.port import hub
from segjax.port.files import (
    is_checkpoint_file,
    load_checkpoint_file,
    read_tensors,
)

WIDTH = 1 / 32
CHANNELS = [2, 2, 4, 4, *[8] * 3, *[16] * 6]  # of VGG16 at this width
FEATURES = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]


def vgg16_tensors():
    """A narrow VGG16 with torchvision's names; its classifier, too."""
    rng = np.random.default_rng(0)
    shapes, c_in = {}, 3
    for index, channels in zip(FEATURES, CHANNELS, strict=True):
        shapes[f"features.{index}.weight"] = (channels, c_in, 3, 3)
        shapes[f"features.{index}.bias"] = (channels,)
        c_in = channels
    hidden = 4096 // 32
    for layer, inputs, outputs in ((0, 49 * c_in, hidden), (3, hidden, hidden)):
        shapes[f"classifier.{layer}.weight"] = (outputs, inputs)
        shapes[f"classifier.{layer}.bias"] = (outputs,)
    return {n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items()}


@pytest.fixture(scope="module")
def vgg16_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "vgg16.safetensors"
    save_file(vgg16_tensors(), path)
    return path


def prepared(network, init_from, **options):
    """What `initial_state` reads of an experiment."""
    config = Config(
        name="test",
        dataset="street_scenes",
        model=network,
        width=WIDTH,
        init_from=init_from,
        **options,
    )
    model = build_model(network, num_classes=3, width=WIDTH)
    return types.SimpleNamespace(config=config, model=model, tx=optax.sgd(0.1))


@functools.cache
def variables_of_fcn8s():
    model = build_model("fcn8s", num_classes=3, width=WIDTH)
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    return jax.eval_shape(
        lambda key, x: model.init(key, x, train=False), jax.random.key(0), image
    )


def test_an_encoder_starts_from_vgg16(vgg16_file, caplog):
    run = prepared("fcn_vgg16_bn", vgg16_file, ema_decay=0.9)
    with caplog.at_level(logging.INFO, "segjax"):
        state = experiment.initial_state(run, seed=0)
    tensors = vgg16_tensors()
    kernel = state.params["encoder"]["conv5_3"]["conv"]["kernel"]
    np.testing.assert_array_equal(
        kernel, tensors["features.28.weight"].transpose(2, 3, 1, 0)
    )
    jax.tree.map(np.testing.assert_array_equal, state.ema_params, state.params)
    # The source has no statistics, and no decoder.
    for path, leaf in traverse_util.flatten_dict(state.batch_stats).items():
        np.testing.assert_array_equal(leaf, path[-1] == "var")
    assert state.params["decoder"]["score16"]["kernel"].any()
    log = caplog.text
    assert (
        "vgg16.safetensors: VGG16 of torchvision or timm; not used: classifier.0" in log
    )
    assert "26 arrays from" in log
    assert "decoder/score16/bias" in log


def test_fcn8s_starts_from_vgg16_and_its_classifier(vgg16_file):
    state = experiment.initial_state(prepared("fcn8s", vgg16_file), seed=0)
    tensors = vgg16_tensors()
    fc6 = tensors["classifier.0.weight"].reshape(-1, CHANNELS[-1], 7, 7)
    np.testing.assert_array_equal(
        state.params["fc6"]["kernel"], fc6.transpose(2, 3, 1, 0)
    )
    np.testing.assert_array_equal(
        state.params["fc7"]["bias"], tensors["classifier.3.bias"]
    )
    assert not state.params["score_fr"]["kernel"].any()


def test_a_configuration_keeps_the_hubs_name():
    run = prepared("fcn8s", Path("hub:timm/vgg16.tv_in1k"))
    plain = configuration.plain(run.config)
    assert plain["init_from"] == "hub:timm/vgg16.tv_in1k"
    assert configuration.from_plain(plain) == run.config


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("no.safetensors", None, r"no\.safetensors: no such file"),
        ("text.safetensors", b"not tensors", "is no safetensors file"),
        (
            "w.pth",
            b"",
            r"w\.pth: expected a \.safetensors file; .* convert-weights .*w.pth",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_named(name, content, message, tmp_path):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_checkpoint_file(path, {}, network="fcn8s")


def test_bfloat16_is_read(tmp_path):
    # The format written out: its header's length, the header, the values.
    header = b'{"w":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\x80\x3f\x00\xc0")
    tensor = read_tensors(path)["w"]
    assert np.asarray(tensor, np.float32).tolist() == [1.0, -2.0]


def fake_hub(monkeypatch, answer):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    asked = []

    def fetch(repository, file):
        asked.append((repository, file))
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    return asked


def test_weights_from_the_hub(vgg16_file, monkeypatch):
    asked = fake_hub(monkeypatch, vgg16_file)
    path = Path("hub:timm/vgg16.tv_in1k")
    assert is_checkpoint_file(path)
    loaded = load_checkpoint_file(path, variables_of_fcn8s(), network="fcn8s")
    np.testing.assert_array_equal(
        loaded["params"]["conv1_1"]["bias"], vgg16_tensors()["features.0.bias"]
    )
    hub.download("hub:a/b/c/d.safetensors")
    assert asked == [
        ("timm/vgg16.tv_in1k", "model.safetensors"),
        ("a/b", "c/d.safetensors"),
    ]


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch):
    errors = pytest.importorskip("huggingface_hub").errors
    for error, message in (
        (
            errors.LocalEntryNotFoundError("Please\ncheck your connection"),
            "hub:a/b cannot be fetched: the hub cannot be reached, and there is no copy",
        ),
        (OSError("disk\nfull"), "hub:a/b cannot be fetched: disk full"),
    ):
        fake_hub(monkeypatch, error)
        with pytest.raises(InputError) as raised:
            hub.download("hub:a/b")
        assert str(raised.value).startswith(message)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hub:vgg16", "is no file of the hub: expected hub:ORG/REPO or"),
        ("hub:a/b/weights.bin", r"expected a \.safetensors file, got weights\.bin"),
    ],
)
def test_a_name_that_is_none_of_the_hubs(name, message):
    with pytest.raises(InputError, match=message):
        hub.download(name)


def test_the_hubs_client_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match="pip install huggingface_hub"):
        hub.download("hub:a/b")


class TestConvertWeights:
    """`python -m segjax convert-weights`."""

    def test_a_training_scripts_checkpoint(self, tmp_path, capsys):
        torch = pytest.importorskip("torch")
        tensors = {n: torch.from_numpy(x) for n, x in vgg16_tensors().items()}
        # As DataParallel names them; two of them share memory, one is transposed.
        tensors["classifier.6.weight"] = tensors["classifier.3.weight"].T
        wrapped = {f"module.{name}": tensor for name, tensor in tensors.items()}
        file = tmp_path / "vgg.pth"
        torch.save({"epoch": 3, "state_dict": {**wrapped}}, file)
        main(["convert-weights", str(file)])
        out = capsys.readouterr().out
        assert re.search(r"vgg\.safetensors: 31 tensors\n.*no tensor: epoch", out)
        written = read_tensors(tmp_path / "vgg.safetensors")
        assert written.keys() == tensors.keys()
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(written[name], tensor.numpy())
        loaded = load_checkpoint_file(
            tmp_path / "vgg.safetensors", variables_of_fcn8s(), network="fcn8s"
        )
        assert len(traverse_util.flatten_dict(loaded)) == 30

    def test_what_could_run_code_is_refused(self, tmp_path, capsys):
        torch = pytest.importorskip("torch")
        file = tmp_path / "evil.pth"
        torch.save({"w": torch.zeros(1), "x": _Evil(tmp_path / "ran")}, file)
        with pytest.raises(SystemExit) as stop:
            main(["convert-weights", str(file)])
        assert stop.value.code == 2
        line = capsys.readouterr().err
        assert re.fullmatch(
            r"error: .*evil\.pth is refused by .*weights_only.*\n", line
        )
        assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.pth"]

    @pytest.mark.parametrize("content", [b"text", b""])
    def test_what_is_no_pytorch_file(self, tmp_path, capsys, content):
        pytest.importorskip("torch")
        file = tmp_path / "text.pth"
        file.write_bytes(content)
        with pytest.raises(SystemExit):
            main(["convert-weights", str(file)])
        assert capsys.readouterr().err.count("\n") == 1
        assert not (tmp_path / "text.safetensors").exists()

    def test_pytorch_is_optional(self, tmp_path, monkeypatch):
        # Not by way of the command line, whose parser looks for torch here, too.
        monkeypatch.setitem(sys.modules, "torch", None)
        with pytest.raises(InputError, match="needs torch: pip install torch"):
            convert_weights(tmp_path / "w.pth")


class _Evil:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))
