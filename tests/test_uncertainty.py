import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from segjax.errors import InputError
from segjax.uncertainty import (
    add,
    empty,
    from_maps,
    merge,
    monte_carlo,
    summarize,
    with_dropout,
)

LN2 = math.log(2)


def random_maps(samples, size=(3, 4), num_classes=5):
    rng = np.random.default_rng(samples)
    return rng.dirichlet([0.3] * num_classes, (samples, *size)).astype(np.float32)


def reference(maps):
    """The definitions, in float64."""
    maps = maps.astype(np.float64)

    def entropy(p):
        return -np.sum(p * np.log(np.where(p > 0, p, 1)), axis=-1)

    mean = maps.mean(axis=0)
    expected = entropy(maps).mean(axis=0)
    total = entropy(mean)
    return mean, total, expected, total - expected, maps.var(axis=0)


def assert_all_close(got, expected):
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


def test_two_samples_by_hand():
    # Two pixels: samples that are sure of different classes, and samples that agree to
    # be unsure. Same mean, same predictive entropy: only the parts differ.
    maps = np.array(
        [[[[1, 0], [0.5, 0.5]]], [[[0, 1], [0.5, 0.5]]]],
        np.float32,
    )
    result = from_maps(maps)
    np.testing.assert_array_equal(result.mean, np.full((1, 2, 2), 0.5))
    np.testing.assert_allclose(result.predictive_entropy, [[LN2, LN2]], rtol=1e-6)
    np.testing.assert_allclose(result.expected_entropy, [[0, LN2]], rtol=1e-6)
    np.testing.assert_allclose(result.mutual_information, [[LN2, 0]], rtol=1e-6)
    np.testing.assert_array_equal(result.variance[0], [[0.25, 0.25], [0, 0]])


def test_quarters_by_hand():
    # (3/4, 1/4) and (1/4, 3/4): H = ln 4 - 3/4 ln 3, about 0.562 nats.
    result = from_maps(np.array([[0.75, 0.25], [0.25, 0.75]], np.float32))
    entropy = math.log(4) - 0.75 * math.log(3)
    assert float(result.expected_entropy) == pytest.approx(entropy, rel=1e-6)
    assert float(result.mutual_information) == pytest.approx(LN2 - entropy, rel=1e-5)
    np.testing.assert_array_equal(result.variance, [1 / 16, 1 / 16])


@pytest.mark.parametrize("samples", [1, 2, 7])
def test_against_the_definitions(samples):
    maps = random_maps(samples)
    assert_all_close(from_maps(maps), reference(maps))


def test_identical_samples_disagree_about_nothing():
    one = random_maps(1)[0]
    result = from_maps([one] * 5)
    np.testing.assert_array_equal(result.mean, one)
    np.testing.assert_array_equal(result.mutual_information, np.zeros((3, 4)))
    np.testing.assert_array_equal(result.variance, np.zeros((3, 4, 5)))


def test_order_does_not_matter():
    maps = random_maps(6)
    assert_all_close(from_maps(maps[[3, 0, 5, 1, 4, 2]]), from_maps(maps))


def test_a_stream_and_its_parts_are_the_stack():
    maps = random_maps(7)
    whole = from_maps(maps)
    assert_all_close(from_maps(iter(maps)), whole)
    nothing = empty(maps.shape[1:])
    first, second = nothing, nothing
    for p in maps[:2]:
        first = add(first, p)
    for p in maps[2:]:
        second = add(second, p)
    assert_all_close(summarize(merge(first, second)), whole)
    for kept in (merge(nothing, first), merge(first, nothing)):
        assert int(kept.samples) == 2
        assert_all_close(kept, first)
    assert_all_close(merge(nothing, nothing), nothing)


def test_a_stream_is_asked_for_one_map_at_a_time():
    alive = []

    def stream():
        for p in random_maps(4):
            alive.append(p)
            assert len(alive) == 1
            yield p
            alive.pop()

    from_maps(stream())


def test_information_is_never_negative_and_below_the_entropy():
    maps = random_maps(40, size=(50,), num_classes=3)
    maps = np.concatenate([maps, np.full((40, 50, 3), 1 / 3, np.float32)], axis=1)
    result = from_maps(maps)
    assert np.all(result.mutual_information >= 0)
    assert np.all(result.mutual_information <= result.predictive_entropy)
    assert np.all(result.predictive_entropy <= math.log(3) * (1 + 1e-6))


