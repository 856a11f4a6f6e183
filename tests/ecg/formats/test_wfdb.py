"""WFDB: every storage format gives the samples that were stored, from any arrangement of files."""

from dataclasses import replace

import numpy as np
import pytest
import wfdb

from ecg.errors import EcgError, UnreadableError, UnservableError
from ecg.formats import File, Hints, read
from ecg.record import Stored
from tests.conftest import DATA, wfdb_files
from tests.service.bodies import as_zip


def written(folder, sig, names, fs=100, units=None, **options):
    """The files that PhysioNet's own library writes for sig [time, channel]."""
    units = units or ["mV"] * len(names)
    wfdb.wrsamp("rec", fs, units, names, p_signal=sig, write_dir=str(folder), **options)
    return [File(path.read_bytes(), path.name) for path in sorted(folder.iterdir())]


def header_of(files):
    return next(f for f in files if f.name.endswith(".hea"))


def edited(files, *changes):
    """The files with parts of the header replaced."""
    header = header_of(files)
    text = header.content.decode()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return [replace(f, content=text.encode()) if f is header else f for f in files]


@pytest.fixture
def files():
    return wfdb_files("00009_lr")


def test_format_16_gives_the_stored_counts_over_the_gain(files):
    counts = np.frombuffer(files[1].content, dtype="<i2").reshape(-1, 12).T
    (record,) = read(files, Hints())
    np.testing.assert_array_equal(record.sig, (counts / 1000).astype(np.float32))
    assert record.fs == 100
    assert record.leads == tuple("I II III aVR aVL aVF V1 V2 V3 V4 V5 V6".split())
    assert record.meta.ignored_channels == ()


@pytest.mark.parametrize(
    ("fmt", "step_mv"), [("16", 0.001), ("212", 0.005), ("24", 1e-4), ("32", 1e-6), ("80", 0.04)]
)
def test_every_storage_format_gives_the_same_samples_back(fmt, step_mv, record, tmp_path):
    sig = record.sig[:2].T.astype(float)
    gain = [1 / step_mv] * 2
    files = written(tmp_path, sig, ["I", "II"], fmt=[fmt] * 2, adc_gain=gain, baseline=[0, 0])
    (back,) = read(files, Hints())
    np.testing.assert_allclose(back.sig, sig.T, atol=0.51 * step_mv + 1e-6)
    assert back.fs == 100


def test_gain_and_baseline_are_each_channels_own(record, tmp_path):
    sig = record.sig[:2].T.astype(float)
    files = written(
        tmp_path, sig, ["I", "II"], fmt=["16"] * 2, adc_gain=[1000, 500], baseline=[100, -2000]
    )
    (back,) = read(files, Hints())
    np.testing.assert_allclose(back.sig, sig.T, atol=0.0011)


@pytest.mark.parametrize(("units", "factor"), [("uV", 1e3), ("mV", 1), ("V", 1e-3), ("nV", 1e6)])
def test_units_are_converted_to_millivolts(units, factor, record, tmp_path):
    sig = record.sig[1:2].T.astype(float) * factor
    files = written(tmp_path, sig, ["II"], units=[units], fmt=["24"])
    (back,) = read(files, Hints())
    np.testing.assert_allclose(back.sig, record.sig[1:2], atol=1e-5)


def test_a_stored_missing_sample_is_nan(record, tmp_path):
    sig = record.sig[:1].T.astype(float)
    sig[40:45] = np.nan
    (back,) = read(written(tmp_path, sig, ["I"], fmt=["16"]), Hints())
    assert np.flatnonzero(np.isnan(back.sig[0])).tolist() == [40, 41, 42, 43, 44]


def test_a_record_may_lie_in_several_signal_files(record, tmp_path):
    one, other = (tmp_path / name for name in "ab")
    for folder, rows in ((one, [0, 1]), (other, [2])):
        folder.mkdir()
        names = [record.leads[i] for i in rows]
        sig = record.sig[rows].T.astype(float)
        written(folder, sig, names, fmt=["24"] * len(rows))
    lines = [(f / "rec.hea").read_text().splitlines() for f in (one, other)]
    header = [lines[0][0].replace("rec 2", "rec 3"), *lines[0][1:]]
    header.append(lines[1][1].replace("rec.dat", "more.dat"))
    files = [
        File((other / "rec.dat").read_bytes(), "more.dat"),
        File("\n".join(header).encode(), "rec.hea"),
        File((one / "rec.dat").read_bytes(), "rec.dat"),
    ]
    (back,) = read(files, Hints())
    np.testing.assert_allclose(back.sig, record.sig[:3], atol=1e-5)


