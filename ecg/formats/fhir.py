"""FHIR R4, R4B and R5 as JSON: Observations whose SampledData is an ECG, alone or in a Bundle.

Read by hand and not through fhir.resources, whose models refuse files that are only slightly
invalid, and read strings of any length into objects before they are looked at. What is written
here is valid for those models. Of a patient nothing is kept: a subject's reference is compared
with another's to tell whose leads belong together, and forgotten.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import orjson

from ecg.errors import EcgError, TooLargeError, UnreadableError, UnservableError
from ecg.formats.channels import ignored_names
from ecg.formats.sampled import UCUM, read_fs, read_millivolts, text_of, write_sampled
from ecg.formats.source import File, Hints, check_count
from ecg.leads import MDC_POTENTIALS, canonical, lead_of_mdc
from ecg.limits import Limits
from ecg.record import Meta, Record, check_channels, make_record

MOST_LOOKED_AT = 1_000_000  # brackets and strings before `resourceType`

MDC = "urn:oid:2.16.840.1.113883.6.24"
_MDC_SYSTEMS = (MDC, "urn:iso:std:iso:11073:10101")
_LOINC = "http://loinc.org"
_SYNTHETIC = {"system": "urn:x-ecg-direnet:record", "code": "synthetic"}
# LOINC's parts for the leads, which the German base profile for ECGs (EkgDE) uses.
_LOINC_LEADS = {
    "LP7386-8": "I",
    "LP7387-6": "II",
    "LP7388-4": "III",
    "LP7385-0": "aVR",
    "LP7384-3": "aVL",
    "LP7383-5": "aVF",
    "LP7389-2": "V1",
    "LP7390-0": "V2",
    "LP7391-8": "V3",
    "LP7392-6": "V4",
    "LP7393-4": "V5",
    "LP7394-2": "V6",
}
# A string, perhaps cut off, or a bracket: what is between them does not change the depth.
_STRUCTURE = re.compile(rb'"(?:[^"\\]++|\\.)*+"?+|[{}\[\]]', re.DOTALL)


@dataclass(frozen=True)
class _Channel:
    """A SampledData as it lies in the body, `where` it lies, and a lead, or None, for each of its
    dimensions. `units` as coded outside it, which is not valid and still seen."""

    data: dict[str, Any]
    where: str
    leads: tuple[str | None, ...]
    name: str
    units: object
    synthetic: bool


def matches(file: File) -> bool:
    """A JSON object with `resourceType` at its top, which is looked for without parsing it."""
    start = file.content[:64].removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    return start == b"{" and b'"resourceType"' in file.content and _is_resource(file.content)


def claims(file: File) -> bool:
    return "fhir" in file.media_type


def read(file: File, hints: Hints) -> list[Record]:
    """A record an Observation that has its leads as components; Observations of one lead each are
    joined where subject, effective time, sampling and length are the same."""
    studies = _studies(_parsed(file.content, hints.limits), hints)
    check_count(len(studies), hints.limits)
    texts = [text_of(channel.data) for study in studies for channel in study]
    hints.limits.check_samples(sum(text.count(one) for text in texts for one in " \t\r\n"))
    records = []
    for i, study in enumerate(studies):
        try:
            records.append(_record(study, hints))
        except EcgError as error:
            alone = len(studies) == 1 or error.where.startswith(("entry[", "contained["))
            raise (error if alone else error.within(f"records[{i}]")) from None
    return records


def write(
    record: Record, version: Literal["R4", "R5"] = "R5", resolution_mv: float = 0.001
) -> bytes:
    """An Observation with a component a lead, in whole steps of `resolution_mv`; R4 is valid as
    R4B, too. Errors: UnservableError where a lead does not fit into a FHIR string."""
    category = {
        "system": "http://terminology.hl7.org/CodeSystem/observation-category",
        "code": "procedure",
    }
    ecg = [
        {"system": MDC, "code": "131328", "display": "MDC_ECG_ELEC_POTL"},
        {"system": _LOINC, "code": "11524-6", "display": "EKG study"},
    ]
    components = []
    for lead, row in zip(record.leads, record.sig, strict=True):
        name = f"MDC_ECG_ELEC_POTL_{lead.upper()}"
        coding = {"system": MDC, "code": str(MDC_POTENTIALS[lead]), "display": name}
        sampled = write_sampled(row, record.fs, version, resolution_mv)
        code = {"coding": [coding], "text": f"Lead {lead}"}
        components.append({"code": code, "valueSampledData": sampled})
    observation: dict[str, Any] = {
        "resourceType": "Observation",
        "status": "final",  # of the samples, of which no more will come
        "category": [{"coding": [category]}],
        "code": {"coding": ecg},
        "component": components,
    }
    if record.meta.synthetic:
        observation["meta"] = {"tag": [_SYNTHETIC]}
        observation["note"] = [{"text": "Synthetic: made by a model, of nobody's heart."}]
    return orjson.dumps(observation)


def _is_resource(content: bytes) -> bool:
    depth = 0
    for n, token in enumerate(_STRUCTURE.finditer(content)):
        start, end = token.span()
        match content[start]:
            case 0x7B | 0x5B:
                depth += 1
            case 0x7D | 0x5D:
                depth -= 1
            case _:
                named = depth == 1 and content[start:end] == b'"resourceType"'
                if named and content[end : end + 64].lstrip()[:1] == b":":
                    return True
        if n > MOST_LOOKED_AT:
            return True  # too many for any body: refused below, where it says so
        if depth <= 0:
            break
    return False


def _parsed(content: bytes, limits: Limits) -> dict[str, Any]:
    if content[:64].lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"):
        raise UnreadableError("FHIR is read as JSON, not as XML")
    if sum(map(content.count, (b",", b"{", b"["))) > limits.max_json_elements:
        raise TooLargeError(f"FHIR of more than {limits.max_json_elements:,} elements")
    try:
        body = orjson.loads(content.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        raise UnreadableError(
            f"not valid JSON at line {error.lineno}, column {error.colno}"
        ) from None
    if not isinstance(body, dict) or not isinstance(body.get("resourceType"), str):
        raise UnservableError("is missing: send an Observation or a Bundle", "resourceType")
    return body


def _observations(body: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every Observation and where it is: the body itself, in a Bundle's entries, or contained."""
    found = [("", body)]
    if body["resourceType"] == "Bundle":
        entries = _dicts(body.get("entry"))
        found = [(f"entry[{i}].resource", e.get("resource")) for i, e in entries]
    for where, resource in found:
        if not isinstance(resource, dict):
            continue
        joint = f"{where}." if where else ""
        inner = [(f"{joint}contained[{i}]", r) for i, r in _dicts(resource.get("contained"))]
        for at, one in [(where, resource), *inner]:
            if one.get("resourceType") == "Observation":
                yield at, one


