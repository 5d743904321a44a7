"""Uncertainty of a prediction from several probability maps of one image.

The maps are samples of what the network might think: from dropout left on at test time,
as in Kendall, Badrinarayanan and Cipolla, "Bayesian SegNet" (arXiv 1511.02680, section
4), or one from each of several trained networks (an ensemble). With p_t the map of
sample t, H the entropy over the classes in nats:

- the prediction is the mean map, `mean_t p_t`;
- predictive entropy `H(mean_t p_t)`: all of the uncertainty;
- expected entropy `mean_t H(p_t)`: the part that every sample has, noise in the data;
- mutual information, their difference: the part by which the samples disagree, what
  more training data would remove (Houlsby et al., arXiv 1112.5745, equation 2);
- variance `mean_t (p_t - mean)^2` of each class, what Bayesian SegNet draws.

Samples are taken in one at a time and never kept: memory is that of two maps, however
many samples there are.
"""

import zlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.scipy.special import entr

from segjax.errors import InputError


class Running(NamedTuple):
    """What is kept of the samples so far; means and not sums.

    So identical samples leave the means at exactly their value (no uncertainty comes
    from rounding), and small variances are not lost in large sums of squares.

    Attributes:
      samples: int32, number of samples t.
      mean: float32 `[... k]`, mean of the probabilities.
      squares: float32 `[... k]`, summed squared deviations from the mean.
      entropy: float32 `[...]`, mean of the entropies.
    """

    samples: jax.Array
    mean: jax.Array
    squares: jax.Array
    entropy: jax.Array


class Uncertainty(NamedTuple):
    """Maps of one image, or of a batch.

    Attributes:
      mean: float32 `[... k]`, mean probabilities; their argmax is the prediction.
      predictive_entropy: float32 `[...]` in 0..log(k) nats.
      expected_entropy: float32 `[...]` in 0..log(k) nats.
      mutual_information: float32 `[...]` in 0..log(k) nats; rounding below 0 is cut.
      variance: float32 `[... k]` in 0..1/4, of the samples (divided by t).
    """

    mean: jax.Array
    predictive_entropy: jax.Array
    expected_entropy: jax.Array
    mutual_information: jax.Array
    variance: jax.Array


def empty(shape: tuple[int, ...]) -> Running:
    """No samples yet, of maps of `shape` `(..., k)`."""
    return Running(
        samples=jnp.zeros((), jnp.int32),
        mean=jnp.zeros(shape, jnp.float32),
        squares=jnp.zeros(shape, jnp.float32),
        entropy=jnp.zeros(shape[:-1], jnp.float32),
    )


def add(running: Running, probabilities: jax.Array) -> Running:
    """Takes in one more sample, float `[... k]` of probabilities."""
    probabilities = jnp.asarray(probabilities)
    chex.assert_type(probabilities, float)
    chex.assert_equal_shape([probabilities, running.mean])
    probabilities = probabilities.astype(jnp.float32)
    samples = running.samples + 1
    share = 1.0 / samples.astype(jnp.float32)
    # Welford's update.
    deviation = probabilities - running.mean
    mean = running.mean + deviation * share
    entropy = _entropy(probabilities)
    return Running(
        samples=samples,
        mean=mean,
        squares=running.squares + deviation * (probabilities - mean),
        entropy=running.entropy + (entropy - running.entropy) * share,
    )


def merge(first: Running, second: Running) -> Running:
    """Puts together what two streams of samples, of the same maps, have kept."""
    chex.assert_equal_shape([first.mean, second.mean])
    samples = first.samples + second.samples
    # Two empty streams stay empty.
    total = jnp.maximum(samples, 1).astype(jnp.float32)
    share = second.samples.astype(jnp.float32) / total
    between = second.mean - first.mean
    weight = first.samples.astype(jnp.float32) * share
    return Running(
        samples=samples,
        mean=first.mean + between * share,
        squares=first.squares + second.squares + between**2 * weight,
        entropy=first.entropy + (second.entropy - first.entropy) * share,
    )


