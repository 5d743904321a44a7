import jax
import numpy as np
import pytest

from segjax.planning.estimate import OutOfMemory, estimate
from segjax.planning.programs import Program


class _TooLarge:
    """A step whose compilation runs out of memory."""

    def __init__(self, message):
        self.message = message

    def __call__(self, x):
        return x

    def lower(self, x):
        return self

    def compile(self, options):
        raise jax.errors.JaxRuntimeError(self.message)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required "
            "for HLO temporaries (39.50G) exceeds available HBM (15.75G).",
            OutOfMemory(int(39.5 * 2**30), int(15.75 * 2**30)),
        ),
        (
            "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in "
            "memory space hbm. Used 16.25G of 15.75G hbm. Exceeded hbm capacity by 1G.",
            OutOfMemory(int(16.25 * 2**30), int(15.75 * 2**30)),
        ),
        ("RESOURCE_EXHAUSTED: something new", OutOfMemory(None, None)),
    ],
)
def test_memory_that_does_not_suffice_is_a_result(message, expected):
    shape = jax.ShapeDtypeStruct((1,), np.float32)
    program = Program(8, _TooLarge(message), (shape,))
    result = estimate(program, devices=jax.devices()[:1], rates=None)
    assert result.fits is False
    assert result.memory is result.roofline is None
    assert result.out_of_memory == expected


def test_another_compiler_error_is_not_hidden():
    shape = jax.ShapeDtypeStruct((1,), np.float32)
    program = Program(8, _TooLarge("INTERNAL: a bug"), (shape,))
    with pytest.raises(jax.errors.JaxRuntimeError, match="a bug"):
        estimate(program, devices=jax.devices()[:1], rates=None)
