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
# # Three ways back to image resolution
#
# A convolutional network that names what is in an image throws away where it is: every
# pooling halves the map. To name every pixel, it has to come back. FCN (2014), U-Net
# (2015) and SegNet (2015) do it in three ways, and the difference is a question of what
# the decoder is told:
#
# | | upsampling | from the encoder |
# | --- | --- | --- |
# | FCN, [arXiv 1411.4038](https://arxiv.org/abs/1411.4038) | transposed convolution of class scores | scores of finer maps, added |
# | U-Net, [arXiv 1505.04597](https://arxiv.org/abs/1505.04597) | transposed convolution of maps | whole maps, concatenated |
# | SegNet, [arXiv 1511.00561](https://arxiv.org/abs/1511.00561) | unpooling | where each maximum was, 2 bits |
#
# Every picture here is computed by the functions that the networks are made of,
# `segjax.ops`.

# %%
import functools
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import pyplot as plt
from rich.console import Console

from segjax import experiment, metrics
from segjax.configuration import Config
from segjax.costs import border
from segjax.data.datasets import open_dataset
from segjax.data.labels import CAMVID, VOID, colorize
from segjax.data.street_scenes import draw_example
from segjax.ops.convolution import conv_general_dilated
from segjax.ops.normalization import normalize
from segjax.ops.pooling import max_pool_with_switches, max_unpool, pack_switches
from segjax.ops.resampling import bilinear_kernel, resize_bilinear, upsample_bilinear
from segjax.ops.transposed_convolution import conv_transpose
from segjax.training import checkpoint

folder = pathlib.Path(tempfile.mkdtemp(prefix="segjax-upsampling-"))
print("devices:", jax.devices())


def show(pictures, *, height=2.2, **style):
    """Pictures by title, side by side."""
    _, axes = plt.subplots(
        1, len(pictures), figsize=(12, height), layout="constrained", squeeze=False
    )
    for ax, (title, picture) in zip(axes[0], pictures.items(), strict=True):
        ax.imshow(picture, interpolation="nearest", **style)
        ax.set_title(title, fontsize=9)
        ax.set_xticks([])
        ax.set_yticks([])
    plt.show()


# %% [markdown]
# ## A convolution is a matrix
#
# Write the image as one long vector $x$. Every output pixel is a weighted sum of input
# pixels, so a convolution is $y = Cx$ with a matrix $C$ in which each row holds the
# kernel, shifted. We need not build it by hand: it is the derivative of the operation.
# (Dumoulin and Visin, [arXiv 1603.07285](https://arxiv.org/abs/1603.07285), section 4.)

# %%
kernel = jnp.arange(1.0, 10.0).reshape(3, 3, 1, 1)
x = jax.random.normal(jax.random.key(0), (1, 6, 6, 1))


def convolve(x, stride):
    return conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


matrices = {}
for stride in (1, 3):
    y = convolve(x, stride)
    derivative = jax.jacrev(functools.partial(convolve, stride=stride))(x)
    matrices[stride] = derivative.reshape(y.size, x.size)
    np.testing.assert_allclose(
        matrices[stride] @ x.ravel(), y.ravel(), rtol=1e-4, atol=1e-4
    )
show(
    {
        f"stride {stride}: C is {matrix.shape[0]} x {matrix.shape[1]}": matrix
        for stride, matrix in matrices.items()
    },
    height=3,
    cmap="Blues",
)

# %% [markdown]
# Left, stride 1: nine diagonals, one for each weight, in bands of three. Right, stride
# 3: four rows remain, and 36 numbers become 4. Nothing can undo that, $C$ has no
# inverse. But there is a matrix of the right shape to go from 4 numbers to 36.
#
# ## Its transpose
#
# $C^\top$ leads from the small map to the large one, with the same connections: where
# $y_i$ was made of $x_j$, now $x_j$ gets from $y_i$, with the same weight. That is what
# *transposed convolution* means; "deconvolution" it is not. It is also what
# backpropagation does with the gradient of a convolution (FCN, section 3.3).

# %%
for stride, matrix in matrices.items():
    y = convolve(x, stride)
    by_matrix = (matrix.T @ y.ravel()).reshape(x.shape)
    by_segjax = conv_transpose(y, kernel, stride=stride)
    np.testing.assert_allclose(by_matrix, by_segjax, rtol=1e-4, atol=1e-3)
    print(f"stride {stride}: {y.shape[1:3]} -> {by_segjax.shape[1:3]}, C^T y the same")