def test_monte_carlo_is_the_stack_of_its_samples():
    def predict(image, key):
        return jax.nn.softmax(image + jax.random.normal(key, image.shape))

    image = jnp.array([[0.0, 1.0, 3.0], [0.0, 0.0, 0.0]])
    keys = jax.random.split(jax.random.key(0), 6)
    maps = np.stack([predict(image, key) for key in keys])
    result = jax.jit(lambda image, keys: monte_carlo(predict, image, keys))(image, keys)
    assert_all_close(result, reference(maps))
    assert np.all(result.mutual_information > 0)


class Net(nn.Module):
    """Normalisation, dropout, another dropout."""

    rate: float = 0.5

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.BatchNorm(use_running_average=not train, name="bn")(x)
        x = nn.Dropout(self.rate, deterministic=not train)(x)
        first = x
        x = nn.Dropout(self.rate, deterministic=not train)(x)
        return x, first


def test_dropout_is_on_and_normalisation_is_not():
    net = Net()
    image = jnp.ones((1, 100, 100, 2))
    variables = net.init(jax.random.key(0), image, train=False)
    variables["batch_stats"]["bn"]["mean"] = jnp.array([-3.0, -1.0])

    def predict(image):
        return net.apply(variables, image, train=False)

    off, _ = predict(image)
    np.testing.assert_allclose(off[0, 0, 0], [4.0, 2.0], rtol=1e-4)
    sample = jax.jit(with_dropout(predict))
    both, first = sample(image, jax.random.key(1))
    # Kept values are doubled by each layer: 0, or four times what they were. Statistics
    # of this batch would have given 0.
    values = both / off
    assert set(np.unique(np.round(values, 3))) == {0.0, 4.0}
    # Masks of the layers are independent: a quarter of 20,000 passes both.
    assert np.mean(first != 0) == pytest.approx(1 / 2, abs=0.02)
    assert np.mean(both != 0) == pytest.approx(1 / 4, abs=0.02)
    again, _ = sample(image, jax.random.key(1))
    other, _ = sample(image, jax.random.key(2))
    np.testing.assert_array_equal(both, again)
    assert np.mean((both != 0) == (other != 0)) == pytest.approx(5 / 8, abs=0.02)
    # Afterwards everything is as it was.
    np.testing.assert_array_equal(predict(image)[0], off)


def test_monte_carlo_dropout_of_a_network():
    net = Net(rate=0.25)
    image = jnp.ones((1, 2, 3, 4))
    variables = net.init(jax.random.key(0), image, train=False)

    def predict(image):
        return jax.nn.softmax(net.apply(variables, image, train=False)[0])

    sample = with_dropout(predict)
    keys = jax.random.split(jax.random.key(3), 4)
    maps = np.stack([sample(image, key) for key in keys])
    assert np.any(maps[0] != maps[1])
    assert_all_close(monte_carlo(sample, image, keys), reference(maps))


def test_refuses_what_has_no_dropout():
    net = Net(rate=0.0)
    image = jnp.ones((1, 2, 2, 1))
    variables = net.init(jax.random.key(0), image, train=False)
    sample = with_dropout(lambda image: net.apply(variables, image, train=False))
    with pytest.raises(InputError, match="no dropout layer ran"):
        sample(image, jax.random.key(0))


def test_refuses_what_is_compiled_already():
    net = Net()
    image = jnp.ones((1, 2, 2, 1))
    variables = net.init(jax.random.key(0), image, train=False)
    compiled = jax.jit(lambda image: net.apply(variables, image, train=False))
    compiled(image)
    with pytest.raises(InputError, match="not jitted before"):
        with_dropout(compiled)(image, jax.random.key(0))


def test_refuses_no_samples_and_other_shapes():
    with pytest.raises(InputError, match="no probability map"):
        from_maps([])
    with pytest.raises(
        InputError, match=r"map 1 has shape \(2, 2\); expected \(3, 2\)"
    ):
        from_maps([np.ones((3, 2), np.float32), np.ones((2, 2), np.float32)])
    with pytest.raises(InputError, match="no key"):
        monte_carlo(
            lambda image, key: image,
            jnp.ones((2, 2)),
            jax.random.split(jax.random.key(0), 0),
        )
