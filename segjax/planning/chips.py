"""Peak rates of devices, as their makers state them."""

import dataclasses

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """What one chip can do at most.

    Attributes:
      name: for people.
      bfloat16_flops: operations per second of matrix products in bfloat16, without
        sparsity.
      float32_flops: of float32 arrays at JAX's default precision, which is bfloat16 on
        TPU and TensorFloat-32 on GPU (`jax.lax.Precision.DEFAULT`).
      memory_bytes: capacity of the memory on the chip's package.
      memory_bandwidth: bytes per second to and from it.
      links: connections to other chips; None where its maker states none.
      link_bandwidth: bytes per second of one link in one direction.
      torus_multiple: a dimension of a slice whose size is a multiple of this has its
        ends joined; on a smaller one the chips at the ends have a link less.
      source: where the figures are from.
    """

    name: str
    bfloat16_flops: float
    float32_flops: float
    memory_bytes: int
    memory_bandwidth: float
    links: int | None
    link_bandwidth: float | None
    torus_multiple: int | None
    source: str


def _tpu(
    name,
    *,
    teraflops,
    memory_gib,
    memory_gbps,
    source,
    ici_gbps=None,
    links=None,
    torus_multiple=None,
):
    """`ici_gbps` as stated: of all links in both directions."""
    return Chip(
        name=name,
        bfloat16_flops=teraflops * 1e12,
        float32_flops=teraflops * 1e12,
        memory_bytes=memory_gib * GIB,
        memory_bandwidth=memory_gbps * 1e9,
        links=links,
        link_bandwidth=ici_gbps and ici_gbps * 1e9 / (2 * links),
        torus_multiple=torus_multiple,
        source=source,
    )


def _gpu(name, *, bfloat16, tf32, memory_bytes, memory_gbps, nvlink_gbps, source):
    """`nvlink_gbps` as stated: in both directions. Its switch makes it one link."""
    return Chip(
        name=name,
        bfloat16_flops=bfloat16 * 1e12,
        float32_flops=tf32 * 1e12,
        memory_bytes=memory_bytes,
        memory_bandwidth=memory_gbps * 1e9,
        links=1,
        link_bandwidth=nvlink_gbps * 1e9 / 2,
        torus_multiple=None,
        source=source,
    )


_V5P = _tpu(
    "TPU v5p",
    teraflops=459,
    memory_gib=95,
    memory_gbps=2765,
    ici_gbps=1200,
    links=6,
    torus_multiple=4,
    source="docs.cloud.google.com/tpu/docs/v5p",
)
_V5E = _tpu(
    "TPU v5e",
    teraflops=197,
    memory_gib=16,
    memory_gbps=819,
    ici_gbps=400,
    links=4,
    torus_multiple=16,
    source="docs.cloud.google.com/tpu/docs/v5e",
)
_V6E = _tpu(
    "TPU v6e",
    teraflops=918,
    memory_gib=32,
    memory_gbps=1638,
    ici_gbps=800,
    links=4,
    torus_multiple=16,
    source="docs.cloud.google.com/tpu/docs/v6e",
)
_H100 = {
    "bfloat16": 989.4,
    "tf32": 494.7,
    "nvlink_gbps": 900,
}

CHIPS: dict[str, Chip] = {
    "TPU v3": _tpu(
        "TPU v3",
        teraflops=123,
        memory_gib=32,
        memory_gbps=900,
        source="docs.cloud.google.com/tpu/docs/v3",
    ),
    "TPU v4": _tpu(
        "TPU v4",
        teraflops=275,
        memory_gib=32,
        memory_gbps=1200,
        source="docs.cloud.google.com/tpu/docs/v4",
    ),
    "TPU v5 lite": _V5E,
    "TPU v5e": _V5E,
    "TPU v5": _V5P,
    "TPU v5p": _V5P,
    "TPU v6 lite": _V6E,
    "TPU v6e": _V6E,
    "TPU7x": _tpu(
        "TPU7x",
        teraflops=2307,
        memory_gib=192,
        memory_gbps=7380,
        ici_gbps=1200,
        links=6,
        torus_multiple=4,
        source="docs.cloud.google.com/tpu/docs/tpu7x",
    ),
    "NVIDIA H100 80GB HBM3": _gpu(
        "NVIDIA H100 SXM",
        memory_bytes=80 * GIB,
        memory_gbps=3350,
        source="NVIDIA H100 data sheet (SXM, without sparsity)",
        **_H100,
    ),
    "NVIDIA H200": _gpu(
        "NVIDIA H200 SXM",
        memory_bytes=141 * 10**9,
        memory_gbps=4800,
        source="NVIDIA H200 data sheet (SXM, without sparsity)",
        **_H100,
    ),
    "NVIDIA A100-SXM4-40GB": _gpu(
        "NVIDIA A100 SXM 40 GB",
        bfloat16=312,
        tf32=156,
        memory_bytes=40 * GIB,
        memory_gbps=1555,
        nvlink_gbps=600,
        source="NVIDIA A100 data sheet (SXM, without sparsity)",
    ),
    "NVIDIA A100-SXM4-80GB": _gpu(
        "NVIDIA A100 SXM 80 GB",
        bfloat16=312,
        tf32=156,
        memory_bytes=80 * GIB,
        memory_gbps=2039,
        nvlink_gbps=600,
        source="NVIDIA A100 data sheet (SXM, without sparsity)",
    ),
}
"""By JAX's `device.device_kind`."""