@pytest.mark.parametrize("fmt", ["16", "212"])
@pytest.mark.parametrize("rows", [[0], [0, 1], [1, 2, 0]])
def test_a_long_record_is_read_where_it_lies_as_the_library_reads_it(fmt, rows, record, tmp_path):
    """11 minutes, of an odd number of samples, with gaps."""
    sig = np.tile(record.sig[rows], 66)[:, :65_999].T.astype(float)
    sig[700:900, 0] = np.nan
    sig[-1, -1] = np.nan
    names = [record.leads[i] for i in rows]
    gain, baseline = [200.0, 350.0, 180.5][: len(rows)], [0, 17, -40][: len(rows)]
    files = written(tmp_path, sig, names, fmt=[fmt] * len(rows), adc_gain=gain, baseline=baseline)
    (back,) = read(files, Hints())
    assert isinstance(back.samples, Stored)
    by_library = wfdb.rdrecord(str(tmp_path / "rec")).p_signal.T.astype(np.float32)
    np.testing.assert_allclose(back.sig, by_library, atol=1e-9)
    for start, stop in ((0, 1), (1, 4), (333, 1000), (65_998, 65_999)):
        np.testing.assert_array_equal(back.piece(start, stop), back.sig[:, start:stop])


def test_a_long_record_of_several_files_has_its_leads_in_the_headers_order(record, tmp_path):
    sig = np.tile(record.sig[:3], 61).T.astype(float)
    files = []
    for i in range(3):
        (tmp_path / str(i)).mkdir()
        one = written(tmp_path / str(i), sig[:, [i]], [record.leads[i]], fmt=["16"])
        files.append([replace(f, name=f.name.replace("rec.dat", f"{i}.dat")) for f in one])
    lines = [header_of(f).content.decode().splitlines() for f in files]
    order = [2, 0, 1]
    text = [lines[0][0].replace("rec 1", "rec 3")]
    text += [lines[i][1].replace("rec.dat", f"{i}.dat") for i in order]
    dats = [f for one in files for f in one if f.name.endswith(".dat")]
    (back,) = read([File("\n".join(text).encode(), "rec.hea"), *dats], Hints())
    assert isinstance(back.samples, Stored)
    assert back.leads == tuple(record.leads[i] for i in order)
    np.testing.assert_allclose(back.sig, sig.T[order], atol=6e-5)


def test_matlab_files_of_the_2017_challenge_are_read():
    files = wfdb_files("A00004", (".hea", ".mat"))
    (record,) = read(files, Hints())
    counts = np.frombuffer(files[1].content[24:], dtype="<i2")
    np.testing.assert_array_equal(record.sig, (counts / 1000).astype(np.float32)[None])
    assert (record.fs, record.leads) == (300, ("I",)), "a single channel ECG lies along lead I"


def test_a_hint_names_the_only_channel(record, tmp_path):
    sig = record.sig[1:2].T.astype(float)
    files = written(tmp_path, sig, ["channel 0"], fmt=["16"])
    (back,) = read(files, Hints(leads=("ii",)))
    assert back.leads == ("II",)
    with pytest.raises(UnservableError, match="none of the channels"):
        read(files, Hints())
    with pytest.raises(UnservableError, match="none of the channels"):
        read(files, Hints(leads=("PLETH",)))


def test_a_hint_renames_no_channel_of_several(record, tmp_path):
    files = written(tmp_path, record.sig[:2].T.astype(float), ["I", "II"], fmt=["16"] * 2)
    (back,) = read(files, Hints(leads=("V1", "V2")))
    assert back.leads == ("I", "II")


def test_other_channels_are_ignored_and_listed(record, tmp_path):
    sig = record.sig[:4].T.astype(float)
    files = written(
        tmp_path, sig, ["RESP", "MLII", "AVF", "v5"], units=["l", "mV", "mV", "mV"], fmt=["24"] * 4
    )
    (back,) = read(files, Hints())
    assert back.leads == ("aVF", "V5")
    assert back.meta.ignored_channels == ("RESP", "MLII")
    np.testing.assert_allclose(back.sig, record.sig[2:4], atol=1e-5)


