"""Claims far beyond each limit: refused with the limit named, and nothing is allocated for them."""

from __future__ import annotations

import functools
import io
import json
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import fields, replace

import h5py
import numpy as np
import pytest

from ecg.errors import EcgError, TooLargeError, UnreadableError, UnservableError
from ecg.formats import _READERS, File, Hints, read
from ecg.formats.wfdb import READ_BYTES
from ecg.leads import LEADS
from ecg.limits import LIMITS, MIB, Limits
from tests.conftest import PTB_XL, ROOT, wfdb_files
from tests.ecg.formats import samples as made
from tests.ecg.formats.samples import HINTS
from tests.service.bodies import as_json, as_zip, npz

samples = functools.cache(made.samples)
MOST_MB = 150  # of Python's memory, beyond the body; the claims are of gigabytes


def stored_zip(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return out.getvalue()


def claimed_zip(names: Sequence[str], n_mib: int) -> bytes:
    """A small zip of members that claim to unpack to so many MiB each."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, bytes(MIB))
    content = bytearray(out.getvalue())
    at = content.find(b"PK\x01\x02")
    while at >= 0:
        struct.pack_into("<I", content, at + 24, n_mib * MIB)
        at = content.find(b"PK\x01\x02", at + 4)
    return bytes(content)


def npy_head(shape: tuple[int, ...], descr: str) -> bytes:
    head = io.BytesIO()
    described = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(head, described)
    return head.getvalue()


def npz_of_bytes(n: int) -> bytes:
    """64 records of one byte a sample, which are four as float32."""
    n_samples = n * MIB // (64 * 12)
    head = npy_head((64, 12, n_samples), "|i1")
    rest = n * MIB - 64 * 12 * n_samples
    arrays = {"fs": np.array(4000), "leads": np.array(LEADS), "units": np.array("mV")}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        with archive.open("sig.npy", "w", force_zip64=True) as member:
            member.write(head)
            for _ in range(n - 1):
                member.write(b"\x01" * MIB)
            member.write(b"\x01" * (MIB - rest))
        for name, array in arrays.items():
            one = io.BytesIO()
            np.save(one, array)
            archive.writestr(f"{name}.npy", one.getvalue())
    return out.getvalue()


def hdf5_of(shape: tuple[int, ...], chunks: tuple[int, ...] | None = None) -> bytes:
    """A dataset of which nothing was ever written, but its size."""
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        most = (shape[0], None) if chunks else None
        file.create_dataset("sig", shape, "f4", maxshape=most, chunks=chunks)
        file["fs"], file["units"] = 500, np.bytes_("mV")
        file["leads"] = np.array(LEADS, dtype="S")
    return out.getvalue()


def dicom_of(n_levels: int) -> bytes:
    """Sequences within sequences, of undefined length."""
    deeper = struct.pack("<HH2sHL", 0x5400, 0x0100, b"SQ", 0, 0xFFFFFFFF)
    deeper += struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    uid = b"1.2.840.10008.5.1.4.1.1.9.1.1\0"
    head = struct.pack("<HH2sH", 8, 0x16, b"UI", len(uid)) + uid
    return bytes(128) + b"DICM" + head + deeper * n_levels


def dicom_of_elements(n: int) -> bytes:
    element = struct.pack("<HH2sH", 0x10, 0x10, b"LO", 0)
    return dicom_of(0) + element * n


def edf_of(n_signals: int, n_records: int = 1) -> bytes:
    head = b"0".ljust(8) + b" " * 176
    head += str(256 * (1 + n_signals)).encode().ljust(8)[:8] + b" " * 44
    head += str(n_records).encode().ljust(8)[:8] + b"1".ljust(8)
    return head + str(n_signals).encode().ljust(4)[:4] + b" " * 10_000


def ishne_of(n_samples: int, fs: int) -> bytes:
    """Three leads that are long enough for the claim to be believed."""
    good = bytearray(samples()["ishne"].files[0].content[:522])
    struct.pack_into("<i", good, 14, n_samples)
    struct.pack_into("<h", good, 272, fs)
    return bytes(good) + bytes(2 * 3 * n_samples)


def scp_of(n_samples: int) -> bytes:
    """Every lead of the published example said to be longer than the format goes."""
    good = bytearray(samples()["scp sections"].packed(samples()["scp"].files)[0].content)
    at = 328 + 16 + 2  # behind section 3's header
    for i in range(good[328 + 16]):
        struct.pack_into("<II", good, at + 9 * i, 1, n_samples)
    return bytes(good)


def xml(root: str, inner: str) -> bytes:
    return f"<?xml version='1.0'?><{root}>{inner}</{root}>".encode()


def fhir_of(**data: object) -> bytes:
    body = json.loads(samples()["fhir R4"].files[0].content)
    del body["component"][1:]
    body["component"][0]["valueSampledData"].update(data)
    return json.dumps(body).encode()


def wfdb_of(line: str, size: int, fmt: str = "8", n: int = 1) -> list[File]:
    lines = [line, *[f"r.dat {fmt} 200 8 0 0 0 0 II"] * n]
    return [File("\n".join(lines).encode(), "r.hea"), File(bytes(size), "r.dat")]


BOMB = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
Claim = tuple[Callable[[], bytes | list[File]], type[EcgError], str]
CLAIMS: dict[str, list[Claim]] = {
    "npz": [
        (lambda: claimed_zip(["sig.npy"], 1024), TooLargeError, "512 MiB"),
        (lambda: npz(**{f"a{i}": np.zeros(1) for i in range(5000)}), TooLargeError, "4096"),
        (lambda: npz(sig=np.zeros((65, 1, 500)), fs=100), UnservableError, "at most 64"),
    ],
    "hdf5": [
        (lambda: hdf5_of((12, 10**9)), TooLargeError, "512 MiB|accepts"),
        (lambda: hdf5_of((12, 5000), (12, 40_000_000)), TooLargeError, "512 MiB|accepts"),
        (lambda: hdf5_of((10**6, 12, 5000)), TooLargeError, "accepts"),
    ],
    "dicom": [
        (lambda: dicom_of(100_000), TooLargeError, "deeper than 64"),
        (lambda: dicom_of_elements(401_000), TooLargeError, "400,000 elements"),
    ],
    "edf": [
        (lambda: edf_of(9999), UnservableError, "more than 512 channels"),
        (lambda: edf_of(12, 10**7), UnreadableError, "describe|samples|number"),
    ],
    "ishne": [
        (lambda: ishne_of(86_400 * 51, 50), UnservableError, "at most 24 h"),
        (lambda: ishne_of(1000, 30_000), UnservableError, "between 50 and 4000 Hz"),
    ],
    "scp": [(lambda: scp_of(10**9), UnservableError, "more than 240000 samples")],
    "aecg": [
        (lambda: xml("AnnotatedECG", "<a/>" * 201_000), TooLargeError, "200,000 elements"),
        (lambda: xml("AnnotatedECG", "<a>" * 100_000), TooLargeError, "deeper than 64"),
        (
            lambda: xml("AnnotatedECG", "<a b='' c='' d='' e=''/>" * 60_000),
            TooLargeError,
            "elements and attributes",
        ),
        (
            lambda: f"{BOMB}]><AnnotatedECG>&i;</AnnotatedECG>".encode(),
            UnreadableError,
            "entities",
        ),
        (lambda: xml("AnnotatedECG", f"<!--{' ' * 9_000_000}-->"), TooLargeError, "2 MiB"),
    ],
    "muse": [
        (lambda: xml("RestingECG", "<a/>" * 201_000), TooLargeError, "200,000 elements"),
        (
            lambda: xml(
                "RestingECG",
                "<Waveform><WaveformType>Rhythm</WaveformType>"
                + "<LeadData><LeadID>II</LeadID></LeadData>" * 1000
                + "</Waveform>",
            ),
            UnservableError,
            "more than 64 leads",
        ),
        (
            lambda: xml(
                "RestingECG",
                "<Waveform><WaveformType>Rhythm</WaveformType><LeadData><LeadID>II</LeadID>"
                f"<WaveFormData>{'AA A' * 2_000_000}!</WaveFormData></LeadData></Waveform>",
            ),
            UnreadableError,
            "base64",
        ),
    ],
    "sierra": [
        (lambda: xml("restingecgdata", "<a/>" * 201_000), TooLargeError, "200,000 elements"),
        (
            lambda: xml(
                "restingecgdata",
                "<parsedwaveforms samplespersecond='4000' durationperchannel='1e12' "
                "dataencoding='Plain'>1 2 3</parsedwaveforms>",
            ),
            UnservableError,
            "durationperchannel",
        ),
    ],
    "fhir": [
        (lambda: fhir_of(dimensions=10**9), UnservableError, "from 1 to 512"),
        (
            lambda: b'{"resourceType": "Observation", "a": [' + b"{}," * 2_000_000 + b"{}]}",
            TooLargeError,
            "1,000,000 elements",
        ),
        (lambda: fhir_of(period=1e-9), UnservableError, "between 50 and 4000 Hz"),
    ],
    "json": [
        (lambda: b'{"sig": [' + b"[]," * 3_000_000 + b"[]]}", TooLargeError, "1,000,000 objects"),
        (lambda: b'{"sig": [[' + b"0," * 20_000_000 + b"0]]}", TooLargeError, "16,000,000 numb"),
        (lambda: b'{"sig": [' + b'"a",' * 3_000_000 + b'"a"]}', TooLargeError, "1,000,000 obj"),
        (lambda: b'{"a":' * 500_000 + b"1" + b"}" * 500_000, UnreadableError, "line 1"),
    ],
    "wfdb": [
        (lambda: wfdb_of("r 2000 100 1000", 2_000_000, n=2000), UnservableError, "512 channels"),
        (lambda: wfdb_of("r 1 100 99999999999", 1000), UnreadableError, "too short"),
        (lambda: wfdb_of("r 1 100 60000000", 60_000_000), UnservableError, "at most 24 h"),
        (lambda: wfdb_of("r 1 4000 80000000", 80_000_000), TooLargeError, "512 MiB"),
        (lambda: wfdb_of("r 1 9e9 1000", 1000), UnservableError, "between 50 and 4000 Hz"),
        (
            lambda: [File(claimed_zip(["a.dat"], 1024))],
            TooLargeError,
            "unpacks to more",
        ),
        (
            lambda: [File(as_zip([File(b"", f"{i}.dat") for i in range(5000)]))],
            TooLargeError,
            "at most 4096",
        ),
        (
            lambda: [File(stored_zip("a.zip", claimed_zip(["r.dat"], 1024)))],
            EcgError,
            "recognised|unpacks",
        ),
    ],
    "apple": [
        (
            lambda: samples()["apple"].files[0].content + b"1\n" * 400_000,
            TooLargeError,
            "300,000 lines",
        ),
    ],
    "csv": [
        (lambda: b"I\n" + b"1\n" * 9_000_000, UnservableError, "at most 24 h"),
        (lambda: b"I\n" + b"\n" * 500_000 + b"x", EcgError, "line|number|sample"),
        (lambda: b",".join([b"I"] * 9000) + b"\n1", UnservableError, "there are 12"),
    ],
}


def test_every_format_has_claims_beyond_its_limits() -> None:
    assert set(CLAIMS) == {reader.__name__.rpartition(".")[2] for reader in _READERS}


@pytest.mark.parametrize(
    ("name", "i"), [(name, i) for name, claims in CLAIMS.items() for i in range(len(claims))]
)
def test_a_claim_beyond_a_limit_is_refused_before_it_is_allocated(name, i, peak_mb) -> None:
    make, kind, says = CLAIMS[name][i]
    sent = make()
    files = [File(sent)] if isinstance(sent, bytes) else sent
    with peak_mb(MOST_MB), pytest.raises(kind, match=says):
        read(files, replace(HINTS, limits=LIMITS))


def test_samples_of_a_byte_count_as_what_they_become(peak_mb) -> None:
    content = npz_of_bytes(40)
    with peak_mb(MOST_MB), pytest.raises(TooLargeError, match="holds more samples"):
        read([File(content)], Hints(limits=Limits(max_unpacked=64 * MIB)))


KINDS = list(samples())
OF_LIMITS = {
    "max_records": (1, UnservableError),
    "max_channels": (1, UnservableError),
    "min_fs": (3000.0, UnservableError),
    "max_fs": (51.0, UnservableError),
    "min_duration_s": (80_000.0, UnservableError),
    "max_duration_s": (6.0, UnservableError),
    "max_unpacked": (1000, TooLargeError),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limit", OF_LIMITS)
def test_every_reader_keeps_to_each_limit(kind: str, limit: str) -> None:
    value, error = OF_LIMITS[limit]
    sample = samples()[kind]
    files = list(sample.packed(sample.files))
    if limit == "max_records":
        files = [File(as_zip(files)) for _ in range(2)] if len(files) > 1 else files * 2
    elif limit == "max_channels" and len(sample.record.leads) == 1:
        pytest.skip("a record of one lead has no fewer channels")
    hints = replace(HINTS, limits=replace(LIMITS, **{limit: value}))
    with pytest.raises(error):
        read(files, hints)


def test_each_limit_is_tried() -> None:
    structural = {"max_files", "max_depth", "max_numbers"}
    structural |= {"max_json_elements", "max_xml_elements", "max_dicom_elements"}
    assert {field.name for field in fields(Limits)} == set(OF_LIMITS) | structural


@pytest.mark.parametrize(
    ("kind", "limit", "value"),
    [
        ("json", "max_numbers", 11_000),
        ("json", "max_json_elements", 10),
        ("fhir R4", "max_json_elements", 10),
        ("aecg", "max_xml_elements", 100),
        ("muse", "max_xml_elements", 10),
        ("sierra", "max_xml_elements", 100),
        ("aecg", "max_depth", 3),
        ("dicom", "max_dicom_elements", 20),
        ("dicom", "max_depth", 1),
        ("wfdb zip", "max_files", 1),
        ("npz", "max_files", 1),
    ],
)
def test_what_a_file_is_made_of_is_counted(kind: str, limit: str, value: int) -> None:
    files = list(samples()[kind].files)
    with pytest.raises(TooLargeError):
        read(files, replace(HINTS, limits=replace(LIMITS, **{limit: value})))


def test_limits_can_be_raised(record) -> None:
    with pytest.raises(UnservableError, match="at most 64"):
        read([File(as_json(record))] * 70, Hints())
    assert len(read([File(as_json(record))] * 70, Hints(limits=Limits(max_records=70)))) == 70
    slow = replace(record, fs=20.0)
    with pytest.raises(UnservableError, match="between 50 and 4000 Hz"):
        read([File(as_json(slow))], Hints())
    assert read([File(as_json(slow))], Hints(limits=Limits(min_fs=10)))[0].fs == 20


IN_LITTLE = """
import resource, sys
from ecg.errors import EcgError
from ecg.formats import File, Hints, read
files = [File(sys.stdin.buffer.read())]
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 400 * 2**20,) * 2)
try:
    read(files, Hints("100", None, "mV"))
