"""A patient who never was, planted in a file of every format; and the search for what became of it.

Every word of the patient's has letters in it that are drawn anew for each, so that nothing else is
found for it: not another test's, nor chance.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import itertools
import json
import random
import re
import struct
import urllib.parse
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property, lru_cache

import h5py
import numpy as np
import pydicom
from pydicom.dataset import Dataset

from ecg.formats import WRITERS, File, fhir
from ecg.record import Record
from tests.conftest import PTB_XL, wfdb_files
from tests.ecg.formats.samples import samples
from tests.service.bodies import as_csv, as_json, as_zip, npz


@dataclass(frozen=True)
class Patient:
    """Of no country and no time: `mark` is what makes the words unlike any others."""

    mark: str

    @classmethod
    def drawn(cls) -> Patient:
        return cls("".join(random.SystemRandom().choices("bdfgkmnprtvz", k=7)))

    @property
    def family(self) -> str:
        return f"Nobody{self.mark}ü"

    @property
    def given(self) -> str:
        return f"Nessuna{self.mark[::-1]}"

    @property
    def number(self) -> str:
        return f"NHC-{self.mark.upper()}-77"

    @property
    def record_id(self) -> str:
        """The client's own name for a record, which its answer repeats, and nothing else."""
        return f"own-{self.mark[1:]}{self.mark[0]}"

    @cached_property
    def born(self) -> dict[str, str]:
        """A day before any ECG was taken, as it is spelled."""
        drawn = random.Random(self.mark)
        day = date(drawn.randint(1501, 1899), drawn.randint(1, 12), drawn.randint(1, 28))
        return {
            "iso": f"{day:%Y-%m-%d}",
            "dicom": f"{day:%Y%m%d}",
            "german": f"{day:%d.%m.%Y}",
            "american": f"{day:%m/%d/%Y}",
            "edf": f"{day:%d-%b-%Y}".upper(),
            "words": f"{day:%d %B %Y}",
        }

    @property
    def line(self) -> str:
        said = f"{self.family}, {self.given}; {self.number}; {self.family}^{self.given}"
        return f"{said}; {'; '.join(self.born.values())}"

    def words(self) -> tuple[str, ...]:
        """What must be found nowhere, in plain letters alone: an accent's spelling does not hide
        the rest of a word."""
        plain = (self.family.rstrip("ü"), self.given, self.number)
        return (*plain, *self.born.values())


@lru_cache(maxsize=256)
def spelled(word: str) -> tuple[bytes, ...]:
    """The word in lower case as it may lie in memory: text of 1, 2 or 4 bytes a letter (of either
    byte order), percent-encoded, or hexadecimal."""
    return tuple(_spelled(word))


def _spelled(word: str) -> Iterator[bytes]:
    for text in dict.fromkeys((word.lower(), urllib.parse.quote(word.lower(), safe=""))):
        yield text.encode()
        yield text.encode("utf-16-le").rstrip(b"\0")
        yield text.encode("utf-32-le").rstrip(b"\0")
    yield word.lower().encode().hex().encode()
    yield word.encode().hex().encode()


@lru_cache(maxsize=256)
def in_base64(word: str) -> tuple[bytes, ...]:
    """The part of it that is the same wherever the word begins."""
    return tuple(_in_base64(word))


