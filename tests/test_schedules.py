import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.errors import InputError
from segjax.schedules import learning_rate


def values(schedule, steps):
    schedule = jax.jit(schedule)
    return [float(schedule(step)) for step in steps]


def test_constant():
    schedule = learning_rate("constant", peak=0.1, steps=10)
    np.testing.assert_allclose(values(schedule, [0, 5, 9, 20]), [0.1] * 4, rtol=1e-6)


def test_poly_by_hand():
    schedule = learning_rate("poly", peak=0.4, steps=8, power=2.0)
    # 0.4 * (1 - step / 8) ** 2
    expected = [0.4, 0.225, 0.1, 0.00625, 0.0, 0.0]
    np.testing.assert_allclose(
        values(schedule, [0, 2, 4, 7, 8, 100]), expected, rtol=1e-5, atol=1e-9
    )


def test_poly_has_power_0_9_by_default():
    schedule = learning_rate("poly", peak=1.0, steps=100)
    np.testing.assert_allclose(
        values(schedule, [0, 50, 99]), [1.0, 0.5**0.9, 0.01**0.9], rtol=1e-5
    )


def test_cosine_by_hand():
    schedule = learning_rate("cosine", peak=0.2, steps=12)
    # (1 + cos(pi / 3)) / 2 = 3/4 a third of the way, 1/4 two thirds of it.
    np.testing.assert_allclose(
        values(schedule, [0, 4, 6, 8, 12, 15]),
        [0.2, 0.15, 0.1, 0.05, 0.0, 0.0],
        rtol=1e-5,
        atol=1e-8,
    )


@pytest.mark.parametrize("name", ["constant", "poly", "cosine"])
def test_warmup_rises_to_the_peak_and_never_wastes_a_step(name):
    schedule = learning_rate(name, peak=0.8, steps=12, warmup_steps=4)
    np.testing.assert_allclose(
        values(schedule, [0, 1, 2, 3, 4]), [0.2, 0.4, 0.6, 0.8, 0.8], rtol=1e-6
    )


def test_decay_starts_after_the_warmup():
    poly = learning_rate("poly", peak=0.8, steps=12, warmup_steps=4, power=1.0)
    np.testing.assert_allclose(
        values(poly, [4, 6, 8, 11, 12]), [0.8, 0.6, 0.4, 0.1, 0.0], atol=1e-7
    )
    cosine = learning_rate("cosine", peak=0.8, steps=12, warmup_steps=4)
    np.testing.assert_allclose(values(cosine, [4, 8, 12]), [0.8, 0.4, 0.0], atol=1e-7)


def test_one_step_of_warmup_is_at_the_peak():
    schedule = learning_rate("poly", peak=0.8, steps=5, warmup_steps=1, power=1.0)
    np.testing.assert_allclose(
        values(schedule, range(6)), [0.8, 0.8, 0.6, 0.4, 0.2, 0.0], atol=1e-7
    )


@pytest.mark.parametrize("name", ["constant", "poly", "cosine"])
@pytest.mark.parametrize("warmup_steps", [0, 1, 3])
def test_traced_steps_give_the_same_rate(name, warmup_steps):
    schedule = learning_rate(name, peak=0.3, steps=9, warmup_steps=warmup_steps)
    traced = jax.jit(jax.vmap(schedule))(jnp.arange(12, dtype=jnp.int32))
    assert traced.dtype == jnp.float32
    eager = [schedule(step) for step in range(12)]
    np.testing.assert_allclose(traced, eager, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "step"}, "schedule 'step'"),
        ({"peak": 0.0}, "peak 0.0"),
        ({"peak": float("nan")}, "peak nan"),
        ({"steps": 0}, "steps 0"),
        ({"warmup_steps": 10}, "warmup_steps 10, steps 10"),
        ({"warmup_steps": -1}, "warmup_steps -1"),
        ({"power": 0.0}, "power 0.0"),
    ],
)
def test_option_out_of_range(options, message):
    options = {"name": "poly", "peak": 0.1, "steps": 10, **options}
    with pytest.raises(InputError, match=message):
        learning_rate(options.pop("name"), **options)
