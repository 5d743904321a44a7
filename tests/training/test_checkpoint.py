"""What is kept, what comes back."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segjax.errors import InputError
from segjax.models.zoo import build_model
from segjax.training import checkpoint, parallel
from segjax.training.optimizers import make_optimizer
from segjax.training.state import create_state

SCORES = {"miou": 0.3, "pixel_accuracy": 0.6}


def test_latest_and_best_are_kept(tmp_path):
    manager = checkpoint.open_checkpoints(tmp_path / "checkpoints")
    for step, miou in ((1, 0.3), (2, 0.5), (3, 0.4), (4, 0.2)):
        state = {"x": jnp.full(2, float(step))}
        scores = {"miou": miou, "pixel_accuracy": 1 - miou}
        checkpoint.save(manager, state, step=step, meta={}, scores=scores)
    manager.wait_until_finished()
    assert list(manager.all_steps()) == [2, 4]
    assert manager.latest_step() == 4
    assert manager.best_step() == 2
    manager.close()


def test_what_best_means_is_a_choice(tmp_path):
    folder = tmp_path / "checkpoints"
    manager = checkpoint.open_checkpoints(folder, best="pixel_accuracy")
    for step, accuracy in ((1, 0.3), (2, 0.5), (3, 0.4)):
        state = {"params": {"x": jnp.full(2, float(step))}}
        scores = {"miou": 1 - accuracy, "pixel_accuracy": accuracy}
        checkpoint.save(manager, state, step=step, meta={}, scores=scores)
    manager.close()
    manager = checkpoint.open_checkpoints(folder, best="pixel_accuracy")
    assert manager.best_step() == 2
    manager.close()


def test_variables_of_a_run_are_read_without_knowing_its_network(tmp_path):
    model = build_model("segnet_basic", num_classes=3, width=0.05)
    tx = make_optimizer("adamw", optax.constant_schedule(0.1))
    folder = tmp_path / "checkpoints"
    with pytest.raises(InputError, match="no such folder"):
        checkpoint.read(folder)
    manager = checkpoint.open_checkpoints(folder)
    state = create_state(model, tx, seed=0)
    averaged = state.replace(ema_params=jax.tree.map(lambda x: x + 1.0, state.params))
    scores = {"miou": 0.5, "pixel_accuracy": 0.5}
    meta = {"config": {"a": [1, None]}}
    checkpoint.save(manager, state, step=1, meta=meta, scores=scores)
    manager.wait_until_finished()
    saved = checkpoint.read(folder)
    assert (saved.step, saved.meta) == (1, meta)
    jax.tree.map(np.testing.assert_array_equal, saved.params, state.params)
    jax.tree.map(np.testing.assert_array_equal, saved.batch_stats, state.batch_stats)
    worse = {"miou": 0.4, "pixel_accuracy": 0.4}
    checkpoint.save(manager, averaged, step=2, meta=meta, scores=worse)
    manager.close()
    saved = checkpoint.read(folder)
    jax.tree.map(np.testing.assert_array_equal, saved.params, averaged.ema_params)
    assert checkpoint.read(folder, best="miou").step == 1


def test_round_trip_is_exact_and_keeps_types(tmp_path):
    model = build_model("segnet_basic", num_classes=3, width=0.05)
    tx = make_optimizer("adamw", optax.constant_schedule(0.1))
    mesh = parallel.make_mesh()
    state = create_state(model, tx, seed=0, ema=True)
    state = parallel.replicate(mesh, state.replace(step=state.step + 7))
    manager = checkpoint.open_checkpoints(tmp_path / "checkpoints")
    checkpoint.save(manager, state, step=7, meta={"config": {"a": 1}}, scores=SCORES)
    manager.close()

    manager = checkpoint.open_checkpoints(tmp_path / "checkpoints")
    other = create_state(model, tx, seed=1, ema=True)
    restored = checkpoint.restore(manager, parallel.replicate(mesh, other), step=7)
    manager.close()
    assert jax.tree.structure(restored) == jax.tree.structure(state)

    def same(a, b):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)

    jax.tree.map(same, restored, state)


def test_saving_a_step_again_is_harmless(tmp_path):
    manager = checkpoint.open_checkpoints(tmp_path / "checkpoints")
    for _ in range(2):
        checkpoint.save(manager, {"x": jnp.ones(2)}, step=1, meta={}, scores=SCORES)
        manager.wait_until_finished()
    assert list(manager.all_steps()) == [1]
    manager.close()