# %% [markdown]
# ## Tiling the filter, adding the overlaps
#
# Nobody multiplies by $C^\top$. Read by columns it says: each input pixel $y_{ij}$
# stamps a copy of the kernel, times its value, onto the output, $s$ pixels further for
# every step, and what overlaps is added:
#
# $$\mathrm{out}[s i + u,\; s j + v] \mathrel{+}= y[i, j]\; k[u, v].$$
#
# Below, a 3x3 kernel at stride 2. Each input pixel alone, then all together.

# %%
stamp = jnp.array([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]).reshape(3, 3, 1, 1)
y = jnp.array([[1.0, 0.6], [0.4, 0.8]]).reshape(1, 2, 2, 1)
alone = [y * jnp.zeros_like(y).at[0, i, j].set(1) for i in (0, 1) for j in (0, 1)]
stamped = [conv_transpose(one, stamp, stride=2) for one in alone]
together = conv_transpose(y, stamp, stride=2)
np.testing.assert_allclose(sum(stamped), together, rtol=1e-5)
show(
    {"input": y[0, ..., 0]}
    | {f"pixel {n}": s[0, ..., 0] for n, s in enumerate(stamped, start=1)}
    | {"all": together[0, ..., 0]},
    cmap="magma",
    vmin=0,
)

# %% [markdown]
# ## Checkerboards
#
# How many stamps meet at a pixel? Put ones everywhere, kernel and map, and count. Where
# the stride divides the side of the kernel, all pixels inside get equally many. Where it
# does not, some get twice or four times as much as their neighbours, in a regular
# pattern: the checkerboard of Odena et al. (Distill, 2016,
# [doi 10.23915/distill.00003](https://doi.org/10.23915/distill.00003)).

# %%
counts = {
    f"kernel {k}, stride 2": conv_transpose(
        jnp.ones((1, 6, 6, 1)), jnp.ones((k, k, 1, 1)), stride=2
    )[0, ..., 0]
    for k in (2, 3, 4, 5)
}
show(counts, height=3, cmap="viridis", vmin=0)

# %% [markdown]
# Training may learn weights that even this out; at the start it is there. To see it on a
# scene, a map at stride 8 goes up three times: by transposed convolution of kernel 3 with
# random positive weights, by nearest neighbour and a convolution with the same weights,
# and by the bilinear kernel that FCN starts from. Below them the spectra: a grid of dots
# is a pattern that repeats every few pixels, and the image itself has none.

# %%
image, label = draw_example(seed=0, split="lecture", index=3, size=(96, 144))
grey = jnp.asarray(image.mean(axis=-1) / 255, jnp.float32)[None, ..., None]
small = resize_bilinear(grey, (12, 18), align_corners=False)
weights = jax.random.uniform(jax.random.key(2), (3, 3, 1, 1)) + 0.2
weights = weights / weights.sum()


def by_stamps(x):
    return conv_transpose(x, 4 * weights, stride=2, padding=1, output_padding=1)


