"""`python -m segjax convert-weights`."""

from pathlib import Path

import tyro
from rich.console import Console

from segjax.errors import InputError
from segjax.port.torch_files import convert_torch_file


def convert_weights(
    file: tyro.conf.Positional[Path], output: Path | None = None
) -> None:
    """Writes PyTorch weights (.pth) as safetensors, which `--init-from` reads.

    Needs PyTorch, whose `weights_only` loader reads the file: nothing in it is run.

    Args:
      file: state dict as `torch.save` wrote it, or a training script's checkpoint with
        one in it.
      output: file to write; None is FILE with the suffix .safetensors.
    """
    output = file.with_suffix(".safetensors") if output is None else output
    if output.suffix != ".safetensors":
        raise InputError(f"output is {output}: expected a name in .safetensors")
    converted = convert_torch_file(file, output)
    console = Console()
    for line in (
        f"{output}: {len(converted.tensors)} tensors",
        *(f"left out, no tensor: {name}" for name in converted.left_out),
    ):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
