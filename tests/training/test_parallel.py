"""Meshes, and what cannot be split over one; the numbers are in test_eight_devices."""

from functools import partial

import jax
import numpy as np
import optax
import pytest
from flax import linen as nn

from segjax.errors import InputError
from segjax.models.zoo import build_model
from segjax.training import parallel, steps
from segjax.training.state import create_state


@pytest.mark.parametrize(
    ("text", "axes"),
    [
        ("data=4,space=2", (4, 2)),
        ("space=2", (None, 2)),
        ("data=8", (8, 1)),
    ],
)
def test_mesh_is_read(text, axes):
    assert parallel.parse_mesh(text) == axes


@pytest.mark.parametrize("text", ["", ",", "8", "space=2,data=4", "data=a", "data=4,"])
def test_a_mesh_that_cannot_be_read(text):
    with pytest.raises(InputError, match="expected data=N,space=M"):
        parallel.parse_mesh(text)


def test_a_mesh_has_all_devices():
    count = jax.device_count()
    assert dict(parallel.make_mesh().shape) == {"data": count, "space": 1}
    assert dict(parallel.make_mesh(space=2).shape) == {"data": count // 2, "space": 2}
    with pytest.raises(InputError, match=f"has 64 devices, but there are {count}"):
        parallel.make_mesh(data=64)
    with pytest.raises(InputError, match="has 0 devices"):
        parallel.make_mesh(data=0)
    with pytest.raises(InputError, match=r"data=1,space=3 has 3 devices"):
        parallel.make_mesh(data=1, space=3)


def test_batches_split_evenly():
    mesh = parallel.make_mesh(jax.devices()[:2])
    parallel.check_batch_size(6, mesh, field="batch_size")
    with pytest.raises(InputError, match=r"batch_size is 3, .* multiple of 2"):
        parallel.check_batch_size(3, mesh, field="batch_size")
    with pytest.raises(InputError, match=r"is 6, .* in 2 steps each.* multiple of 4"):
        parallel.check_batch_size(6, mesh, field="batch_size", accumulate=2)
    # The devices of an image count once.
    rows = parallel.make_mesh(jax.devices()[:2], space=2)
    parallel.check_batch_size(3, rows, field="batch_size")


def test_heights_that_do_not_split():
    model = build_model("segnet_basic", num_classes=2, width=1 / 64)
    mesh = parallel.make_mesh(jax.devices()[:2], space=2)
    check = partial(parallel.check_height, model, mesh=mesh, field="crop_size")
    check((112, 16))
    with pytest.raises(InputError, match=r"113 rows.* expected a multiple of 2"):
        check((113, 16))
    # At stride 8 six rows, and a kernel of seven; at 16 nothing is convolved.
    check((56, 16))
    with pytest.raises(InputError, match=r"a map of 6 .* with 7 rows.* at least 56"):
        check((48, 16))
    parallel.check_height(
        model, (33, 16), parallel.make_mesh(jax.devices()[:2]), field="crop_size"
    )


def test_pmap_splits_no_rows():
    mesh = parallel.make_mesh(jax.devices()[:2], space=2)
    with pytest.raises(InputError, match="expected --parallel jit, or space=1"):
        parallel.pmap_train_step(lambda state, batch: (state, {}), mesh)


def test_pmap_gives_the_global_predictions_in_order():
    mesh = parallel.make_mesh(jax.devices()[:2])

    def step(variables, batch):
        total = jax.lax.psum(batch["image"].sum(), parallel.AXIS)
        return {"seen": total, "prediction": batch["image"] * variables}

    image = np.arange(24, dtype=np.int32).reshape(4, 3, 2)
    batch = parallel.shard_batch(mesh, {"image": image})
    found = parallel.pmap_eval_step(step, mesh)(np.int32(2), batch)
    assert int(found["seen"]) == image.sum()
    np.testing.assert_array_equal(found["prediction"], 2 * image)


@pytest.mark.parametrize("engine", ["jit", "pmap"])
def test_the_state_is_donated_and_the_step_traced_once(engine):
    class Linear(nn.Module):
        margin = 0

        def input_size(self, size):
            return size

        @nn.compact
        def __call__(self, image, *, train):
            traces.append(train)
            return {"logits": nn.Dense(3, name="dense")(image)}

    traces = []
    model, tx = Linear(), optax.sgd(0.1, momentum=0.9)
    mesh = parallel.make_mesh(jax.devices()[:2])
    axis_name = parallel.AXIS if engine == "pmap" else None
    compile_train, compile_eval = parallel.COMPILE[engine]
    train_step = compile_train(
        partial(steps.train_step, model=model, tx=tx, axis_name=axis_name), mesh
    )
    eval_step = compile_eval(
        partial(steps.eval_step, model=model, num_classes=3, axis_name=axis_name), mesh
    )
    state = parallel.replicate(mesh, create_state(model, tx, seed=0))
    traces.clear()
    first = state
    batch = parallel.shard_batch(
        mesh,
        {
            "image": np.zeros((2, 4, 4, 3), np.uint8),
            "label": np.zeros((2, 4, 4), np.uint8),
            "valid": np.ones(2, bool),
        },
    )
    for _ in range(3):
        state, _ = train_step(state, batch)
        eval_step(state.eval_variables, batch)
    assert sorted(traces) == [False, True]
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(first.params))
    assert int(state.step) == 3
