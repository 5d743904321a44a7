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
# # The upsampling ablation
#
# Which way back to image resolution is best? To ask that fairly, one thing changes and
# all else stays: one encoder, one recipe, one set of images, the same seeds. We run a
# small ablation, read its report, and add a strategy of our own.

# %%
import dataclasses
import html
import tempfile

import jax
import jax.numpy as jnp
from IPython.display import HTML, Image, display
from rich.console import Console

from segjax import ablation
from segjax.ablation import Ablation
from segjax.models.decoders.strategies import UPSAMPLINGS
from segjax.report.page import write_page
from segjax.report.panels import draw_panels
from segjax.report.tables import print_comparison
from segjax.training import processes

folder = pathlib.Path(tempfile.mkdtemp(prefix="segjax-ablation-"))
console = Console(force_jupyter=False, force_terminal=False, width=100)
processes.keep_compiled_programs(processes.Launch())  # for the next start
print("devices:", jax.devices())

# %% [markdown]
# ## What is compared
#
# A strategy has a name, `ENCODER:UPSAMPLING+SKIP`. Level by level, each decoder upsamples,
# takes a skip or none, and convolves twice; nothing else differs. Here: interpolation
# without skips, and with the encoder's maps added at every level. `+concat` would join
# them as U-Net does, and `max_unpool` go by the encoder's switches as SegNet does
# ([arXiv 1511.00561](https://arxiv.org/abs/1511.00561), section 3).
#
# The data are drawn, small scenes; a `.toml` file gives a data set options.

# %%
scenes = folder / "scenes.toml"
scenes.write_text("""
[[data]]
dataset = "street_scenes"
options = { size = [48, 64], counts = { train = 128, val = 32 } }
""")
config = Ablation(
    name="ablation",
    models=(
        "segnet_basic:bilinear+none",
        "segnet_basic:bilinear+sum",
    ),
    dataset=str(scenes),
    workdir=folder / "runs",
    width=0.25,
    crop_size=(48, 64),
    class_weights=(1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 4.0, 2.0, 1.0, 4.0, 4.0),
    optimizer="adamw",
    learning_rate=1e-2,
    schedule="cosine",
    warmup_steps=10,
    steps=90,
    batch_size=8,
    eval_batch_size=16,
    eval_every=90,
    timing_rounds=0,  # no costs for now
    panels=4,
)

# %% [markdown]
# ## Run it
#
# Everything measured is on disk: run this cell again and it reads what it finds.

# %%
comparison, _ = ablation.run(config, preset=config, console=console)

# %% [markdown]
# ## Read the report
#
# *Quality* first: mIoU speaks of areas, boundary F1 of outlines (within 0.75 % of the
# diagonal, matched one to one), thin IoU of poles, signs and people. Where the question
# is upsampling, the last two say more. One seed and 90 steps: a difference of a few
# points here means nothing. For one that does, `seeds=(0, 1, 2), test="paired-t"` adds
# spreads and a paired t-test, adjusted for the number of rows (Holm).

# %%
print_comparison(comparison, console)

# %% [markdown]
# ## A strategy of your own
#
# A way to upsample is a function: it takes the decoder's map `[b h w c]` at a stride, and
# what the encoder has (`features`), and returns the map of twice the size. Unpooling leaves
# three of four pixels at zero; ours fills them with half of the interpolated map.


# %%
def filled_unpool(x, features, stride):
    """Unpooling whose empty pixels are not empty."""
    smooth = UPSAMPLINGS["bilinear"](x, features, stride)
    sharp = features.unpool(x, stride)
    return jnp.where(sharp != 0, sharp, 0.5 * smooth)


UPSAMPLINGS["filled_unpool"] = filled_unpool

# %% [markdown]
# That is all: the name now works wherever a network is named. The two runs from above are
# read, and only ours is trained. Now with *costs*: what crosses from encoder to decoder,
# read off the compiled decoder's inputs (switches take 2 bits a value, maps 32), memory,
# and times relative to the first row, taken in turn, so that a busy machine is equally
# busy for all.

# %%
config = dataclasses.replace(
    config,
    models=(*config.models, "segnet_basic:filled_unpool+sum"),
    timing_rounds=2,
)
comparison, _ = ablation.run(config, preset=config, console=console)
print_comparison(comparison, console)

# %% [markdown]
# The same as a page, one file: with plots of quality against cost, IoU of every class,
# and a viewer to compare all predictions of an image pixel by pixel.

# %%
comparison = dataclasses.replace(comparison, command="colabs/ablation.ipynb")
write_page(folder / "report.html", comparison)
inside = html.escape((folder / "report.html").read_text())
frame = f'<iframe srcdoc="{inside}" width="100%" height="600"></iframe>'
display(HTML(f"<div>{frame}</div>"))

# %% [markdown]
# ## Look
#
# Numbers are averages; what went wrong is in the pictures. Without skips, all that the
# decoder knows is at a sixteenth of the resolution: it has learnt that sky is above and
# road below. With the encoder's maps it finds outlines, and poles.

# %% tags=["keep-output"]
names = {
    "bilinear+none": "bilinear, no skips",
    "bilinear+sum": "bilinear, maps added",
    "filled_unpool+sum": "ours, maps added",
}
draw_panels(
    folder / "predictions.png",
    images=comparison.images,
    labels=comparison.labels,
    predictions={
        names[strategy.name.partition(":")[2]]: strategy.predictions
        for strategy in comparison.strategies
    },
    table=comparison.table,
    errors=False,
    title=f"after {config.steps} steps, one seed",
)
display(Image((folder / "predictions.png").read_bytes()))

# %% [markdown]
# How far a difference between two rows can be trusted is one more question of seeds. A
# larger ablation is a command in a checkout; `experiments/results/` has its results:
#
# ```
# python experiments/upsampling_ablation.py --preset table1-scenes
# python experiments/upsampling_ablation.py --preset table1-camvid --data-dir CAMVID
# ```
