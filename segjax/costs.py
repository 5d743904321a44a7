"""What a network costs: parameters, operations, bytes and time.

Everything here is measured on programs, nothing is declared: operations are counted in
the traced program, bytes are read off compiled programs, times are taken in turn.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from segjax.errors import InputError
from segjax.flops import count_flops
from segjax.models.segmenter import Segmenter
from segjax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An array that crosses from encoder to decoder.

    Attributes:
      name: e.g. `switches/2`, `maps/16`: kind and stride.
      type: e.g. "uint8[1,180,240,16]".
      num_bytes: of the array.
    """

    name: str
    type: str
    num_bytes: int


@dataclasses.dataclass(frozen=True)
class Costs:
    """Figures of one network at one size; see `measure_costs`.

    Attributes:
      parameters: trainable parameters.
      flops: floating-point operations of the network's forward pass for one image, as
        `inference_flops` counts them: a multiplication and an addition are two.
      border: what crosses from encoder to decoder for one image; None for networks
        that are not made of the two.
      train_memory: peak bytes of the compiled training step, per device.
      inference_memory: peak bytes of the compiled inference of one image.
      train_seconds: median time of a training step.
      inference_seconds: median time of the inference of one image.
      train_ratio: median over rounds of train_seconds relative to the first network.
      inference_ratio: likewise.
      train_spread: interquartile range of those ratios, (low, high).
      inference_spread: likewise.
    """

    parameters: int
    flops: float
    border: tuple[Tensor, ...] | None
    train_memory: int
    inference_memory: int
    train_seconds: float
    inference_seconds: float
    train_ratio: float
    inference_ratio: float
    train_spread: tuple[float, float]
    inference_spread: tuple[float, float]

    @property
    def border_bytes(self) -> int | None:
        """Bytes that cross from encoder to decoder for one image."""
        return None if self.border is None else sum(t.num_bytes for t in self.border)


@dataclasses.dataclass(frozen=True)
class Network:
    """What `measure_costs` runs of one network.

    Attributes:
      model: the network.
      train_step: jitted `(state, batch) -> (state, sums)`, as
        `segjax.training.parallel.jit_train_step` makes it.
      predict_step: jitted `(variables, batch) -> pytree`, as
        `jax.jit(partial(segjax.training.steps.predict_step, model=model))`.
      state: where the timed steps start. `train_step` donates its state, so this one
        is used up: give `parallel.replicate(mesh, state)` to keep yours.
      train_batch: on the devices, of the size to be measured.
      image_batch: one image, `image` uint8 `[1 h w 3]` and `label` uint8 `[1 h w]`.
    """

    model: nn.Module
    train_step: jax.stages.Wrapped
    predict_step: jax.stages.Wrapped
    state: TrainState
    train_batch: Mapping[str, jax.Array]
    image_batch: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Ratio:
    """Times relative to another program's of the same round.

    Attributes:
      median: over rounds.
      spread: interquartile range, (low, high).
    """

    median: float
    spread: tuple[float, float]


def measure_costs(
    networks: Mapping[str, Network], *, rounds: int, warmup: int = 1
) -> dict[str, Costs]:
    """Measures networks side by side; ratios are to the first one.

    Compiles each training step and each prediction once, or not at all where the
    jitted function was called or compiled before with arrays of these shapes and
    shardings. Then all predictions run in turn, then all training steps.

    Args:
      networks: by name. All of their states are in memory at the same time.
      rounds: how often each program is timed.
      warmup: rounds before those, not counted.

    Raises:
      InputError: `rounds` is not positive.
    """
    _check_rounds(rounds, warmup)
    train, predict = {}, {}
    for name, network in networks.items():
        train[name] = network.train_step.lower(
            network.state, network.train_batch
        ).compile()
        predict[name] = network.predict_step.lower(
            network.state.eval_variables, network.image_batch
        ).compile()
    # Known before the timing, which uses the states up.
    parameters = {
        name: sum(leaf.size for leaf in jax.tree.leaves(network.state.params))
        for name, network in networks.items()
    }
    inference_times = interleaved_times(
        {
            name: _call(
                predict[name], network.state.eval_variables, network.image_batch
            )
            for name, network in networks.items()
        },
        rounds=rounds,
        warmup=warmup,
    )
    train_times = interleaved_times(
        {
            name: training_program(train[name], network.state, network.train_batch)
            for name, network in networks.items()
        },
        rounds=rounds,
        warmup=warmup,
    )
    inference_ratios, train_ratios = map(ratios, (inference_times, train_times))
    costs = {}
    for name, network in networks.items():
        _, height, width, channels = network.image_batch["image"].shape
        # What the network sees: it may need a larger image than it labels.
        image_shape = (*network.model.input_size((height, width)), channels)
        costs[name] = Costs(
            parameters=parameters[name],
            flops=inference_flops(network.model, image_shape),
            border=border(network.model, image_shape),
            train_memory=peak_memory(train[name]),
            inference_memory=peak_memory(predict[name]),
            train_seconds=statistics.median(train_times[name]),
            inference_seconds=statistics.median(inference_times[name]),
            train_ratio=train_ratios[name].median,
            inference_ratio=inference_ratios[name].median,
            train_spread=train_ratios[name].spread,
            inference_spread=inference_ratios[name].spread,
        )
    return costs


