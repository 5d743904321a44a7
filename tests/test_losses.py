import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import losses
from segjax.data.labels import VOID

cross_entropy = jax.jit(losses.cross_entropy)


def batch(seed=0, shape=(2, 4, 5), num_classes=6, void=0.3):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (*shape, num_classes)).astype(np.float32)
    label = rng.integers(0, num_classes, shape).astype(np.uint8)
    label[rng.random(shape) < void] = VOID
    return logits, label


def reference(logits, label, weights, pixel_weights=None):
    """Value, weight and gradient, one pixel at a time in float64."""
    if pixel_weights is None:
        pixel_weights = np.ones(label.shape)
    total, weight = 0.0, 0.0
    gradient = np.zeros(logits.shape)
    for index in np.ndindex(label.shape):
        target = int(label[index])
        if target == VOID:
            continue
        scores = logits[index].astype(np.float64)
        softmax = np.exp(scores - scores.max())
        softmax /= softmax.sum()
        factor = weights[target] * pixel_weights[index]
        total -= factor * np.log(softmax[target])
        weight += factor
        softmax[target] -= 1
        gradient[index] = factor * softmax
    return total, weight, gradient


def test_uniform_logits_cost_log_k():
    label = np.array([[[0, 3], [VOID, 1]]], np.uint8)
    total, weight = cross_entropy(jnp.zeros((1, 2, 2, 4)), label)
    assert weight == 3
    np.testing.assert_allclose(total, 3 * np.log(4), rtol=1e-6)
    assert total.dtype == weight.dtype == jnp.float32


def test_weighted_by_hand():
    # Two pixels of p = 1/2: -log p = ln 2, weighted 3 and 1; the void one has none.
    label = np.array([[[0, 1, VOID]]], np.int32)
    total, weight = cross_entropy(
        jnp.zeros((1, 1, 3, 2)), label, class_weights=(3.0, 1.0)
    )
    np.testing.assert_allclose(total, 4 * np.log(2), rtol=1e-6)
    assert weight == 4


@pytest.mark.parametrize("class_weights", [None, (0.5, 2.0, 1.0, 0.0, 7.0, 0.25)])
@pytest.mark.parametrize("label_type", [np.uint8, np.int32])
def test_value_and_gradient_against_brute_force(class_weights, label_type):
    logits, label = batch()
    weights = class_weights or np.ones(6)
    expected = reference(logits, label, weights)

    def loss(logits):
        return cross_entropy(
            logits, label.astype(label_type), class_weights=class_weights
        )

    (total, weight), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(logits)
    np.testing.assert_allclose(total, expected[0], rtol=1e-5)
    np.testing.assert_allclose(weight, expected[1], rtol=1e-6)
    np.testing.assert_allclose(gradient, expected[2], atol=1e-5)


@pytest.mark.parametrize("class_weights", [None, (0.5, 2.0, 1.0, 0.0, 7.0, 0.25)])
def test_pixel_weights_multiply_class_weights(class_weights):
    logits, label = batch()
    pixel_weights = np.random.default_rng(1).uniform(0, 11, label.shape)
    pixel_weights = pixel_weights.astype(np.float32)
    expected = reference(logits, label, class_weights or np.ones(6), pixel_weights)
    pixel_weights[label == VOID] = np.nan  # is not read

    def loss(logits):
        return cross_entropy(
            logits, label, class_weights=class_weights, pixel_weights=pixel_weights
        )

    (total, weight), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(logits)
    np.testing.assert_allclose(total, expected[0], rtol=1e-5)
    np.testing.assert_allclose(weight, expected[1], rtol=1e-5)
    np.testing.assert_allclose(gradient, expected[2], atol=1e-4)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("class_weights", [None, (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)])
def test_logits_of_void_pixels_do_not_leak(poison, class_weights):
    logits, label = batch()
    poisoned = logits.copy()
    poisoned[label == VOID] = poison

    def loss(logits):
        return cross_entropy(logits, label, class_weights=class_weights)

    run = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (total, weight), gradient = run(logits)
    (poisoned_total, poisoned_weight), poisoned_gradient = run(poisoned)
    assert total == poisoned_total
    assert weight == poisoned_weight
    np.testing.assert_array_equal(gradient, poisoned_gradient)
    assert (np.asarray(poisoned_gradient)[label == VOID] == 0).all()
    assert (np.asarray(gradient)[label != VOID] != 0).any()


@pytest.mark.parametrize("class_weights", [None, (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)])
def test_nothing_labelled_is_zero_with_zero_gradient(class_weights):
    logits, label = batch(void=1.1)
    logits[0, 0, 0] = np.nan

    def loss(logits):
        return cross_entropy(logits, label, class_weights=class_weights)

    (total, weight), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(logits)
    assert total == 0
    assert weight == 0
    assert (np.asarray(gradient) == 0).all()


def test_sums_of_parts_add_up():
    logits, label = batch(shape=(4, 3, 3))
    weights = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    whole = cross_entropy(logits, label, class_weights=weights)
    parts = [
        cross_entropy(logits[i : i + 1], label[i : i + 1], class_weights=weights)
        for i in range(4)
    ]
    np.testing.assert_allclose(whole, np.sum(parts, axis=0), rtol=1e-6)


def test_large_logits_are_stable():
    logits = np.array([[[[1e4, 0.0], [0.0, 1e4]]]], np.float32)
    total, weight = cross_entropy(logits, np.zeros((1, 1, 2), np.uint8))
    assert total == 1e4
    assert weight == 2


def test_bfloat16_logits_are_computed_in_float32():
    logits, label = batch(shape=(2, 32, 32), void=0.1)
    logits = jnp.asarray(logits, jnp.bfloat16)
    total, weight = cross_entropy(logits, label)
    expected = reference(np.asarray(logits, np.float32), label, np.ones(6))
    assert total.dtype == jnp.float32
    assert weight == expected[1]
    np.testing.assert_allclose(total, expected[0], rtol=1e-5)


def test_misuse_is_refused():
    logits, label = batch()
    for bad in (
        lambda: cross_entropy(logits[0], label[0]),
        lambda: cross_entropy(logits, label[:, :3]),
        lambda: cross_entropy(logits, label.astype(np.float32)),
        lambda: cross_entropy(logits.astype(np.int32), label),
        lambda: cross_entropy(logits, label, class_weights=[1.0, 2.0]),
        lambda: cross_entropy(logits, label, pixel_weights=np.ones((2, 4, 1))),
        lambda: cross_entropy(logits, label, pixel_weights=label),
    ):
        with pytest.raises(AssertionError):
            bad()


def test_one_compilation_for_changing_labels():
    chex.clear_trace_counter()
    step = jax.jit(chex.assert_max_traces(losses.cross_entropy, n=1))
    for seed in range(3):
        step(*batch(seed))
