"""The content decides the reader; whatever the bytes are, the answer is records or an EcgError."""

import json
import pickle
import random
from dataclasses import replace

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecg.errors import EcgError, TooLargeError, UnknownFormatError, UnreadableError, UnservableError
from ecg.formats import READABLE, File, Hints, read, wfdb
from ecg.limits import LIMITS, Limits
from tests.conftest import wfdb_files
from tests.service.bodies import as_csv, as_json, as_npz, as_zip

NAMES = ["", "x.csv", "x.json", "x.npz", "x.zip", "x.hea", "x.dat", "x.png"]
MEDIA_TYPES = [
    "",
    "text/csv",
    "application/json",
    "application/x-npz",
    "application/zip",
    "image/png",
]
HINTS = Hints("100", None, "mV")
FORMATS = ["json", "npz", "csv", "wfdb", "zip"]


@pytest.fixture(scope="module")
def bodies(record):
    """The same record in every format."""
    return {
        "json": [File(as_json(record))],
        "npz": [File(as_npz(record))],
        "csv": [File(as_csv(record))],
        "wfdb": wfdb_files("00009_lr"),
        "zip": [File(as_zip(wfdb_files("00009_lr")))],
    }


@pytest.fixture(autouse=True)
def nothing_stays_in_memory():
    yield
    assert fsspec.filesystem("memory").find("/") == []


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["json", "npz", "csv", "zip"])
def test_the_content_decides_whatever_the_name_and_the_media_type(
    kind, name, media_type, bodies, record
):
    files = [replace(f, name=name, media_type=media_type) for f in bodies[kind]]
    (back,) = read(files, HINTS)
    np.testing.assert_array_equal(back.sig, record.sig)
    assert back.leads == record.leads


def test_files_of_every_format_are_answered_in_their_order(bodies, record):
    files = [file for kind in FORMATS for file in bodies[kind]]
    back = read(files, HINTS)
    assert len(back) == len(FORMATS)
    for one in back:
        np.testing.assert_array_equal(one.sig, record.sig)


def test_a_zip_may_hold_other_formats_and_folders(bodies, record):
    inside = [
        File(bodies["csv"][0].content, "a/b/one.csv"),
        File(bodies["npz"][0].content, "a/two.npz"),
        *(replace(f, name=f"c/{f.name}") for f in bodies["wfdb"]),
    ]
    back = read([File(as_zip(inside))], HINTS)
    assert [one.n_samples for one in back] == [record.n_samples] * 3


def test_no_more_records_than_a_request_may_hold(bodies):
    assert len(read(bodies["csv"] * LIMITS.max_records, HINTS)) == LIMITS.max_records
    with pytest.raises(UnservableError, match="at most 64 are answered at once"):
        read(bodies["csv"] * (LIMITS.max_records + 1), HINTS)


@pytest.mark.parametrize(
    ("files", "kind", "says"),
    [
        ([], UnreadableError, "no file"),
        ([File(b"")], UnknownFormatError, "empty body"),
        ([File(pickle.dumps([1.0]))], UnknownFormatError, "a pickle, which is never read"),
        ([File(pickle.dumps([1.0]), "x.npz")], UnknownFormatError, "a pickle"),
        ([File(b"%PDF-1.7 ...")], UnknownFormatError, "not recognised by its content"),
        ([File(b"\x89PNG\r\n\x1a\n", "ecg.png", "image/png")], UnknownFormatError, READABLE),
        ([File(as_zip([]))], EcgError, ""),
        ([File(as_zip([File(b"hello", "readme.txt")]))], UnknownFormatError, "not recognised"),
    ],
)
def test_what_is_no_known_format_is_told_which_are_read(files, kind, says):
    with pytest.raises(kind) as refusal:
        read(files, HINTS)
    assert says in str(refusal.value)


def test_the_faulty_file_of_several_is_named(bodies):
    with pytest.raises(UnknownFormatError) as refusal:
        read([*bodies["csv"], File(b"")], HINTS)
    assert refusal.value.where == "files[1]"
    with pytest.raises(UnservableError) as refusal:
        read([*bodies["csv"], File(b'{"fs": 9}')], HINTS)
    assert refusal.value.where.startswith("files[1].")


def test_folders_in_a_zip_are_no_files(bodies):
    with_folder = [
        File(b"", "records/"),
        *(replace(f, name=f"records/{f.name}") for f in bodies["wfdb"]),
    ]
    assert len(read([File(as_zip(with_folder))], HINTS)) == 1


def test_a_file_of_no_name_in_a_zip_is_read_like_any_other(bodies):
    content = as_zip([File(bodies["csv"][0].content, "name.csv")])
    nameless = content.replace(b"name.csv", b"\x00ame.csv")  # a name ends where it begins
    assert len(read([File(nameless)], HINTS)) == 1


def test_as_much_as_is_allowed_may_be_unpacked(bodies):
    size = sum(len(f.content) for f in bodies["wfdb"])
    samples = 12 * 1000 * wfdb.READ_BYTES
    assert read(bodies["zip"], Hints(limits=Limits(max_unpacked=samples)))
    with pytest.raises(TooLargeError):
        read(bodies["zip"], Hints(limits=Limits(max_unpacked=samples - 1)))
    with pytest.raises(TooLargeError):
        read(bodies["zip"], Hints(limits=Limits(max_unpacked=size - 1)))


def test_a_zip_within_a_zip_is_not_opened(bodies):
    with pytest.raises(EcgError):
        read([File(as_zip([File(bodies["zip"][0].content, "inner.zip")]))], HINTS)


