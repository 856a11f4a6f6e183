"""The load test's day: what is known about it is what lies in it."""

from pathlib import Path

import numpy as np

from ecg.formats import File, Hints, read
from ecg.record import Stored
from loadtest.holter import af_pieces, write_record


def test_the_record_is_as_long_and_fibrillates_as_said(tmp_path: Path) -> None:
    path = tmp_path / "day.npz"
    known = write_record(path, ("I", "II", "V1"), 0.5)
    np.testing.assert_array_equal(known, af_pieces(0.5))
    (record,) = read([File(path.read_bytes())], Hints())
    assert isinstance(record.samples, Stored)
    assert (record.duration_s, record.fs, record.leads) == (1800.0, 250.0, ("I", "II", "V1"))
    pieces = record.sig.reshape(3, 180, 2500)
    one = pieces[:, np.flatnonzero(known)[0]]
    same = np.array([np.array_equal(pieces[:, i], one) for i in range(180)])
    np.testing.assert_array_equal(same, known)
    assert np.ptp(one[1]) > 0.5, "mV"
