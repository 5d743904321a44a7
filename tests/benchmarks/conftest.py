"""The benchmarks are scripts: what they share is imported as they do it."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "experiments" / "benchmarks"))