def border(
    model: nn.Module, image_shape: tuple[int, int, int]
) -> tuple[Tensor, ...] | None:
    """What crosses from encoder to decoder for one image, as the decoder compiles.

    The decoder is compiled as a program of its own, from its variables and all of the
    encoder's `Features`; JAX drops the arguments that the program does not read. The
    `Features` that remain are the border, in the types in which they are stored.
    Nothing is allocated or run.

    A map counts whole if the decoder reads any of it: a skip that the decoder reduces
    to fewer channels crosses with the encoder's channels, one that the network's neck
    reduces crosses with the fewer.

    Args:
      model: the network.
      image_shape: `(height, width, channels)` of the network's input.

    Returns:
      The arrays that cross; None if the network is not a `Segmenter`, an encoder
      and a decoder.

    Raises:
      InputError: the network cannot take an image of that size.
    """
    if not isinstance(model, Segmenter):
        return None
    image = _image(image_shape)
    variables = _variables(model, image)

    def encode(variables, image):
        return model.apply(variables, image, train=False, method="encode")

    def decode(variables, features):
        return model.apply(variables, features, train=False, method="decode")

    features = jax.eval_shape(encode, variables, image)
    decoder = jax.jit(decode).lower(variables, features).compile()
    # An argument that the compiled program does not have has no sharding.
    (_, shardings), _ = decoder.input_shardings
    crosses = [
        sharding is not None
        for sharding in jax.tree.leaves(shardings, is_leaf=lambda leaf: leaf is None)
    ]
    leaves = jax.tree_util.tree_leaves_with_path(features)
    return tuple(
        Tensor(
            name=f"{kind.name}/{stride.key}",
            type=f"{array.dtype}[{','.join(map(str, array.shape))}]",
            num_bytes=array.size * array.dtype.itemsize,
        )
        for ((kind, stride), array), is_read in zip(leaves, crosses, strict=True)
        if is_read
    )


def inference_flops(model: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Floating-point operations of the logits of one image, as `count_flops` counts.

    Nothing is allocated, compiled or run.

    Args:
      model: the network.
      image_shape: `(height, width, channels)` of the network's input.

    Raises:
      InputError: the network cannot take an image of that size.
    """
    image = _image(image_shape)
    return count_flops(
        lambda variables, image: model.apply(variables, image, train=False)["logits"],
        _variables(model, image),
        image,
    )


def peak_memory(compiled: jax.stages.Compiled) -> int:
    """Bytes that a compiled program occupies on one device while it runs.

    Arguments, results and temporary buffers, with donated arguments and the results
    that take their place counted once: what the compiler reserves. Not included: the
    program's code, and memory that a library takes for itself inside of an operation.

    The compiler's own `peak_memory_in_bytes` is not used: on CPU it leaves the
    temporary buffers out (jax 0.10 and 0.12).
    """
    stats = compiled.memory_analysis()
    return (
        stats.argument_size_in_bytes
        + stats.output_size_in_bytes
        + stats.temp_size_in_bytes
        - stats.alias_size_in_bytes
    )


def interleaved_times(
    programs: Mapping[str, Callable[[], Any]], *, rounds: int, warmup: int = 1
) -> dict[str, list[float]]:
    """Times programs in turn, so that a slow minute of the machine hits all of them.

    Args:
      programs: by name; called without arguments, done when what they return is
        ready. `training_program` makes one of a training step.
      rounds: how often each program runs.
      warmup: rounds before those, not timed.

    Returns:
      Wall seconds of every round, by name.

    Raises:
      InputError: `rounds` is not positive, or `warmup` is negative.
    """
    _check_rounds(rounds, warmup)
    seconds = {name: [] for name in programs}
    for i in range(warmup + rounds):
        for name, program in programs.items():
            started = time.perf_counter()
            jax.block_until_ready(program())
            elapsed = time.perf_counter() - started
            if i >= warmup:
                seconds[name].append(elapsed)
    return seconds


def training_program(
    train_step: Callable[..., Any], state: TrainState, batch: Mapping[str, jax.Array]
) -> Callable[[], Any]:
    """A program for `interleaved_times`: each call is one more step from `state`.

    If the step donates its state, `state` is used up by the first call.
    """

    def program():
        nonlocal state
        state, sums = train_step(state, batch)
        return state, sums

    return program


def ratios(seconds: Mapping[str, Sequence[float]]) -> dict[str, Ratio]:
    """Relates each program's times to the first program's of the same round.

    Args:
      seconds: of `interleaved_times`.

    Returns:
      By name; the first one's is 1. Quartiles are interpolated linearly.
    """
    names = list(seconds)
    result = {}
    for name in names:
        relative = np.divide(seconds[name], seconds[names[0]])
        low, median, high = np.percentile(relative, (25, 50, 75))
        result[name] = Ratio(float(median), (float(low), float(high)))
    return result


def _check_rounds(rounds, warmup):
    if rounds < 1 or warmup < 0:
        raise InputError(
            f"expected rounds >= 1 and warmup >= 0 to time, got {rounds=}, {warmup=}"
        )


def _call(function, *args):
    return lambda: function(*args)


def _image(image_shape):
    return jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)


def _variables(model, image):
    return jax.eval_shape(
        lambda key, image: model.init(key, image, train=False), jax.random.key(0), image
    )
