"""What is kept, what comes back."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from segjax.models.zoo import build_model
from segjax.training import checkpoint, parallel
from segjax.training.optimizers import make_optimizer
from segjax.training.state import create_state


def test_latest_and_best_are_kept(tmp_path):
    manager = checkpoint.open_checkpoints(tmp_path / "checkpoints")
    for step, miou in ((1, 0.3), (2, 0.5), (3, 0.4), (4, 0.2)):
        state = {"x": jnp.full(2, float(step))}
        checkpoint.save(manager, state, step=step, meta={}, miou=miou)
    manager.wait_until_finished()
    assert list(manager.all_steps()) == [2, 4]
    assert manager.latest_step() == 4
    assert manager.best_step() == 2
    manager.close()


def test_round_trip_is_exact_and_keeps_types(tmp_path):
    model = build_model("segnet_basic", num_classes=3, width=0.05)
    tx = make_optimizer("adamw", optax.constant_schedule(0.1))
    mesh = parallel.make_mesh()
    state = create_state(model, tx, key=jax.random.key(0), ema=True)
    state = parallel.replicate(mesh, state.replace(step=state.step + 7))
    manager = checkpoint.open_checkpoints(tmp_path / "checkpoints")
    checkpoint.save(manager, state, step=7, meta={"config": {"a": 1}}, miou=0.1)
    manager.close()

    manager = checkpoint.open_checkpoints(tmp_path / "checkpoints")
    other = create_state(model, tx, key=jax.random.key(1), ema=True)
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
        checkpoint.save(manager, {"x": jnp.ones(2)}, step=1, meta={}, miou=0.3)
        manager.wait_until_finished()
    assert list(manager.all_steps()) == [1]
    manager.close()
