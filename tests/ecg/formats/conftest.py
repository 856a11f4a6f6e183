"""What this folder's tests measure with."""

import contextlib
import tracemalloc

import pytest


@pytest.fixture
def peak_mb():
    """`with peak_mb(20):` fails where more than 20 MB were allocated at once inside."""

    @contextlib.contextmanager
    def watch(limit):
        tracemalloc.start()
        try:
            yield
            peak = tracemalloc.get_traced_memory()[1] / 1e6
        finally:
            tracemalloc.stop()
        assert peak < limit, f"{peak:.0f} MB were allocated"

    return watch
