"""Real records of this room's tests."""

import pytest

from ecg.formats import Hints, read
from ecg.record import Record
from tests.conftest import wfdb_files


@pytest.fixture(scope="session")
def hand_held() -> Record:
    """One lead, 30 s at 300 Hz: atrial fibrillation (tests/data/README.md)."""
    return read(wfdb_files("A00004", (".hea", ".mat")), Hints())[0]
