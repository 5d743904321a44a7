import pytest

from segjax.planning.largest_batch import find_largest


@pytest.mark.parametrize("start", [1, 8, 1000])
@pytest.mark.parametrize(
    "needed",
    [
        lambda batch: 500 + 37 * batch,
        # The compiler saves memory once it gets scarce.
        lambda batch: 500 + 90 * batch - (53 * max(0, batch - 100)),
        lambda batch: 40 * batch + 300 * (batch % 7),
    ],
    ids=["line", "bend", "rough"],
)
def test_largest_batch_is_found_in_few_attempts(needed, start):
    limit = 16_000
    tried = []

    def attempt(batch):
        tried.append(batch)
        fits = needed(batch) <= limit
        # A compiler that runs out of memory says roughly by how much, or nothing.
        return fits, needed(batch) if fits else None

    first = attempt(start)
    tried.clear()
    found = find_largest(attempt, start=start, first=first, limit=limit)
    assert needed(found.fits) <= limit < needed(found.too_large)
    assert 0 < found.too_large - found.fits <= max(1, found.fits / 32)
    assert found.compilations == len(tried) == len(set(tried)) <= 9


def test_largest_batch_is_exact_where_it_is_small_and_0_where_none_fits():
    def attempt(batch):
        return batch <= 5, 100 * batch

    found = find_largest(attempt, start=2, first=(True, 200), limit=500)
    assert (found.fits, found.too_large) == (5, 6)
    found = find_largest(lambda b: (False, 9), start=2, first=(False, 9), limit=5)
    assert (found.fits, found.too_large) == (0, 1)


def test_the_search_ends_where_nothing_is_too_large():
    found = find_largest(
        lambda b: (True, 1), start=1, first=(True, 1), limit=5, attempts=3
    )
    assert found.fits >= 8
    assert found.too_large is None
