"""`python -m segjax VERB`: what is not an experiment."""

import importlib
import sys

from segjax import cli

VERBS = {
    "models": "lists the networks with their parameters",
    "data": "lists, prepares, checks and shows data sets",
    "train": "trains a network on your own folder of images and labels",
    "evaluate": "scores a run on a split of its data set",
    "explain-score": "says where the difference between two scores comes from",
    "predict": "labels images with a run's network",
    "export": "writes a run's network as StableHLO or ONNX",
    "serve": "opens a page that labels images with runs' networks",
    "replay": "does the step again at which a run's loss was not finite",
    "convert-weights": "writes PyTorch weights as safetensors for --init-from",
    "plan": "says what an experiment needs on a TPU slice, without a TPU",
}
"""Each is the function of its name in the file of its name in `segjax.commands`."""


def main(args: list[str] | None = None) -> None:
    """The command line; what a user can mend is one line and status 2.

    Args:
      args: the verb and its options; None reads `sys.argv`.
    """
    verb, *options = (sys.argv[1:] if args is None else args) or ["--help"]
    if verb in ("-h", "--help"):
        print("usage: python -m segjax VERB [--help] [OPTIONS]\n")
        for name, help_text in VERBS.items():
            print(f"  {name:15} {help_text}")
        return
    if verb not in VERBS:
        print(
            f"error: unknown verb {verb!r}: expected one of {', '.join(VERBS)}",
            file=sys.stderr,
        )
        sys.exit(2)
    name = verb.replace("-", "_")
    command = getattr(importlib.import_module(f"segjax.commands.{name}"), name)
    cli.call(command, prog=f"python -m segjax {verb}", args=options)


if __name__ == "__main__":
    main()
