"""What is kept, what comes back."""

import logging
import resource
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segjax.errors import InputError
from segjax.models.zoo import build_model
from segjax.training import checkpoint, manifest, parallel
from segjax.training.optimizers import make_optimizer
from segjax.training.state import create_state

SCORES = {"miou": 0.3, "pixel_accuracy": 0.6}


def test_latest_and_best_are_kept(tmp_path):
    manager = checkpoint.open_checkpoints(tmp_path / "checkpoints", keep=1)
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


def small_state(value=0.0):
    return {
        "params": {"kernel": jnp.arange(600.0) + value, "bias": jnp.full(3, value)},
        "opt_state": (jnp.zeros((), jnp.int32), None),
        "batch_stats": {},
    }


def saved_run(folder, steps, **options):
    checkpoints = checkpoint.open_checkpoints(folder, **options)
    for step in steps:
        state = small_state(float(step))
        checkpoint.save(checkpoints, state, step=step, meta={"a": 1}, scores=SCORES)
    checkpoints.close()


def largest_file(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def flip(path, position=-1):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_state_that_was_not_evaluated_is_kept_as_newest_only(tmp_path):
    checkpoints = checkpoint.open_checkpoints(tmp_path, keep=1)
    for step, scores in ((1, SCORES), (2, None), (3, {**SCORES, "miou": 0.1})):
        checkpoint.save(checkpoints, small_state(), step=step, meta={}, scores=scores)
        checkpoints.wait_until_finished()
        assert checkpoints.latest_step() == step
        assert checkpoints.best_step() == 1
    assert checkpoints.all_steps() == [1, 3]
    checkpoints.close()


def test_of_equal_scores_the_latest_is_best(tmp_path):
    saved_run(tmp_path, (1, 2, 3))
    checkpoints = checkpoint.open_checkpoints(tmp_path)
    assert checkpoints.best_step() == 3
    checkpoints.close()
    assert checkpoint.read(tmp_path, best="miou").step == 3


def test_donated_buffers_do_not_reach_the_checkpoint(tmp_path):
    checkpoints = checkpoint.open_checkpoints(tmp_path)
    state = jax.device_put(small_state(1.0))
    double = jax.jit(lambda s: jax.tree.map(lambda x: x + x, s), donate_argnums=0)
    checkpoint.save(checkpoints, state, step=1, meta={}, scores=SCORES)
    for _ in range(5):
        state = double(state)
    checkpoints.close()
    saved = checkpoint.read(tmp_path)
    np.testing.assert_array_equal(saved.params["kernel"], np.arange(600) + 1.0)


def test_other_devices_may_restore(tmp_path):
    one = parallel.make_mesh(jax.devices()[:1])
    two = parallel.make_mesh(jax.devices())
    assert two.size == 2
    split = jax.sharding.NamedSharding(two, jax.sharding.PartitionSpec("data"))
    whole = jax.sharding.NamedSharding(one, jax.sharding.PartitionSpec())
    state = {"x": jax.device_put(jnp.arange(8.0), split)}
    checkpoints = checkpoint.open_checkpoints(tmp_path)
    checkpoint.save(checkpoints, state, step=1, meta={}, scores=SCORES)
    for sharding in (whole, split):
        like = {"x": jax.device_put(jnp.zeros(8), sharding)}
        restored = checkpoint.restore(checkpoints, like, step=1)
        assert restored["x"].sharding == sharding
        np.testing.assert_array_equal(restored["x"], np.arange(8.0))
    checkpoints.close()


def test_state_of_another_network_does_not_fit(tmp_path):
    saved_run(tmp_path, (1,))
    checkpoints = checkpoint.open_checkpoints(tmp_path)
    other = {**small_state(), "params": {"kernel": jnp.zeros(5)}}
    with pytest.raises(InputError, match=r"1: cannot be restored: .") as caught:
        checkpoint.restore(checkpoints, other, step=1)
    assert "\n" not in str(caught.value)
    checkpoints.close()


@pytest.mark.parametrize("damage", ["flip", "cut", "delete", "manifest", "half"])
def test_damaged_newest_gives_way_to_the_newest_sound_one(tmp_path, caplog, damage):
    saved_run(tmp_path, (1, 2))
    file = largest_file(tmp_path / "2" / "state")
    if damage == "flip":
        flip(file, 50)
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    elif damage == "delete":
        file.unlink()
    elif damage == "manifest":
        (tmp_path / "2" / manifest.MANIFEST).unlink()
    else:
        for path in list((tmp_path / "2" / "state").rglob("*"))[::2]:
            if path.is_file():
                path.unlink()
    saved = checkpoint.read(tmp_path)
    assert saved.step == 1
    np.testing.assert_array_equal(saved.params["bias"], np.full(3, 1.0))
    assert checkpoint.read(tmp_path, best="miou").step == 1
    assert "damaged" in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]

    caplog.clear()
    checkpoints = checkpoint.open_checkpoints(tmp_path)
    assert "2: " in caplog.text
    assert "the newest sound one is step 1" in caplog.text
    assert (checkpoints.latest_step(), checkpoints.best_step()) == (1, 1)
    assert (tmp_path / "damaged-2").is_dir()
    checkpoint.save(checkpoints, small_state(7.0), step=2, meta={}, scores=SCORES)
    checkpoints.close()
    np.testing.assert_array_equal(
        checkpoint.read(tmp_path).params["bias"], np.full(3, 7.0)
    )


