"""Rows of a table for a whole layer."""

from segjax.port.table import CONV, VECTOR, Layout, Row


def convolution(
    source: str,
    target: str,
    *,
    layout: Layout = CONV,
    bias: bool = True,
    classes: bool = False,
) -> tuple[Row, ...]:
    """Kernel and bias of the convolution `source` (`features.0`) at `target`."""
    axes = (-1,) if classes else ()
    rows = [Row(f"{source}.weight", f"params/{target}/kernel", layout, axes)]
    if bias:
        rows.append(Row(f"{source}.bias", f"params/{target}/bias", VECTOR, axes))
    return tuple(rows)


def batch_norm(source: str, target: str) -> tuple[Row, ...]:
    """Scale, offset and statistics of PyTorch's `BatchNorm2d` `source` at `target`."""
    return (
        Row(f"{source}.weight", f"params/{target}/scale", VECTOR),
        Row(f"{source}.bias", f"params/{target}/bias", VECTOR),
        Row(f"{source}.running_mean", f"batch_stats/{target}/mean", VECTOR),
        Row(f"{source}.running_var", f"batch_stats/{target}/var", VECTOR),
    )


BATCH_NORM_COUNTERS = ("*.num_batches_tracked",)
"""What PyTorch's batch normalisation counts, and nothing here needs."""