def summarize(running: Running) -> Uncertainty:
    """Turns what was kept of at least one sample into maps; NaN variance of none."""
    predictive = _entropy(running.mean)
    return Uncertainty(
        mean=running.mean,
        predictive_entropy=predictive,
        expected_entropy=running.entropy,
        mutual_information=jnp.maximum(predictive - running.entropy, 0.0),
        variance=running.squares / running.samples.astype(jnp.float32),
    )


def from_maps(maps: Iterable[jax.Array]) -> Uncertainty:
    """The uncertainty of a stream of maps, such as the members of an ensemble.

    Args:
      maps: of one image or batch, float `[... k]` of probabilities each; a stack
        `[t ... k]`, or a generator, which is asked for one at a time.

    Raises:
      InputError: there is no map, or two differ in shape.
    """
    running = None
    for index, probabilities in enumerate(maps):
        shape = jnp.shape(probabilities)
        if running is None:
            running = empty(shape)
        if shape != running.mean.shape:
            raise InputError(
                f"uncertainty: map {index} has shape {shape}; expected "
                f"{running.mean.shape} as the maps before it"
            )
        running = _add_compiled(running, probabilities)
    if running is None:
        raise InputError("uncertainty: no probability map; expected at least one")
    return summarize(running)


def monte_carlo(
    predict_probabilities: Callable[[jax.Array, jax.Array], jax.Array],
    image: jax.Array,
    keys: jax.Array,
) -> Uncertainty:
    """The uncertainty of a prediction that is random, such as `with_dropout`.

    Args:
      predict_probabilities: `(image, key) -> float [... k]`, traceable; it is traced,
        compiled and run as the body of a loop.
      image: what it takes.
      keys: `[t]`, one for each sample (`jax.random.split(key, t)`).

    Raises:
      InputError: there is no key.
    """
    chex.assert_rank(keys, 1)
    if not len(keys):
        raise InputError("uncertainty: no key; expected one for each sample")

    def take_in(running: Running, key: jax.Array) -> tuple[Running, None]:
        return add(running, predict_probabilities(image, key)), None

    maps = jax.eval_shape(predict_probabilities, image, keys[0])
    running, _ = jax.lax.scan(take_in, empty(maps.shape), keys)
    return summarize(running)


def with_dropout(
    predict: Callable[[jax.Array], jax.Array],
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Leaves dropout on in a prediction that turns it off.

    Every `nn.Dropout` that runs inside `predict` drops, whatever it was told; nothing
    else changes, so a network called with `train=False` uses its running batch
    statistics and is a Monte-Carlo sample of Bayesian SegNet. The layers' masks are
    independent and follow from the key and the layer's place in the network.

    Args:
      predict: function of an image that applies a linen network. Not jitted itself,
        since what JAX has compiled before does not run again; jit the result.

    Returns:
      `(image, key) -> predict(image)` with dropout.

    Raises:
      InputError: when called (or traced), if no dropout layer with a rate above 0 ran.
    """

    def predict_sample(image: jax.Array, key: jax.Array) -> jax.Array:
        dropped = []

        def drop(next_fun, args, kwargs, context):
            layer = context.module
            off = isinstance(layer, nn.Dropout) and layer.deterministic is not False
            if not off or context.method_name != "__call__":
                return next_fun(*args, **kwargs)
            if layer.rate > 0:
                dropped.append(layer.path)
            # The twin is no part of the network: a name would need a parent.
            twin = nn.Dropout(
                layer.rate, layer.broadcast_dims, deterministic=False, parent=None
            )
            place = zlib.crc32("/".join(layer.path).encode())
            return twin.apply(
                {}, args[0], rngs={"dropout": jax.random.fold_in(key, place)}
            )

        with nn.intercept_methods(drop):
            outputs = predict(image)
        if not dropped:
            raise InputError(
                "Monte-Carlo dropout: no dropout layer ran; expected a network trained "
                "with dropout above 0 (and a prediction that is not jitted before)"
            )
        return outputs

    return predict_sample


def _entropy(probabilities: jax.Array) -> jax.Array:
    """Entropy over the last axis in nats, 0 log 0 = 0."""
    return jnp.sum(entr(probabilities), axis=-1)


_add_compiled = jax.jit(add)
