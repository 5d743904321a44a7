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
# # Your own data
#
# A folder of images and masks becomes a trained network and predictions on new images
# with three commands, and no Python file. Here the folder is made on the spot: cells
# under a microscope, drawn; put yours in its place.

# %%
import html
import os
import tempfile

import numpy as np
from IPython.display import HTML, Image, display
from PIL import Image as Pictures

from segjax.data.folder import read_classes
from segjax.inference.image_files import read_image
from segjax.inference.label_files import read_label
from segjax.report.contact_page import write_contact_page
from segjax.report.contact_sheet import draw_sheet, make_sheet

os.environ["TTY_COMPATIBLE"] = "0"  # no progress bars in the commands' output
os.chdir(tempfile.mkdtemp(prefix="segjax-own-data-"))

# %% [markdown]
# ## A folder of images and masks
#
# `images/` holds the images and `labels/` the masks: of `images/a.jpg` the mask is
# `labels/a.png`, one channel of class values (or a palette, or RGB colours). That is all.
# The cells overlap, the light is uneven, and there is noise.


# %%
def draw_cells(rng, side=96):
    """A micrograph and its mask: 0 background, 1 cell, 2 nucleus."""
    y, x = np.mgrid[:side, :side]
    light = 150 + 40 * np.sin((x * rng.normal() + y * rng.normal()) / side)
    image = light[..., None] * np.array([1.0, 0.93, 0.97])
    mask = np.zeros((side, side), np.uint8)
    for _ in range(rng.integers(4, 9)):
        cy, cx = rng.uniform(0, side, 2)
        radius, turn = rng.uniform(8, 15), rng.uniform(0, np.pi)
        u = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
        v = (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
        far = np.hypot(u, 1.4 * v) / radius
        image[far < 1] *= 0.55 + 0.3 * far[far < 1, None] * [1.0, 0.8, 1.1]
        mask[far < 1] = 1
        nucleus = np.hypot(u - 1, v + 1) < 0.35 * radius
        image[nucleus] = image[nucleus] * 0.5 + [20, 0, 45]
        mask[nucleus & (far < 1)] = 2
    image += rng.normal(0, 8, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), mask


data = pathlib.Path("my_data")
for folder in ("images", "labels"):
    (data / folder).mkdir(parents=True)
for index in range(60):
    image, mask = draw_cells(np.random.default_rng(index))
    Pictures.fromarray(image).save(
        data / "images" / f"slide{index:02d}.jpg", quality=90
    )
    Pictures.fromarray(mask).save(data / "labels" / f"slide{index:02d}.png")

# %% [markdown]
# A `classes.txt` says what the values mean, and in which colours to show them. It is
# optional: without one the values that occur become classes, and a `classes.txt` is
# written to be edited.

# %%
classes = data / "classes.txt"
classes.write_text("""\
0, background, 38, 38, 58
1, cell, 120, 180, 220
2, nucleus, 240, 90, 140
""")
table = read_classes(classes)
print(table.names, table.colors)

# %% [markdown]
# ## First command: check
#
# Reads every file before a training run does. It names what cannot be read, masks with
# values that are no class, images without masks, and images that occur twice.

# %% language="bash"
# python -m segjax data check folder --data-dir my_data

# %% [markdown]
# `check` is for the day when something is wrong. A mask with a value that no line of
# `classes.txt` names is found, with its name:

# %% language="bash"
# cp -r my_data broken
# python -c "
# from PIL import Image
# mask = Image.open('broken/labels/slide07.png')
# mask.putpixel((10, 10), 77)
# mask.save('broken/labels/slide07.png')"
# python -m segjax data check folder --data-dir broken 2>&1 || true

# %% [markdown]
# ## Second command: train
#
# Sizes, batch and recipe are chosen from the data, and every fifth image or so is held
# back. Without `--model`, `--width` and `--steps` it is a U-Net of a quarter of the
# paper's channels and 1000 steps, which is what you want on a GPU. Here it should be done
# soon on a CPU.

# %% language="bash"
# python -m segjax train --data-dir my_data --workdir run --model fcn_basic_4x4 \
#     --steps 90 --learning-rate 0.01

# %% [markdown]
# ## Third command: predict
#
# On images that the network has never seen, and nobody has labelled. The run's folder
# says everything else.

# %%
new = pathlib.Path("new_images")
new.mkdir()
for index in range(6):
    image, _ = draw_cells(np.random.default_rng(1000 + index))
    Pictures.fromarray(image).save(new / f"new{index}.jpg", quality=90)

# %% language="bash"
# python -m segjax predict --run run --input new_images --output labels
# ls labels labels/overlays

# %% [markdown]
# ## A page of predictions
#
# `labels/` holds indexed PNGs, and overlays to look at. All of them on one page, with a
# legend that isolates classes and how often each was predicted; one file that loads
# nothing from anywhere, to be mailed to whoever knows the cells.

# %%
examples = [
    {
        "image": read_image(path),
        "label": read_label(pathlib.Path("labels") / f"{path.stem}.png"),
        "id": path.stem,
    }
    for path in sorted(new.iterdir())
]
sheet = make_sheet(
    examples, range(len(examples)), table=table, title="predictions on new images"
)
command = "python -m segjax predict --run run --input new_images --output labels"
page = write_contact_page(pathlib.Path("page.html"), sheet, command=command)
inside = html.escape(page.read_text())
frame = f'<iframe srcdoc="{inside}" width="100%" height="600"></iframe>'
display(HTML(f"<div>{frame}</div>"))

# %% [markdown]
# The same as a picture:

# %% tags=["keep-output"]
display(Image(draw_sheet(pathlib.Path("page.png"), sheet).read_bytes()))

# %% [markdown]
# The page that takes images as they come, dropped or pasted, and compares several runs:
#
# ```
# pip install "segjax[serve]"
# python -m segjax serve --run run
# ```
#
# And with numbers: `python -m segjax evaluate --run run` scores the images that were held
# back, with intervals.
