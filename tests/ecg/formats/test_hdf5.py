"""HDF5: what the layouts mean, what is refused, and that damaged files harm nothing."""

import io
import random
import resource
import subprocess
import time

import h5py
import numpy as np
import pytest

from ecg.errors import EcgError, TooLargeError, UnreadableError, UnservableError
from ecg.formats import File, Hints, hdf5, read
from ecg.leads import LEADS
from ecg.limits import LIMITS, Limits

SAID = {"fs": 500, "leads": list(LEADS[:3]), "units": "mV"}
NONE = Hints()
ALL = Hints("400", LEADS, "mV")


@pytest.fixture(scope="module")
def sig():
    return np.random.default_rng(0).normal(size=(3, 3000)).astype(np.float32)


def built(fill, **options):
    """An HDF5 file as bytes."""
    out = io.BytesIO()
    with h5py.File(out, "w", **options) as file:
        fill(file)
    return out.getvalue()


def of(name, data, attributes=SAID, **options):
    def fill(file):
        file.create_dataset(name, data=data, **options).attrs.update(attributes)

    return built(fill)


def refused(content, kind, says, hints=NONE):
    with pytest.raises(kind, match=says) as refusal:
        read([File(content)], hints)
    return refusal.value


# Layouts


@pytest.mark.parametrize("turned", [False, True], ids=["[lead, time]", "[time, lead]"])
@pytest.mark.parametrize("name", ["ecg", "data", "signal"])
def test_either_order_of_axes_is_known_by_the_leads(name, turned, sig):
    (record,) = read([File(of(name, sig.T if turned else sig))], Hints())
    assert (record.fs, record.leads) == (500.0, LEADS[:3])
    np.testing.assert_array_equal(record.sig, sig)


def test_several_records_in_either_order(sig):
    for data in (np.stack([sig, -sig]), np.stack([sig.T, -sig.T])):
        first, second = read([File(of("data", data))], Hints())
        np.testing.assert_array_equal(first.sig, sig)
        np.testing.assert_array_equal(second.sig, -sig)


WAYS = {
    "root attributes": lambda f, s: (f.create_dataset("ecg", data=s), f.attrs.update(SAID)),
    "datasets": lambda f, s: f.update({"sig": s, **SAID}),
    "fixed-length text": lambda f, s: (
        f.update({"sig": s, "fs": 500.0, "units": np.bytes_("mV")}),
        f.update({"leads": np.array(SAID["leads"], dtype="S3")}),
    ),
    "other names": lambda f, s: f.create_dataset("signal", data=s).attrs.update(
        {"sampling_rate": [500], "lead_names": SAID["leads"], "unit": ["mV"]}
    ),
    "the dataset's before the root's": lambda f, s: (
        f.attrs.update({"fs": 250, "units": "uV"}),
        f.create_dataset("ecg", data=s).attrs.update(SAID),
    ),
    "lzf and checksums": lambda f, s: f.create_dataset(
        "ecg", data=s, compression="lzf", fletcher32=True
    ).attrs.update(SAID),
    "other things beside it": lambda f, s: (
        f.create_dataset("ecg", data=s).attrs.update(SAID),
        f.create_group("patient").attrs.update({"name": "Jane Doe"}),
        f.update({"annotations": np.zeros(9, dtype=[("a", "i4"), ("b", "f8")])}),
    ),
}


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_say_it_is_read(way, libver, sig):
    content = built(lambda file: WAYS[way](file, sig), libver=libver)
    (record,) = read([File(content)], Hints("999", ("V6",), "uV"))  # the file counts more
    assert (record.fs, record.leads) == (500.0, LEADS[:3])
    np.testing.assert_array_equal(record.sig, sig)


@pytest.mark.parametrize("dtype", ["int16", ">i2", "float64", ">f4", "float16", "uint8"])
def test_numbers_of_any_kind_are_values_in_their_units(dtype):
    counts = np.arange(1500).reshape(3, 500).astype("i8") % 200
    content = of(
        "ecg", counts.astype(dtype), {"fs": 100, "leads": "I II V1".split(), "units": "uV"}
    )
    (record,) = read([File(content)], Hints())
    np.testing.assert_allclose(record.sig, counts / 1000, rtol=1e-6)


def test_one_lead_needs_one_dimension(sig):
    (record,) = read([File(of("ecg", sig[0], {"fs": 500, "leads": "II", "units": "mV"}))], Hints())
    assert record.leads == ("II",) and record.n_samples == 3000


def test_behind_a_user_block(sig):
    content = built(lambda file: file.update({"sig": sig, **SAID}), userblock_size=512)
    assert content[:8] != hdf5.SIGNATURE
    (record,) = read([File(b"MATLAB 7.3" + content[10:])], Hints())
    np.testing.assert_array_equal(record.sig, sig)


