"""Segmenter: an encoder and a decoder make a segmentation network."""

import jax
from flax import linen as nn

from segjax.errors import InputError
from segjax.models.features import Features


class Segmenter(nn.Module):
    """Encoder, then decoder: image to per-pixel class scores.

    `model.apply(variables, image, train=...)` maps a normalised float image
    `[b h w 3]` to `{"logits": float32 [b h' w' num_classes]}`, the scores of the
    image's pixels but those within `margin` of its border. Raises `InputError` at
    trace time for an image of a size that the network cannot take; `input_size` says
    which sizes it can.

    With `train=True` batch statistics are updated (`mutable=["batch_stats"]`) and
    dropout draws from the `dropout` random stream.

    Attributes:
      encoder: maps the image to `Features`; has `margin` and `input_size` itself, for
        its deepest map.
      decoder: maps `Features` to logits. One that loses context has a method
        `margin(encoder)`, the pixels that it loses on every side.
      neck: maps `Features` to `Features` on the encoder's side: what a decoder wants
        reduced before it is kept. None keeps everything as it is.
    """

    encoder: nn.Module
    decoder: nn.Module
    neck: nn.Module | None = None

    @property
    def margin(self) -> int:
        """Pixels of context lost on every side; 0 unless convolutions are valid."""
        return self.encoder.margin + self._decoder_margin

    @nn.nowrap
    def input_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the smallest image whose logits cover `size`.

        An image can be taken as it is if and only if it has the `input_size` of
        itself less `2 * margin`.
        """
        lost = 2 * self._decoder_margin
        return self.encoder.input_size(tuple(max(1, side) + lost for side in size))

    @property
    def _decoder_margin(self) -> int:
        margin = getattr(self.decoder, "margin", None)
        return 0 if margin is None else margin(self.encoder)

    def __call__(self, image: jax.Array, *, train: bool) -> dict[str, jax.Array]:
        features = self.encode(image, train=train)
        self._check_sizes(image.shape[1:3])
        return self.decode(features, train=train)

    def encode(self, image: jax.Array, *, train: bool) -> Features:
        """Everything on the encoder's side of the border between the two."""
        features = self.encoder(image, train=train)
        return features if self.neck is None else self.neck(features, train=train)

    def decode(self, features: Features, *, train: bool) -> dict[str, jax.Array]:
        """The decoder's side: what `encode` returned to logits."""
        return {"logits": self.decoder(features, train=train)}

    def _check_sizes(self, size: tuple[int, int]) -> None:
        """Raises InputError where encoder and decoder, or image and both, misfit."""
        if self.encoder.margin and not hasattr(self.decoder, "margin"):
            raise InputError(
                f"{type(self.decoder).__name__} needs maps of the image's size, but "
                f"the encoder loses {self.encoder.margin} pixels on every side to "
                "valid convolutions: give it padding SAME"
            )
        needed = self.input_size(tuple(side - 2 * self.margin for side in size))
        if tuple(size) != needed:
            raise InputError(
                f"image is {size[0]}x{size[1]} pixels, but this network needs "
                f"{needed[0]}x{needed[1]}, the next size that it takes: pad it"
            )
