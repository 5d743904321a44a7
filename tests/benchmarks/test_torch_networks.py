"""PyTorch's networks are segjax's: logits, losses and statistics on the same weights."""

import numpy as np
import pytest

from segjax.errors import InputError
from segjax.models.zoo import build_model, count_parameters

torch = pytest.importorskip("torch")
from side_by_side import segjax_programs  # noqa: E402
from side_by_side.cases import Case  # noqa: E402
from side_by_side.torch_layers import ConvNormAct  # noqa: E402
from side_by_side.torch_networks import NETWORKS  # noqa: E402
from side_by_side.torch_programs import open_programs  # noqa: E402
from side_by_side.torch_weights import to_state_dict  # noqa: E402

# Odd sides, which poolings round up; but U-Net's encoder takes none.
ODD, EVEN, VALID = (45, 61), (32, 48), (188, 204)
# Its decoder needs indices and maps. The others' compilations take longer.
QUICK = {"segnet_basic_encoder_addition": ODD}
SLOW = {
    "fcn8s": ODD,
    "fcn_basic": ODD,
    "unet_bn": EVEN,
    "bilinear_basic": ODD,
    "segnet_basic": ODD,
    "segnet_basic_single_channel": ODD,
    "fcn_basic_no_addition": ODD,
    "fcn_basic_no_dim_reduction": ODD,
    "fcn_basic_no_addition_no_dim_reduction": ODD,
    "segnet_vgg16_bn": ODD,
    "fcn32s": ODD,
    "fcn16s": ODD,
    "fcn8s_at_once": ODD,
    "fcn16s_learned": ODD,
    "fcn8s_learned": ODD,
    "fcn8s_at_once_learned": ODD,
    "unet_valid": VALID,
    "unet": EVEN,
    "fcn_basic_4x4": ODD,
    "unet_basic": ODD,
    "fcn_vgg16_bn": ODD,
    "unet_vgg16_bn": ODD,
    "segnet_vgg16": ODD,
    "fcn_vgg16": ODD,
    "unet_vgg16": ODD,
    "fcn_unet": EVEN,
    "segnet_unet": EVEN,
}


@pytest.fixture(autouse=True)
def threads():
    """Programs take all cores; other tests get back what they had."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def problem(name, size, *, seed=0):
    """A narrow case with two images, and segjax's weights of it."""
    channels = 1 / 64 if name.startswith(("fcn8s", "fcn16s", "fcn32s")) else 1 / 16
    case = Case(name, *size, batch_size=2, channels=channels)
    margin = build_model(name, num_classes=11).margin
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (2, *size, 3), np.uint8)
    label = rng.integers(0, 12, (2, *(side - 2 * margin for side in size)), np.uint8)
    label[label == 11] = 255
    return case, segjax_programs.initial_weights(case), image, label


def assert_same(name, size):
    case, weights, image, label = problem(name, size)
    ours = segjax_programs.open_programs(case, weights, image, label)
    theirs = open_programs(case, weights, image, label, compiled=False)

    expected = ours.logits(image)
    logits = theirs.logits(image)
    assert logits.dtype == np.float32
    assert logits.shape == expected.shape == (*label.shape, 11)
    scale = np.abs(expected).max()
    assert np.abs(expected - expected.mean()).max() > 0.1  # there is something to equal
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * scale)

    # The second loss is after an update with all gradients, the third has momentum.
    for tolerance in (1e-5, 1e-4, 1e-3):
        loss = theirs.phases["training"]()
        assert loss == pytest.approx(ours.phases["training"](), rel=tolerance)

    # Training has changed weights of its own only.
    np.testing.assert_array_equal(theirs.logits(image), logits)
    best = theirs.phases["inference"]().numpy()
    assert best.dtype == np.uint8
    np.testing.assert_array_equal(best, logits.argmax(axis=-1))
    scored = theirs.phases["evaluation"]()
    confusion = np.zeros((11, 11), np.int64)
    labelled = label != 255
    np.add.at(confusion, (label[labelled], best[labelled]), 1)
    np.testing.assert_array_equal(scored["confusion"], confusion)
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    picked = np.take_along_axis(log_p, np.where(labelled, label, 0)[..., None], -1)
    assert scored["loss"] == pytest.approx(-picked[labelled].mean(), rel=1e-5)


