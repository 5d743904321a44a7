"""Class scores: a matrix product of every pixel, in the forms of all platforms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops import class_scores as module

FORMS = {
    "as chosen here": module.class_scores,
    "convolution": module._by_convolution,
    "classes first": module._classes_first,
}
GRADIENTS = {"wide": module._wide_gradients, "narrow": module._narrow_gradients}


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    shapes = {"x": (2, 3, 5, 4), "kernel": (4, 11), "gradient": (2, 3, 5, 11)}
    return {name: rng.normal(size=s).astype(np.float32) for name, s in shapes.items()}


@pytest.mark.parametrize("form", FORMS)
def test_scores_are_a_matrix_product_of_every_pixel(arrays, form):
    scores = FORMS[form](jnp.array(arrays["x"]), jnp.array(arrays["kernel"]))
    assert scores.dtype == jnp.float32
    np.testing.assert_allclose(scores, arrays["x"] @ arrays["kernel"], atol=1e-5)


@pytest.mark.parametrize("form", GRADIENTS)
def test_gradients_are_those_of_a_matrix_product(arrays, form):
    x, kernel, gradient = (jnp.array(arrays[n]) for n in ("x", "kernel", "gradient"))
    of_x, of_kernel = GRADIENTS[form](x, kernel, gradient)
    pixels, scores = arrays["x"].reshape(-1, 4), arrays["gradient"].reshape(-1, 11)
    np.testing.assert_allclose(of_x, arrays["gradient"] @ arrays["kernel"].T, atol=1e-5)
    np.testing.assert_allclose(of_kernel, pixels.T @ scores, atol=1e-5)


@pytest.mark.parametrize("form", GRADIENTS)
def test_gradients_of_narrow_maps_keep_each_type_and_are_near(arrays, form):
    x = jnp.array(arrays["x"], jnp.bfloat16)
    kernel, gradient = jnp.array(arrays["kernel"]), jnp.array(arrays["gradient"])
    of_x, of_kernel = GRADIENTS[form](x, kernel, gradient)
    assert (of_x.dtype, of_kernel.dtype) == (jnp.bfloat16, jnp.float32)
    wide = np.asarray(x.astype(jnp.float32)).reshape(-1, 4)
    expected = wide.T @ arrays["gradient"].reshape(-1, 11)
    # Factors are rounded to 8 bits, each by at most one part in 256.
    bound = np.abs(wide).T @ np.abs(arrays["gradient"].reshape(-1, 11)) / 256 + 1e-5
    assert np.all(np.abs(of_kernel - expected) <= bound)


def test_jax_grad_reaches_them(arrays):
    x, kernel = jnp.array(arrays["x"]), jnp.array(arrays["kernel"])
    of_x = jax.grad(lambda x: jnp.sum(module.class_scores(x, kernel)))(x)
    row_sums = arrays["kernel"].sum(axis=1)
    np.testing.assert_allclose(of_x, np.broadcast_to(row_sums, x.shape), atol=1e-5)
