"""`python -m segjax VERB`: what is not an experiment."""

import tyro
from rich.console import Console
from rich.table import Table

from segjax.models.zoo import MODELS, build_model, count_parameters


def models(num_classes: int = 11, width: float = 1.0) -> None:
    """Lists the networks: name, encoder, decoder, parameters, source.

    Args:
      num_classes: classes that parameters are counted for.
      width: factor on the number of channels.
    """
    table = Table(title=f"parameters at {num_classes} classes, width {width:g}")
    for column in ("name", "encoder", "decoder"):
        table.add_column(column, no_wrap=True)
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("source (arXiv)", no_wrap=True)
    for name, entry in MODELS.items():
        model = build_model(name, num_classes=num_classes, width=width)
        table.add_row(
            name,
            entry.encoder,
            entry.decoder,
            f"{count_parameters(model):,}",
            entry.source,
        )
    Console().print(table)


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"models": models}, prog="python -m segjax")
