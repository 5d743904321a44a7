"""Devices to compile for: those of a TPU slice that is not here, or those that are."""

import importlib.util
import math
import os
import re

import jax
from jax.experimental import topologies

from segjax.errors import InputError

FORMS = (
    "local, v3:AxB, v4:AxBxC, v5e:AxB, v5p:AxBxC, v6e:AxB, tpu7x:AxBxC with the chips "
    "along each side, e.g. v5e:4x4 or v5p:2x2x2"
)
_FORM = re.compile(r"(?P<kind>v3|v4|v5e|v5p|v6e|tpu7x):(?P<sides>\d+(?:x\d+){1,2})")
_DIMENSIONS = {"v3": 2, "v4": 3, "v5e": 2, "v5p": 3, "v6e": 2, "tpu7x": 3}
# Cloud TPU's largest slices; the compiler takes larger ones, which nobody can rent.
_LARGEST = {"v3": 1024, "v4": 4096, "v5e": 256, "v5p": 6144, "v6e": 256, "tpu7x": 9216}

# Without them libtpu looks for the machine that it runs on in the network, says so on
# stderr, and refuses to run twice at a time. It only compiles here.
_ENVIRONMENT = {
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-16",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def find_devices(topology: str) -> list[jax.Device]:
    """The devices of `topology`, in the order of their ids.

    For a TPU slice this is for a process that does nothing else: it sets environment
    variables that keep libtpu quiet, and lets JAX use the CPU only. Call it before
    anything is computed.

    Args:
      topology: "local", the devices of this process, or a TPU slice: `FORMS`.

    Raises:
      InputError: no such slice, or libtpu is not installed.
    """
    if topology == "local":
        return jax.devices()
    form = _FORM.fullmatch(topology)
    if form is None:
        raise InputError(f"topology {topology!r}: expected one of {FORMS}")
    kind, sides = form["kind"], tuple(map(int, form["sides"].split("x")))
    chips = math.prod(sides)
    if len(sides) != _DIMENSIONS[kind] or not 1 <= chips <= _LARGEST[kind]:
        raise InputError(
            f"topology {topology!r}: {kind} slices have {_DIMENSIONS[kind]} sides and "
            f"1 to {_LARGEST[kind]} chips; expected one of {FORMS}"
        )
    if importlib.util.find_spec("libtpu") is None:
        raise InputError(
            f"topology {topology!r} needs the TPU compiler: pip install segjax[tpu] "
            "installs libtpu in the version that belongs to jax"
        )
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    jax.config.update("jax_platforms", "cpu")
    options = {}
    if kind == "v4":
        options["chip_config_name"] = "megacore"  # one device a chip, as in use
    if 1 in sides[:2]:
        # Less than the 2x2 chips that a host has by default.
        options["chips_per_host_bounds"] = (*sides, 1)[:3]
    try:
        return list(
            topologies.get_topology_desc(topology, platform="tpu", **options).devices
        )
    except (RuntimeError, NotImplementedError) as error:
        message = " ".join(str(error).split())
        raise InputError(
            f"topology {topology!r}: {message}; expected one of {FORMS}"
        ) from error
