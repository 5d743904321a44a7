"""Costs against arithmetic by hand, compiled programs and XLA's own counts."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.interpreters import partial_eval

from segjax import costs
from segjax.errors import InputError
from segjax.models import encoders
from segjax.models.decoders.fcn import FCNDecoder
from segjax.models.decoders.segnet_variants import SegNetBasicDecoder
from segjax.models.decoders.unet import UNetDecoder
from segjax.models.segmenter import Segmenter
from segjax.ops.pooling import max_pool_with_switches, pack_switches
from segjax.training import parallel, steps
from segjax.training.state import create_state

CAMVID = (360, 480, 3)
DECODERS = {
    "segnet": SegNetBasicDecoder(11),
    "fcn": FCNDecoder(11, (8, 4, 2)),
    "unet": UNetDecoder(11),
}
# Sides of SegNet-Basic's maps of a 360x480 image, by stride, rounded up.
PIXELS = {1: 360 * 480, 2: 180 * 240, 4: 90 * 120, 8: 45 * 60, 16: 23 * 30}


def segnet_basic(decoder):
    return Segmenter(encoders.segnet_basic(), DECODERS[decoder])


def spec(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


class Linear(nn.Module):
    """A 1x1 convolution: not an encoder and a decoder."""

    num_classes: int
    margin: int = 0

    @nn.nowrap
    def input_size(self, size):
        return size

    @nn.compact
    def __call__(self, image, *, train):
        del train
        return {"logits": nn.Dense(self.num_classes, name="dense")(image)}


# Border.


@pytest.mark.parametrize(
    ("decoder", "expected"),
    [
        (
            "segnet",
            {f"switches/{s}": PIXELS[s] * 64 // 4 for s in (2, 4, 8, 16)}
            | {"maps/16": PIXELS[16] * 64 * 4},
        ),
        (
            "fcn",
            {f"pooled/{s}": PIXELS[s] * 64 * 4 for s in (2, 4, 8)}
            | {"maps/16": PIXELS[16] * 64 * 4},
        ),
        ("unet", {f"maps/{s}": PIXELS[s] * 64 * 4 for s in (1, 2, 4, 8, 16)}),
    ],
)
def test_border_holds_what_the_decoder_reads(decoder, expected):
    tensors = costs.border(segnet_basic(decoder), CAMVID)
    assert {t.name: t.num_bytes for t in tensors} == expected


def decoder_program(model, image_shape):
    """The decoder as a function, and the shapes of its two arguments."""
    image = spec(1, *image_shape)
    variables = jax.eval_shape(
        lambda key, x: model.init(key, x, train=False), jax.random.key(0), image
    )
    features = jax.eval_shape(
        lambda v, x: model.apply(v, x, train=False, method="encode"), variables, image
    )
    return (
        lambda v, f: model.apply(v, f, train=False, method="decode"),
        variables,
        features,
    )


def num_bytes(tree):
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


@pytest.mark.parametrize("decoder", list(DECODERS))
def test_border_is_the_memory_of_the_compiled_decoders_inputs(decoder):
    model = segnet_basic(decoder)
    decode, variables, features = decoder_program(model, CAMVID)
    compiled = jax.jit(decode).lower(variables, features).compile()
    inputs = compiled.memory_analysis().argument_size_in_bytes
    weights = num_bytes([tree.get("decoder", {}) for tree in variables.values()])
    tensors = costs.border(model, CAMVID)
    assert sum(t.num_bytes for t in tensors) == inputs - weights


@pytest.mark.parametrize("decoder", list(DECODERS))
def test_border_is_what_the_jaxpr_reads(decoder):
    model = segnet_basic(decoder)
    decode, variables, features = decoder_program(model, CAMVID)
    jaxpr = jax.make_jaxpr(lambda f: decode(zeros_like(variables), f))(features).jaxpr
    _, used = partial_eval.dce_jaxpr(jaxpr, [True])
    leaves = jax.tree_util.tree_leaves_with_path(features)
    read = [
        f"{array.dtype}[{','.join(map(str, array.shape))}]"
        for (_, array), is_used in zip(leaves, used, strict=True)
        if is_used
    ]
    assert [t.type for t in costs.border(model, CAMVID)] == read


def zeros_like(tree):
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), tree)


def test_first_switches_of_a_camvid_image_in_buffers():
    """0.69 MB of switches, 11.06 MB of float32, 22.1 MB of int64."""
    pooled, switches = jax.jit(max_pool_with_switches)(jnp.zeros((1, 360, 480, 64)))
    packed = jax.jit(pack_switches)(switches)
    assert packed.nbytes == 691_200
    assert pooled.nbytes == 11_059_200
    assert np.asarray(switches).astype(np.int64).nbytes == 22_118_400
    tensors = {t.name: t for t in costs.border(segnet_basic("segnet"), CAMVID)}
    assert tensors["switches/2"].type == f"{packed.dtype}[1,180,240,16]"
    assert tensors["switches/2"].num_bytes == packed.nbytes


def test_border_counts_maps_in_the_type_they_are_stored_in():
    def maps(dtype):
        model = Segmenter(
            encoders.unet(width=1 / 16, dtype=dtype),
            UNetDecoder(2, norm=False, dtype=dtype),
        )
        return costs.border(model, (32, 48, 3))

    whole, half = maps(jnp.float32), maps(jnp.bfloat16)
    assert [t.num_bytes for t in half] == [t.num_bytes // 2 for t in whole]
    assert half[0].type == "bfloat16[1,32,48,4]"


def test_border_of_a_network_in_one_piece_is_none():
    assert costs.border(Linear(2), (8, 8, 3)) is None


def test_border_of_an_impossible_size_is_an_input_error():
    model = Segmenter(encoders.unet(width=1 / 16), UNetDecoder(2))
    with pytest.raises(InputError, match="30x48"):
        costs.border(model, (30, 48, 3))


# Operations.


def test_flops_of_segnet_basic_by_hand():
    wide = 7 * 7 * 64 * 64
    encoder = PIXELS[1] * 7 * 7 * 3 * 64 + wide * (PIXELS[2] + PIXELS[4] + PIXELS[8])
    decoder = wide * sum(PIXELS[s] for s in (8, 4, 2, 1)) + PIXELS[1] * 64 * 11
    flops = costs.inference_flops(segnet_basic("segnet"), CAMVID)
    assert flops == 2 * (encoder + decoder)


def test_flops_of_an_fcn_count_transposed_convolutions_by_their_input():
    wide = 7 * 7 * 64 * 64
    encoder = PIXELS[1] * 7 * 7 * 3 * 64 + wide * (PIXELS[2] + PIXELS[4] + PIXELS[8])
    scored = sum(PIXELS[s] for s in (16, 8, 4, 2))
    decoder = scored * 64 * 11 + scored * 4 * 4 * 11 * 11
    flops = costs.inference_flops(segnet_basic("fcn"), CAMVID)
    assert flops == 2 * (encoder + decoder)


# Memory.


def test_peak_memory_by_hand():
    square = spec(300, 300)
    product = jax.jit(jnp.dot).lower(square, square).compile()
    assert costs.peak_memory(product) == 3 * 300 * 300 * 4

    in_place = jax.jit(lambda x: x + 1.0, donate_argnums=0).lower(square).compile()
    assert costs.peak_memory(in_place) == 300 * 300 * 4


def test_peak_memory_includes_temporary_buffers():
    square = spec(300, 300)
    program = jax.jit(lambda x: jnp.dot(jnp.dot(x, x), x)).lower(square).compile()
    assert costs.peak_memory(program) >= 3 * 300 * 300 * 4


# Time.


def test_interleaved_times_run_programs_in_turn(monkeypatch):
    clock, calls = [0.0], []
    monkeypatch.setattr(costs.time, "perf_counter", lambda: clock[0])

    def program(name, seconds):
        def run():
            calls.append(name)
            clock[0] += seconds
            return jnp.zeros(())

        return run

    times = costs.interleaved_times(
        {"slow": program("slow", 2.0), "fast": program("fast", 0.5)},
        rounds=3,
        warmup=2,
    )
    assert calls == ["slow", "fast"] * 5
    assert times == {"slow": [2.0] * 3, "fast": [0.5] * 3}


@pytest.mark.parametrize("numbers", [{"rounds": 0}, {"rounds": 1, "warmup": -1}])
def test_no_rounds_are_an_input_error(numbers):
    with pytest.raises(InputError, match="rounds"):
        costs.interleaved_times({}, **numbers)


def test_ratios_by_hand():
    ratios = costs.ratios({"a": [1.0, 2.0, 4.0], "b": [2.0, 2.0, 2.0]})
    assert ratios["a"] == costs.Ratio(1.0, (1.0, 1.0))
    # 2, 1 and 1/2; quartiles half way between neighbours.
    assert ratios["b"] == costs.Ratio(1.0, (0.75, 1.5))


# All of it.


def make_network(model, mesh):
    tx = optax.sgd(0.1)
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (2, 32, 48, 3), dtype=np.uint8),
        "label": rng.integers(0, 2, (2, 32, 48), dtype=np.uint8),
        "valid": np.ones(2, bool),
    }
    return costs.Network(
        model=model,
        train_step=parallel.jit_train_step(
            partial(steps.train_step, model=model, tx=tx), mesh
        ),
        predict_step=jax.jit(partial(steps.predict_step, model=model)),
        state=parallel.replicate(mesh, create_state(model, tx, seed=0)),
        train_batch=parallel.shard_batch(mesh, batch),
        image_batch={name: array[:1] for name, array in batch.items()},
    )


def test_measure_costs_of_two_networks():
    mesh = parallel.make_mesh()
    model = Segmenter(
        encoders.PooledEncoder(((4,), (8,)), norm=False), FCNDecoder(2, (2,))
    )
    networks = {
        "linear": make_network(Linear(2), mesh),
        "fcn": make_network(model, mesh),
    }
    # As after an experiment: everything has been compiled by being called.
    for network in networks.values():
        state = parallel.replicate(mesh, network.state)
        network.predict_step(state.eval_variables, network.image_batch)
        network.train_step(state, network.train_batch)
    compiled = []

    def listen(event, seconds, *, fun_name="", **_):
        del seconds
        if event.endswith("backend_compile_duration"):
            compiled.append(fun_name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        measured = costs.measure_costs(networks, rounds=3)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert compiled == ["jit(decode)"]

    linear, fcn = measured["linear"], measured["fcn"]
    assert (linear.parameters, linear.flops) == (3 * 2 + 2, 2 * 32 * 48 * 3 * 2)
    assert linear.border is None
    assert linear.border_bytes is None
    convolutions = 9 * 3 * 4 + 4 + 9 * 4 * 8 + 8
    scores_and_upsampling = 8 * 2 + 2 + 4 * 2 + 2 + 2 * 4 * 4 * 2 * 2
    assert fcn.parameters == convolutions + scores_and_upsampling
    assert fcn.flops == costs.inference_flops(model, (32, 48, 3))
    assert {t.name for t in fcn.border} == {"maps/4", "pooled/2"}
    assert fcn.border_bytes == 4 * (8 * 12 * 8 + 16 * 24 * 4)
    assert (linear.train_ratio, linear.inference_ratio) == (1.0, 1.0)
    for cost in (linear, fcn):
        # At least the weights and the batch, or the image and the prediction.
        assert cost.train_memory > 4 * cost.parameters + 32 * 48 * 4
        assert cost.inference_memory > 4 * cost.parameters + 32 * 48 * 4
        assert cost.train_seconds > 0
        assert cost.inference_seconds > 0
        low, high = cost.train_spread
        assert low <= cost.train_ratio <= high
        low, high = cost.inference_spread
        assert low <= cost.inference_ratio <= high
    # The timed steps used the given states up.
    assert all(x.is_deleted() for x in jax.tree.leaves(networks["fcn"].state.params))
