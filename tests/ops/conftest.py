import jax
import pytest


@pytest.fixture(params=["with_jit", "without_jit"])
def variant(request):
    return jax.jit if request.param == "with_jit" else lambda function: function
