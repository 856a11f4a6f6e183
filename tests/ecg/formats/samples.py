"""One good file of every readable kind, and the record that is in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ecg.formats import WRITERS, File, Hints, fhir, read
from ecg.formats.source import unpack
from ecg.leads import LEADS
from ecg.limits import LIMITS, Limits
from ecg.record import Record
from ecg.waveform import resample
from tests.conftest import DATA, PTB_XL, wfdb_files
from tests.ecg.formats.test_apple import ENGLISH, body
from tests.ecg.formats.test_ishne import CODES, written
from tests.ecg.formats.test_muse import STORED, usual
from tests.ecg.formats.test_scp import repaired
from tests.service.bodies import as_csv, as_json, as_npz, as_zip

HINTS = Hints("100", LEADS, "mV", Limits(max_unpacked=64 * 2**20))  # what a file does not say
PUBLISHED = {
    "aecg": "hl7_Example_aECG.zip",
    "scp": "ecgtoolkit_Example.scp",
    "sierra": "1_04_ad4d3d80_orig.zip",
    "dicom": "ecgtoolkit_example.dcm",
}


@dataclass(frozen=True)
class Sample:
    """Good files and their record; `packed` makes what is sent of them, after any damage."""

    files: Sequence[File]
    record: Record
    packed: Callable[[Sequence[File]], Sequence[File]] = list


def samples() -> dict[str, Sample]:
    """One of each kind."""
    (record,) = read(wfdb_files(PTB_XL[1]), Hints())
    files: dict[str, Sequence[File]] = {
        "wfdb": wfdb_files(PTB_XL[1]),
        "wfdb zip": [File(as_zip(wfdb_files(PTB_XL[1])))],
        "npz": [File(as_npz(record))],
        "csv": [File(as_csv(record))],
        "json": [File(as_json(record))],
        "hdf5": [File(WRITERS["hdf5"].write([record]))],
        "dicom written": [File(WRITERS["dicom"].write(record))],
        "edf": [File(WRITERS["edf"].write(record))],
        "fhir R4": [File(fhir.write(record, "R4"))],
        "fhir R5": [File(fhir.write(record, "R5"))],
        "ishne": [File(_ishne(record))],
        "muse": [File(_muse(record))],
        "apple": [File(_apple(record))],
        **{kind: [File(_published(name))] for kind, name in PUBLISHED.items()},
    }
    found = {kind: Sample(sent, read(sent, HINTS)[0]) for kind, sent in files.items()}
    # Behind their sums, which find most damage before anything is read of it:
    arrays = unpack(File(as_npz(record, "uV", "int16")), LIMITS)
    found["npz arrays"] = Sample(arrays, record, lambda files: [File(as_zip(files))])
    found["scp sections"] = replace(
        found["scp"], packed=lambda files: [File(repaired(file.content)) for file in files]
    )
    return found


def _published(name: str) -> bytes:
    """A file in tests/data, out of its zip if it is in one."""
    content = (DATA / name).read_bytes()
    return unpack(File(content), LIMITS)[0].content if name.endswith(".zip") else content


def _ishne(record: Record) -> bytes:
    names = [name for name in record.leads if name in CODES][:3]
    rows = [record.leads.index(name) for name in names]
    counts = np.round(record.sig[rows] * 1000).astype("<i2")
    return written(counts, names, fs=100, nanovolts=(1000,) * 3, crc=0)


def _muse(record: Record) -> bytes:
    rows = [record.leads.index(name) for name in STORED]
    counts = np.round(record.sig[rows] * 1000 / 4.88).astype("<i2")
    return usual(counts, base="100")


def _apple(record: Record) -> bytes:
    first = resample(record.sig[:1], record.fs, 512)
    return (ENGLISH + body(first[0] * 1000)).encode()
