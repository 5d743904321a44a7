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
# # Quickstart
#
# A network learns to name every pixel of a street scene, in about a minute on two CPU
# cores and sooner on a GPU. We load data and look at it, train while the predictions
# get better before our eyes, evaluate, save, and load what was saved.

# %%
import dataclasses
import tempfile
from functools import partial

import jax
import numpy as np
from IPython.display import Image, display
from matplotlib import pyplot as plt
from PIL import Image as Pictures
from rich.console import Console

from segjax import experiment
from segjax.configuration import Config
from segjax.data.datasets import open_dataset
from segjax.data.labels import colorize
from segjax.data.street_scenes import draw_example
from segjax.inference.predictor import load_predictor, predict_image
from segjax.models.zoo import build_model, count_parameters
from segjax.report.contact_sheet import choose, draw_sheet, make_sheet
from segjax.report.figures import draw_confusion
from segjax.report.panels import draw_panels
from segjax.report.tables import Row, class_table, comparison_table
from segjax.training.steps import predict_step

folder = pathlib.Path(tempfile.mkdtemp(prefix="segjax-quickstart-"))
print("devices:", jax.devices())

# %% [markdown]
# ## The data
#
# `street_scenes` needs no download: road scenes are drawn in the 11 classes of CamVid,
# and written once as records. A real data set differs in the name only:
# `open_dataset("camvid", data_dir=...)`; `python -m segjax data list` has them all.

# %%
dataset = open_dataset("street_scenes", counts={"train": 160, "val": 24, "test": 32})
example = dataset.splits["train"][0]
for name, value in example.items():
    print(name, getattr(value, "shape", value), getattr(value, "dtype", ""))

# %% [markdown]
# An image is bytes `[h w 3]`, a label one byte a pixel: the index of its class, or 255,
# *void*, for pixels that nobody labelled. Void reaches no loss, no gradient and no score.
# Below, classes are far from equally frequent: there is a lot of road and very little
# pole. A network that never says "pole" loses next to no pixel accuracy.

# %%
train = dataset.splits["train"]
sheet = make_sheet(
    train, choose(len(train), 4), table=dataset.table, title="street_scenes, train"
)
display(Image(draw_sheet(folder / "sheet.png", sheet).read_bytes()))

# %% [markdown]
# ## The network
#
# An *encoder* halves the image four times and gathers what is there; a *decoder* leads
# back to image resolution and says where. Here it is FCN's (Long, Shelhamer and Darrell,
# [arXiv 1411.4038](https://arxiv.org/abs/1411.4038), section 4): class scores are read
# off the maps at strides 16, 8, 4 and 2, upsampled and added.

# %%
model = build_model("fcn_unet", num_classes=dataset.table.num_classes, width=0.125)
print(f"{count_parameters(model):,} parameters")

# %% [markdown]
# ## The recipe
#
# Every number of an experiment is a plain value. The loss is the cross-entropy of the
# labelled pixels $i$ with classes $y_i$, in which thin and rare classes weigh more:
#
# $$L = -\frac{\sum_i w_{y_i} \log p_i(y_i)}{\sum_i w_{y_i}}.$$

# %%
config = Config(
    name="quickstart",
    dataset="street_scenes",
    model="fcn_unet",
    width=0.125,
    crop_size=(64, 96),
    # Sky, Building, Pole, Road, Pavement, Tree, SignSymbol, Fence, Car, Pedestrian,
    # Bicyclist.
    class_weights=(1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 4.0, 2.0, 1.0, 4.0, 4.0),
    optimizer="adamw",
    learning_rate=1.5e-2,
    schedule="cosine",
    warmup_steps=20,
    weight_decay=1e-2,
    steps=120,
    batch_size=8,
    eval_batch_size=8,
    eval_every=120,
    workdir=folder / "run",
)
prepared = experiment.prepare(config, dataset=dataset)

# %% [markdown]
# ## A minute of training
#
# A training step is a pure function, `(state, batch) -> (state, sums)`, and the prepared
# experiment a value that holds it. So to watch is to put another function in its place:
# one that does the same step and, now and then, draws what the network says about three
# validation images. The picture below is one output that is updated.
#
# What comes first is what is large: sky, road. Thin poles, and the borders of everything,
# come last; what is still red at the end lies along outlines.

# %%
shown = [dataset.splits["val"][index] for index in choose(24, 3)]
batch = {name: np.stack([e[name] for e in shown]) for name in ("image", "label")}
predict = jax.jit(partial(predict_step, model=prepared.model))