def test_none_of_the_twelve_is_refused(record, tmp_path):
    files = written(tmp_path, record.sig[:2].T.astype(float), ["ECG", "PLETH"], fmt=["16"] * 2)
    with pytest.raises(UnservableError, match="none of the channels is one of the twelve"):
        read(files, Hints())


def test_a_lead_in_no_unit_of_voltage_is_refused(files):
    with pytest.raises(UnservableError, match="V, mV, uV or nV"):
        read(edited(files, ("(0)/mV", "(0)/mmHg")), Hints())


@pytest.mark.parametrize("order", [1, -1])
def test_names_and_order_of_the_parts_do_not_matter(files, order):
    expected = read(files, Hints())[0].sig
    header, signal = files
    renamed = [replace(header, name="", media_type="text/csv"), signal][::order]
    np.testing.assert_array_equal(read(renamed, Hints())[0].sig, expected)


@pytest.mark.parametrize(
    "comment", ["# Überleitungsstörung".encode("latin-1"), "# Ü".encode(), b"# \x00\xff", b"#"]
)
def test_comments_in_any_encoding_are_passed_over(files, comment):
    header = replace(files[0], content=comment + b"\r\n" + files[0].content + comment)
    (record,) = read([header, files[1]], Hints())
    assert record.n_samples == 1000


def test_windows_line_ends_and_a_byte_order_mark_are_read(files):
    content = b"\xef\xbb\xbf" + files[0].content.replace(b"\n", b"\r\n")
    assert read([replace(files[0], content=content), files[1]], Hints())[0].n_samples == 1000


def test_a_header_without_a_length_takes_the_files(files):
    (record,) = read(edited(files, (" 12 100 1000", " 12 100")), Hints())
    np.testing.assert_array_equal(record.sig, read(files, Hints())[0].sig)


# Several records


def test_a_zip_of_a_record_is_the_record(files):
    zipped = read([File(as_zip(files))], Hints())
    np.testing.assert_array_equal(zipped[0].sig, read(files, Hints())[0].sig)


def test_a_zip_of_several_records_keeps_their_order(records):
    files = [f for name in records for f in wfdb_files(name)]
    back = read([File(as_zip(files), "x.bin")], Hints())
    for one, expected in zip(back, records.values(), strict=True):
        np.testing.assert_array_equal(one.sig, expected.sig)


def alike_named(name, folder):
    """A record of the data set whose files are called `rec.…`, as devices do."""
    header, signal = wfdb_files(name)
    content = header.content.replace(name.encode(), b"rec")
    return [File(content, f"{folder}rec.hea"), File(signal.content, f"{folder}rec.dat")]


@pytest.mark.parametrize("folders", [("a/", "b/"), ("", "b/c/"), ("p1/x/", "p2/x/")])
@pytest.mark.parametrize("order", [1, -1])
def test_records_of_one_name_in_different_folders_are_not_mixed_up(folders, order, records):
    """Two patients, each with a `rec.hea` and a `rec.dat`."""
    names = list(records)[:2]
    pairs = [alike_named(name, folder) for name, folder in zip(names, folders, strict=True)]
    back = read([File(as_zip([f for pair in pairs for f in pair[::order]]))], Hints())
    for one, name in zip(back, names, strict=True):
        np.testing.assert_array_equal(one.sig, records[name].sig)


def test_records_of_one_name_in_different_zips_are_not_mixed_up(records):
    names = list(records)[:2]
    zips = [File(as_zip(alike_named(name, ""))) for name in names]
    for one, name in zip(read(zips, Hints()), names, strict=True):
        np.testing.assert_array_equal(one.sig, records[name].sig)


def test_records_of_one_name_without_folders_are_refused(records):
    files = [f for name in list(records)[:2] for f in alike_named(name, "")]
    with pytest.raises(UnreadableError, match="of which several were sent"):
        read(files, Hints())


def test_folders_of_windows_zips_are_folders(files):
    windows = [replace(f, name=f"records\\{f.name}") for f in files]
    assert len(read([File(as_zip(windows))], Hints())) == 1


