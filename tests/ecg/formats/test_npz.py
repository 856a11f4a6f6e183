"""NPZ: the samples as they were stored, and nothing unpickled, guessed or over-allocated."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from ecg.errors import EcgError, TooLargeError, UnreadableError, UnservableError
from ecg.formats import File, Hints, read
from ecg.leads import LEADS
from ecg.limits import Limits
from tests.service.bodies import npz


def packed(members, method=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def npy(descr, shape, content=b"", fortran=False):
    """A .npy with any header, written by hand."""
    header = f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


def body(record, **changes):
    """A good NPZ but for the changes; None leaves an array out."""
    given = {"sig": record.sig, "fs": record.fs, "leads": np.array(LEADS), "units": "mV"}
    given |= changes
    return npz(**{name: value for name, value in given.items() if value is not None})


def only(content, hints=None):
    (record,) = read([File(content)], hints or Hints())
    return record


@pytest.mark.parametrize("dtype", ["float32", "float64", ">f4", ">f8"])
def test_floats_of_any_width_and_byte_order_come_back(dtype, record):
    back = only(body(record, sig=record.sig.astype(dtype)))
    np.testing.assert_array_equal(back.sig, record.sig)
    assert (back.fs, back.leads) == (100.0, LEADS)


@pytest.mark.parametrize("dtype", ["int16", ">i2", "int32"])
def test_integers_are_values_in_the_declared_units(dtype, record):
    microvolts = np.rint(1000 * record.sig).astype(dtype)
    back = only(body(record, sig=microvolts, units="uV"))
    np.testing.assert_array_equal(back.sig, record.sig)
    counts = np.full((12, 1000), 2, dtype=dtype)
    assert (only(body(record, sig=counts)).sig == 2).all(), "no scaling"


def test_fortran_order_is_the_same_array(record):
    sig = np.asfortranarray(record.sig)
    assert not sig.flags.c_contiguous
    read = only(body(record, sig=sig)).sig
    np.testing.assert_array_equal(read, record.sig)
    assert read.flags.c_contiguous, "in the other order every step after costs several times more"


def test_compressed_arrays_are_read(record):
    out = io.BytesIO()
    np.savez_compressed(out, sig=record.sig, fs=100, leads=np.array(LEADS), units="mV")
    np.testing.assert_array_equal(only(out.getvalue()).sig, record.sig)


def test_several_records_keep_their_order(records):
    sig = np.stack([r.sig for r in records.values()])
    back = read([File(npz(sig=sig, fs=100, leads=np.array(LEADS), units="mV"))], Hints())
    for one, expected in zip(back, sig, strict=True):
        np.testing.assert_array_equal(one.sig, expected)


def test_the_public_synthetic_layout_takes_its_hints(records):
    data = np.stack([r.sig.T for r in records.values()])
    content = npz(data=data, label=np.arange(len(data)))
    back = read([File(content)], Hints("100", LEADS, "mV"))
    for one, expected in zip(back, records.values(), strict=True):
        np.testing.assert_array_equal(one.sig, expected.sig)
        assert (one.fs, one.leads) == (100.0, LEADS)


def test_what_the_file_says_outweighs_the_hints(record):
    back = only(body(record), Hints("500", ("V1",), "uV"))
    assert (back.fs, back.leads) == (100.0, LEADS)
    np.testing.assert_array_equal(back.sig, record.sig)


@pytest.mark.parametrize("fs", [np.array([100]), np.float32(100), np.uint16(100), "100"])
def test_fs_may_be_any_single_number(fs, record):
    assert only(body(record, fs=fs)).fs == 100.0


@pytest.mark.parametrize(
    ("changes", "where", "says"),
    [
        ({"fs": None}, "fs", "is missing"),
        ({"units": None}, "units", "is missing"),
        ({"leads": None}, "leads", "is missing"),
        ({"sig": None}, "", "neither sig"),
        ({"fs": np.array([100, 100])}, "fs", "single value"),
        ({"fs": np.array([], dtype=float)}, "fs", "single value"),
        ({"fs": True}, "fs", "neither real numbers nor unicode"),
        ({"fs": np.nan}, "fs", "between 50 and 4000"),
        ({"units": b"mV"}, "units", "neither real numbers nor unicode"),
        ({"units": 5}, "units", "must be mV or uV"),
        ({"leads": "I"}, "leads", "1-d array of unicode"),
        ({"leads": np.arange(12)}, "leads", "1-d array of unicode"),
        ({"leads": np.array(LEADS[::-1][:11] + ("V6",))}, "leads[11]", "repeats lead V6"),
        ({"sig": np.zeros((12, 1000), complex)}, "sig", "neither real numbers nor unicode"),
        ({"sig": np.zeros((12, 1000), bool)}, "sig", "neither real numbers nor unicode"),
        ({"sig": np.zeros((12, 1000), "M8[s]")}, "sig", "neither real numbers nor unicode"),
        ({"sig": np.full((12, 1000), "1")}, "sig", "expected float32 or int16"),
        ({"sig": np.zeros(1000)}, "sig", "[lead, time] or [n, lead, time]"),
        ({"sig": np.zeros((0, 12, 1000))}, "sig", "n at least 1"),
        ({"sig": np.zeros((1, 1, 12, 1000))}, "sig", "[lead, time] or [n, lead, time]"),
        ({"sig": np.zeros((10_000, 1000), np.int8)}, "leads", "sig has 10000 rows"),
        ({"sig": np.zeros((65, 12, 500), np.int8)}, "records", "holds 65 records; at most 64"),
        ({"sig": None, "data": np.zeros((12, 1000))}, "data", "expected [n, time, lead]"),
    ],
)
def test_what_cannot_be_served_says_where_and_why(changes, where, says, record):
    with pytest.raises(UnservableError) as refusal:
        only(body(record, **changes))
    assert refusal.value.where == where
    assert says in refusal.value.problem


def test_the_faulty_record_of_several_is_named(record):
    sig = np.stack([record.sig, np.full_like(record.sig, np.nan)])
    with pytest.raises(UnservableError) as refusal:
        only(body(record, sig=sig))
    assert refusal.value.where == "records[1].sig"


class Boom:
    def __reduce__(self):
        return (pytest.fail, ("it was unpickled",))


@pytest.mark.parametrize("name", ["sig", "leads", "fs", "units"])
def test_an_object_array_is_refused_and_never_unpickled(name, record):
    pickled = np.empty(1, dtype=object)
    pickled[0] = Boom()
    with pytest.raises(UnreadableError, match="pickles are never read"):
        only(body(record, **{name: pickled}))


def test_a_pickle_under_the_name_of_an_array_is_refused_and_never_unpickled():
    content = packed({"sig.npy": pickle.dumps(Boom())})
    with pytest.raises(UnreadableError, match="not a NumPy array"):
        only(content)


def test_arrays_of_other_names_are_not_even_opened(record):
    with np.load(io.BytesIO(body(record))) as arrays:
        good = dict(arrays)
    content = npz(**good, label=np.array([Boom()], dtype=object), notes="of a patient")
    np.testing.assert_array_equal(only(content).sig, record.sig)


SAMPLES = bytes(2000)
HEADERS = {
    "ten GB": npy("<f4", (12, 220_000_000), SAMPLES),
    "ten GB of one record": npy("<i2", (1, 12, 440_000_000), SAMPLES),
    "one sample more": npy("<f4", (1, 501), SAMPLES),
    "one sample less": npy("<f4", (1, 499), SAMPLES),
    "two negative lengths": npy("<f4", (-1, -500), SAMPLES),
    "one negative length": npy("<f4", (-1, 500), SAMPLES),
    "a length of 0": npy("<f4", (0, 500), SAMPLES),
    "a length of text": npy("<f4", "(1, 'a')", SAMPLES),
    "no end": npy("<f4", "(1, 500", SAMPLES),
    "deep nesting": npy("<f4", "(" * 3000, SAMPLES),
    "code": npy("<f4", "__import__('os').getpid()", SAMPLES),
    "no type": npy("x", (1, 500), SAMPLES),
    "text of no width": npy("<U0", (1, 500)),
    "no header": b"\x93NUMPY\x01\x00\xff\xff",
    "an unknown version": b"\x93NUMPY\x09\x00" + SAMPLES,
    "no magic": SAMPLES,
    "nothing": b"",
}


@pytest.mark.parametrize("kind", HEADERS)
def test_an_array_that_is_not_what_its_header_claims_is_unreadable(kind, peak_mb):
    content = packed({"sig.npy": HEADERS[kind]})
    with peak_mb(10), pytest.raises(UnreadableError) as refusal:
        only(content, Hints("100", ("I",), "mV"))
    assert refusal.value.where == "sig"


def test_text_beyond_unicode_is_unreadable(record):
    with np.load(io.BytesIO(body(record))) as arrays:
        good = {f"{name}.npy": npy(a.dtype.str, a.shape, a.tobytes()) for name, a in arrays.items()}
    assert only(packed(good)).n_samples == 1000
    for name in ("leads", "units"):
        beyond = {**good, f"{name}.npy": npy("<U1", (1,) if name == "leads" else (), b"\xff" * 4)}
        with pytest.raises(UnreadableError, match="not unicode"):
            only(packed(beyond))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("point", [0x110000, 0xFFFFFFFF])
@pytest.mark.parametrize("name", ["leads", "units"])
def test_points_beyond_unicode_are_unreadable(name, point, order, record):
    n = 12 if name == "leads" else 1
    content = point.to_bytes(4, "little" if order == "<" else "big") * n
    shape = (n,) if name == "leads" else ()
    members = {"sig": npy("<f4", (12, 1000), record.sig.tobytes()), "fs": npy("<f8", (), bytes(8))}
    members |= {"units": npy("<U2", (), "mV".encode("utf-32-le"))}
    members |= {name: npy(f"{order}U1", shape, content)}
    with pytest.raises(UnreadableError, match="not unicode"):
        only(packed({f"{key}.npy": value for key, value in members.items()}))


# Arrays that are stored as they are


def test_a_changed_bit_in_a_stored_array_is_noticed(record):
    content = bytearray(body(record))
    content[content.find(record.sig.tobytes()[:64]) + 100] ^= 1
    with pytest.raises(UnreadableError, match="damaged"):
        only(bytes(content))


@pytest.mark.parametrize("shift", [-(2**31), -1, 1, 2**31])
def test_a_table_that_points_elsewhere_is_damage(record, shift):
    content = bytearray(body(record))
    at = content.rfind(b"PK\x01\x02") + 42
    offset = int.from_bytes(content[at : at + 4], "little") + shift
    content[at : at + 4] = (offset % 2**32).to_bytes(4, "little")
    with pytest.raises(UnreadableError, match="damaged"):
        only(bytes(content))


def test_a_zip_behind_other_bytes_is_read_where_its_table_says(record):
    content = b"PK" + bytes(99) + body(record)
    np.testing.assert_array_equal(only(content).sig, record.sig)


# Bombs


def test_what_unpacks_to_more_than_allowed_is_refused_before_it_is_unpacked(peak_mb):
    content = packed({"sig.npy": npy("<f4", (12, 1_000_000), bytes(48_000_000))})
    assert len(content) < 100_000
    with peak_mb(10), pytest.raises(TooLargeError):
        only(content, Hints("100", LEADS, "mV", limits=Limits(max_unpacked=47_000_000)))


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_unpacks_to_more_than_it_declares_is_refused_early(method, peak_mb):
    content = bytearray(packed({"sig.npy": bytes(30_000_000)}, method))
    for signature, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        at = content.find(signature) + offset
        content[at : at + 4] = (1000).to_bytes(4, "little")
    with peak_mb(10), pytest.raises(UnreadableError):
        only(bytes(content), Hints(limits=Limits(max_unpacked=1_000_000)))


def test_files_share_what_may_be_unpacked(record, peak_mb):
    """Each of 60 files would be allowed alone; together they are not held. Long records are held as
    they are stored, a byte a sample here."""
    sig = np.zeros((1, 1_000_000), np.int8)
    out = io.BytesIO()
    np.savez_compressed(out, sig=sig, fs=100, leads=np.array(["I"]), units="mV")
    files = [File(out.getvalue())] * 60
    with peak_mb(50), pytest.raises(TooLargeError) as refusal:
        read(files, Hints(limits=Limits(max_unpacked=10_000_000)))
    assert refusal.value.where == "files[9]"


def test_many_small_records_are_refused_before_they_are_made():
    sig = np.zeros((100_000, 1, 250), np.int8)
    out = io.BytesIO()
    np.savez_compressed(out, sig=sig, fs=50, leads=np.array(["I"]), units="mV")
    with pytest.raises(UnservableError, match="holds 100000 records"):
        only(out.getvalue())


@pytest.mark.parametrize(("name", "media_type"), [("x.npz", ""), ("", "application/x-npz")])
def test_a_truncated_npz_is_unreadable_whatever_it_is_called(name, media_type, record):
    content = body(record)
    for cut in (File(content[:-30]), File(content[:-30], name, media_type)):
        with pytest.raises(EcgError, match="truncated, damaged or encrypted"):
            read([cut], Hints())
