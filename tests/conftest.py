"""Strict JAX for every test: no silent dtype or rank promotion, CPU only."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

# Two virtual devices, so that every jitted step is also tested sharded.
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