# Headers that lie


LIES = {
    "ten GB of samples": (" 12 100 1000", " 12 100 420000000"),
    "ten GB behind no space": (" 12 100 1000", " 12 100(1)420000000"),
    "ten GB in a frame": (" 16 1000", " 16x420000000 1000"),
    "ten GB of skew": (" 16 1000", " 16:420000000 1000"),
    "an offset behind the end": (" 16 1000", " 16+24000 1000"),
    "no samples in a frame": (" 16 1000", " 16x0 1000"),
    "more signals than lines": (" 12 100", " 13 100"),
    "fewer signals than lines": (" 12 100", " 11 100"),
    "no signal": (" 12 100", " 0 100"),
    "one sample more than there is": (" 12 100 1000", " 12 100 1001"),
    "a number of 5,000 digits": (" 12 100 1000", " 12 100 " + "9" * 5000),
    "another format": (".dat 16 ", ".dat 24 "),
    "no record name": ("00009_lr 12", "? 12"),
    "a signal file that is missing": ("00009_lr.dat", "00010_lr.dat"),
    "the header as its signal file": ("00009_lr.dat", "00009_lr.hea"),
    "an absolute path": ("00009_lr.dat", "/etc/passwd"),
    "a path out of the folder": ("00009_lr.dat", "../00009_lr.dat"),
    "a path into the folder": ("00009_lr.dat", "./00009_lr.dat"),
    "a cloud path": ("00009_lr.dat", "s3://bucket/00009_lr.dat"),
    "no signal file": ("00009_lr.dat", "~"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_is_unreadable_before_anything_is_allocated(lie, files, peak_mb):
    with peak_mb(20), pytest.raises(UnreadableError) as refusal:
        read(edited(files, LIES[lie]), Hints())
    assert "00009" not in str(refusal.value), "a file's name can be a patient's"


@pytest.mark.parametrize("fmt", ["16", "212", "24", "32", "80"])
@pytest.mark.parametrize("change", [("100 1000", "100 1001"), (" {} ", " {}+3 ")])
def test_one_frame_more_than_there_is_is_refused_in_every_format(fmt, change, record, tmp_path):
    files = written(tmp_path, record.sig[:2].T.astype(float), ["I", "II"], fmt=[fmt] * 2)
    assert read(files, Hints())
    old, new = (text.format(fmt) for text in change)
    with pytest.raises(UnreadableError, match="too short"):
        read(edited(files, (old, new)), Hints())


@pytest.mark.parametrize("path", ["/etc/hostname", "../x.dat", "00009_lr.dat"])
def test_a_signal_file_is_read_from_the_request_alone(path, files):
    """Even one sent under that very path."""
    lying = edited(files, ("00009_lr.dat", path))
    sent = [*lying, replace(files[1], name=path)]
    with pytest.raises(EcgError):
        read(sent, Hints())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("00009_lr 12", "00009_lr/3 12"), "multi-segment"),
        ((".dat 16 ", ".dat 508 "), "storage format"),
        ((" 12 100 ", " 12 10 "), "fs"),
        ((" AVL", " V1"), "repeats lead V1"),
    ],
)
def test_a_good_file_that_cannot_be_served_says_why(change, says, files):
    with pytest.raises(UnservableError, match=says):
        read(edited(files, change), Hints())


def test_thousands_of_signals_are_refused_without_parsing_them_one_by_one():
    lines = ["rec 4000 100 1000", *["a 16"] * 4000]
    files = [File("\n".join(lines).encode(), "rec.hea"), File(bytes(8_000_000), "a")]
    with pytest.raises(UnservableError, match="more than 512 channels"):
        read(files, Hints())


def test_a_signal_file_without_its_header_is_not_recognised():
    content = (DATA / "00009_lr.dat").read_bytes()
    with pytest.raises(EcgError, match="not recognised"):
        read([File(content, "00009_lr.dat")], Hints())


def test_what_is_wrong_with_one_of_several_is_said_of_it(records):
    names = list(records)[:2]
    broken = edited(wfdb_files(names[1]), (" 12 100 ", " 12 10 "))
    with pytest.raises(UnservableError) as refusal:
        read([*wfdb_files(names[0]), *broken], Hints())
    assert refusal.value.where == "files[2].fs"