def test_nested_bombs_are_refused_in_little_memory(peak_mb):
    """Zips of a zip of zeros: nothing is unpacked twice, nor more than is allowed in all."""
    inner = as_zip([File(bytes(20_000_000), "zeros.dat")])
    with peak_mb(20), pytest.raises(EcgError):
        read([File(as_zip([File(inner, f"{i}.zip") for i in range(100)]))], Hints())
    with peak_mb(40), pytest.raises(TooLargeError):
        read([File(inner)] * 50, Hints(limits=Limits(max_unpacked=30_000_000)))


def test_a_zip_of_very_many_files_is_refused_in_little_memory(peak_mb):
    many = as_zip([File(b"", str(i)) for i in range(5000)])
    with peak_mb(5), pytest.raises(TooLargeError, match="at most 4096"):
        read([File(many)], HINTS)


# Garbage


@pytest.mark.parametrize("tenth", range(10))
@pytest.mark.parametrize("kind", ["json", "npz", "zip"])
def test_a_file_cut_at_any_tenth_is_refused(kind, tenth, bodies):
    content = bodies[kind][0].content
    with pytest.raises(UnreadableError if tenth else UnknownFormatError):
        read([File(content[: len(content) * tenth // 10])], HINTS)


@pytest.mark.parametrize("tenth", range(10))
@pytest.mark.parametrize("part", [0, 1])
def test_a_wfdb_record_cut_at_any_tenth_of_a_part_is_refused(part, tenth, bodies):
    files = list(bodies["wfdb"])
    content = files[part].content
    files[part] = replace(files[part], content=content[: len(content) * tenth // 10])
    with pytest.raises(UnreadableError):
        read(files, HINTS)


@pytest.mark.parametrize("tenth", range(10))
def test_a_csv_cut_short_is_a_shorter_record_or_refused(tenth, bodies):
    """A CSV says nowhere how long it is: whole lines are all that can be asked for."""
    content = bodies["csv"][0].content
    try:
        (back,) = read([File(content[: len(content) * tenth // 10])], HINTS)
    except EcgError:
        return
    assert 500 <= back.n_samples <= 100 * tenth + 50


@given(st.binary(max_size=2000))
def test_random_bytes_are_no_record(content):
    with pytest.raises(EcgError):
        read([File(content)], HINTS)


@given(
    start=st.sampled_from(
        [b"PK\x03\x04", b"PK\x05\x06", b"{", b"[", b"I,II\n", b"\x93NUMPY", b"a 1 9"]
    ),
    rest=st.binary(max_size=500),
    name=st.sampled_from(NAMES),
)
def test_random_bytes_behind_a_known_beginning_are_no_record(start, rest, name):
    with pytest.raises(EcgError):
        read([File(start + rest, name)], HINTS)


def mutated(content, rng):
    """Some bytes changed, cut out, or put in; more often near the beginning or the end."""
    out = bytearray(content)
    for _ in range(rng.randint(1, 6)):
        n = len(out)
        if n == 0:
            break
        edge = rng.randrange(min(200, n))
        at = rng.choice([rng.randrange(n), edge, n - 1 - edge])
        match rng.randrange(4):
            case 0:
                out[at] = rng.randrange(256)
            case 1:
                out[at] ^= 1 << rng.randrange(8)
            case 2:
                del out[at : at + rng.randint(1, 30)]
            case _:
                out[at:at] = rng.choice([out[:50], b"9" * 20, b"-", b"\x00", b"\xff\xff\xff\xff"])
    return bytes(out)


@pytest.mark.parametrize("kind", FORMATS)
@given(seed=st.integers(0, 2**32))
def test_only_an_ecg_error_escapes_from_mutated_files(kind, bodies, seed):
    rng = random.Random(seed)
    files = list(bodies[kind])
    victim = rng.randrange(len(files))
    files[victim] = replace(files[victim], content=mutated(files[victim].content, rng))
    try:
        records = read(files, HINTS)
    except EcgError as error:
        assert error.problem
    else:
        for record in records:
            assert record.sig.dtype == np.float32
            assert record.sig.shape[0] == len(set(record.leads)) >= 1
            assert 50 <= record.fs <= 4000 and 5 <= record.duration_s <= 86_400
            assert np.isfinite(record.sig).any() and not np.isinf(record.sig).any()


@given(seed=st.integers(0, 2**32))
def test_only_an_ecg_error_escapes_from_a_mutated_json_value(seed, record):
    """Valid JSON with parts of other types, which random bytes rarely make."""
    rng = random.Random(seed)
    odd = [None, True, -1, 1e308, "", "x", [], {}, [[]], [None], {"a": 1}, 2**63]
    body = json.loads(as_json(record))
    value = {"records": [body, dict(body)]} if rng.random() < 0.5 else body
    target = value["records"][1] if "records" in value and rng.random() < 0.8 else value
    key = rng.choice([*target, "record_id", "records"])
    if key == "sig" and rng.random() < 0.7:
        target["sig"] = [list(row) for row in target["sig"]]
        target["sig"][rng.randrange(12)][rng.randrange(1000)] = rng.choice(odd)
    else:
        target[key] = rng.choice(odd)
    try:
        records = read([File(json.dumps(value).encode())], HINTS)
    except EcgError as error:
        assert error.problem
    else:
        assert all(r.sig.shape == (12, 1000) for r in records)


def test_what_macos_adds_to_a_zip_is_left_out(record):
    extra = File(b"\x00\x05\x16\x07not an ECG", "__MACOSX/._00009_lr.hea")
    (got,) = read([File(as_zip([*wfdb_files("00009_lr"), extra]))], Hints())
    assert np.array_equal(got.sig, record.sig)
