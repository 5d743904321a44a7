"""Strict JAX for every test: no silent dtype or rank promotion, CPU only, no cache."""

import atexit
import os
import shutil
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

# Two virtual devices, so that every jitted step is also tested sharded.
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Command lines keep compiled programs, but not a test's in the user's folder.
_cache = tempfile.mkdtemp(prefix="segjax-cache-")
atexit.register(shutil.rmtree, _cache, ignore_errors=True)
os.environ["SEGJAX_CACHE"] = _cache
