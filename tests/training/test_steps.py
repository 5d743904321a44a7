"""One update against arithmetic done by hand in numpy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from segjax.data.labels import VOID
from segjax.models.decoders.segnet import SegNetDecoder
from segjax.models.decoders.unet import UNetDecoder
from segjax.models.encoders import PooledEncoder
from segjax.models.segmenter import Segmenter
from segjax.models.zoo import build_model
from segjax.ops.normalization import IMAGENET_MEAN, IMAGENET_STD, normalize
from segjax.training import parallel, steps
from segjax.training.optimizers import decayed, make_optimizer
from segjax.training.state import TrainState, create_state

# Batch statistics, dropout and switches in few layers.
SMALL = Segmenter(PooledEncoder(((4,), (6,)), dropout=0.5), SegNetDecoder(3))


class SoftmaxRegression(nn.Module):
    """A 1x1 convolution: its loss and gradient have a closed form.

    It drops `margin` pixels on every side and takes sides of `step` times anything.
    """

    num_classes: int
    margin: int = 0
    step: int = 1

    @nn.nowrap
    def input_size(self, size):
        return tuple(-(-(n + 2 * self.margin) // self.step) * self.step for n in size)

    @nn.compact
    def __call__(self, image, *, train):
        del train
        height, width = image.shape[1:3]
        assert height % self.step == width % self.step == 0
        covered = image[
            :, self.margin : height - self.margin, self.margin : width - self.margin
        ]
        return {"logits": nn.Dense(self.num_classes, name="dense")(covered)}


def make_batch(seed=0, shape=(4, 6, 8), num_classes=3, void=0.3):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, num_classes, shape, dtype=np.uint8)
    label[rng.random(shape) < void] = VOID
    # Unevenly: the first image is almost all void.
    label[0, 1:] = VOID
    return {
        "image": rng.integers(0, 256, (*shape, 3), dtype=np.uint8),
        "label": label,
        "valid": np.ones(shape[0], bool),
    }


def numpy_gradient(params, batch, weights):
    """Weighted cross-entropy of softmax regression: sums and their gradient."""
    x = (batch["image"] / 255.0 - IMAGENET_MEAN) / IMAGENET_STD
    x, y = x.reshape(-1, 3), batch["label"].reshape(-1)
    pixel_weights = batch.get("weight", np.ones(batch["label"].shape)).reshape(-1)
    x, y, pixel_weights = x[y != VOID], y[y != VOID], pixel_weights[y != VOID]
    kernel, bias = (np.asarray(params["dense"][k], float) for k in ("kernel", "bias"))
    z = x @ kernel + bias
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    w = weights[y] * pixel_weights
    loss = -(w * np.log(p[np.arange(len(y)), y])).sum()
    delta = w[:, None] * (p - np.eye(p.shape[1])[y])
    return loss, w.sum(), x.T @ delta / w.sum(), delta.sum(axis=0) / w.sum()


def test_normalize_by_hand():
    image = jnp.asarray([[[[0, 255, 128]]]], jnp.uint8)
    expected = [(0 - 0.485) / 0.229, (1 - 0.456) / 0.224, (128 / 255 - 0.406) / 0.225]
    np.testing.assert_allclose(normalize(image)[0, 0, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("weights", [None, (0.5, 1.0, 4.0)])
def test_update_is_gradient_descent_on_the_mean_over_labelled_pixels(weights):
    model, tx = SoftmaxRegression(3), optax.sgd(0.5)
    state = create_state(model, tx, seed=0)
    batch = make_batch()
    w = np.ones(3) if weights is None else np.array(weights)
    loss, weight, d_kernel, d_bias = numpy_gradient(state.params, batch, w)
    after, sums = jax.jit(
        partial(
            steps.train_step,
            model=model,
            tx=tx,
            class_weights=None if weights is None else jnp.asarray(weights),
        )
    )(state, batch)
    np.testing.assert_allclose(sums["loss_sum"], loss, rtol=1e-5)
    np.testing.assert_allclose(sums["loss_weight"], weight, rtol=1e-6)
    norm = np.sqrt((d_kernel**2).sum() + (d_bias**2).sum())
    np.testing.assert_allclose(sums["grad_norm"], norm, rtol=1e-4)
    before = jax.device_get(state.params["dense"])
    np.testing.assert_allclose(
        after.params["dense"]["kernel"], before["kernel"] - 0.5 * d_kernel, atol=1e-6
    )
    np.testing.assert_allclose(
        after.params["dense"]["bias"], before["bias"] - 0.5 * d_bias, atol=1e-6
    )
    assert int(after.step) == 1


@pytest.mark.parametrize("with_weight", [False, True])
def test_a_margin_takes_its_border_off_label_and_weight(with_weight):
    model, tx = SoftmaxRegression(3, margin=2), optax.sgd(0.5)
    state = create_state(model, tx, seed=0)
    batch = make_batch(shape=(4, 9, 12))
    if with_weight:
        weight = np.random.default_rng(1).uniform(0, 11, batch["label"].shape)
        batch["weight"] = weight.astype(np.float32)
    middle = {k: v[:, 2:7, 2:10] for k, v in batch.items() if k != "valid"}
    weights = np.array([0.5, 1.0, 4.0])
    loss, weight, d_kernel, d_bias = numpy_gradient(state.params, middle, weights)
    after, sums = jax.jit(
        partial(
            steps.train_step,
            model=model,
            tx=tx,
            class_weights=jnp.asarray(weights),
        )
    )(state, batch)
    np.testing.assert_allclose(sums["loss_sum"], loss, rtol=1e-5)
    np.testing.assert_allclose(sums["loss_weight"], weight, rtol=1e-5)
    before = jax.device_get(state.params["dense"])
    for name, gradient in (("kernel", d_kernel), ("bias", d_bias)):
        np.testing.assert_allclose(
            after.params["dense"][name], before[name] - 0.5 * gradient, atol=1e-6
        )


def test_a_batch_of_void_changes_nothing():
    model, tx = SoftmaxRegression(3), optax.sgd(0.5)
    state = create_state(model, tx, seed=0)
    batch = make_batch()
    batch["label"] = np.full_like(batch["label"], VOID)
    after, sums = jax.jit(partial(steps.train_step, model=model, tx=tx))(state, batch)
    assert float(sums["loss_sum"]) == 0.0
    assert float(sums["loss_weight"]) == 0.0
    jax.tree.map(np.testing.assert_array_equal, after.params, state.params)


def test_moving_average_of_the_weights():
    model, tx = SoftmaxRegression(3), optax.sgd(0.5)
    state = create_state(model, tx, seed=0, ema=True)
    step = jax.jit(partial(steps.train_step, model=model, tx=tx, ema_decay=0.9))
    one, _ = step(state, make_batch(0))
    two, _ = step(one, make_batch(1))
    expected = (
        0.9
        * (0.9 * state.params["dense"]["kernel"] + 0.1 * one.params["dense"]["kernel"])
        + 0.1 * (two.params["dense"]["kernel"])
    )
    np.testing.assert_allclose(
        two.ema_params["dense"]["kernel"], expected, rtol=1e-5, atol=1e-7
    )
    assert two.eval_variables["params"] is two.ema_params
    assert one.replace(ema_params=None).eval_variables["params"] is one.params


def test_randomness_is_a_function_of_seed_and_step():
    model, tx = SMALL, optax.sgd(0.0)
    state = create_state(model, tx, seed=0)
    batch = make_batch(shape=(2, 16, 16))

    @jax.jit
    def loss(state, seed):
        state = state.replace(seed=jnp.int32(seed))
        _, sums = steps.train_step(state, batch, model=model, tx=tx)
        return sums["loss_sum"]

    later = state.replace(step=state.step + 1)
    assert loss(state, seed=0) == loss(state, seed=0)
    assert loss(state, seed=0) != loss(later, seed=0)
    assert loss(state, seed=0) != loss(state, seed=1)


@pytest.mark.parametrize(
    "name",
    [
        None,
        pytest.param("unet", marks=pytest.mark.slow),
        pytest.param("fcn_vgg16", marks=pytest.mark.slow),
    ],
)
def test_accumulated_parts_are_the_batch_without_batch_normalisation(name):
    # The first image is almost all void: a mean of the parts' means would differ.
    if name is None:
        model = SoftmaxRegression(3)
    else:
        model = build_model(name, num_classes=3, width=1 / 32)
    tx = optax.sgd(0.1)
    state = create_state(model, tx, seed=0)
    batch = make_batch(shape=(4, 32, 32))
    whole, parts = (
        jax.jit(partial(steps.train_step, model=model, tx=tx, accumulate=n))(
            state, batch
        )
        for n in (1, 2)
    )
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), parts, whole
    )
    changed = jax.tree.map(jnp.subtract, whole[0].params, state.params)
    assert optax.tree.norm(changed) > 1e-2


def test_accumulation_normalises_each_part_by_its_own_statistics():
    class NormalizedImage(nn.Module):
        """Batch normalisation of the image, then softmax regression."""

        margin = 0

        @nn.nowrap
        def input_size(self, size):
            return size

        @nn.compact
        def __call__(self, image, *, train):
            norm = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="bn")
            return {"logits": nn.Dense(3, name="dense")(norm(image))}

    model, tx = NormalizedImage(), optax.sgd(0.5)
    state = create_state(model, tx, seed=0)
    batch = make_batch(shape=(4, 6, 8))
    after, sums = jax.jit(partial(steps.train_step, model=model, tx=tx, accumulate=2))(
        state, batch
    )
    # By hand: images 0 and 2 are one part, 1 and 3 the other.
    x = (batch["image"] / 255.0 - IMAGENET_MEAN) / IMAGENET_STD
    dense = jax.tree.map(lambda a: np.asarray(a, float), state.params["dense"])
    loss, weight, d_kernel, means, variances = 0.0, 0.0, 0.0, [], []
    for rows in ([0, 2], [1, 3]):
        part, y = x[rows], batch["label"][rows].reshape(-1)
        means.append(part.mean((0, 1, 2)))
        variances.append(part.var((0, 1, 2)))
        normed = ((part - means[-1]) / np.sqrt(variances[-1] + 1e-5)).reshape(-1, 3)
        normed, y = normed[y != VOID], y[y != VOID]
        z = normed @ dense["kernel"] + dense["bias"]
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        loss -= np.log(p[np.arange(len(y)), y]).sum()
        weight += len(y)
        d_kernel += normed.T @ (p - np.eye(3)[y])
    np.testing.assert_allclose(sums["loss_sum"], loss, rtol=1e-5)
    np.testing.assert_allclose(sums["loss_weight"], weight)
    np.testing.assert_allclose(
        after.params["dense"]["kernel"],
        dense["kernel"] - 0.5 * d_kernel / weight,
        atol=1e-6,
    )
    # One step of the running average, towards the mean over the parts.
    np.testing.assert_allclose(
        after.batch_stats["bn"]["mean"], 0.1 * np.mean(means, axis=0), rtol=1e-4
    )
    np.testing.assert_allclose(
        after.batch_stats["bn"]["var"],
        0.9 + 0.1 * np.mean(variances, axis=0),
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    "name", ["segnet_unet", "unet_bn", "fcn8s", "segnet_basic", "full_resolution"]
)
@pytest.mark.slow
def test_recomputed_blocks_change_neither_names_nor_numbers(name):
    tx = optax.sgd(0.1)
    batch = make_batch(shape=(2, 16, 16))

    def after_a_step(remat):
        model = build_model(name, num_classes=3, width=1 / 32, dropout=0.5, remat=remat)
        state = create_state(model, tx, seed=0)
        step = partial(steps.train_step, model=model, tx=tx)
        repeated = str(jax.make_jaxpr(step)(state, batch)).count("remat")
        return jax.jit(step)(state, batch), repeated

    (kept, none), (recomputed, some) = after_a_step("none"), after_a_step("blocks")
    assert none == 0 < some
    assert jax.tree.structure(kept) == jax.tree.structure(recomputed)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), recomputed, kept
    )


@pytest.mark.parametrize("name", ["segnet_basic", "unet_bn", "fcn8s"])
def test_bfloat16_is_for_the_computation_only(name):
    # Flax's batch normalisation mixes the two types.
    with jax.numpy_dtype_promotion("standard"):
        tx = optax.sgd(0.1, momentum=0.9)
        batch = make_batch(shape=(2, 16, 16))
        model = build_model(name, num_classes=3, width=1 / 32, dtype=jnp.bfloat16)
        state = jax.eval_shape(lambda: create_state(model, tx, seed=0))
        step = partial(steps.train_step, model=model, tx=tx)
        program, (after, sums) = jax.make_jaxpr(step, return_shape=True)(state, batch)
        assert "conv_general_dilated" in (text := str(program))
        assert "bf16[" in text
        floats = [x for x in jax.tree.leaves((after, sums)) if x.dtype != jnp.int32]
        assert {leaf.dtype for leaf in floats} == {jnp.dtype(jnp.float32)}
        logits = jax.eval_shape(
            partial(steps.predict_logits, model=model, size=(16, 16)),
            state.eval_variables,
            batch["image"],
        )
        assert logits.dtype == jnp.float32


def test_two_devices_do_what_one_does():
    assert jax.device_count() >= 2
    model = SMALL.clone(encoder=SMALL.encoder.clone(dropout=0.0))
    tx = make_optimizer("sgd", optax.constant_schedule(0.1), weight_decay=1e-4)
    fresh = create_state(model, tx, seed=0)
    states = []
    for devices in (jax.devices()[:1], jax.devices()[:2]):
        mesh = parallel.make_mesh(devices)
        state = parallel.replicate(mesh, fresh)
        step = parallel.jit_train_step(
            partial(steps.train_step, model=model, tx=tx), mesh
        )
        for i in range(2):
            batch = make_batch(i, shape=(4, 16, 16))
            state, sums = step(state, parallel.shard_batch(mesh, batch))
        states.append((jax.device_get(state), jax.device_get(sums)))
    (one, sums_one), (two, sums_two) = states
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), sums_one, sums_two)
    for tree in ("params", "batch_stats"):
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
            getattr(one, tree),
            getattr(two, tree),
        )


def test_replicate_does_not_alias_what_it_copies():
    mesh = parallel.make_mesh()
    array = jnp.ones(3)
    copy = parallel.replicate(mesh, {"a": array})
    jax.jit(lambda x: x["a"] + 1.0, donate_argnums=0)(copy)
    np.testing.assert_array_equal(array, np.ones(3))


def variables_of(model):
    state = create_state(model, optax.sgd(0.1), seed=0)
    return state.eval_variables


def test_eval_step_counts_at_the_label_resolution():
    model = SoftmaxRegression(3)
    variables = variables_of(model)
    batch = make_batch(shape=(2, 8, 12))
    batch["image"] = batch["image"][:, ::2, ::2]
    batch["valid"][1] = False
    batch["label"][1] = VOID
    sums = jax.jit(partial(steps.eval_step, model=model, num_classes=3))(
        variables, batch
    )
    logits = steps.predict_logits(variables, batch["image"], model=model, size=(8, 12))
    assert logits.shape == (2, 8, 12, 3)
    expected = np.zeros((3, 3), np.int32)
    prediction = np.asarray(logits).argmax(axis=-1)
    for true, predicted in zip(batch["label"].ravel(), prediction.ravel(), strict=True):
        if true != VOID:
            expected[true, predicted] += 1
    np.testing.assert_array_equal(sums["confusion"], expected)
    np.testing.assert_array_equal(sums["prediction"], prediction)
    assert sums["prediction"].dtype == jnp.uint8
    assert int(sums["seen"]) == 1


def test_prediction_pads_to_what_the_network_takes_and_crops_back():
    # Two poolings that do not round up: multiples of 4.
    encoder = PooledEncoder(((4,), (6,)), ceil_mode=False)
    model = Segmenter(encoder, UNetDecoder(3))
    variables = variables_of(model)
    image = make_batch(shape=(1, 17, 22))["image"]
    predict = jax.jit(partial(steps.predict_logits, model=model, size=(17, 22)))
    mirrored = np.pad(image, ((0, 0), (0, 3), (0, 2), (0, 0)), mode="symmetric")
    whole = jax.jit(partial(model.apply, train=False))(variables, normalize(mirrored))
    np.testing.assert_allclose(
        predict(variables, image), whole["logits"][:, :17, :22], atol=1e-5
    )


@pytest.mark.parametrize("size", [(6, 6), (7, 9), (3, 20)])
def test_prediction_mirrors_the_margin_on_every_side(size):
    # Needs sides of 8, so that the mirrored border is wider at the bottom and right.
    class Neighbours(SoftmaxRegression):
        """Scores the pixels two rows above and three columns to the right."""

        @nn.compact
        def __call__(self, image, *, train):
            del train
            height, width = image.shape[1:3]
            assert height % 8 == width % 8 == 0
            above, right = image[:, 1 : height - 5, 3:-3], image[:, 3:-3, 6:width]
            return {"logits": jnp.concatenate([above, right], axis=-1)}

    model = Neighbours(6, margin=3, step=8)
    image = make_batch(shape=(2, *size))["image"]
    predict = jax.jit(partial(steps.predict_logits, model=model, size=size))
    logits = predict({"params": {}}, image)
    padding = ((0, 0), (3, 3), (3, 3), (0, 0))
    mirrored = normalize(jnp.asarray(np.pad(image, padding, mode="symmetric")))
    height, width = size
    expected = np.concatenate(
        [mirrored[:, 1 : 1 + height, 3:-3], mirrored[:, 3:-3, 6 : 6 + width]], axis=-1
    )
    np.testing.assert_allclose(logits, expected, atol=1e-6)


def test_weight_decay_is_for_kernels():
    state = create_state(SMALL, optax.sgd(0.1), seed=0)
    mask = decayed(state.params)
    flat = jax.tree_util.tree_flatten_with_path(mask)[0]
    for path, is_decayed in flat:
        assert is_decayed == (path[-1].key == "kernel")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Gradient (3, 4) clipped to norm 1: (.6, .8); plus .1 * (1, 1) for L2.
        ("sgd", (-0.1 * 0.7, -0.1 * 0.9)),
        # Adam's first step is the sign; decay is decoupled.
        ("adamw", (-0.1 * 1.1, -0.1 * 1.1)),
    ],
)
def test_optimizers_by_hand(name, expected):
    tx = make_optimizer(
        name, optax.constant_schedule(0.1), weight_decay=0.1, clip_norm=1.0
    )
    params, grads = {"kernel": jnp.ones((1, 2))}, {"kernel": jnp.array([[3.0, 4.0]])}
    # optax.adamw raises a float to the power of an int32 count.
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = tx.update(grads, tx.init(params), params)
    np.testing.assert_allclose(updates["kernel"][0], expected, rtol=1e-4)


def test_state_is_a_pytree_of_float32():
    state = create_state(SMALL, optax.sgd(0.1), seed=0)
    assert isinstance(state, TrainState)
    for leaf in jax.tree.leaves((state.params, state.batch_stats)):
        assert leaf.dtype == jnp.float32
    assert state.step.dtype == jnp.int32
