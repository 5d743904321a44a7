"""PyTorch's side of the comparison: eager or compiled, on the GPU or all cores."""

import copy
import os
from collections.abc import Callable

import numpy as np
import torch
from side_by_side.cases import NUM_CLASSES, Case, Programs
from side_by_side.torch_networks import NETWORKS
from side_by_side.torch_weights import to_state_dict
from torch import nn
from torch.nn import functional as F

from segjax.errors import InputError

_VOID = 255
# Those of segjax.ops.normalization, which imports JAX.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


def open_programs(
    case: Case,
    weights: dict[str, np.ndarray],
    image: np.ndarray,
    label: np.ndarray,
    *,
    compiled: bool,
    dtype: str = "float32",
) -> Programs:
    """The case in PyTorch: channels last, on the GPU if there is one.

    Where there is none it takes the cores that this process may use. Training goes on
    from call to call on weights of its own, with buffers that its first call makes;
    everything else always uses `weights`.

    With "bfloat16" the network runs under autocast: convolutions, the classifier
    too, are bfloat16, while parameters, statistics and the loss are float32. segjax's
    classifiers are float32.

    On a GPU convolutions of float32 are PyTorch's default, which is TF32 where there
    is any, as in JAX.

    Args:
      case: network and factor on its channels; its size is that of `image`.
      weights: segjax's, path -> array.
      image: uint8 `[b h w 3]`.
      label: uint8 `[b h' w']` of the size of the logits, 255 = void.
      compiled: by `torch.compile`, in its default mode.
      dtype: of the computation, "float32" or "bfloat16".

    Raises:
      InputError: no such network or dtype, weights that do not fit, or other sizes.
    """
    _check(case, image, label, dtype)
    if compiled:
        # Its limit on compilations of a function counts those of other networks.
        torch.compiler.reset()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    # Sizes do not change, so that it pays to try cuDNN's algorithms.
    torch.backends.cudnn.benchmark = True

    network = NETWORKS[case.network](NUM_CLASSES, case.channels)
    network.load_state_dict(to_state_dict(network, weights))
    network = network.to(device, memory_format=torch.channels_last).eval()
    images, labels = (torch.from_numpy(a.copy()).to(device) for a in (image, label))
    # Inside of what is compiled, so that its parts can be fused with the network's.
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16")
    compile_ = torch.compile if compiled else _as_it_is

    def forward(network, image):
        with autocast:
            return network(_normalised(image)).float()

    predict_logits = compile_(forward)

    @compile_
    def predict(network, image):
        return forward(network, image).argmax(dim=1).to(torch.uint8)

    @compile_
    def evaluate(network, image, label):
        logits = forward(network, image)
        return _loss(logits, label), _cells(logits.argmax(dim=1), label)

    @compile_
    def loss_of(network, image, label):
        return _loss(forward(network, image), label)

    @torch.inference_mode()
    def logits(image: np.ndarray) -> np.ndarray:
        result = predict_logits(network, torch.from_numpy(image.copy()).to(device))
        return result.permute(0, 2, 3, 1).contiguous().cpu().numpy()

    @torch.inference_mode()
    def inference() -> torch.Tensor:
        return _waited(predict(network, images))

    @torch.inference_mode()
    def evaluation() -> dict[str, object]:
        loss, cells = evaluate(network, images, labels)
        counts = torch.bincount(cells.flatten(), minlength=NUM_CLASSES**2 + 1)
        confusion = counts[:-1].reshape(NUM_CLASSES, NUM_CLASSES)
        return {"loss": loss.item(), "confusion": confusion.cpu().numpy()}

    return Programs(
        logits=logits,
        phases={
            "training": _training(network, loss_of, images, labels),
            "inference": inference,
            "evaluation": evaluation,
        },
        cost=lambda phase: None,
    )


def _training(
    network: nn.Module, loss_of: Callable, images: torch.Tensor, labels: torch.Tensor
) -> Callable[[], float]:
    """A function that takes the next step and returns the loss before its update."""
    started = []

    def start():
        trained = copy.deepcopy(network).train()
        optimizer = torch.optim.SGD(
            trained.parameters(), lr=0.1, momentum=0.9, fused=True
        )
        return trained, optimizer

    def step() -> float:
        if not started:
            started.extend(start())
        trained, optimizer = started
        optimizer.zero_grad()
        loss = loss_of(trained, images, labels)
        loss.backward()
        optimizer.step()
        return _waited(loss.detach()).item()

    return step


def _normalised(image):
    """uint8 `[b h w 3]` to float32 `[b 3 h w]`, whose memory stays channels last."""
    mean, std = (
        torch.tensor(values, device=image.device).reshape(1, 3, 1, 1)
        for values in (_MEAN, _STD)
    )
    return (image.permute(0, 3, 1, 2).float() / 255.0 - mean) / std


def _loss(logits, label):
    return F.cross_entropy(logits, label.long(), ignore_index=_VOID)


def _cells(prediction, label):
    """Position of every pixel in the confusion matrix, void in one cell more."""
    label = label.long()
    return torch.where(label == _VOID, NUM_CLASSES**2, label * NUM_CLASSES + prediction)


def _as_it_is(function):
    return function


def _waited(tensor):
    """The tensor, when it is there, and everything that was asked for before it."""
    if tensor.is_cuda:
        torch.cuda.synchronize()
    return tensor


def _check(case, image, label, dtype):
    if case.network not in NETWORKS:
        raise InputError(
            f"no PyTorch network {case.network!r}: expected one of "
            f"{', '.join(NETWORKS)}"
        )
    if dtype not in ("float32", "bfloat16"):
        raise InputError(f"dtype is {dtype!r}, expected float32 or bfloat16")
    expected = (case.batch_size, case.height, case.width, 3)
    if image.dtype != np.uint8 or image.shape != expected:
        raise InputError(
            f"image must be uint8 {list(expected)}, got {image.dtype} "
            f"{list(image.shape)}"
        )
    if label.dtype != np.uint8 or label.ndim != 3:
        raise InputError(
            f"label must be uint8 [b h w], got {label.dtype} {list(label.shape)}"
        )
