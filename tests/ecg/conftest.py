"""Real records of this room's tests."""

import pytest
from hypothesis import settings

from ecg.formats import Hints, read
from ecg.record import Record
from tests.conftest import wfdb_files

# A busy machine is no reason to fail, and what is found must be found again.
settings.register_profile("tests", deadline=None, derandomize=True, database=None)
settings.load_profile("tests")


@pytest.fixture(scope="session")
def hand_held() -> Record:
    """One lead, 30 s at 300 Hz: atrial fibrillation (tests/data/README.md)."""
    return read(wfdb_files("A00004", (".hea", ".mat")), Hints())[0]
