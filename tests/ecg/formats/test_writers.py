"""What is written is read back, within the format's own resolution."""

import io
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import wfdb as library

from ecg.errors import UnservableError
from ecg.formats import WRITERS, File, Hints, csv, hdf5, npz, read, wfdb
from ecg.leads import LEADS
from ecg.record import Meta, Record, Stored

EXACT = {"npz", "hdf5", "csv"}  # float32 as it is; the others round to integers
FINEST_MV = {"wfdb": 1e-4, "dicom": 1e-3, "edf": 1e-3, "fhir": 1e-3}


def made(n_leads=12, fs=500.0, peak=3.0, n_samples=None, gaps=True):
    sig = np.random.default_rng(0).normal(size=(n_leads, n_samples or int(6 * fs)))
    sig = (sig * peak / np.abs(sig).max()).astype(np.float32)
    if gaps:
        sig[0, :7] = sig[-1, 100:140] = sig[0, -1] = np.nan
    return Record(sig, fs, LEADS[:n_leads])


def written(name, record):
    writer = WRITERS[name]
    return writer.write([record] if writer.several else record)


RECORDS = {
    "twelve leads with gaps": made(),
    "without gaps": made(gaps=False),
    "one lead": made(1),
    "an odd fs": made(2, 257.5),
    "an fs of many digits": made(2, 513.0473),
    "large": made(3, peak=90.0),
    "small": made(3, peak=0.002),
    "flat": Record(np.zeros((2, 500), np.float32), 100.0, ("V5", "aVR")),
    "a lead of gaps alone": Record(
        np.stack([np.full(500, np.nan), np.ones(500)]).astype(np.float32), 100.0, ("I", "V2")
    ),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("kind", RECORDS)
def test_a_record_comes_back(name, kind):
    record = RECORDS[kind]
    if name == "edf":  # where missing samples at the end look like what fills a data record
        there = np.flatnonzero(~np.isnan(record.sig).all(axis=0))
        record = replace(record, sig=record.sig[:, : there[-1] + 1])
    (back,) = read([File(written(name, record))], Hints(repr(record.fs), None, "mV"))
    assert back.leads == record.leads and back.fs == pytest.approx(record.fs, rel=1e-11)
    np.testing.assert_array_equal(np.isnan(back.sig), np.isnan(record.sig))
    if name in EXACT:
        np.testing.assert_array_equal(back.sig, record.sig)
    else:
        peak = np.nanmax(np.abs(record.sig))
        half_a_step = max(FINEST_MV[name], 10 * peak / 32_767) / 2  # steps are powers of ten
        assert np.nanmax(np.abs(back.sig - record.sig)) <= half_a_step * 1.001


@pytest.mark.parametrize("name", WRITERS)
def test_microvolts_are_written_as_what_they_are(name):
    """A record that came in microvolts is the same record."""
    counts = np.arange(-500, 500).reshape(1, 1000) * 5
    text = "II\n" + "".join(f"{v}\n" for v in counts[0].tolist())
    (record,) = read([File(text.encode())], Hints("100", None, "uV"))
    (back,) = read([File(written(name, record))], Hints("100", None, "mV"))
    np.testing.assert_allclose(back.sig, counts / 1000, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", WRITERS)
def test_real_records_come_back_exactly(name, records):
    """Whole microvolts fit every format."""
    for record in records.values():
        (back,) = read([File(written(name, record))], Hints("100", None, "mV"))
        np.testing.assert_array_equal(back.sig, record.sig)


@pytest.mark.parametrize("name", WRITERS)
def test_the_sender_s_id_is_not_written(name):
    record = Record(made().sig, 500.0, LEADS, Meta("Jane Doe", ("Doe",)))
    content = written(name, record)
    if name == "wfdb":
        content = b"".join(
            zipfile.ZipFile(io.BytesIO(content)).read(n) for n in ("record.hea", "record.dat")
        )
    assert b"Doe" not in content


@pytest.mark.parametrize("name", WRITERS)
def test_a_long_record_kept_as_it_was_stored_is_written_like_any_other(name):
    counts = (np.arange(2 * 61_000).reshape(2, -1) % 2000 - 1000).astype("<i2")
    stored = Stored.of(counts, [0.001, 0.001])
    record = Record(stored, 100.0, ("I", "V1"))
    (back,) = read([File(written(name, record))], Hints("100", None, "mV"))
    np.testing.assert_allclose(back.sig, counts / 1000, atol=1e-7)


def test_text_of_a_long_record_is_made_of_pieces_of_it():
    asked = []

    def take(start, stop):
        asked.append(stop - start)
        return np.zeros((1, stop - start), "<i2")

    stored = Stored(take, 1, 61_000, np.ones(1), np.zeros(1), 122_000)
    csv.write(Record(stored, 100.0, ("I",)))
    assert sum(asked) == 61_000 and max(asked) <= 10_000


@pytest.mark.parametrize("write", [npz.write, hdf5.write])
def test_several_records_of_one_shape(write):
    records = [made(), Record(-made().sig, 500.0, LEADS)]
    for got, expected in zip(read([File(write(records))], Hints()), records, strict=True):
        np.testing.assert_array_equal(got.sig, expected.sig)


@pytest.mark.parametrize("write", [npz.write, hdf5.write])
@pytest.mark.parametrize("other", [made(11), made(fs=250.0, n_samples=3000), made(n_samples=2999)])
def test_records_that_differ_are_not_written_together(write, other):
    with pytest.raises(UnservableError, match="differs from the first") as refusal:
        write([made(), other])
    assert refusal.value.where == "records[1]"
    with pytest.raises(UnservableError, match="no record"):
        write([])


@pytest.mark.parametrize("gain", [None, 200])
def test_the_wfdb_library_agrees_with_our_files(gain, tmp_path):
    """Samples, gaps, and the checksums that its header tells."""
    record = made(3, 257.5)
    for name, content in wfdb.write_files(record, "r-1_a", gain, ("a comment",)).items():
        (tmp_path / name).write_bytes(content)
    read_back = library.rdrecord(str(tmp_path / "r-1_a"))
    assert read_back.fs == 257.5 and read_back.comments == ["a comment"]
    step = 1 / (gain or 10_000)
    np.testing.assert_allclose(read_back.p_signal.T, record.sig, atol=0.51 * step)
    digital = library.rdrecord(str(tmp_path / "r-1_a"), physical=False)
    assert digital.init_value == digital.d_signal[0].tolist()
    assert [c % 2**16 for c in digital.checksum] == digital.calc_checksum()
    assert digital.d_signal.min() == -32_768


def test_what_a_given_gain_cannot_hold_is_cut_off_and_no_gap():
    record = Record(np.full((1, 500), 99, np.float32), 100.0, ("I",))
    files = wfdb.write_files(record, "r", 1000)
    (back,) = read([File(content, name) for name, content in files.items()], Hints())
    np.testing.assert_allclose(back.sig, 32.767, rtol=1e-6)


def test_what_a_model_made_says_so():
    record = Record(made().sig, 500.0, LEADS, Meta(synthetic=True))
    assert np.load(io.BytesIO(npz.write([record])))["synthetic"]
    assert b"synthetic" in hdf5.write([record])
    assert b"# synthetic\n" in wfdb.write_files(record, "r")["r.hea"]
    assert b"synthetic" not in npz.write([made()]) + wfdb.write_files(made(), "r")["r.hea"]
