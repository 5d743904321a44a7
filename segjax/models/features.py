"""What an encoder hands to a decoder."""

import flax.struct
import jax

from segjax.errors import InputError
from segjax.ops.pooling import max_unpool, unpack_switches


@flax.struct.dataclass
class Features:
    """Every map an encoder makes, by stride; the compiler drops what is not read.

    A stride `s` means "the image's sides divided by s, rounded up" (ceil-mode
    pooling) or exactly divided (floor mode, which demands divisible sides).

    Attributes:
      maps: stride -> last map at that stride, `[b h/s w/s c]`. `maps[1]` is at
        image resolution, `maps[max(maps)]` is where a decoder starts.
      pooled: stride -> output of the pooling that reaches that stride.
      switches: stride -> position of each maximum of that pooling, 2 bits each, four
        channels to a byte: uint8 `[b h w ceil(c / 4)]` for `pooled[stride]`
        `[b h w c]`. Empty where the encoder does not pool by maxima.
    """

    maps: dict[int, jax.Array]
    pooled: dict[int, jax.Array]
    switches: dict[int, jax.Array]

    @property
    def max_stride(self) -> int:
        """Stride of the deepest map."""
        return max(self.maps)

    def size(self, stride: int) -> tuple[int, int]:
        """Height and width of the maps at `stride`, in pixels."""
        _, height, width, _ = self.maps[stride].shape
        return height, width

    def channels(self, stride: int) -> int:
        """Channels of `pooled[stride]`, and so of the switches at `stride`."""
        return self.pooled[stride].shape[-1]

    def unpool(self, x: jax.Array, stride: int) -> jax.Array:
        """Unpools `x` at `stride` to `stride // 2` through the encoder's switches.

        Args:
          x: `[b h w c]`, of the size and channels of `pooled[stride]`.
          stride: of `x`.

        Returns:
          `[b h' w' c]` of the size of `maps[stride // 2]`, zero but at the switches.

        Raises:
          InputError: the encoder has no switches at `stride`, or other channels.
        """
        if stride not in self.switches:
            raise InputError(
                f"max-unpooling from stride {stride} needs the encoder's pooling "
                "switches, but this encoder has none there: it does not max-pool"
            )
        channels = self.channels(stride)
        if x.shape[-1] != channels:
            raise InputError(
                f"max-unpooling from stride {stride}: the map has {x.shape[-1]} "
                f"channels, but the encoder's switches have {channels}"
            )
        switches = unpack_switches(self.switches[stride], channels=channels)
        return max_unpool(x, switches, size=self.size(stride // 2))