def test_code_s_padding_is_taken_away_and_what_it_does_not_say_is_required():
    tracings = np.zeros((3, 4096, 12), np.float32)
    drawn = np.random.default_rng(0).normal(size=(4000, 12))
    tracings[0, 48:-48] = drawn
    tracings[1, 648:-648, 3] = drawn[:2800, 3]  # zeros in single leads are samples
    content = of("tracings", tracings, {})
    for hints, where in (
        (Hints(None, LEADS, "mV"), "fs"),
        (Hints("400", None, "mV"), "leads"),
        (Hints("400", LEADS), "units"),
    ):
        error = refused(content, UnservableError, f"is not in the file: send .{where}=", hints)
        assert error.where == where
    records = read([File(content)], ALL)
    assert [record.n_samples for record in records] == [4000, 2800, 4096]
    np.testing.assert_array_equal(records[0].sig, drawn.T.astype(np.float32))
    assert not records[2].sig.any()  # a flat record is answered as such


# Refusals


def linked(link):
    return lambda file: file.update({"sig": link, **SAID})


def foreign(file):
    layout = h5py.VirtualLayout((3, 3000), "f4")
    layout[:] = h5py.VirtualSource("/etc/other.h5", "sig", (3, 3000))
    file.create_virtual_dataset("sig", layout)
    file.update(SAID)


def looped(file):
    file["a"], file["sig"] = h5py.SoftLink("/sig"), h5py.SoftLink("/a")


def grouped(file):
    file.create_group("sig")


def references(file):
    data = np.full((3, 3000), file.ref, dtype=h5py.ref_dtype)
    file.create_dataset("sig", data=data)
    file.update(SAID)


def far(file):
    file.create_dataset("sig", (3, 3000), "f4", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])
    file.update(SAID)


@pytest.mark.parametrize(
    ("fill", "says"),
    [
        (lambda f: None, "whose root has none of sig, tracings, ecg, data, signal"),
        (linked(h5py.SoftLink("/other")), "soft or external link"),
        (linked(h5py.ExternalLink("/etc/other.h5", "/sig")), "soft or external link"),
        (looped, "soft or external link"),
        (grouped, "not a dataset"),
        (foreign, "from other files"),
        (far, "from other files"),
        (references, "holds neither numbers"),
        (lambda f: f.update({"sig": ["a", "b"], **SAID}), "holds neither numbers"),
        (lambda f: f.update({"sig": h5py.Empty("f4"), **SAID}), "is empty"),
        (lambda f: f.update({"sig": np.zeros((2, 2, 3, 500)), **SAID}), "has 4 dimensions"),
        (lambda f: f.update({"sig": np.zeros((3, 900), "c8"), **SAID}), "holds neither numbers"),
        (lambda f: f.update({"sig": np.zeros((3, 900), "f16"), **SAID}), "expected float32"),
        (lambda f: f.update({"sig": np.zeros((3, 9)), "fs": np.zeros(10**6)}), "too long"),
        (lambda f: f.update({"sig": np.zeros((3, 900)), "fs": f.ref}), "holds neither numbers"),
        (lambda f: f.update({"sig": np.zeros((4, 3000)), **SAID}), "names 3 leads, but sig has 4"),
    ],
)
def test_what_is_not_read_is_refused(fill, says):
    refused(built(fill), UnservableError, says)


def test_another_file_s_samples_are_not_fetched(sig, tmp_path):
    """By none of the three ways in which HDF5 can name one, though it is there."""
    other = tmp_path / "other.h5"
    other.write_bytes(of("sig", sig))
    raw = tmp_path / "raw.bin"
    raw.write_bytes(sig.tobytes())

    def virtual(file):
        layout = h5py.VirtualLayout(sig.shape, "f4")
        layout[:] = h5py.VirtualSource(str(other), "sig", sig.shape)
        file.create_virtual_dataset("sig", layout)

    for fill in (
        lambda file: file.update({"sig": h5py.ExternalLink(str(other), "/sig")}),
        virtual,
        lambda file: file.create_dataset(
            "sig", sig.shape, "f4", external=[(str(raw), 0, sig.nbytes)]
        ),
    ):
        refused(built(fill), UnservableError, "link|other files", Hints("500", LEADS[:3], "mV"))


@pytest.mark.parametrize("attribute", ["gain", "scale_factor", "add_offset"])
def test_scaled_samples_are_not_taken_for_units(attribute, sig):
    says = f"has an attribute {attribute}"
    refused(of("ecg", sig, {**SAID, attribute: 0.005}), UnservableError, says)


def test_no_more_records_than_a_request_may_hold():
    content = of("sig", np.zeros((LIMITS.max_records + 1, 3, 2500), "i2"), SAID, compression="gzip")
    refused(content, UnservableError, "at most 64")


