# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %%
# Installs segjax where it is missing, as on a fresh Colab; does nothing elsewhere.
# If Colab asks to restart the session afterwards, do so, and run this cell again.
import importlib.util
import pathlib
import shutil
import subprocess
import sys

if importlib.util.find_spec("segjax") is None:
    inside = pathlib.Path("../segjax/__init__.py").is_file()  # of a checkout
    source = ".." if inside else "git+https://github.com/segjax/segjax"
    device = "[cuda12]" if shutil.which("nvidia-smi") else ""
    device = "[tpu]" if importlib.util.find_spec("libtpu") else device
    packages = [source, f"jax{device}"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", *packages], check=True
    )

# %% [markdown]
# # To a pod
#
# The same program runs on one core and on a TPU pod: what changes is a *mesh* of devices
# and which part of an array lies where. Nobody needs eight accelerators to see that. JAX
# can divide a CPU into eight virtual devices, on which everything but the speed is real.

# %%
import os
import tempfile

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from matplotlib import pyplot as plt

from segjax import experiment
from segjax.configuration import Config
from segjax.data.datasets import open_dataset
from segjax.planning.hlo import find_collectives, totals
from segjax.training import parallel

# Before anything is computed. A GPU or TPU keeps its own number of devices.
jax.config.update("jax_num_cpu_devices", 8)
folder = pathlib.Path(tempfile.mkdtemp(prefix="segjax-pods-"))
devices = jax.devices() if jax.device_count() == 8 else jax.devices("cpu")
print(len(devices), "devices:", devices[0].device_kind)

# %% [markdown]
# ## A mesh
#
# Devices stand in rows and columns. `data` splits the batch: every row of the mesh gets
# other images. `space` splits the *height* of images and maps: for images so large that
# one device cannot hold what a network makes of one. In an experiment it is one option,
# `--mesh data=4,space=2`; the batch size is always the whole run's.

# %%
meshes = {
    "one device": parallel.make_mesh(devices[:1]),
    "data=8": parallel.make_mesh(devices),
    "data=4,space=2": parallel.make_mesh(devices, data=4, space=2),
}
mesh = meshes["data=4,space=2"]
print(np.vectorize(lambda device: device.id)(mesh.devices))

# %% [markdown]
# ## What lies where
#
# A batch of eight images `[8 64 96 3]` on that mesh. JAX draws which device has which
# part of an array of two axes; here they are the images (down) and their rows (across).

# %%
dataset = open_dataset("street_scenes", counts={"train": 16, "val": 8})
examples = [dataset.splits["train"][index] for index in range(8)]
images = np.stack([example["image"] for example in examples])
split = NamedSharding(mesh, PartitionSpec("data", "space"))
batch = jax.device_put(images, split)
jax.debug.visualize_array_sharding(batch[:, :, 0, 0])

# %% [markdown]
# The same on the images themselves, from the array's own shards. Two images lie on two
# devices, which have the upper and the lower half of both.

# %% tags=["keep-output"]
colors = plt.colormaps["tab10"](np.arange(8))[:, :3]
_, axes = plt.subplots(2, 4, figsize=(12, 4.4), layout="constrained")
for ax, image in zip(axes.ravel(), images, strict=True):
    ax.imshow(image)
    ax.set_axis_off()
for shard in batch.addressable_shards:
    in_batch, rows = shard.index[:2]
    number = shard.device.id
    for index in range(in_batch.start, in_batch.stop):
        ax = axes.ravel()[index]
        ax.axhspan(rows.start - 0.5, rows.stop - 0.5, color=colors[number], alpha=0.4)
        middle = (rows.start + rows.stop) / 2
        text = f"device {number}"
        ax.text(48, middle, text, color="white", ha="center", va="center", fontsize=12)
plt.show()

# %% [markdown]
# ## The same step on one device and on eight
#
# The training step says nothing of devices. The compiler gets the shardings of what goes
# in and out, and writes a program for each device. Loss and gradient are sums over all
# labelled pixels, divided once, and batch normalisation takes its statistics over the
# whole batch, so the result may not depend on the mesh, but for rounding.