except EcgError as error:
    print(type(error).__name__)
"""


@pytest.mark.parametrize(
    "content",
    [
        claimed_zip(["sig.npy"], 1024),
        b"I\n" + b"1\n" * 1_000_000 + b",",
        b'{"sig": [' + b"[]," * 3_000_000 + b"[]]}",
        xml("AnnotatedECG", "<a b='' c=''/>" * 300_000),
    ],
    ids=["npz", "csv", "json", "xml"],
)
def test_the_whole_process_stays_small(content: bytes) -> None:
    """As the kernel counts, which sees what NumPy, zlib and the XML parser take, too."""
    done = subprocess.run(
        [sys.executable, "-c", IN_LITTLE], cwd=ROOT, input=content, capture_output=True, timeout=120
    )
    assert done.stdout.decode().strip() in ("TooLargeError", "UnservableError", "UnreadableError")


def test_a_record_of_one_file_leaves_less_for_the_next(record) -> None:
    (header, signal) = wfdb_files(PTB_XL[0])
    once = 12 * 1000 * READ_BYTES
    hints = Hints(limits=Limits(max_unpacked=once + 50_000))
    one = File(as_zip([header, signal]))
    assert len(read([one], hints)) == 1
    with pytest.raises(TooLargeError):
        read([one] * 3, hints)