def by_resizing(x):
    x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
    return conv_general_dilated(
        x, weights, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def by_tents(x):
    return conv_transpose(x, bilinear_kernel(4, 1), stride=2, padding=1)


ways = {
    "transposed, random": by_stamps,
    "nearest + conv": by_resizing,
    "transposed, bilinear": by_tents,
}
up = {title: way(way(way(small)))[0, ..., 0] for title, way in ways.items()}
show({"at stride 8": small[0, ..., 0]} | up, cmap="gray")
show(
    {
        "spectrum of the image" if title == "image" else title: np.log1p(
            np.abs(np.fft.fftshift(np.fft.fft2(maps - maps.mean())))
        )
        for title, maps in ({"image": grey[0, ..., 0]} | up).items()
    },
    cmap="magma",
)

# %% [markdown]
# ## Interpolation is a transposed convolution
#
# The kernel on the right below is that of bilinear interpolation, a tent in both
# directions: $(1 - |i - m|/f)(1 - |j - m|/f)$. FCN's transposed convolutions start with
# it and may leave it (section 3.3). `upsample_bilinear` gives the same, cheaper.

# %%
tent = bilinear_kernel(16, 1)
by_kernel = conv_transpose(small, tent, stride=8)
np.testing.assert_allclose(by_kernel, upsample_bilinear(small, ratio=8), atol=1e-5)
show(
    {
        "stride 8": small[0, ..., 0],
        "through the tent": by_kernel[0, ..., 0],
        "the tent, 16x16": tent[..., 0, 0],
    },
    cmap="gray",
)

# %% [markdown]
# ## How good can a coarse map be?
#
# Suppose that a network is never wrong, but answers at stride $r$ only: each of its
# pixels knows what share every class has there. Upsampled, what is its mIoU? FCN's
# appendix A asks this of Pascal VOC; here it is asked of one scene. At stride 32 a network
# that is never wrong has lost all poles and people: hence FCN-16s and FCN-8s.

# %%
truth = jax.nn.one_hot(jnp.asarray(label), CAMVID.num_classes, dtype=jnp.float32)[None]
bounds = {"label": colorize(label, CAMVID)}
for ratio in (32, 16, 8, 4):
    padded = jnp.pad(truth, ((0, 0), (0, -96 % ratio), (0, -144 % ratio), (0, 0)))
    tiles = padded.reshape(
        1, padded.shape[1] // ratio, ratio, padded.shape[2] // ratio, ratio, -1
    )
    scores = resize_bilinear(
        tiles.mean(axis=(2, 4)), padded.shape[1:3], align_corners=False
    )
    best = jnp.argmax(scores, axis=-1).astype(jnp.uint8)[:, :96, :144]
    confusion = metrics.confusion_matrix(best, label[None], CAMVID.num_classes)
    miou = metrics.scores(np.asarray(confusion))["miou"]
    best = np.where(label == VOID, VOID, best[0])
    bounds[f"stride {ratio}: mIoU {miou:.2f}"] = colorize(best, CAMVID)
show(bounds)

# %% [markdown]
# ## Pooling forgets where
#
# Max-pooling keeps the largest of four pixels, and forgets which it was. A *switch*
# remembers: 0 to 3, two bits. Unpooling puts each value back to its place and leaves
# zeros around it (SegNet, section 3; DeconvNet,
# [arXiv 1505.04366](https://arxiv.org/abs/1505.04366), section 3.2).

# %%
numbers = jnp.array([[1.0, 3, 2, 0], [4, 2, 1, 5], [0, 1, 7, 6], [2, 2, 3, 8]])
pooled, switches = max_pool_with_switches(numbers[None, ..., None])
print("pooled\n", pooled[0, ..., 0], "\nswitches\n", switches[0, ..., 0])
back = max_unpool(pooled, switches, size=(4, 4))
print("unpooled\n", back[0, ..., 0])

# %% [markdown]
# On the scene, twice in a row. From the same small map, the switches bring back
# *where the edges were*, to the pixel; bilinear interpolation, which is not told, gives
# a blur. What is between the edges the switches do not know: that is for the decoder's
# convolutions to fill in.

# %%
edges = jnp.abs(grey - resize_bilinear(small, (96, 144), align_corners=False))
maps, all_switches = [edges], []
for _ in range(2):
    pooled, switches = max_pool_with_switches(maps[-1])
    maps.append(pooled)
    all_switches.append(switches)
unpooled = maps[-1]
for finer, switches in zip(maps[-2::-1], reversed(all_switches), strict=True):
    unpooled = max_unpool(unpooled, switches, size=finer.shape[1:3])
show(
    {
        "a map": edges[0, ..., 0],
        "pooled to stride 4": maps[-1][0, ..., 0],
        "bilinear": upsample_bilinear(maps[-1], ratio=4)[0, ..., 0],
        "unpooled twice": unpooled[0, ..., 0],
    },
    cmap="gray",
)

# %% [markdown]
# Switches are cheap to hand over: four of them to a byte, where a float32 map has sixteen
# bytes.

# %%
switches = jnp.zeros((1, 48, 72, 64), jnp.uint8)
print("switches:", pack_switches(switches).nbytes, "bytes")
print("the map that was pooled:", 4 * switches.size * 4, "bytes")

# %% [markdown]
# ## Skips
#
# The other way to know where things are: let the decoder have the encoder's finer maps.
# FCN *adds* scores, so a skip must speak of classes; U-Net *concatenates* maps and lets
# convolutions make of them what they can. Adding in one picture: the best coarse answer
# at stride 16 says what, the sharp but ignorant map says where the edges are.

# %%
size = grey.shape[1:3]


def through(small_size):
    """The scene as a map of `small_size` knows it."""
    shrunk = resize_bilinear(grey, small_size, align_corners=False)
    return resize_bilinear(shrunk, size, align_corners=False)


coarse = through((6, 9))
fine = grey - through((24, 36))
show(
    {
        "coarse: what": coarse[0, ..., 0],
        "skip: where": fine[0, ..., 0],
        "sum": (coarse + fine)[0, ..., 0],
        "image": grey[0, ..., 0],
    },
    cmap="gray",
)

# %% [markdown]
# ## What each decoder sees
#
# Now the networks themselves: one encoder, three decoders, each trained briefly. First,
# what crosses the border between the two, read off the compiled decoder's inputs: the
# encoder computes the same for all three, and each decoder takes what it needs.

# %%
NETWORKS = {"FCN": "fcn_basic_4x4", "U-Net": "unet_basic", "SegNet": "segnet_basic"}
dataset = open_dataset("street_scenes", counts={"train": 96, "val": 4})


def recipe(model):
    return Config(
        name="lecture",
        dataset="street_scenes",
        model=model,
        width=0.25,
        crop_size=(64, 96),
        optimizer="adamw",
        learning_rate=1e-2,
        schedule="cosine",
        warmup_steps=10,
        steps=60,
        batch_size=4,
        eval_batch_size=4,
        eval_every=60,
        panels=0,
        workdir=folder / model,
    )


prepared = {
    title: experiment.prepare(recipe(model), dataset=dataset)
    for title, model in NETWORKS.items()
}
for title, network in prepared.items():
    tensors = border(network.model, (64, 96, 3))
    print(f"{title}: {sum(t.num_bytes for t in tensors):,} bytes")
    for tensor in tensors:
        print("  ", tensor.name, tensor.type)

# %% [markdown]
# Two bits against whole maps. Now train (a couple of hundred steps would do more for
# SegNet, which has to learn most), and look at one image on its way through all three.

# %%
runs = {}
for title, network in prepared.items():
    trained = experiment.train(network, console=Console(quiet=True))
    print(f"{title}: mIoU {trained.scores['miou']:.3f} after {trained.step} steps")

# %% [markdown]
# From left to right, the way up. **FCN** carries classes: at every stride the picture is
# the class with the highest score, after the finer map's scores were added; the last step
# only interpolates. **U-Net** carries maps, whose mean over the channels is shown; at each
# stride the encoder's map of that size has come in, so outlines are there from the start.
# **SegNet** carries maps, too; shown is what unpooling makes of one channel, before the
# convolutions: values on black, each where the encoder had found its maximum.


# %%
@functools.partial(jax.jit, static_argnums=0)
def on_the_way(model, variables, image):
    """The encoder's features, what the decoder's layers gave, and the prediction."""
    features = model.apply(variables, normalize(image), train=False, method="encode")
    outputs, seen = model.apply(
        variables,
        features,
        train=False,
        method="decode",
        capture_intermediates=True,
        mutable=["intermediates"],
    )
    layers = {
        name: layer["__call__"][0]
        for name, layer in seen["intermediates"]["decoder"].items()
        if name != "__call__"
    }
    return features, layers, jnp.argmax(outputs["logits"], axis=-1)


def way_up(title, features, layers):
    """What the decoder has at strides 8, 4, 2 and 1, as pictures."""
    for stride in (8, 4, 2, 1):
        if title == "FCN":
            scores = layers[f"upscore{2 * stride}"]
            if stride > 1:
                scores = scores + layers[f"score{stride}"]
            yield colorize(np.asarray(scores[0].argmax(axis=-1), np.uint8), CAMVID)
        elif title == "U-Net":
            yield layers[f"conv{stride}_2"][0].mean(axis=-1)
        else:
            coarser = 2 * stride
            x = features.maps[16] if coarser == 16 else layers[f"conv{coarser}_1"]
            unpooled = features.unpool(x, coarser)[0]
            yield unpooled[..., unpooled.mean(axis=(0, 1)).argmax()]


# %% tags=["keep-output"]
example = dataset.splits["val"][2]
figure, axes = plt.subplots(3, 6, figsize=(13, 5), layout="constrained")
for row, (title, network) in zip(axes, prepared.items(), strict=True):
    saved = checkpoint.read(network.config.workdir / "checkpoints")
    variables = {"params": saved.params, "batch_stats": saved.batch_stats}
    features, layers, prediction = on_the_way(
        network.model, variables, example["image"][None]
    )
    last = colorize(np.asarray(prediction[0], np.uint8), CAMVID)
    pictures = [example["image"], *way_up(title, features, layers), last]
    for ax, picture in zip(row, pictures, strict=True):
        ax.imshow(picture, interpolation="nearest", cmap="magma")
        ax.set_xticks([])
        ax.set_yticks([])
    row[0].set_ylabel(title, fontsize=12)
names = ("image", "stride 8", "stride 4", "stride 2", "stride 1", "prediction")
for ax, name in zip(axes[0], names, strict=True):
    ax.set_title(name, fontsize=10)
plt.show()

# %% [markdown]
# Which way is best is a question to be measured, with everything else held equal:
# `ablation.ipynb`.
