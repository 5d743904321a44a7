"""What `python -m segjax VERB` runs: one file, one function for each verb."""

import tyro

RUN_OPTION = tyro.conf.arg(aliases=("--checkpoint",))
"""A run's folder is asked for as `--run`, or `--checkpoint`: its checkpoint is read."""
