"""What an encoder hands to a decoder."""

import flax.struct
import jax


@flax.struct.dataclass
class Features:
    """Every map an encoder makes, by stride; the compiler drops what is not read.

    A stride `s` means "the image's sides divided by s, rounded up" (ceil-mode
    pooling) or exactly divided (floor mode, which demands divisible sides).

    Attributes:
      maps: stride -> last map at that stride, `[b h/s w/s c]`. `maps[1]` is at
        image resolution, `maps[max(maps)]` is where a decoder starts.
      pooled: stride -> output of the pooling that reaches that stride.
      switches: stride -> uint8 position 0..3 of each maximum of that pooling,
        same shape as `pooled[stride]`. Unpooling with it leads to the size of
        `maps[stride // 2]`.
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
