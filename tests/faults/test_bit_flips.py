"""No single wrong byte in a checkpoint gives a silently different parameter."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segjax.errors import InputError
from segjax.models.zoo import build_model
from segjax.training import checkpoint
from segjax.training.state import create_state

# Orbax's own notes beside the sealed content; segjax reads neither.
UNSEALED = {"_CHECKPOINT_METADATA", "commit_success.txt"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A checkpoint of a real state, one step of its own, and the folder's files."""
    folder = tmp_path_factory.mktemp("flips")
    model = build_model("segnet_basic", num_classes=3, width=1 / 32)
    state = create_state(model, optax.adamw(0.1), seed=0, ema=True)
    state = jax.tree.map(lambda x: x + jnp.ones((), x.dtype), state)
    checkpoints = checkpoint.open_checkpoints(folder)
    scores = {"miou": 0.5, "pixel_accuracy": 0.75}
    checkpoint.save(checkpoints, state, step=3, meta={"a": [1, 2]}, scores=scores)
    checkpoints.close()
    return folder, jax.device_get(state)


def restored(folder, like):
    """The state as training restores it, and what prediction reads."""
    checkpoints = checkpoint.open_checkpoints(folder)
    try:
        step = checkpoints.best_step()
        return checkpoint.restore(checkpoints, like, step=step), checkpoint.read(folder)
    finally:
        checkpoints.close()


def same(tree, other):
    return jax.tree.all(
        jax.tree.map(lambda a, b: np.array_equal(a, b), tree, jax.device_get(other))
    )


@pytest.mark.parametrize(
    ("places_in_file", "least"),
    [(3, 60), pytest.param(14, 200, marks=pytest.mark.slow)],
)
def test_a_flipped_byte_is_harmless_or_detected(
    saved, monkeypatch, places_in_file, least
):
    folder, state = saved
    monkeypatch.setattr(
        logging.getLogger("segjax.training.checkpoint"), "disabled", True
    )
    rng = np.random.default_rng(0)
    tried, detected = 0, 0
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    assert len(files) > 10
    for path in files:
        content = path.read_bytes()
        # Both ends, where lengths and magic numbers are, and places in between.
        between = rng.integers(0, len(content), places_in_file).tolist()
        places = {0, len(content) - 1, *between}
        for place in sorted(places):
            damaged = bytearray(content)
            damaged[place] ^= int(rng.integers(1, 256))
            path.write_bytes(damaged)
            tried += 1
            try:
                trained, read = restored(folder, state)
            except InputError:
                detected += 1
                continue
            assert path.name in UNSEALED
            assert path.parent.name == "3"
            assert same(trained, state)
            assert same(read.params, state.ema_params)
            assert (read.step, read.meta) == (3, {"a": [1, 2]})
        path.write_bytes(content)
    print(
        f"{tried} flips in {len(files)} files, {detected} detected, the rest harmless"
    )
    assert tried >= least
    assert detected >= least
    trained, _ = restored(folder, state)
    assert same(trained, state)