def test_the_faulty_record_of_several_is_named(sig):
    several = np.stack([sig, np.full_like(sig, np.nan)])
    error = refused(of("sig", several), UnservableError, "no finite sample")
    assert error.where == "records[1].sig"


def test_a_filter_that_only_others_have_is_refused(sig):
    content = of("ecg", sig, scaleoffset=3)
    refused(content, UnservableError, "packed otherwise than by gzip")


# Hostile files


def test_what_unpacks_to_too_much_is_refused_before_it_is_read(sig):
    huge = of("sig", None, SAID, shape=(3, 10**9), dtype="f4", chunks=(3, 1000), compression="gzip")
    assert len(huge) < 10_000
    refused(huge, TooLargeError, "unpacks to more")
    wide = of("sig", None, SAID, shape=(3, 900), maxshape=(3, None), dtype="f4", chunks=(3, 10**8))
    refused(wide, TooLargeError, "unpacks to more")
    content = of("sig", sig)
    assert read([File(content)], Hints(limits=Limits(max_unpacked=sig.nbytes)))
    refused(
        content, TooLargeError, "unpacks to more", Hints(limits=Limits(max_unpacked=sig.nbytes - 1))
    )


def test_a_chunk_that_swells_beyond_its_shape_is_stopped(peak_mb):
    """A gigabyte of zeros, gzipped, in the place of a small chunk."""
    import zlib

    packed = zlib.compressobj(9)
    bomb = b"".join(packed.compress(bytes(10**6)) for _ in range(1000)) + packed.flush()

    def fill(file):
        data = file.create_dataset("sig", (3, 900), "f4", chunks=(3, 900), compression="gzip")
        data.id.write_direct_chunk((0, 0), bomb)
        file.update(SAID)

    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    started = time.process_time()
    with peak_mb(20), pytest.raises(EcgError):
        read([File(built(fill))], Hints())
    assert time.process_time() - started < 2
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss <= max(before, 512 * 1024)


def test_ten_million_tiny_chunks_are_stopped():
    content = of("sig", None, SAID, shape=(3, 10**7), dtype="i1", chunks=(1, 1))
    before = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    refused(content, UnreadableError, "damaged, or takes more memory")
    assert sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - before < 5


@pytest.mark.parametrize("tenth", range(10))
def test_a_file_cut_at_any_tenth_is_refused(tenth, sig):
    content = hdf5.write(read([File(of("ecg", sig))], Hints()))
    with pytest.raises(EcgError):
        read([File(content[: len(content) * tenth // 10])], Hints())


def test_a_program_that_crashes_or_babbles_is_a_damaged_file(sig, monkeypatch, tmp_path):
    content = of("ecg", sig)
    for program in (
        "import os; os.abort()",
        "print('x' * 10**6)",
        "print('{}')",
        "print('[]')",
        """print('{"shape": [3, 3000], "dtype": "O"}')""",
        """print('{"shape": [3, 3000], "dtype": "<f4"}')""",
        """print('{"shape": [-3, 3000], "dtype": "<f4"}')""",
        """print('{"shape": [3000000, 3000000], "dtype": "<f4"}')""",
        """print('{"refusal": 7}')""",
    ):
        path = tmp_path / "program.py"
        path.write_text(f"import sys; sys.stdin.buffer.read(); {program}")
        monkeypatch.setattr(hdf5, "PROGRAM", path)
        refused(content, UnreadableError, "damaged")


def test_a_program_that_stands_still_is_ended(sig, monkeypatch, tmp_path):
    path = tmp_path / "program.py"
    path.write_text("import time; time.sleep(100)")
    monkeypatch.setattr(hdf5, "PROGRAM", path)
    monkeypatch.setattr(hdf5, "WALL_S", 0.5)
    started = time.monotonic()
    refused(of("ecg", sig), UnreadableError, "damaged")
    assert time.monotonic() - started < 20


def test_no_process_is_left_behind(sig, monkeypatch):
    started = []
    real = subprocess.Popen

    def noted(*args, **kwargs):
        started.append(real(*args, **kwargs))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", noted)
    read([File(of("ecg", sig))], Hints())
    refused(of("ecg", sig)[:3000], UnreadableError, "HDF5")
    assert [process.poll() is not None for process in started] == [True, True]


def test_only_an_ecg_error_escapes_from_mutated_files(sig):
    rng = random.Random(0)
    contents = [of("ecg", sig), of("ecg", sig, compression="gzip", chunks=(1, 1000))]
    for i in range(24):
        damaged = bytearray(contents[i % 2])
        for _ in range(rng.randint(1, 5)):
            at = rng.choice([rng.randrange(3000), rng.randrange(len(damaged))])
            damaged[at] = rng.randrange(256)
        try:
            records = read([File(bytes(damaged))], ALL)
        except EcgError as error:
            assert error.problem
        else:
            assert all(np.isfinite(record.sig).any() for record in records)
