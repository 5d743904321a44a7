"""What eight devices do beside one; run by `test_eight_devices.py`.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python tests/eight_devices.py \
        training segnet pmap

calls the function with the arguments that are named. pytest's own process has other
devices, and their number cannot be changed once they are there.
"""

import re
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax

from segjax.data.labels import VOID
from segjax.models.decoders.fcn import FCNDecoder
from segjax.models.decoders.segnet import SegNetDecoder
from segjax.models.decoders.unet import UNetDecoder
from segjax.models.encoders import PooledEncoder
from segjax.models.segmenter import Segmenter
from segjax.models.zoo import build_model
from segjax.training import checkpoint, parallel, steps
from segjax.training.state import create_state

CLASSES = 3
WEIGHTS = np.array([0.5, 1.0, 4.0], np.float32)
LAYOUTS = {
    "jit": ("jit", {}),
    "data=4,space=2": ("jit", {"data": 4, "space": 2}),
    "data=2,space=4": ("jit", {"data": 2, "space": 4}),
    "pmap": ("pmap", {}),
}


def net(name, axis_name=None):
    """One small encoder with three decoders, or a network of the zoo, narrow."""
    if name not in ("segnet", "fcn", "unet"):
        return build_model(name, num_classes=CLASSES, width=1 / 16, axis_name=axis_name)
    options = {"axis_name": axis_name}
    encoder = PooledEncoder(((4,), (8,)), (8,), ceil_mode=False, **options)
    decoder = {
        "segnet": lambda: SegNetDecoder(CLASSES, **options),
        "fcn": lambda: FCNDecoder(CLASSES, (2,)),
        "unet": lambda: UNetDecoder(CLASSES, **options),
    }[name]()
    return Segmenter(encoder, decoder)


