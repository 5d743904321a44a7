"""The U-Net of the paper: valid convolutions, crops, sizes, parameters."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from segjax.errors import InputError
from segjax.models import encoders
from segjax.models.decoders.fcn import FCNDecoder
from segjax.models.decoders.segnet import SegNetDecoder
from segjax.models.decoders.unet import UNetDecoder
from segjax.models.encoders import PooledEncoder
from segjax.models.layers import ConvNormAct
from segjax.models.segmenter import Segmenter


def unet(num_classes=2, *, width=1.0, encoder="VALID", decoder="VALID"):
    return Segmenter(
        encoders.unet(width=width, padding=encoder),
        UNetDecoder(num_classes, norm=False, padding=decoder),
    )


def abstract(module, x):
    """Shapes of what the module gives and of its variables."""
    run = partial(module.init_with_output, train=False)
    return jax.eval_shape(run, jax.random.key(0), x)


def image_of(height, width, channels=1):
    return jax.ShapeDtypeStruct((1, height, width, channels), jnp.float32)


def paper_size(side):
    """Side of the logits by figure 1, layer by layer; None where it breaks off."""
    for _ in range(4):
        side -= 4
        if side <= 0 or side % 2:
            return None
        side //= 2
    side -= 4
    for _ in range(4):
        side = 2 * side - 4
        if side <= 0:
            return None
    return side


@pytest.mark.parametrize(
    ("channels", "num_classes", "parameters"),
    # Counted on a replica of the figure.
    [(1, 2, 31_030_658), (3, 11, 31_032_395), (3, 21, 31_033_045)],
)
def test_parameters_and_output_of_the_paper(channels, num_classes, parameters):
    outputs, variables = abstract(unet(num_classes), image_of(572, 572, channels))
    leaves = jax.tree.leaves(variables["params"])
    assert sum(leaf.size for leaf in leaves) == parameters
    assert outputs["logits"].shape == (1, 388, 388, num_classes)


def test_maps_and_crops_of_the_paper():
    encoder = encoders.unet(padding="VALID")
    features, _ = abstract(encoder, image_of(572, 572))
    assert {s: m.shape[1:] for s, m in features.maps.items()} == {
        1: (568, 568, 64),
        2: (280, 280, 128),
        4: (136, 136, 256),
        8: (64, 64, 512),
        16: (28, 28, 1024),
    }
    assert {s: m.shape[1] for s, m in features.pooled.items()} == {
        2: 284,
        4: 140,
        8: 68,
        16: 32,
    }
    decoder = UNetDecoder(2, norm=False, padding="VALID")
    _, (_, seen) = jax.eval_shape(
        lambda key, f: (
            variables := decoder.init(key, f, train=False),
            decoder.apply(
                variables,
                f,
                train=False,
                capture_intermediates=lambda module, _: "up" in (module.name or ""),
                mutable=["intermediates"],
            ),
        ),
        jax.random.key(0),
        features,
    )
    upsampled = {
        int(name[2:]): maps["__call__"][0].shape[1]
        for name, maps in seen["intermediates"].items()
    }
    assert upsampled == {8: 56, 4: 104, 2: 200, 1: 392}
    crops = {s: (features.size(s)[0] - side) / 2 for s, side in upsampled.items()}
    assert crops == {8: 4, 4: 16, 2: 40, 1: 88}


def test_input_size_is_the_smallest_that_covers():
    model = unet(width=0.02)
    assert model.margin == 92
    sizes = {side: paper_size(side) for side in range(1, 700)}
    valid = {side: out for side, out in sizes.items() if out is not None}
    # 12 mod 16, from 188 on.
    assert list(valid) == list(range(188, 700, 16))
    assert valid[572] == 388
    for size in (1, 2, 4, 5, 20, 21, 387, 388, 389):
        smallest = min(side for side, out in valid.items() if out >= size)
        assert model.input_size((size, 388)) == (smallest, 572)


@pytest.mark.parametrize(
    ("stages", "bottleneck", "kernel_size"),
    [(((2,),), (), 3), (((2, 2, 2), (2,)), (2, 2, 2), 3), (((2,), (2, 2)), (2,), 5)],
)
def test_margin_follows_from_the_stages(stages, bottleneck, kernel_size):
    model = Segmenter(
        PooledEncoder(
            stages,
            bottleneck,
            kernel_size=kernel_size,
            padding="VALID",
            ceil_mode=False,
        ),
        UNetDecoder(2, padding="VALID"),
    )
    accepted = []
    for side in range(8, 72):
        try:
            outputs, _ = abstract(model, image_of(side, side))
        except InputError:
            continue
        assert outputs["logits"].shape[1] == side - 2 * model.margin
        accepted.append(side)
    for size in (1, 3, 4, 5):
        smallest = min(side for side in accepted if side - 2 * model.margin >= size)
        assert model.input_size((size, 1)) == (smallest, accepted[0])


@pytest.mark.parametrize(
    ("encoder", "decoder", "side", "margin"),
    [("SAME", "SAME", 32, 0), ("SAME", "VALID", 64, 30)],
)
def test_other_combinations_keep_the_contract(encoder, decoder, side, margin):
    model = unet(width=0.02, encoder=encoder, decoder=decoder)
    assert model.margin == margin
    needed = model.input_size((side - 2 * margin, 1))
    assert needed[0] == side
    outputs, _ = abstract(model, image_of(*needed))
    assert outputs["logits"].shape[1:3] == tuple(n - 2 * margin for n in needed)


@pytest.mark.parametrize("size", [(172, 188), (188, 200), (190, 188), (10, 10)])
def test_size_that_the_network_cannot_take(size):
    with pytest.raises(InputError, match=rf"image is {size[0]}x{size[1]} pixels"):
        abstract(unet(width=0.02), image_of(*size))


def test_too_small_names_what_is_needed():
    with pytest.raises(InputError, match=r"172x188 pixels.* needs 188x188"):
        abstract(unet(width=0.02), image_of(172, 188))


def conv(params, x):
    out = lax.conv_general_dilated(
        x,
        params["kernel"],
        (1, 1),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return out + params["bias"].reshape(1, 1, 1, -1)


def figure_one(params, x):
    """The forward pass, written from the figure with its four crops."""
    encoder, decoder = params["encoder"], params["decoder"]
    skips = []
    for level in range(1, 6):
        for j in (1, 2):
            x = jax.nn.relu(conv(encoder[f"conv{level}_{j}"]["conv"], x))
        if level < 5:
            skips.append(x)
            b, h, w, c = x.shape
            x = x.reshape(b, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))
    for stride, crop in ((8, 4), (4, 16), (2, 40), (1, 88)):
        up = decoder[f"up{stride}"]
        # Each pixel becomes a 2x2 block: a 1x1 convolution for each of its places.
        b, h, w, _ = x.shape
        blocks = jnp.einsum("bhwc,yxcf->bhywxf", x, up["kernel"])
        x = blocks.reshape(b, 2 * h, 2 * w, -1) + up["bias"].reshape(1, 1, 1, -1)
        skip = skips.pop()[:, crop:-crop, crop:-crop]
        x = jnp.concatenate([skip, x], axis=-1)
        for j in (1, 2):
            x = jax.nn.relu(conv(decoder[f"conv{stride}_{j}"]["conv"], x))
    return conv(decoder["classifier"], x)


def test_forward_pass_of_the_figure():
    model = unet(3, width=0.03)
    rng = np.random.default_rng(0)
    image = rng.normal(size=(1, 188, 204, 1)).astype(np.float32)

    def draw(leaf):
        scale = 0.1 if len(leaf.shape) == 1 else (2 / np.prod(leaf.shape[:-1])) ** 0.5
        return rng.normal(0, scale, leaf.shape).astype(np.float32)

    _, shapes = abstract(model, image)
    variables = jax.tree.map(draw, shapes)
    logits = jax.jit(partial(model.apply, train=False))(variables, image)["logits"]
    assert logits.shape == (1, 4, 20, 3)
    with jax.default_matmul_precision("highest"):
        expected = jax.jit(figure_one)(variables["params"], image)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_paddings_have_the_same_parameters():
    small = partial(unet, width=0.02)
    _, valid = abstract(small(), image_of(188, 188))
    _, same = abstract(small(encoder="SAME", decoder="SAME"), image_of(16, 16))
    shapes = partial(jax.tree.map, lambda leaf: leaf.shape)
    assert shapes(valid) == shapes(same)


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        (FCNDecoder(2, skips=(8,)), "FCNDecoder needs maps of the image's size"),
        (SegNetDecoder(2), "SegNetDecoder needs maps of the image's size"),
        (
            UNetDecoder(2, padding="SAME"),
            "stride 8 the skip has 64x64 pixels and the upsampled map 56x56",
        ),
    ],
)
def test_decoder_that_cannot_follow_valid_convolutions(decoder, message):
    model = Segmenter(encoders.unet(width=0.02, padding="VALID"), decoder)
    with pytest.raises(InputError, match=message):
        abstract(model, image_of(572, 572))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"padding": "VALID"}, "VALID needs max-pooling without ceil_mode"),
        ({"padding": "VALID", "pool": "stride", "ceil_mode": False}, "VALID needs max"),
        ({"padding": "same"}, "padding is 'same'"),
        ({"pool": "average"}, "pool is 'average'"),
    ],
)
def test_encoder_options_that_do_not_go_together(options, message):
    encoder = PooledEncoder(((2,), (2,)), **options)
    with pytest.raises(InputError, match=message):
        abstract(encoder, image_of(16, 16))


def test_encoder_that_strides_has_no_switches():
    encoder = PooledEncoder(((4,), (6, 8)), bottleneck=(3,), pool="stride")
    features, variables = abstract(encoder, image_of(11, 14))
    assert features.switches == {}
    assert {s: m.shape[1:] for s, m in features.pooled.items()} == {
        2: (6, 7, 4),
        4: (3, 4, 8),
    }
    assert {s: m.shape[1:] for s, m in features.maps.items()} == {
        1: (11, 14, 4),
        2: (6, 7, 8),
        4: (3, 4, 3),
    }
    assert variables["params"]["pool2"]["conv"]["kernel"].shape == (3, 3, 8, 8)
    assert variables["params"]["pool2"]["bn"]["scale"].shape == (8,)
    with pytest.raises(InputError, match="has none there: it does not max-pool"):
        abstract(Segmenter(encoder, SegNetDecoder(2)), image_of(11, 14))


@pytest.mark.parametrize("side", [6, 7])
@pytest.mark.parametrize(
    ("kernel_size", "stride", "padding"),
    [(3, 1, "SAME"), (4, 1, "SAME"), (3, 2, "SAME"), (3, 1, "VALID"), (5, 2, "VALID")],
)
def test_convolution_by_brute_force(side, kernel_size, stride, padding):
    layer = ConvNormAct(
        2, kernel_size, stride=stride, padding=padding, norm=False, activation=None
    )
    x = np.asarray(jax.random.normal(jax.random.key(0), (1, side, side, 3)))
    variables = layer.init(jax.random.key(1), x, train=False)
    kernel = np.asarray(variables["params"]["conv"]["kernel"])
    before, after = (
        ((kernel_size - 1) // 2, kernel_size // 2) if padding == "SAME" else (0, 0)
    )
    padded = np.pad(x[0], ((before, after), (before, after), (0, 0)))
    starts = range(0, padded.shape[0] - kernel_size + 1, stride)
    if padding == "SAME":
        assert len(starts) == -(-side // stride)
    expected = [
        [
            np.einsum(
                "yxc,yxcf->f",
                padded[i : i + kernel_size, j : j + kernel_size],
                kernel,
            )
            for j in starts
        ]
        for i in starts
    ]
    np.testing.assert_allclose(
        layer.apply(variables, x, train=False)[0], expected, atol=1e-5
    )
