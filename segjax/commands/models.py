"""`python -m segjax models`."""

from rich.console import Console
from rich.table import Table

from segjax.models.decoders.strategies import SKIPS, UPSAMPLINGS
from segjax.models.zoo import ENCODERS, MODELS, build_model, count_parameters


def models(num_classes: int = 11, width: float = 1.0) -> None:
    """Lists the networks: name, parameters, encoder, decoder, source.

    Args:
      num_classes: classes that parameters are counted for.
      width: factor on the number of channels.
    """
    table = Table(title=f"parameters at {num_classes} classes, width {width:g}")
    table.add_column("name", no_wrap=True)
    table.add_column("parameters", justify="right", no_wrap=True)
    for column in ("encoder", "decoder", "arXiv"):
        table.add_column(column, overflow="fold")
    for name, entry in MODELS.items():
        model = build_model(name, num_classes=num_classes, width=width)
        table.add_row(
            name,
            f"{count_parameters(model):,}",
            entry.encoder,
            entry.decoder,
            entry.source,
        )
    console = Console()
    console.print(table)
    for title, parts in (
        ("encoders", ENCODERS),
        ("upsamplings", UPSAMPLINGS),
        ("skips", SKIPS),
    ):
        console.print(f"{title}: {', '.join(parts)}")
    console.print("and any ENCODER:UPSAMPLING+SKIP, e.g. unet_bn:max_unpool+none")
