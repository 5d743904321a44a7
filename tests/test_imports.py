"""What importing loads; slow libraries wait until they are used."""

import json
import subprocess
import sys

_LOADED = """
import json, sys
import segjax.models.zoo
models = list(sys.modules)
import segjax.experiment
print(json.dumps([models, list(sys.modules)]))
"""


def test_slow_libraries_are_loaded_where_they_are_used():
    done = subprocess.run(
        [sys.executable, "-c", _LOADED], capture_output=True, text=True, check=True
    )
    models, experiment = map(set, json.loads(done.stdout))
    slow = {
        "cv2",
        "grain",
        "matplotlib",
        "optax",
        "orbax.checkpoint",
        "pandas",
        "PIL",
        "scipy",
        "tensorflow_datasets",
        "tensorstore",
        "torch",
        "tyro",
        "segjax.data",
        "segjax.training",
    }
    assert not models & slow
    assert "segjax.models.zoo" in models
    # An experiment reads data and writes checkpoints; it draws and scores later.
    assert not experiment & {
        "matplotlib",
        "pandas",
        "scipy.ndimage",
        "scipy.sparse",
        "torch",
    }
    assert "orbax.checkpoint" in experiment
