"""Properties that hold for everything that can be drawn, in a short and a full form.

`make test` tries a few cases of each, from a fixed seed; `make test-slow` tries 1,000,
others each time. A failure prints the smallest case that was found, and how to draw it
again.
"""

import atexit
import shutil
import tempfile

import pytest
from hypothesis import HealthCheck, Phase, configuration, given, settings

SHORT, FULL = 15, 1000

# Hypothesis keeps notes on the code under test. Not in the source tree.
_notes = tempfile.mkdtemp(prefix="segjax-hypothesis-")
atexit.register(shutil.rmtree, _notes, ignore_errors=True)
configuration.set_hypothesis_home_dir(_notes)

_COMMON = settings(
    database=None,
    # The first case of a shape compiles, and the cores may be shared.
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.generate, Phase.shrink],
)
_FORMS = [
    pytest.param(settings(_COMMON, max_examples=SHORT, derandomize=True), id="short"),
    pytest.param(
        settings(_COMMON, max_examples=FULL, print_blob=True),
        id="full",
        marks=pytest.mark.slow,
    ),
]


def for_all(**strategies):
    """Makes a test in both forms of a check that takes what `strategies` draw."""

    def decorate(check):
        @pytest.mark.parametrize("form", _FORMS)
        def test(form):
            form(given(**strategies)(check))()

        # Not functools.wraps: pytest would take the check's arguments for fixtures.
        test.__name__ = test.__qualname__ = check.__name__
        test.__doc__ = check.__doc__
        return test

    return decorate