@pytest.mark.parametrize("name", QUICK)
def test_network_is_the_same(name):
    assert_same(name, QUICK[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_other_network_is_the_same(name):
    assert_same(name, SLOW[name])


def test_every_network_is_tested():
    assert set(NETWORKS) == QUICK.keys() | SLOW.keys()


@pytest.mark.parametrize("name", ["segnet_basic", "fcn_basic", "fcn8s", "unet_valid"])
def test_full_width_has_as_many_parameters(name):
    with torch.device("meta"):
        network = NETWORKS[name](11, 1.0)
    expected = count_parameters(build_model(name, num_classes=11))
    assert sum(p.numel() for p in network.parameters()) == expected


def test_bfloat16_is_near():
    case, weights, image, label = problem("segnet_basic_encoder_addition", ODD)
    exact, rounded = (
        open_programs(case, weights, image, label, compiled=False, dtype=dtype)
        for dtype in ("float32", "bfloat16")
    )
    expected, logits = exact.logits(image), rounded.logits(image)
    assert logits.dtype == np.float32
    difference = np.abs(logits - expected).mean() / np.abs(expected).mean()
    assert 1e-4 < difference < 0.1
    loss = exact.phases["training"]()
    assert rounded.phases["training"]() == pytest.approx(loss, rel=0.05)


def test_running_statistics_differ_by_the_unbiased_variance():
    layer = ConvNormAct(3, 2).train()
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 4, 5)))
    layer(x.float())
    maps = layer.conv(x.float()).detach().numpy().transpose(1, 0, 2, 3).reshape(2, -1)
    n = maps.shape[1]
    np.testing.assert_allclose(
        layer.bn.running_mean, 0.1 * maps.mean(axis=1), rtol=1e-4
    )
    np.testing.assert_allclose(
        layer.bn.running_var, 0.9 + 0.1 * maps.var(axis=1) * n / (n - 1), rtol=1e-4
    )


def test_all_misfits_are_named():
    network = torch.nn.ModuleDict(
        {"up": torch.nn.ConvTranspose2d(2, 3, 4), "bn": torch.nn.BatchNorm2d(3)}
    )
    weights = {
        "params/up/kernel": np.arange(96, dtype=np.float32).reshape(4, 4, 2, 3),
        "params/up/bias": np.ones(3, np.float32),
        "params/bn/scale": np.ones(3, np.float32),
        "params/bn/bias": np.ones(3, np.float32),
        "batch_stats/bn/mean": np.ones(3, np.float32),
        "batch_stats/bn/var": np.ones(3, np.float32),
    }
    state = to_state_dict(network, weights)
    network.load_state_dict(state)
    # Input channel 1, output channel 2, row 0, column 3.
    assert network["up"].weight[1, 2, 0, 3] == weights["params/up/kernel"][0, 3, 1, 2]

    weights["params/up/kernel"] = np.zeros((4, 4, 3, 2), np.float32)
    weights["params/other/kernel"] = weights.pop("params/up/bias")
    del weights["batch_stats/bn/var"]
    with pytest.raises(InputError) as error:
        to_state_dict(network, weights)
    for text in (
        "params/up/kernel has shape [4, 4, 3, 2]",
        "up.weight has [2, 3, 4, 4]",
        "params/other/kernel is not in the PyTorch network",
        "up.bias is not among the weights",
        "bn.running_var is not among the weights",
    ):
        assert text in str(error.value)


def test_a_wrong_case_is_refused():
    image, label = np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 8, 8), np.uint8)
    for case, options, message in (
        (Case("no_net", 8, 8, 1), {}, "no PyTorch network 'no_net'"),
        (Case("unet", 8, 9, 1), {}, r"uint8 \[1, 8, 9, 3\], got uint8 \[1, 8, 8"),
        (Case("unet", 8, 8, 1), {"dtype": "float16"}, "dtype is 'float16'"),
    ):
        with pytest.raises(InputError, match=message):
            open_programs(case, {}, image, label, compiled=False, **options)


@pytest.mark.slow
def test_compiled_is_the_same():
    for name in ("segnet_basic", "fcn8s", "unet_bn"):
        case, weights, image, label = problem(name, {**QUICK, **SLOW}[name])
        plain, compiled = (
            open_programs(case, weights, image, label, compiled=compiled)
            for compiled in (False, True)
        )
        expected = plain.logits(image)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(
            compiled.logits(image), expected, rtol=0, atol=1e-4 * scale
        )
        for _ in range(2):
            loss = plain.phases["training"]()
            assert compiled.phases["training"]() == pytest.approx(loss, rel=1e-4)
        best = compiled.phases["inference"]().numpy()
        assert np.mean(best != plain.phases["inference"]().numpy()) < 1e-3
        scored = compiled.phases["evaluation"]()
        assert scored["loss"] == pytest.approx(
            plain.phases["evaluation"]()["loss"], rel=1e-5
        )
