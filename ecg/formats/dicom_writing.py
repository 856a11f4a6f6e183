"""A Record -> a DICOM ECG waveform object, written by pydicom.

The SOP class is the narrowest whose limits (PS3.3 A.34.3.4 and following) the record keeps, so that
no sample is changed: 12-lead, general, ambulatory (below 200 Hz) or general 32-bit (above 1,000).
"""

from __future__ import annotations

import io
import math
from dataclasses import replace
from datetime import UTC, datetime

from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.valuerep import DSfloat

from ecg.formats.counts import MISSING, to_counts
from ecg.leads import LEADS, MDC_TERMS
from ecg.record import Record
from ecg.waveform import resample

_MEANINGS = {  # CID 3001's
    **{lead: f"Lead {lead}" for lead in LEADS},
    "aVR": "aVR, augmented voltage, right",
    "aVL": "aVL, augmented voltage, left",
    "aVF": "aVF, augmented voltage, foot",
}
TWELVE_LEAD_FS = (200.0, 1000.0)
TWELVE_LEAD_SAMPLES = 16_384
_LARGEST = 32_767
SYNTHETIC = "SYNTHETIC ECG: made by a model, no patient's recording"
_MAKER = "ECG-DiReNet"


def write(record: Record) -> bytes:
    """An explicit little endian file: int16, in the device's own steps if they can be told, else
    of 1 uV, or the least step that holds the record.

    No identity is written, not even `record_id`. The dates, which the standard demands and a
    record does not have, are those of the writing. Synthetic is said where the standard has a place
    for it, and where a viewer shows it. Errors: UnservableError.
    """
    now = datetime.now(UTC)
    out = Dataset()
    _add_identity(out, now, record.meta.synthetic)
    out.SOPClassUID = _sop_class(record)
    out.SOPInstanceUID = uid.generate_uid(prefix=None)
    out.WaveformSequence = Sequence([_group(record)])
    out.AcquisitionContextSequence = Sequence()
    if record.meta.synthetic:
        _add_synthetic(out, record, now)
    out.file_meta = FileMetaDataset()
    out.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    file = io.BytesIO()
    out.save_as(file, enforce_file_format=True)
    return file.getvalue()


def for_twelve_lead(record: Record) -> Record:
    """A record without gaps at the least multiple of its fs that the 12-lead class allows. Its own
    samples stay what they are; those in between follow from them."""
    times = math.ceil(TWELVE_LEAD_FS[0] / record.fs)
    if times <= 1:
        return record
    sig = resample(record.sig, record.fs, times * record.fs)
    sig[:, ::times] = record.sig
    return replace(record, sig=sig, fs=times * record.fs)


def _sop_class(record: Record) -> uid.UID:
    low, high = TWELVE_LEAD_FS
    if record.fs < low:
        return uid.AmbulatoryECGWaveformStorage
    if record.fs > high:
        return uid.General32bitECGWaveformStorage
    if set(record.leads) == set(LEADS) and record.n_samples <= TWELVE_LEAD_SAMPLES:
        return uid.TwelveLeadECGWaveformStorage
    return uid.GeneralECGWaveformStorage


def _add_identity(out: Dataset, now: datetime, synthetic: bool) -> None:
    """Patient (C.7.1.1), study (C.7.2.1), series (C.7.3.1), equipment (C.7.5) and C.10.8."""
    date, time = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    out.SpecificCharacterSet = "ISO_IR 192"
    out.PatientName = "SYNTHETIC" if synthetic else ""
    out.PatientID = "SYNTHETIC" if synthetic else ""
    out.PatientBirthDate = out.PatientSex = ""
    out.PatientIdentityRemoved = "YES"
    out.DeidentificationMethod = "Samples, leads and sampling frequency alone were kept"
    out.StudyInstanceUID = uid.generate_uid(prefix=None)
    out.StudyDate, out.StudyTime = date, time
    out.StudyID = out.AccessionNumber = out.ReferringPhysicianName = ""
    out.Modality = "ECG"
    out.SeriesInstanceUID = uid.generate_uid(prefix=None)
    out.SeriesNumber = out.InstanceNumber = 1
    out.Manufacturer, out.ManufacturerModelName = _MAKER, "DICOM writer"
    out.DeviceSerialNumber = out.SoftwareVersions = "UNKNOWN"
    out.ContentDate, out.ContentTime = date, time
    out.AcquisitionDateTime = f"{date}{time}+0000"
    out.TimezoneOffsetFromUTC = "+0000"


def _add_synthetic(out: Dataset, record: Record, now: datetime) -> None:
    """Synthetic Data (C.12.1), who made them, and words that viewers show."""
    out.SyntheticData = "YES"
    out.DeidentificationMethod = SYNTHETIC
    out.StudyDescription = out.SeriesDescription = SYNTHETIC
    maker = Dataset()
    maker.PurposeOfReferenceCodeSequence = Sequence(
        [_code("109100", "DCM", "Synthesizing Equipment")]
    )
    maker.Manufacturer = _MAKER
    maker.ContributionDateTime = now.strftime("%Y%m%d%H%M%S+0000")
    out.ContributingEquipmentSequence = Sequence([maker])
    note = Dataset()
    note.ReferencedWaveformChannels = [1, 0]  # all of the first group's
    note.UnformattedTextValue = SYNTHETIC
    out.WaveformAnnotationSequence = Sequence([note])


def _group(record: Record) -> Dataset:
    """The record as one multiplex group (C.10.9)."""
    step_uv, stored = to_counts(record.sig, _LARGEST)
    group = Dataset()
    group.MultiplexGroupTimeOffset = "0"
    group.WaveformOriginality = "DERIVED" if record.meta.synthetic else "ORIGINAL"
    group.NumberOfWaveformChannels = len(record.leads)
    group.NumberOfWaveformSamples = record.n_samples
    group.SamplingFrequency = DSfloat(record.fs, auto_format=True)
    group.MultiplexGroupLabel = "RHYTHM"
    group.ChannelDefinitionSequence = Sequence(
        [_channel(lead, i, step_uv) for i, lead in enumerate(record.leads, start=1)]
    )
    group.WaveformBitsAllocated = 16
    group.WaveformSampleInterpretation = "SS"
    if (stored == MISSING).any():
        group.add_new("WaveformPaddingValue", "OW", MISSING.to_bytes(2, "little", signed=True))
    group.add_new("WaveformData", "OW", stored.T.tobytes())
    return group


def _channel(lead: str, number: int, step_uv: float) -> Dataset:
    channel = Dataset()
    channel.WaveformChannelNumber = number
    channel.ChannelLabel = lead
    source = _code(f"2:{MDC_TERMS[lead]}", "MDC", _MEANINGS[lead])
    channel.ChannelSourceSequence = Sequence([source])
    channel.ChannelSensitivity = f"{step_uv:g}"
    channel.ChannelSensitivityUnitsSequence = Sequence([_code("uV", "UCUM", "microvolt")])
    channel.ChannelSensitivityCorrectionFactor = "1"
    channel.ChannelBaseline = channel.ChannelSampleSkew = "0"
    channel.WaveformBitsStored = 16
    return channel


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code
