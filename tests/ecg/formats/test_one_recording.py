"""One recording that was published as HL7 aECG, SCP-ECG and DICOM reads the same in all three."""

import numpy as np
import pytest

from ecg.formats import File, Hints, read
from ecg.leads import LEADS
from tests.conftest import DATA

FILES = ("hl7_Example_aECG.zip", "ecgtoolkit_Example.scp", "ecgtoolkit_example.dcm")


@pytest.fixture(scope="module")
def readings():
    return {name: read([File((DATA / name).read_bytes(), name)], Hints()) for name in FILES}


@pytest.mark.parametrize("other", FILES[1:])
def test_all_twelve_leads_agree(readings, other):
    first, second = readings[FILES[0]][0], readings[other][0]
    assert set(first.leads) == set(second.leads) == set(LEADS)
    assert first.fs == second.fs
    for name in LEADS:
        a, b = (r.sig[r.leads.index(name)] for r in (first, second))
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-9, err_msg=name)