def test_no_sound_checkpoint_is_a_clear_stop(tmp_path):
    saved_run(tmp_path, (1,))
    flip(largest_file(tmp_path / "1" / "state"))
    message = "no checkpoint is sound .*1: state/.* has another checksum"
    with pytest.raises(InputError, match=message):
        checkpoint.open_checkpoints(tmp_path)
    with pytest.raises(InputError, match=message):
        checkpoint.read(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_a_checkpoint_of_an_earlier_version_is_read(tmp_path, caplog):
    caplog.set_level("INFO", logger="segjax")
    saved_run(tmp_path, (1,))
    (tmp_path / "1" / manifest.MANIFEST).unlink()
    (tmp_path / "1" / "meta" / "metadata").write_text('{"a": 1}')
    saved = checkpoint.read(tmp_path)
    assert (saved.step, saved.meta) == (1, {"a": 1})
    assert "has no checksums" in caplog.text


def test_leftovers_of_a_kill_are_cleared(tmp_path):
    saved_run(tmp_path, (1,))
    for name in ("2.orbax-checkpoint-tmp", "deleted-0"):
        (tmp_path / name / "state").mkdir(parents=True)
    assert checkpoint.read(tmp_path).step == 1
    checkpoints = checkpoint.open_checkpoints(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert checkpoints.all_steps() == [1]
    checkpoints.close()


class FailingSeal:
    """Stands in for the last write of a save; fails `times` times."""

    def __init__(self, times):
        self.times = times
        self.write = manifest.write

    def __call__(self, folder, *, step):
        if self.times:
            self.times -= 1
            raise OSError(28, "No space left on device")
        self.write(folder, step=step)


@pytest.mark.parametrize("how", ["wait", "poll", "next save", "close"])
def test_failed_save_is_made_again(tmp_path, monkeypatch, caplog, how):
    monkeypatch.setattr(checkpoint, "_RETRY_SECONDS", (0.0, 0.0))
    monkeypatch.setattr(manifest, "write", FailingSeal(2))
    checkpoints = checkpoint.open_checkpoints(tmp_path)
    checkpoint.save(checkpoints, small_state(5.0), step=1, meta={}, scores=SCORES)
    if how == "wait":
        checkpoints.wait_until_finished()
    elif how == "poll":
        for _ in range(200):
            checkpoints.poll()
            if (tmp_path / "1").is_dir():
                break
            time.sleep(0.05)
    elif how == "next save":
        checkpoint.save(checkpoints, small_state(6.0), step=2, meta={}, scores=SCORES)
    checkpoints.close()
    saved = checkpoint.read(tmp_path)
    assert saved.step == (2 if how == "next save" else 1)
    assert manifest.damage(tmp_path / "1") is None
    assert caplog.text.count("No space left on device); trying again") == 2


def test_save_that_fails_every_time_stops_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_RETRY_SECONDS", (0.0, 0.0))
    saved_run(tmp_path, (1,))
    monkeypatch.setattr(manifest, "write", FailingSeal(-1))
    checkpoints = checkpoint.open_checkpoints(tmp_path)
    checkpoint.save(checkpoints, small_state(), step=2, meta={}, scores=SCORES)
    with pytest.raises(InputError, match="checkpoint 2 cannot be written: No space"):
        checkpoints.wait_until_finished()
    checkpoints.close()
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert checkpoint.read(tmp_path).step == 1


def test_disk_that_is_full_for_real(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(logging.getLogger("segjax"), "handlers", [])
    monkeypatch.setattr(logging.getLogger("segjax"), "propagate", True)
    monkeypatch.setattr(checkpoint, "_RETRY_SECONDS", (0.0, 0.0))
    checkpoints = checkpoint.open_checkpoints(tmp_path)
    rng = np.random.default_rng(0)
    state = {"x": rng.random(100_000)}  # does not compress
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        checkpoint.save(checkpoints, state, step=1, meta={}, scores=SCORES)
        with pytest.raises(InputError, match=r"1 cannot be written: .*File too large"):
            checkpoints.wait_until_finished()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr().err == ""
    checkpoint.save(checkpoints, state, step=2, meta={}, scores=SCORES)
    checkpoints.close()
    assert manifest.damage(tmp_path / "2") is None


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"checkpoints: cannot be written: Not a dir"):
        checkpoint.open_checkpoints(tmp_path / "file" / "checkpoints")


def test_scores_that_come_late(tmp_path):
    """A state saved without scores is saved again with them, and never lost."""
    folder = tmp_path / "checkpoints"
    state = {"x": np.arange(3.0)}
    manager = checkpoint.open_checkpoints(folder)
    checkpoint.save(manager, state, step=1, meta={"left": 1})
    assert (manager.latest_step(), manager.best_step()) == (1, None)
    assert checkpoint.read_meta(manager, step=1) == {"left": 1}
    checkpoint.save(manager, state, step=1, meta={"left": 2})  # there already
    assert checkpoint.read_meta(manager, step=1) == {"left": 1}
    manager.close()
    # Killed after it was set aside and before it was written again: it is taken back.
    (folder / "1").rename(folder / "unscored-1")
    manager = checkpoint.open_checkpoints(folder)
    assert manager.latest_step() == 1
    checkpoint.save(manager, state, step=1, meta={"left": 0}, scores=SCORES)
    manager.wait_until_finished()
    assert manager.best_step() == 1
    assert checkpoint.read_meta(manager, step=1) == {"left": 0}
    assert [path.name for path in folder.iterdir()] == ["1"]
    manager.close()
    # Killed right after it was: the new one counts.
    (folder / "unscored-1").mkdir()
    manager = checkpoint.open_checkpoints(folder)
    assert manager.best_step() == 1
    assert [path.name for path in folder.iterdir()] == ["1"]
    manager.close()