# %%
def first_step(mesh):
    """Loss of one training step on a mesh, the weights after it, and its program."""
    config = Config(
        name="pods",
        dataset="street_scenes",
        model="fcn_basic_4x4",
        width=0.125,
        crop_size=(64, 96),
        learning_rate=0.1,
        batch_size=8,
        eval_batch_size=8,
        workdir=folder / "run",
    )
    prepared = experiment.prepare(config, dataset=dataset, mesh=mesh)
    initial = experiment.initial_state(prepared, seed=0)
    state = parallel.replicate(mesh, initial)
    batches = experiment.train_batches(config, dataset.splits["train"], mesh=mesh)
    batch = parallel.shard_batch(mesh, next(batches))
    batches.close()
    program = prepared.train_step.lower(state, batch).compile()
    state, sums = program(state, batch)
    loss = float(sums["loss_sum"] / sums["loss_weight"])
    return loss, jax.device_get(state.params), program


steps = {name: first_step(mesh) for name, mesh in meshes.items()}
loss, weights, _ = steps["one device"]
for name, (other_loss, other_weights, _) in steps.items():
    differences = jax.tree.map(
        lambda a, b: float(np.abs(a - b).max()), weights, other_weights
    )
    largest = max(jax.tree.leaves(differences))
    print(f"{name:15} loss {other_loss:.6f}, weights differ by {largest:.0e} at most")

# %% [markdown]
# ## What devices tell each other
#
# With the batch split, devices add up sums: all-reduces, of gradients and of batch
# statistics. With rows split there is more: a 7x7 convolution of the upper half needs
# three rows of the lower. The compiler fetches them from the neighbour (a *halo*, by
# collective-permute) at every layer, in the backward pass, too. Both are read off the
# compiled programs.

# %%
for name, (_, _, program) in steps.items():
    found = find_collectives(program.as_text(), num_devices=8)
    print(name)
    for total in totals(found):
        print(
            f"   {total.count:3} {total.kind:20} {total.sent_bytes:10,.0f} bytes sent"
        )

# %% [markdown]
# ## Plan for a pod without one
#
# Does it fit into a chip's memory? What would it send, and how long would a step take at
# best? The TPU's compiler answers, and it runs on any Linux machine: `plan` compiles an
# experiment's own steps for a slice that is not here, and runs nothing. An experiment is
# a script with a `CONFIG`:

# %%
script = folder / "streets.py"
script.write_text("""
from segjax.configuration import Config

CONFIG = Config(
    name="streets",
    dataset="street_scenes",
    model="fcn_basic_4x4",
    width=0.25,
    batch_size=16,
    crop_size=(64, 96),
)
""")
os.environ["SEGJAX_SCRIPT"] = str(script)
os.environ["TTY_COMPATIBLE"] = "0"  # plain text

# %% [markdown]
# The compiler is an optional package, libtpu (684 MB). Where it is installed, the cell
# plans for four TPU v5e chips; where it is not, it says so and plans for this machine's
# own devices, which gives memory and collectives but no times.

# %% language="bash"
# export COLUMNS=100
# if python -c "import libtpu" 2>/dev/null; then
#   echo "libtpu is installed: a plan for TPU v5e, 2x2 chips"
#   python -m segjax plan --experiment $SEGJAX_SCRIPT --topology v5e:2x2 --quick \
#     --no-evaluation
# else
#   echo "libtpu is NOT installed: no plan for a TPU. pip install 'segjax[tpu]' adds it."
#   echo "Instead, a plan for this machine, whose CPU has 8 virtual devices:"
#   JAX_NUM_CPU_DEVICES=8 python -m segjax plan --experiment $SEGJAX_SCRIPT \
#     --topology local --no-evaluation --no-one-device
# fi

# %% [markdown]
# To run for real, the same script on every host of the slice:
#
# ```
# python experiments/camvid_unet.py --mesh data=8,space=2     # on a slice's hosts
# experiments/launch/local.sh 2 experiments/camvid_unet.py    # processes on one machine
# ```
#
# `experiments/launch/` has starters for TPU pods and SLURM.
