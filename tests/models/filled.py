"""Variables for tests, filled by numpy: `init` takes longer to compile than to run."""

import jax
import jax.numpy as jnp
import numpy as np


def filled(model, shape, *, seed=0, **options):
    """Variables of `model` for an image of `shape`, nothing in them zero.

    Kernels are normal as He's; biases, scales, means and variances are in 0.5..1.5.
    """
    shapes = jax.eval_shape(
        lambda key, image: model.init(key, image, train=False, **options),
        jax.random.key(0),
        jax.ShapeDtypeStruct(shape, jnp.float32),
    )
    random = np.random.default_rng(seed)

    def fill(leaf):
        if leaf.ndim == 4:
            scale = (2 / np.prod(leaf.shape[:-1])) ** 0.5
            return random.normal(scale=scale, size=leaf.shape).astype(np.float32)
        return random.uniform(0.5, 1.5, leaf.shape).astype(np.float32)

    return jax.tree.map(fill, shapes)
