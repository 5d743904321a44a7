"""Transfer of weights, on plain trees and from FCN-32s to 16s to 8s."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.errors import InputError
from segjax.models.fcn import FCN
from segjax.ops.resampling import upsample_bilinear
from segjax.training.initialization import transfer

CLASSES = 3
SIZE = (150, 90)


def test_copied_kept_and_ignored():
    params = {
        "params": {
            "conv": {"kernel": jnp.zeros((2, 3))},
            "score": {"bias": jnp.ones(1)},
        },
        "batch_stats": {"bn": {"mean": jnp.zeros(4)}},
    }
    source = {
        "params": {
            "conv": {"kernel": np.arange(6.0).reshape(2, 3)},
            "fc8": {"kernel": np.ones((2, 2)), "bias": np.ones(2)},
        },
        "batch_stats": {"bn": {"mean": np.arange(4, dtype=np.float16)}},
    }
    new, report = transfer(params, source)
    assert jax.tree.structure(new) == jax.tree.structure(params)
    kernel = new["params"]["conv"]["kernel"]
    np.testing.assert_array_equal(kernel, [[0, 1, 2], [3, 4, 5]])
    mean = new["batch_stats"]["bn"]["mean"]
    np.testing.assert_array_equal(mean, [0, 1, 2, 3])
    assert kernel.dtype == mean.dtype == jnp.float32
    np.testing.assert_array_equal(new["params"]["score"]["bias"], [1])
    assert report.copied == ("batch_stats/bn/mean", "params/conv/kernel")
    assert report.kept == ("params/score/bias",)
    assert report.ignored == ("params/fc8/bias", "params/fc8/kernel")
    assert not np.any(params["params"]["conv"]["kernel"])


def test_donating_the_result_leaves_the_source_alone():
    source = {"kernel": jnp.arange(8.0)}
    new, _ = transfer({"kernel": jnp.zeros(8)}, source)
    jax.jit(lambda x: jax.tree.map(lambda leaf: leaf + 1, x), donate_argnums=0)(new)
    np.testing.assert_array_equal(source["kernel"], np.arange(8))


def test_nothing_in_common():
    with pytest.raises(InputError, match=r"nothing to transfer.*a/kernel.*b/kernel"):
        transfer({"a": {"kernel": jnp.zeros(1)}}, {"b": {"kernel": jnp.zeros(1)}})
    with pytest.raises(InputError, match=r"the source nothing$"):
        transfer({"a": {"kernel": jnp.zeros(1)}}, {})


def test_same_path_and_another_shape():
    params = {"a": jnp.zeros(2), "score_fr": {"kernel": jnp.zeros((1, 1, 8, 11))}}
    source = {"a": np.ones(2), "score_fr": {"kernel": np.ones((1, 1, 8, 21))}}
    with pytest.raises(
        InputError, match=r"score_fr/kernel has.*\(1, 1, 8, 11\).*\(1, 1, 8, 21\)"
    ):
        transfer(params, source)


def fcn(stride, **options):
    return FCN(CLASSES, stride, width=0.02, **options)


def start(model):
    """Initial parameters; those of VGG16 drawn by NumPy, which compiles nothing."""
    random = np.random.default_rng(model.stride)

    def init(key):
        return model.init(key, jnp.zeros((1, 1, 1, 3)), train=False)["params"]

    def draw(leaf):
        scale = np.sqrt(2 / np.prod(leaf.shape[:-1])) if len(leaf.shape) > 1 else 0
        return (scale * random.normal(size=leaf.shape)).astype(np.float32)

    def is_new(name):
        return name.startswith(("score", "up"))

    params = jax.tree.map(draw, jax.eval_shape(init, jax.random.key(0)))
    new = jax.jit(lambda key: {k: v for k, v in init(key).items() if is_new(k)})
    return params | new(jax.random.key(0))


def logits_of(model, params):
    image = np.random.default_rng(0).normal(size=(1, *SIZE, 3)).astype(np.float32)
    run = jax.jit(lambda p, x: model.apply({"params": p}, x, train=False)["logits"])
    return np.asarray(run(params, image))


def train_scores(params, seed):
    """Stands for training: score layers that are zero no more."""
    random = np.random.default_rng(seed)
    return {
        name: jax.tree.map(
            lambda leaf: random.normal(size=leaf.shape).astype(np.float32), layer
        )
        if name.startswith("score")
        else layer
        for name, layer in params.items()
    }


def between_scores(side, *, stride):
    """Whether each image row lies in the middle half between two rows of scores."""
    # The position of row y in units of the scores; see the docstring of FCN.
    first = {32: -12.5, 16: 11.5}[stride]
    fraction = (np.arange(side) + first) / stride % 1
    return (fraction > 0.25) & (fraction < 0.75)


@pytest.mark.parametrize("learned", [False, True])
def test_a_finer_net_starts_from_the_coarser_ones_prediction(learned):
    nets = {
        32: fcn(32),
        16: fcn(16, learned=learned),
        8: fcn(8, learned=learned),
    }
    params = train_scores(start(nets[32]), seed=1)
    for coarse, fine in ((32, 16), (16, 8)):
        finer, report = transfer(start(nets[fine]), params)
        score = {16: "score_pool4", 8: "score_pool3"}[fine]
        upsampling = {16: "upscore2", 8: "upscore_pool4"}[fine]
        new = [f"{score}/bias", f"{score}/kernel"]
        assert report.kept == tuple(new + [f"{upsampling}/kernel"] * learned)
        assert report.ignored == ()
        assert len(report.copied) == len(jax.tree.leaves(params))

        expected, logits = logits_of(nets[coarse], params), logits_of(nets[fine], finer)
        rows, columns = (between_scores(side, stride=coarse) for side in SIZE)
        # A half of the rows and of the columns, so a quarter of the pixels.
        assert 0.4 < rows.mean() < 0.6
        assert 0.4 < columns.mean() < 0.6
        same = rows[:, None] & columns[None, :]
        scale = np.abs(expected).max()
        np.testing.assert_allclose(
            logits[:, same], expected[:, same], rtol=0, atol=1e-5 * scale
        )
        # At the scores themselves the corner is rounded off: no equality there.
        assert np.abs(logits - expected)[:, ~same].max() > 1e-3 * scale
        params = train_scores(finer, seed=fine)


def test_how_much_the_corner_at_a_score_is_rounded_off():
    scores = np.random.default_rng(0).normal(size=7)
    # Constant along rows, so that only the interpolation along columns shows.
    maps = np.float32(np.broadcast_to(scores[None, :, None, None], (1, 7, 7, 1)))
    direct = np.asarray(upsample_bilinear(maps, ratio=32))[0, :, 128, 0]
    staged = upsample_bilinear(upsample_bilinear(maps, ratio=2), ratio=16)
    # The crops of FCN-16s and -32s are 8 rows apart.
    rounded = np.asarray(staged)[0, 8:, 136, 0][: direct.size] - direct
    second_difference = scores[:-2] - 2 * scores[1:-1] + scores[2:]
    row = np.arange(direct.size)
    for i, difference in enumerate(second_difference, start=1):
        distance = np.abs((row - 31.5) / 32 - i)
        near, middle = distance < 0.25, (distance > 0.25) & (distance < 0.75)
        np.testing.assert_allclose(
            rounded[near], difference * (1 / 8 - distance[near] / 2), atol=1e-6
        )
        np.testing.assert_allclose(rounded[middle], 0, atol=1e-6)


def test_a_classifiers_weights_start_the_coarsest_net():
    model = fcn(32)
    params = start(model)
    source = {
        name: jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, np.float32), layer)
        for name, layer in params.items()
        if name != "score_fr"
    } | {"fc8": {"kernel": np.ones((1, 1, 82, 10)), "bias": np.ones(10)}}
    new, report = transfer(params, source)
    assert report.kept == ("score_fr/bias", "score_fr/kernel")
    assert report.ignored == ("fc8/bias", "fc8/kernel")
    assert np.all(np.asarray(new["fc6"]["kernel"]) == 0.5)
    assert not np.any(new["score_fr"]["kernel"])