def _in_base64(word: str) -> Iterator[bytes]:
    for before, text in itertools.product(range(3), {word, word.lower(), word.upper()}):
        packed = base64.b64encode(b"\0" * before + text.encode())
        whole = packed[-(-before * 8 // 6) : (before + len(text)) * 8 // 6]
        yield whole


def found(content: bytes, words: Sequence[str]) -> list[str]:
    """Which of the words the bytes hold, however they are written."""
    lower = content.lower()
    return [
        word
        for word in words
        if any(one in lower for one in spelled(word))
        or any(one in content for one in in_base64(word))
    ]


@dataclass(frozen=True)
class Planted:
    """Files of one format that carry a patient in one way."""

    way: str
    files: Sequence[File]


Plant = Callable[[Record, Patient, bytes], dict[str, bytes | Sequence[File]]]


def planted(record: Record, patient: Patient) -> dict[str, list[Planted]]:
    """For every format, files that carry the patient in each place that the format has for words,
    and in places that it has not."""
    good = {kind: sample.files for kind, sample in samples().items()}
    of_format = {"dicom": "dicom written", "fhir": "fhir R4", "wfdb": "wfdb"}
    out = {}
    for name, plant in PLANTS.items():
        first = good[of_format.get(name, name)][0].content
        ways = plant(record, patient, first)
        out[name] = [
            Planted(way, [File(sent)] if isinstance(sent, bytes) else sent)
            for way, sent in ways.items()
        ]
    return out


def damaged(content: bytes, n_cuts: int, n_changes: int, seed: int) -> Iterator[bytes]:
    """The file cut at many places, and with bytes changed."""
    rng = np.random.default_rng(seed)
    for share in np.linspace(0.02, 0.98, n_cuts):
        yield content[: int(len(content) * share)]
    for _ in range(n_changes):
        out = bytearray(content)
        for at in rng.integers(0, min(len(out), 4096), 6).tolist():
            out[at] = int(rng.integers(256))
        yield bytes(out)


def _npz(record: Record, p: Patient, good: bytes) -> dict[str, bytes | Sequence[File]]:
    arrays = {"sig": record.sig, "fs": record.fs, "leads": np.array(record.leads), "units": "mV"}
    named = np.zeros((2, 1000), dtype=[(p.family, "f4"), (p.number, "f4")])
    out = io.BytesIO(npz(**arrays))
    with zipfile.ZipFile(out, "a") as archive:
        archive.comment = p.line.encode()
        archive.writestr(f"{p.line.replace('/', '-')}.txt", p.line)
    return {
        "arrays beside": npz(**arrays, **{p.family: np.array([p.line]), "patient": p.number}),
        "a comment and a member": out.getvalue(),
        "leads": npz(**{**arrays, "leads": np.array([p.family, *record.leads[1:]])}),
        "units": npz(**{**arrays, "units": p.line}),
        "fs": npz(**{**arrays, "fs": p.line}),
        "a type": npz(**{**arrays, "sig": named}),
        "samples": npz(**{**arrays, "sig": np.array([[p.line] * 1000])}),
    }


def _hdf5(record: Record, p: Patient, good: bytes) -> dict[str, bytes | Sequence[File]]:
    def changed(change: Callable[[h5py.File], None]) -> bytes:
        out = io.BytesIO(good)
        with h5py.File(out, "a") as file:
            change(file)
        return out.getvalue()

    def attributes(file: h5py.File) -> None:
        file.attrs["patient"] = p.line
        file.attrs[p.family] = p.number
        file["sig"].attrs["description"] = p.line
        file[p.number] = np.bytes_(p.line.encode())

    def instead(name: str, value: object) -> Callable[[h5py.File], None]:
        def change(file: h5py.File) -> None:
            del file[name]
            file[name] = value

        return change

    return {
        "attributes": changed(attributes),
        "leads": changed(instead("leads", np.array([p.line.encode()] * 12))),
        "units": changed(instead("units", np.bytes_(p.line.encode()))),
        "fs": changed(instead("fs", np.bytes_(p.line.encode()))),
        "a link": changed(instead("sig", h5py.SoftLink(f"/{p.line.replace('/', '-')}"))),
        "a file elsewhere": changed(instead("sig", h5py.ExternalLink(f"{p.number}.h5", "/sig"))),
    }


def _dicom(record: Record, p: Patient, good: bytes) -> dict[str, bytes | Sequence[File]]:
    def changed(change: Callable[[Dataset], None]) -> bytes:
        file = pydicom.dcmread(io.BytesIO(good))
        file.SpecificCharacterSet = "ISO_IR 192"
        change(file)
        out = io.BytesIO()
        file.save_as(out)
        return out.getvalue()

    def tags(file: Dataset) -> None:
        file.PatientName = f"{p.family}^{p.given}"
        file.PatientID, file.PatientBirthDate = p.number, p.born["dicom"]
        file.OtherPatientIDs = p.number
        file.PatientComments = file.StudyDescription = file.InstitutionName = p.line[:60]
        file.add_new(0x00091001, "LO", p.line[:60])

    def labels(file: Dataset) -> None:
        group = file.WaveformSequence[0]
        group.MultiplexGroupLabel = p.family
        channel = group.ChannelDefinitionSequence[3]
        channel.ChannelLabel = p.family
        channel.ChannelSourceSequence[0].CodeValue = p.number
        channel.ChannelSourceSequence[0].CodeMeaning = f"{p.family} {p.born['iso']}"

    def units(file: Dataset) -> None:
        channel = file.WaveformSequence[0].ChannelDefinitionSequence[0]
        channel.ChannelSensitivityUnitsSequence[0].CodeValue = p.number
        channel.ChannelSensitivityUnitsSequence[0].CodeMeaning = p.line[:60]

    def kind(file: Dataset) -> None:
        file.WaveformSequence[0].WaveformSampleInterpretation = p.mark.upper()

    sensitivity = changed(tags)
    return {
        "tags": sensitivity,
        "labels": changed(lambda file: (tags(file), labels(file))[0]),
        "units": changed(units),
        "a kind": changed(kind),
        "no preamble": sensitivity[132:],
    }


def _edf(record: Record, p: Patient, good: bytes) -> dict[str, bytes | Sequence[File]]:
    n = int(good[252:256])

    def field(start: int, width: int, text: str, which: int = 0) -> bytes:
        """`start`: bytes of a signal before this field."""
        at = 256 + start * n + which * width
        return good[:at] + text.encode("latin-1")[:width].ljust(width) + good[at + width :]

    person = f"{p.number} X {p.born['edf']} {p.family}_{p.given}".encode("latin-1")
    header = good[:8] + person[:80].ljust(80) + p.line.encode("latin-1")[:80] + good[168:]
    return {
        "the patient's field": header,
        "a label": field(0, 16, p.number, 2),
        "another label": field(0, 16, f"EEG {p.mark}", 3),
        "a transducer": field(16, 80, p.line),
        "a unit": field(96, 8, p.mark),
        "a range": field(104, 8, p.mark),
        "a prefilter": field(136, 80, p.line),
        "EDF+": header[:192] + b"EDF+D".ljust(44) + header[236:],
    }


def _ishne(record: Record, p: Patient, good: bytes) -> dict[str, bytes | Sequence[File]]:
    names = p.given.encode("latin-1").ljust(40, b"\0") + p.family.encode("latin-1").ljust(40, b"\0")
    header = good[:28] + names + p.number.encode()[:20].ljust(20, b"\0") + good[128:]
    more = p.line.encode("latin-1")
    block = bytearray(header[:522] + more + header[522:])
    struct.pack_into("<i", block, 10, len(more))
    struct.pack_into("<i", block, 22, 522 + len(more))
    return {"the header": header, "the variable block": bytes(block)}


def _scp(record: Record, p: Patient, good: bytes) -> dict[str, bytes | Sequence[File]]:
    def tag(number: int, text: str) -> bytes:
        value = text.encode("latin-1") + b"\0"
        return struct.pack("<BH", number, len(value)) + value

    ways: dict[str, bytes | Sequence[File]] = {}
    for way, tags in {
        "names": tag(0, p.family) + tag(1, p.given) + tag(2, p.number),
        "free text": tag(30, p.line[:120]),
    }.items():
        out = bytearray(good)
        out[:2] = out[142:144] = b"\0\0"  # no CRC, of the file and of section 1
        body = (tags + b"\xff\0\0")[: 168 - 16]
        out[142 + 16 : 142 + 16 + len(body)] = body
        ways[way] = bytes(out)
    return ways


def _aecg(record: Record, p: Patient, good: bytes) -> dict[str, bytes | Sequence[File]]:
    text = good.decode()
    person = (
        f'<subject><trialSubject><id extension="{p.number}"/><subjectDemographicPerson>'
        f'<name>{p.family} {p.given}</name><birthTime value="{p.born["dicom"]}"/>'
        "</subjectDemographicPerson></trialSubject></subject>"
    )
    whole = re.sub(r"(<AnnotatedECG[^>]*>)", rf"\1<!-- {p.line} -->{person}", text, count=1)
    entity = f'<!DOCTYPE a [<!ENTITY b "{p.line}">]>\n<AnnotatedECG'
    ways = {
        "a subject": whole,
        "a channel": whole.replace("MDC_ECG_LEAD_V6", f"MDC_ECG_LEAD_{p.mark.upper()}", 1),
        "a channel's words": whole.replace("MDC_ECG_LEAD_V6", p.line, 1),
        "digits": whole.replace("<digits>", f"<digits>{p.family} ", 1),
        "a unit": whole.replace('unit="uV"', f'unit="{p.line}"'),
        "a time": whole.replace("<increment value=", f'<increment value="{p.line}" a=', 1),
        "an entity": whole.replace("<AnnotatedECG", entity, 1),
        "a tag left open": whole.replace("</AnnotatedECG>", f"<{p.mark}>"),
    }
    encoded: dict[str, bytes | Sequence[File]] = {w: t.encode() for w, t in ways.items()}
    encoded["UTF-16"] = whole.replace("utf-8", "utf-16", 1).encode("utf-16")
    encoded["latin-1"] = whole.replace("utf-8", "iso-8859-1", 1).encode("latin-1", "replace")
    return encoded


def _muse(record: Record, p: Patient, good: bytes) -> dict[str, bytes | Sequence[File]]:
    person = (
        f"<PatientDemographics><PatientID>{p.number}</PatientID><DateofBirth>"
        f"{p.born['american']}</DateofBirth><PatientLastName>{p.family}</PatientLastName>"
        f"<PatientFirstName>{p.given}</PatientFirstName></PatientDemographics>"
    ).encode("latin-1", "replace")
    whole = good.replace(b"<RestingECG>", b"<RestingECG>" + person, 1)
    line = p.line.encode("ascii", "replace")
    return {
        "demographics": whole,
        "a lead": whole.replace(b"<LeadID>V5<", b"<LeadID>" + line + b"<"),
        "samples": re.sub(rb"<WaveFormData>", b"<WaveFormData>" + line, whole),
        "units": re.sub(rb"MICROVOLTS", line, whole),
        "a base": re.sub(rb"<SampleBase>", b"<SampleBase>" + line, whole),
        "a count": re.sub(rb"<LeadByteCountTotal>", b"<LeadByteCountTotal>" + line, whole),
    }


def _sierra(record: Record, p: Patient, good: bytes) -> dict[str, bytes | Sequence[File]]:
    text = good.decode("utf-16")
    person = (
        f"<patient><generalpatientdata><patientid>{p.number}</patientid><name><lastname>{p.family}"
        f"</lastname><firstname>{p.given}</firstname></name><age><dateofbirth>{p.born['iso']}"
        "</dateofbirth></age></generalpatientdata></patient></restingecgdata>"
    )
    whole = text.replace("</restingecgdata>", person)
    words = p.line.replace(";", " ").replace("^", "_")
    ways = {
        "a patient": whole,
        "labels": re.sub("<parsedwaveforms", f'<parsedwaveforms leadlabels="I II {words}"', whole),
        "an encoding": re.sub('dataencoding="', f'dataencoding="{words}', whole),
        "a duration": re.sub('durationperchannel="', f'durationperchannel="{words}', whole),
        "a resolution": re.sub("(<signalresolution>|<resolution>)", rf"\1{words}", whole),
    }
    return {way: text.encode("utf-16") for way, text in ways.items()}


def _fhir(record: Record, p: Patient, good: bytes) -> dict[str, bytes | Sequence[File]]:
    def changed(**more: object) -> bytes:
        return json.dumps({**json.loads(good), **more}, ensure_ascii=False).encode()

    person = {
        "resourceType": "Patient",
        "id": p.number,
        "identifier": [{"value": p.number}],
        "name": [{"family": p.family, "given": [p.given], "text": p.line}],
        "birthDate": p.born["iso"],
    }
    subject = {"reference": f"Patient/{p.number}", "display": f"{p.family}, {p.given}"}
    told = {"subject": subject, "contained": [person], "note": [{"text": p.line}], p.family: 1}
    body = json.loads(changed(**told))
    named = {"coding": [{"system": fhir.MDC, "code": p.number}], "text": p.line}
    channel = {**body["component"][0], "code": named}
    units = json.loads(json.dumps(body["component"]))
    units[0]["valueSampledData"]["origin"] = {"value": 0, "unit": p.line, "code": p.family}
    data = json.loads(json.dumps(body["component"]))
    data[1]["valueSampledData"]["data"] += f" {p.family}"
    bundle = {"resourceType": "Bundle", "entry": [{"resource": person}, {"resource": body}]}
    return {
        "a subject": changed(**told),
        "a channel": changed(**told, component=[*body["component"], channel]),
        "units": changed(**told, component=units),
        "samples": changed(**told, component=data),
        "a bundle": json.dumps(bundle).encode(),
        "a kind": changed(resourceType=p.line),
        "not JSON": changed(**told)[:-3] + p.line.encode(),
    }


def _json(record: Record, p: Patient, good: bytes) -> dict[str, bytes | Sequence[File]]:
    own = {"record_id": p.record_id, p.family: p.line, "patient": {"name": p.line, "id": p.number}}
    body = json.loads(as_json(record, **own))
    ways = {
        "keys": body,
        "leads": {**body, "leads": [p.family, *record.leads[1:]]},
        "units": {**body, "units": p.line},
        "fs": {**body, "fs": p.line},
        "samples": {**body, "sig": [[p.line] * 1000]},
        "a record's name": {**body, "record_id": {"name": p.line}},
        "several": {"records": [body, {**body, "leads": [p.line]}]},
    }
    return {way: json.dumps(one, ensure_ascii=False).encode() for way, one in ways.items()}


def _wfdb(record: Record, p: Patient, good: bytes) -> dict[str, bytes | Sequence[File]]:
    _, signal = wfdb_files(PTB_XL[1])
    stem, safe = signal.name.removesuffix(".dat"), p.number
    text = good.decode() + f"# {p.line}\n#<age>: 7 <name>: {p.family}\n"

    def sent(text: str, name: str = signal.name) -> list[File]:
        header = File(text.encode(), name.replace(".dat", ".hea"))
        return [header, dataclasses.replace(signal, name=name)]

    renamed = text.replace(stem, safe)
    return {
        "comments": sent(text),
        "a zip": as_zip(sent(renamed, f"{safe}.dat")),
        "names": sent(renamed, f"{safe}.dat"),
        "a channel": sent(re.sub(r" V6$", f" {p.family}", text, flags=re.MULTILINE)),
        "units": sent(text.replace("/mV", f"/{p.mark}")),
        "a format": sent(text.replace(" 16 ", f" {p.mark} ")),
        "a file not sent": sent(renamed),
    }


def _apple(record: Record, p: Patient, good: bytes) -> dict[str, bytes | Sequence[File]]:
    text = good.decode()
    person = f'Name,"{p.family}, {p.given}"\nDate of Birth,"{p.born["words"]}"\n'
    named = re.sub(r'Name,"[^\n]*\n', person, text, count=1)
    return {
        "the header": named.encode(),
        "UTF-16": named.encode("utf-16"),
        "latin-1": named.encode("latin-1", "replace"),
        "a lead": named.replace("Lead,Lead I\n", f"Lead,{p.line}\n").encode(),
        "samples": (named + p.line + "\n").encode(),
    }


def _csv(record: Record, p: Patient, good: bytes) -> dict[str, bytes | Sequence[File]]:
    line = p.line.replace(";", " ").replace(",", " ").encode()
    return {
        "a lead": good.replace(b"aVF", line, 1),
        "a cell": good + b",".join([line] * 12) + b"\n",
        "cells too many": good + line + b"," + line + b"\n",
        "behind": good + b"# " + line,
        "a line": as_csv(record) + b"\n" + line,
        "its name": [File(good, f"{p.number}.csv")],
    }


PLANTS: dict[str, Plant] = {
    "npz": _npz,
    "hdf5": _hdf5,
    "dicom": _dicom,
    "edf": _edf,
    "ishne": _ishne,
    "scp": _scp,
    "aecg": _aecg,
    "muse": _muse,
    "sierra": _sierra,
    "fhir": _fhir,
    "json": _json,
    "wfdb": _wfdb,
    "apple": _apple,
    "csv": _csv,
}
assert set(WRITERS) <= set(PLANTS)
