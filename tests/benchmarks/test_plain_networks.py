"""The plain networks are segjax's: same weights, same outputs, same steps."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from side_by_side import plain_programs, segjax_programs
from side_by_side.cases import NUM_CLASSES, Case
from side_by_side.plain_networks import NETWORKS, build_plain
from side_by_side.plain_pooling import max_pool_with_indices, max_unpool

from segjax.models.zoo import build_model
from segjax.ops.normalization import normalize

# Odd where the network can take it.
SIZES = {"unet": (32, 48), "unet_bn": (32, 16), "unet_valid": (188, 204)}
QUICK = ("segnet_basic", "fcn_basic")
MOST_SLOW = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in NETWORKS
]


def case_of(name):
    return Case(name, *SIZES.get(name, (19, 13)), batch_size=2, channels=1 / 32)


def make_batch(case):
    rng = np.random.default_rng(1)
    shape = (case.batch_size, case.height, case.width, 3)
    image = rng.integers(0, 256, shape, np.uint8)
    size = segjax_programs.logits_size(case)
    label = rng.integers(0, NUM_CLASSES, (case.batch_size, *size), np.uint8)
    label[1, 1:3] = 255
    return image, label


def assert_close(actual, expected, tolerance):
    assert actual.shape == expected.shape
    error = np.abs(actual - expected).max() / np.abs(expected).max()
    assert error <= tolerance


@pytest.mark.parametrize("name", MOST_SLOW)
def test_logits_are_those_of_segjax(name):
    assert_same_logits(name, train=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_training_logits_are_those_of_segjax(name):
    # Batch normalisation divides by the batch's statistics.
    assert_same_logits(name, train=True)


def assert_same_logits(name, *, train):
    case = case_of(name)
    weights = segjax_programs.initial_weights(case)
    options = {"num_classes": NUM_CLASSES, "width": case.channels}
    image = normalize(jnp.asarray(make_batch(case)[0]))

    def outputs(build, variables):
        model = build(name, **options)
        apply = jax.jit(
            lambda v: model.apply(v, image, train=train, mutable=["batch_stats"])[0]
        )
        return apply(variables)

    plain = np.asarray(outputs(build_plain, plain_programs.load(weights)))
    nested = flax.traverse_util.unflatten_dict(weights, sep="/")
    assert_close(plain, np.asarray(outputs(build_model, nested)["logits"]), 1e-4)
    # They depend on the image, in every class.
    assert plain.std(axis=(1, 2)).min() > 0


@pytest.mark.parametrize("name", MOST_SLOW)
def test_every_weight_has_its_place(name):
    case = case_of(name)
    image = jnp.zeros((1, case.height, case.width, 3))

    def shapes(build):
        model = build(name, num_classes=NUM_CLASSES, width=case.channels)
        variables = jax.eval_shape(
            lambda key: model.init(key, image, train=False), jax.random.key(0)
        )
        return jax.tree.map(lambda leaf: leaf.shape, variables)

    assert shapes(build_plain) == shapes(build_model)


def test_initial_weights_repeat_and_none_is_constant():
    case = case_of("fcn_basic")
    weights = segjax_programs.initial_weights(case)
    again = segjax_programs.initial_weights(case)
    assert weights.keys() == again.keys()
    for name, weight in weights.items():
        np.testing.assert_array_equal(weight, again[name])
        assert weight.dtype == np.float32
        assert weight.size == 1 or weight.min() < weight.max()
        if name.endswith(("var", "scale")):
            assert weight.min() > 0


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS]
)
def test_steps_do_the_same(name):
    case = case_of(name)
    weights = segjax_programs.initial_weights(case)
    image, label = make_batch(case)
    ours, plain = (
        side.open_programs(case, weights, image, label)
        for side in (segjax_programs, plain_programs)
    )
    assert_close(plain.logits(image), ours.logits(image), 1e-4)
    before = ours.phases["evaluation"]()
    for tolerance in (1e-5, 1e-3):  # the second after an update by the first
        expected = ours.phases["training"]()
        assert abs(plain.phases["training"]() - expected) <= tolerance * expected
    after = plain.phases["evaluation"]()
    assert abs(after["loss"] - before["loss"]) <= 1e-5 * before["loss"]
    np.testing.assert_array_equal(after["confusion"], before["confusion"])
    assert before["confusion"].sum() == (label != 255).sum()
    found = np.asarray(ours.phases["inference"]())
    np.testing.assert_array_equal(plain.phases["inference"](), found)
    np.testing.assert_array_equal(ours.logits(image).argmax(-1), found)
    for phase in ours.phases:
        for programs in (ours, plain):
            cost = programs.cost(phase)
            assert cost.keys() == {"flops", "bytes", "temporaries"}
            assert min(cost.values()) > 0


# Flax's batch normalisation promotes bfloat16 maps by itself.
@jax.numpy_dtype_promotion("standard")
def test_steps_have_the_same_operations():
    case = case_of("segnet_basic")
    ours, plain = (
        side.training_program(case, jax.devices()[1], dtype="bfloat16")
        for side in (segjax_programs, plain_programs)
    )
    assert plain.operations() == ours.operations() > 0
    # float32 weights, whatever the computation is in.
    params = plain.arguments[0].params
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("size", [(4, 6), (5, 3), (1, 1)])
def test_indices_are_those_of_the_first_maxima(size):
    height, width = size
    x = np.random.default_rng(0).integers(0, 3, (2, *size, 3)).astype(np.float32)

    @jax.jit
    def pool_and_unpool(x):
        pooled, indices = max_pool_with_indices(x)
        return pooled, indices, max_unpool(10 + pooled, indices, size)

    pooled, indices, full = map(np.asarray, pool_and_unpool(x))
    expected = np.zeros_like(x)
    for b, y, column, c in np.ndindex(pooled.shape):
        positions = [
            (i, j)
            for i in (2 * y, 2 * y + 1)
            for j in (2 * column, 2 * column + 1)
            if i < height and j < width
        ]
        first = max(positions, key=lambda at: x[b, *at, c])  # max keeps the first
        assert pooled[b, y, column, c] == x[b, *first, c]
        assert indices[b, y, column, c] == first[0] * width + first[1]
        expected[b, *first, c] = 10 + x[b, *first, c]
    np.testing.assert_array_equal(full, expected)