def make_batch(seed, *, images=8, height=32, width=8):
    """Void lies unevenly: some images have none, one has nothing else."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, CLASSES, (images, height, width), dtype=np.uint8)
    share = np.linspace(0, 1, images)[rng.permutation(images)]
    label[rng.random(label.shape) < share[:, None, None]] = VOID
    return {
        "image": rng.integers(0, 256, (*label.shape, 3), dtype=np.uint8),
        "label": label,
        "valid": np.arange(images) < images - 1,
    }


def train_step(name, mesh, engine, tx):
    axis_name = parallel.AXIS if engine == "pmap" else None
    step = partial(
        steps.train_step,
        model=net(name, axis_name),
        tx=tx,
        class_weights=WEIGHTS,
        axis_name=axis_name,
    )
    return parallel.COMPILE[engine][0](step, mesh)


def eval_step(name, mesh, engine):
    axis_name = parallel.AXIS if engine == "pmap" else None
    step = partial(
        steps.eval_step,
        model=net(name, axis_name),
        num_classes=CLASSES,
        class_weights=WEIGHTS,
        axis_name=axis_name,
    )
    return parallel.COMPILE[engine][1](step, mesh)


def train(name, mesh, engine, *, tx, state, batches):
    """Sums of every step, the last state, and its evaluation, on the host."""
    step = train_step(name, mesh, engine, tx)
    state = parallel.replicate(mesh, state)
    all_sums = []
    for batch in batches:
        state, sums = step(state, parallel.shard_batch(mesh, batch))
        all_sums.append(jax.device_get(sums))
    evaluate = eval_step(name, mesh, engine)
    # Of a height that does not split evenly.
    batch = {
        key: value[:, :-4] if value.ndim > 2 else value
        for key, value in batches[0].items()
    }
    scored = evaluate(state.eval_variables, parallel.shard_batch(mesh, batch))
    return all_sums, jax.device_get(state), jax.device_get(scored)


def same(actual, expected, *, rtol=1e-5):
    """To `rtol` of the largest entry of each array, as sums of many terms can be.

    A bias before batch normalisation has gradient 0 and keeps the noise of its sum.
    """
    leaves = jax.tree.leaves_with_path(expected)
    for (path, a), b in zip(leaves, jax.tree.leaves(actual), strict=True):
        largest = np.abs(a).max(initial=0.0)
        np.testing.assert_allclose(
            b, a, rtol=0, atol=rtol * largest + 1e-6, err_msg=jax.tree_util.keystr(path)
        )


def training(name, *layouts):
    """Five steps and an evaluation on eight devices are those on one.

    To 1e-5 for small networks. In a large one rounding sooner or later decides which
    of two nearly equal pixels is a maximum, and an activation and its gradient move by
    a pixel: `segnet_basic` at learning rate 0.05 goes apart by 5e-5 in the second step,
    where the two largest values of a window differ by 1.4e-6 in float64.
    """
    tx = optax.sgd(0.02, momentum=0.9)
    state = create_state(net(name), tx, seed=0)
    batches = [make_batch(seed) for seed in range(5)]
    one = parallel.make_mesh(jax.devices()[:1])
    run = partial(train, name, tx=tx, state=state, batches=batches)
    sums, trained, scored = run(one, "jit")
    assert int(trained.step) == 5
    assert not np.allclose(jax.tree.leaves(trained.params)[0], 0)
    for layout in layouts:
        engine, axes = LAYOUTS[layout]
        found = run(parallel.make_mesh(**axes), engine)
        # The momentum of SGD holds the gradients.
        same(found[:2], (sums, trained))
        np.testing.assert_array_equal(found[2]["confusion"], scored["confusion"])
        np.testing.assert_array_equal(found[2]["prediction"], scored["prediction"])
        same(found[2]["loss_sum"], scored["loss_sum"])
        assert found[2]["seen"] == scored["seen"] == 7
        print(f"{name}: {layout} is one device", flush=True)


def halos(name, height="64"):
    """Split rows are exchanged at their borders; no map is put together.

    The batch is 12, so that a map `[3 h w c]` on a device is no kernel's shape.
    """
    mesh = parallel.make_mesh(data=4, space=2)
    tx = optax.sgd(0.1)
    state = jax.eval_shape(lambda: create_state(net(name), tx, seed=0))
    batch = jax.eval_shape(
        lambda: make_batch(0, images=12, height=int(height), width=32)
    )
    programs = {
        "training": train_step(name, mesh, "jit", tx).lower(state, batch),
        "evaluation": eval_step(name, mesh, "jit").lower(state.eval_variables, batch),
    }
    for phase, program in programs.items():
        text = program.compile().as_text()
        assert re.search(r" collective-permute(-start)?\(", text), phase
        gathered = re.findall(r"= \(?\w+\[([\d,]*)\]\S* all-gather(?:-start)?\(", text)
        for shape in gathered:
            images, *sides = map(int, shape.split(","))
            assert images not in (3, 12) or len(sides) < 3, (phase, shape)
        print(f"{name}: {phase} has halos and gathers {gathered}", flush=True)


def restoring(folder, *counts):
    """A state saved on eight devices goes on, on fewer, as it does on eight."""
    tx = optax.sgd(0.02, momentum=0.9)
    mesh = parallel.make_mesh(data=4, space=2)
    state = create_state(net("segnet"), tx, seed=0)
    batches = [make_batch(seed) for seed in range(4)]

    def go_on(mesh, state, batches):
        step = train_step("segnet", mesh, "jit", tx)
        for batch in batches:
            state, _ = step(state, parallel.shard_batch(mesh, batch))
        return state

    trained = go_on(mesh, parallel.replicate(mesh, state), batches[:2])
    checkpoints = checkpoint.open_checkpoints(Path(folder))
    scores = {"miou": 0.5, "pixel_accuracy": 0.5}
    checkpoint.save(checkpoints, trained, step=2, meta={}, scores=scores)
    checkpoints.wait_until_finished()
    expected = jax.device_get(go_on(mesh, trained, batches[2:]))
    for count in map(int, counts):
        fewer = parallel.make_mesh(jax.devices()[:count])
        like = parallel.replicate(fewer, state)
        restored = checkpoint.restore(checkpoints, like, step=2)
        assert jax.tree.leaves(restored)[0].sharding.mesh.size == count
        same(jax.device_get(go_on(fewer, restored, batches[2:])), expected)
        print(f"restored on {count}", flush=True)
    checkpoints.close()


if __name__ == "__main__":
    assert jax.device_count() == 8
    globals()[sys.argv[1]](*sys.argv[2:])