def _studies(body: dict[str, Any], hints: Hints) -> list[list[_Channel]]:
    """The channels of each record, at least one of them a lead."""
    studies: list[list[_Channel]] = []
    open_studies: dict[bytes, list[_Channel]] = {}
    n_channels = n_wrong = 0
    for where, observation in _observations(body):
        if observation.get("status") == "entered-in-error":
            n_wrong += 1
            continue
        channels = _channels(observation, where, hints)
        n_channels += len(channels)
        if not any(lead for channel in channels for lead in channel.leads):
            continue  # of something else, or nothing sampled
        key = _same_study(observation, channels)
        study = open_studies.get(key) if key else None
        if study is None or any(lead in c.leads for c in study for lead in channels[0].leads):
            study = []
            studies.append(study)
            if key:
                open_studies[key] = study
        study += channels
    if studies:
        return studies
    if n_channels:
        raise UnservableError(
            "none of the channels is one of the twelve leads; code them by MDC, or name an only "
            "channel in the query: ?leads=I",
            "code",
        )
    raise UnservableError(
        "every Observation was entered in error"
        if n_wrong
        else "is missing: send an ECG's Observation, or a Bundle of such",
        "valueSampledData",
    )


def _same_study(observation: dict[str, Any], channels: list[_Channel]) -> bytes | None:
    """What Observations of single leads have in common if they are leads of one study, or None
    where nothing says so. Devices are left out: each lead may have a DeviceMetric of its own."""
    kinds = ("DateTime", "Instant", "Period", "Timing")
    when = [observation.get(f"effective{kind}") for kind in kinds]
    if not any(when) or len(channels) > 1 or "valueSampledData" not in observation:
        return None
    data = channels[0].data
    sampled = [data.get(name) for name in ("period", "interval", "intervalUnit")]
    length = text_of(data).strip().count(" ")
    common = [observation.get("subject"), when, sampled, length]
    return orjson.dumps(common, option=orjson.OPT_SORT_KEYS)


def _channels(observation: dict[str, Any], where: str, hints: Hints) -> list[_Channel]:
    """Everything sampled in an Observation: its own value and its components'."""
    joint = f"{where}." if where else ""
    found = [(f"{joint}valueSampledData", observation)]
    for i, component in _dicts(observation.get("component")):
        found.append((f"{joint}component[{i}].valueSampledData", component))
    meta = observation.get("meta")
    tags = _dicts(meta.get("tag")) if isinstance(meta, dict) else []
    synthetic = any(tag == _SYNTHETIC for _, tag in tags)
    channels: list[_Channel] = []
    for at, item in found:
        data = item.get("valueSampledData")
        if not isinstance(data, dict) or not text_of(data).strip():
            continue  # absent, and `dataAbsentReason` may say why
        check_channels(len(channels) + 1, hints.limits, where)
        code = item.get("code")
        units = next((u for u in (_ucum(code), _ucum(observation.get("code"))) if u), None)
        leads = tuple(_leads(code))
        channels.append(_Channel(data, at, leads, _channel_name(code, at), units, synthetic))
    alone = len(channels) == 1
    return [replace(c, leads=_of_dimensions(c, alone, hints)) for c in channels]


