"""Strict JAX for every test: no silent dtype or rank promotion, CPU only."""

import atexit
import gc
import os
import shutil
import tempfile
from importlib.metadata import version

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compiling is most of the tests' time, and what is compiled runs only a few times.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    # Fused loops by way of MLIR take three times as long to compile as those by way of
    # LLVM alone. Later XLA has no other way, and an unknown flag would end the process.
    + " --xla_cpu_use_fusion_emitters=false" * version("jaxlib").startswith("0.10.")
)

import jax

# Two virtual devices, so that every jitted step is also tested sharded.
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# A program is compiled once for all tests and the processes that they start, and is
# not kept in the user's folder.
_cache = tempfile.mkdtemp(prefix="segjax-cache-")
atexit.register(shutil.rmtree, _cache, ignore_errors=True)
for name, value in {
    "jax_compilation_cache_dir": _cache,
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}.items():
    jax.config.update(name, value)
    os.environ[name.upper()] = str(value)


def pytest_collection_finish():
    # What is imported and collected stays: it is not searched for garbage again, which
    # tracing, that makes many objects, would have done every few milliseconds.
    gc.freeze()