def look(state, step):
    pixels = draw_panels(
        folder / "now.png",
        images=batch["image"],
        labels=batch["label"],
        predictions={"prediction": np.asarray(predict(state.eval_variables, batch))},
        table=dataset.table,
        title=f"step {step} of {config.steps}",
    )
    return Pictures.fromarray(pixels)


# %% tags=["keep-output"]
initial = experiment.initial_state(prepared, seed=config.seed)
picture = display(look(initial, 0), display_id=True)
losses = []


def watched_step(state, batch):
    state, sums = prepared.train_step(state, batch)
    losses.append(sums["loss_sum"] / sums["loss_weight"])
    if len(losses) % 20 == 0:
        picture.update(look(state, len(losses)))
    return state, sums


watched = dataclasses.replace(prepared, train_step=watched_step)
result = experiment.train(watched, console=Console(quiet=True))

# %%
plt.figure(figsize=(6, 2.2))
plt.plot(np.asarray(losses))
plt.xlabel("step")
plt.ylabel("loss of a batch")
plt.show()

# %% [markdown]
# ## Evaluation
#
# One confusion matrix over the whole test split, which training has not seen: $n_{ij}$
# pixels of class $i$ were called $j$. From it, pixel accuracy
# $\sum_i n_{ii} / \sum_{ij} n_{ij}$ and, for each class, the intersection over union
#
# $$\mathrm{IoU}_i = \frac{n_{ii}}{\sum_j n_{ij} + \sum_j n_{ji} - n_{ii}},$$
#
# whose mean is mIoU (FCN, section 5). The second column calls every pixel the commonest
# class: what any score has to be compared with.

# %%
rows = [
    Row(config.model, result.scores, result.parameters, result.step_seconds),
    Row("majority", result.baseline, None, None),
]
console = Console(force_jupyter=False, force_terminal=False, width=90)
console.print(comparison_table(rows, title="test, 32 images"))
console.print(class_table(rows, dataset.table, title="IoU by class"))

# %% [markdown]
# The confusion matrix itself says which classes are taken for which. A row is a true
# class; what is off the diagonal has gone elsewhere.

# %%
confusion = draw_confusion(
    folder / "confusion.png",
    np.asarray(result.scores["confusion"]),
    names=dataset.table.names,
)
display(Image(confusion.read_bytes(), width=800))

# %% [markdown]
# ## Save, and load
#
# The run is saved already: its folder has the configuration, the log, TensorBoard's
# files, panels, scores, and checkpoints with a checksum for every file.

# %%
for path in sorted(config.workdir.iterdir()):
    print(path.name)

# %% [markdown]
# The folder is all that is needed to label a new image; the checkpoint knows its network,
# classes and colours. On a scene that is in no split:

# %%
predictor = load_predictor(config.workdir)
image, label = draw_example(seed=7, split="new", index=5, size=(64, 96))
probabilities = predict_image(predictor, image, image_size=predictor.image_size)
prediction = probabilities.argmax(axis=-1)

_, axes = plt.subplots(1, 4, figsize=(12, 2.3), layout="constrained")
for ax, title, pixels in zip(
    axes,
    ("new image", "label", "prediction", "probability of the prediction"),
    (
        image,
        colorize(label, predictor.table),
        colorize(prediction.astype(np.uint8), predictor.table),
        probabilities.max(axis=-1),
    ),
    strict=True,
):
    ax.imshow(pixels)
    ax.set_title(title, fontsize=9)
    ax.set_axis_off()
plt.show()

# %% [markdown]
# Nothing was lost on the way: the loaded network says of the test images that were kept
# what the trained one said, pixel for pixel.

# %%
for index, kept in zip(result.indices, result.predictions, strict=True):
    image = dataset.splits["test"][index]["image"]
    again = predict_image(predictor, image, image_size=None).argmax(axis=-1)
    print(index, "the same in", f"{np.mean(again == kept):.2%}", "of the pixels")

# %% [markdown]
# The same call again finds a finished run and reads it; one that was cut off goes on
# where it stopped. From a terminal:
#
# ```
# python -m segjax evaluate --run RUN        # more scores, with intervals
# python -m segjax predict --run RUN --input IMAGES --output labels/
# python -m segjax serve --run RUN           # a page to drop images on
# ```
#
# Next: `upsampling.ipynb`, how a decoder finds its way back, and `own_data.ipynb`.