def _of_dimensions(channel: _Channel, alone: bool, hints: Hints) -> tuple[str | None, ...]:
    """A lead for each dimension of the channel: as coded, or else as the query says."""
    n, most = channel.data.get("dimensions", 1), hints.limits.max_channels
    where = f"{channel.where}.dimensions"
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= most:
        raise UnservableError(f"must be a whole number from 1 to {most}", where)
    named = tuple(canonical(name) for name in hints.leads or ()) if alone else ()
    if n == 1:
        return channel.leads[:1] or (named if len(named) == 1 else (None,))
    for leads in (channel.leads, named):
        if len(leads) == n:
            return leads
    if not channel.leads:
        return (None,) * n  # something else that was sampled
    raise UnservableError(
        f"is {n}, and which lead is which is not said: send a component a lead, or name all in "
        "the query: ?leads=I,II,…",
        where,
    )


def _leads(code: object) -> Iterator[str]:
    """The leads that a CodeableConcept names, each once: by code first, then in words."""
    seen = set()
    for lead in _named_leads(code):
        if lead is not None and lead not in seen:
            seen.add(lead)
            yield lead


def _named_leads(code: object) -> Iterator[str | None]:
    if not isinstance(code, dict):
        return
    for _, coding in _dicts(code.get("coding")):
        system, value, display = (coding.get(k) for k in ("system", "code", "display"))
        lead = None
        if isinstance(value, str | int):
            if system is None or system in _MDC_SYSTEMS:
                lead = lead_of_mdc(str(value)[:32])
            elif system == _LOINC:
                lead = _LOINC_LEADS.get(str(value))
            lead = lead or _in_words(str(value))
        yield lead or _in_words(display)
    yield _in_words(code.get("text"))


def _in_words(words: object) -> str | None:
    """`MDC_ECG_LEAD_AVR`, `Lead I (Einthoven)`, `aVR, augmented voltage, right`."""
    if not isinstance(words, str):
        return None
    return canonical(re.split(r"[(,]", words[:64], maxsplit=1)[0])


def _channel_name(code: object, where: str) -> str:
    """What is told of a channel that is ignored: a code of the nomenclature, or its place, but no
    words, in which there may be anything."""
    for _, coding in _dicts(code.get("coding") if isinstance(code, dict) else None):
        value = str(coding.get("code"))[:16]
        if coding.get("system") in _MDC_SYSTEMS and value.isascii() and value.isdigit():
            return f"MDC {value}"
    return where.removesuffix(".valueSampledData")


def _ucum(code: object) -> object:
    """A unit that was put among the codes of the lead, as some servers' examples have it."""
    for _, coding in _dicts(code.get("coding") if isinstance(code, dict) else None):
        if coding.get("system") == UCUM:
            return coding.get("code") or coding.get("display")
    return None


def _record(study: list[_Channel], hints: Hints) -> Record:
    """The leads of `study`, in mV, which must be sampled alike."""
    leads: list[str] = []
    rows: list[np.ndarray] = []
    sampled: tuple[object, int] | None = None
    for channel in (c for c in study if any(c.leads)):
        try:
            own = read_fs(channel.data, hints.fs)
            values = read_millivolts(channel.data, len(channel.leads), (channel.units, hints.units))
        except EcgError as error:
            raise error.within(channel.where) from None
        sampled = sampled or (own, values.shape[1])
        if sampled != (own, values.shape[1]):
            raise UnservableError(
                "differs from another lead in its sampling or its length; leads of one "
                "Observation must be alike",
                channel.where,
            )
        named = [(lead, row) for lead, row in zip(channel.leads, values, strict=True) if lead]
        leads += [lead for lead, _ in named]
        rows += [row for _, row in named]
    assert sampled is not None
    sig = rows[0][None] if len(rows) == 1 else np.stack(rows)
    rows.clear()  # make_record copies what it gets, and a third copy would be one too many
    others = [(i, c.name) for i, c in enumerate(study, start=1) if not all(c.leads)]
    meta = Meta(None, ignored_names(others), study[0].synthetic)
    return make_record(sig, sampled[0], leads, "mV", meta, hints.limits)


def _dicts(items: object) -> list[tuple[int, dict[str, Any]]]:
    """The objects in a list, with their places; an object that should be in a list is taken."""
    if isinstance(items, dict):
        return [(0, items)]
    if not isinstance(items, list):
        return []
    return [(i, item) for i, item in enumerate(items) if isinstance(item, dict)]
