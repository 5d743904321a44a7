"""Segmenter: an encoder and a decoder make a segmentation network."""

import jax
from flax import linen as nn


class Segmenter(nn.Module):
    """Encoder, then decoder: image to per-pixel class scores.

    `model.apply(variables, image, train=...)` maps a normalised float image
    `[b h w 3]` to `{"logits": float32 [b h w num_classes]}` at image resolution.
    Raises `InputError` at trace time if the image's size is not one that the
    encoder can take; `model.multiple` is what both sides must be multiples of.

    With `train=True` batch statistics are updated (`mutable=["batch_stats"]`) and
    dropout draws from the `dropout` random stream.
    """

    encoder: nn.Module
    decoder: nn.Module

    @property
    def multiple(self) -> int:
        """What the image's sides must be multiples of, in pixels."""
        return self.encoder.multiple

    def __call__(self, image: jax.Array, *, train: bool) -> dict[str, jax.Array]:
        features = self.encoder(image, train=train)
        return {"logits": self.decoder(features, train=train)}
