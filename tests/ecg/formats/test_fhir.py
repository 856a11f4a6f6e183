"""FHIR: Observations of R4 and R5 as servers, devices and guides write them; and back."""

import dataclasses
import json
import time

import numpy as np
import pytest
from fhir.resources.observation import Observation as ObservationR5
from fhir.resources.R4B.observation import Observation as ObservationR4B
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg.errors import EcgError, TooLargeError, UnreadableError, UnservableError
from ecg.formats import File, Hints, fhir, read
from ecg.formats.sampled import read_millivolts
from ecg.leads import LEADS, MDC_LEAD_IDS, MDC_POTENTIALS
from ecg.limits import Limits
from ecg.record import Meta, Record

MODELS = {"R4": ObservationR4B, "R5": ObservationR5}
MDC = "urn:oid:2.16.840.1.113883.6.24"
RAMP = " ".join(str(i % 100) for i in range(1000))


def code(lead="I", system=MDC, display=None):
    value = str(MDC_POTENTIALS[lead]) if lead in LEADS else lead
    return {"coding": [{"system": system, "code": value, "display": display}]}


def sampled(**changes):
    """1000 samples at 100 Hz, R4; ... leaves a field out."""
    good = {
        "origin": {"value": 0, "unit": "uV", "system": "http://unitsofmeasure.org", "code": "uV"},
        "period": 10,
        "factor": 5,
        "dimensions": 1,
        "data": RAMP,
    }
    return {name: value for name, value in (good | changes).items() if value is not ...}


def ecg(*leads, **changes):
    """An Observation with a component a lead; the changes go into all SampledData."""
    components = [
        {"code": code(lead), "valueSampledData": sampled(**changes)} for lead in leads or ("I",)
    ]
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": MDC, "code": "131328", "display": "MDC_ECG_ELEC_POTL"}]},
        "subject": {"reference": "Patient/mary-miller", "display": "Mary Miller"},
        "component": components,
    }


def single(lead="I", when="2026-01-01T10:00:00Z", subject="Patient/1", **changes):
    """An Observation whose own value is one lead."""
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": code(lead),
        "subject": {"reference": subject},
        "effectiveDateTime": when,
        "valueSampledData": sampled(**changes),
    }


def bundle(*resources, kind="collection"):
    entries = [{"fullUrl": f"urn:uuid:{i}", "resource": r} for i, r in enumerate(resources)]
    return {"resourceType": "Bundle", "type": kind, "entry": entries}


def read_fhir(body, hints=None):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read([File(content)], hints or Hints())


# Written, and read back


@pytest.mark.parametrize("version", MODELS)
def test_what_is_written_is_valid_and_comes_back(version, records):
    for record in records.values():
        content = fhir.write(record, version)
        MODELS[version].model_validate_json(content)
        (back,) = read_fhir(content)
        assert (back.fs, back.leads) == (record.fs, LEADS)
        assert np.abs(back.sig - record.sig).max() < 1e-6  # PTB-XL has whole microvolts


@given(
    fs=st.sampled_from([50, 62.5, 128, 180, 200, 240, 250, 257, 300, 333.25, 360, 500, 977, 4000]),
    version=st.sampled_from(["R4", "R5"]),
    resolution=st.sampled_from([0.001, 0.0025, 0.00488, 0.0001]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=30, deadline=None)
def test_it_comes_back_within_the_declared_resolution(fs, version, resolution, seed):
    rng = np.random.default_rng(seed)
    sig = rng.normal(0, 2, (3, int(5 * fs) + 1)).astype(np.float32)
    sig[rng.random(sig.shape) < 0.01] = np.nan
    record = Record(sig, fs, ("V2", "aVR", "I"))
    content = fhir.write(record, version, resolution)
    MODELS[version].model_validate_json(content)
    (back,) = read_fhir(content)
    assert back.fs == pytest.approx(fs, rel=1e-11) and back.leads == record.leads
    np.testing.assert_array_equal(np.isnan(back.sig), np.isnan(sig))
    assert np.nanmax(np.abs(back.sig - sig)) <= resolution / 2 + 1e-6


def test_that_a_record_is_synthetic_survives(record):
    content = fhir.write(dataclasses.replace(record, meta=Meta(synthetic=True)))
    ObservationR5.model_validate_json(content)
    assert read_fhir(content)[0].meta.synthetic
    assert not read_fhir(fhir.write(record))[0].meta.synthetic


@pytest.mark.parametrize(
    ("sig", "says"),
    [
        (np.full((1, 1000), 1e30, np.float32), "out of all proportion"),
        (np.full((1, 250_000), -1.5, np.float32), "too long for FHIR"),
    ],
)
def test_what_does_not_fit_is_not_written(sig, says):
    with pytest.raises(UnservableError, match=says):
        fhir.write(Record(sig, 500, ("I",)))


# Samples: times, units, and what stands for no value


@pytest.mark.parametrize(
    ("changes", "fs"),
    [
        ({"period": 10}, 100),
        ({"period": 2}, 500),
        ({"period": 2.778}, 360),
        ({"period": 2.7777777777777777}, 360),
        ({"period": 3.3333}, 300),
        ({"period": 3}, 1000 / 3),
        ({"period": "4"}, 250),
        ({"period": ..., "interval": 4, "intervalUnit": "ms"}, 250),
        ({"period": ..., "interval": 0.002, "intervalUnit": "s"}, 500),
        ({"period": ..., "interval": 2000, "intervalUnit": "us"}, 500),
        ({"period": 4, "interval": 4, "intervalUnit": "ms"}, 250),
    ],
)
def test_the_sampling_frequency_is_that_of_the_period_or_interval(changes, fs):
    (record,) = read_fhir(ecg(data=" ".join(["1"] * 2600), **changes))
    assert record.fs == pytest.approx(fs, abs=1e-9)


@pytest.mark.parametrize(
    ("origin", "to_mv"),
    [
        ({"code": "uV"}, 1e-3),
        ({"code": "mV"}, 1),
        ({"code": "V"}, 1e3),
        ({"unit": "µV"}, 1e-3),
        ({"unit": "millivolt"}, 1),
        ({"code": "266418", "unit": "x"}, 1),
        ({"code": "mV", "unit": "uV"}, 1),
    ],
)
def test_a_value_is_origin_plus_factor_times_sample_in_the_origins_unit(origin, to_mv):
    (record,) = read_fhir(ecg(origin={"value": 2.5, **origin}, factor=0.5))
    expected = (2.5 + 0.5 * (np.arange(1000) % 100)) * to_mv
    np.testing.assert_allclose(record.sig[0], expected, rtol=1e-6)


def test_without_factor_and_origin_value_samples_are_as_they_stand():
    (record,) = read_fhir(ecg(factor=..., origin={"code": "uV"}))
    assert record.sig[0, :3].tolist() == pytest.approx([0, 0.001, 0.002])


def test_the_units_may_come_from_the_query_or_stand_among_the_codes():
    no_unit = {"value": 2048}  # as in the standard's own example
    (record,) = read_fhir(ecg(origin=no_unit, factor=1.612), Hints(units="uV"))
    assert record.sig[0, 1] == pytest.approx(2.048 + 0.001612)
    body = ecg(origin={"value": 0}, factor=0.001)
    body["code"]["coding"].append({"system": "http://unitsofmeasure.org", "display": "mV"})
    assert read_fhir(body)[0].sig[0, 1] == pytest.approx(0.001)


def test_error_over_and_under_range_are_missing_samples():
    (record,) = read_fhir(ecg(data="E U L -1.5 2e0 1E1 NaN " + RAMP))
    assert np.flatnonzero(np.isnan(record.sig[0])).tolist() == [0, 1, 2, 6]
    assert record.sig[0, 3:6].tolist() == pytest.approx([-0.0075, 0.01, 0.05])


def test_any_white_space_may_lie_between_samples(monkeypatch):
    monkeypatch.setattr("ecg.formats.sampled.CHUNK", 7)
    spread = "  " + RAMP.replace(" ", " \n\t ") + "\n"
    assert (read_fhir(ecg(data=spread))[0].sig == read_fhir(ecg())[0].sig).all()


@pytest.mark.parametrize(
    "data",
    ["1,2", "[1", "1],[2", "null,1", "true", '"1"', "Q", "EE", "1-2", "--1", "1.2.3", "0x1",
     "1e400", "Infinity", "{}", "1 2 Mary", "\\u0031"],
)  # fmt: skip
def test_anything_else_among_the_samples_is_unreadable(data):
    for text in (f"{data} {RAMP}", f"{RAMP} {data}"):
        with pytest.raises(UnreadableError, match=r"component\[0\].*data: .*decimals") as refusal:
            read_fhir(ecg(data=text))
        assert "Mary" not in str(refusal.value)


# Leads


@pytest.mark.parametrize("family", [MDC_LEAD_IDS, MDC_POTENTIALS])
@pytest.mark.parametrize("system", [MDC, "urn:iso:std:iso:11073:10101", None])
def test_all_leads_by_both_families_of_codes(family, system):
    body = ecg(*LEADS)
    for component, lead in zip(body["component"], LEADS, strict=True):
        component["code"] = {"coding": [{"system": system, "code": str(family[lead])}]}
    assert read_fhir(body)[0].leads == LEADS


@pytest.mark.parametrize(
    ("concept", "lead"),
    [
        ({"coding": [{"display": "MDC_ECG_LEAD_AVR"}]}, "aVR"),
        ({"coding": [{"code": "MDC_ECG_ELEC_POTL_V3"}]}, "V3"),
        ({"coding": [{"system": MDC, "code": "2:63"}]}, "aVL"),
        ({"coding": [{"system": "http://loinc.org", "code": "LP7385-0"}]}, "aVR"),
        ({"coding": [{"system": "urn:x", "code": "7", "display": "Lead I (Einthoven)"}]}, "I"),
        ({"coding": [{"display": "aVF, augmented voltage, foot"}]}, "aVF"),
        ({"text": "EKG lead v6"}, "V6"),
        ({"coding": {"system": MDC, "code": 131389}}, "III"),
        ({"coding": [{"code": "131392", "display": "MDC_ECG_ELEC_POTL_AVR"}]}, "aVF"),
    ],
)  # fmt: skip
def test_a_lead_goes_by_its_codes_and_else_by_its_words(concept, lead):
    body = ecg()
    body["component"][0]["code"] = concept
    assert read_fhir(body)[0].leads == (lead,)


def test_a_code_of_another_system_is_no_lead():
    body = ecg("II")
    body["component"][0]["code"]["coding"][0]["system"] = "http://snomed.info/sct"
    with pytest.raises(UnservableError, match="none of the channels"):
        read_fhir(body)


def test_other_channels_are_listed_and_other_components_passed_over():
    body = ecg("II", "150452", "V1")
    body["component"] += [
        {"code": {"text": "Mary Miller"}, "valueSampledData": sampled(period=8, data="1 2 3")},
        {"code": {"text": "heart rate"}, "valueQuantity": {"value": 60}},
        {"code": code("V2"), "dataAbsentReason": {"text": "electrode off"}},
        {"code": code("V3"), "valueSampledData": sampled(data=...)},
    ]
    (record,) = read_fhir(body)
    assert record.leads == ("II", "V1")
    assert record.meta.ignored_channels == ("MDC 150452", "component[3]")


def test_an_only_channel_may_be_named_in_the_query():
    (record,) = read_fhir(ecg("131328"), Hints(leads=("II",)))
    assert record.leads == ("II",)
    with pytest.raises(UnservableError, match=r"\?leads=I"):
        read_fhir(ecg("131328"))


@pytest.mark.parametrize("coded", [True, False])
def test_dimensions_are_interleaved(coded):
    body = single(dimensions=2)
    body["code"] = {"coding": [code("II")["coding"][0], code("V5")["coding"][0]] if coded else []}
    (record,) = read_fhir(body, Hints(leads=None if coded else ("II", "V5")))
    assert record.leads == ("II", "V5") and record.n_samples == 500
    np.testing.assert_allclose(record.sig[:, 0], [0, 0.005])


# Which Observations make a record


def test_each_observation_with_components_is_a_record():
    for kind in ("collection", "searchset", "transaction"):
        body = bundle(ecg("I", "II"), {"resourceType": "Patient"}, ecg("V1", factor=2), kind=kind)
        body["entry"] += [{"request": {"method": "DELETE", "url": "Observation/1"}}, None]
        first, second = read_fhir(body)
        assert (first.leads, second.leads) == (("I", "II"), ("V1",))
        assert second.sig[0, 1] == pytest.approx(0.002)


def test_single_leads_of_one_study_are_joined():
    pulse = single("150452") | {"code": {"text": "pulse"}}
    (record,) = read_fhir(bundle(single("I"), pulse, *(single(name) for name in LEADS[1:])))
    assert record.leads == LEADS


@pytest.mark.parametrize(
    "other",
    [
        single("II", when="2026-01-01T10:00:10Z"),
        single("II", subject="Patient/2"),
        single("II", period=5),
        single("II", data=RAMP + " 1"),
        single("I"),
        single("II", when=None),
        ecg("II"),
    ],
    ids=["time", "subject", "sampling", "length", "lead again", "no time", "components"],
)
def test_what_differs_is_a_record_of_its_own(other):
    assert [r.leads[0] for r in read_fhir(bundle(single("I"), other))] in (["I", "II"], ["I", "I"])


def test_a_lead_that_comes_again_begins_the_next_record():
    leads = [r.leads for r in read_fhir(bundle(*map(single, ("I", "II", "I", "II", "V1"))))]
    assert leads == [("I", "II"), ("I", "II", "V1")]


def test_contained_observations_are_found():
    report = {"resourceType": "DiagnosticReport", "contained": [single("I"), single("II")]}
    assert read_fhir(report)[0].leads == ("I", "II")


def test_what_was_entered_in_error_is_not_answered():
    wrong = ecg("I") | {"status": "entered-in-error"}
    assert len(read_fhir(bundle(wrong, ecg("II")))) == 1
    with pytest.raises(UnservableError, match="entered in error"):
        read_fhir(wrong)


# Refusals


@pytest.mark.parametrize(
    ("changes", "where", "says"),
    [
        ({"period": ...}, "period", "is missing"),
        ({"period": 0}, "period", "must be positive"),
        ({"period": -2}, "period", "must be positive"),
        ({"period": True}, "period", "not a number"),
        ({"period": "soon"}, "period", "not a number"),
        ({"period": "inf"}, "period", "not a number"),
        ({"period": [10]}, "period", "not a number"),
        ({"period": ..., "interval": 2}, "intervalUnit", "a time"),
        ({"period": ..., "interval": 2, "intervalUnit": "Hz"}, "intervalUnit", "a time"),
        ({"period": ..., "interval": 2, "intervalUnit": ["ms"]}, "intervalUnit", "a time"),
        ({"interval": 2, "intervalUnit": "ms"}, "period", "contradicts"),
        ({"offsets": "0 10 20"}, "offsets", "irregular"),
        ({"codeMap": "urn:x"}, "codeMap", "codes for samples"),
        ({"origin": ...}, "origin", "say mV or uV"),
        ({"origin": {"value": 0, "code": "Pa"}}, "origin", "not in V, mV"),
        ({"origin": {"value": {}, "code": "uV"}}, "origin.value", "not a number"),
        ({"factor": 0}, "factor", "is 0"),
        ({"factor": "x"}, "factor", "not a number"),
        ({"dimensions": 0}, "dimensions", "whole number"),
        ({"dimensions": "1"}, "dimensions", "whole number"),
        ({"dimensions": 2}, "dimensions", "which lead is which"),
    ],
)
def test_what_is_wrong_is_named_by_its_place(changes, where, says):
    for body, place in (
        (ecg("I", "II", **changes), "component[0]"),
        (bundle(ecg(), ecg("I", "II", **changes)), "entry[1].resource.component[0]"),
    ):
        with pytest.raises(UnservableError) as refusal:
            read_fhir(body)
        assert refusal.value.where == f"{place}.valueSampledData.{where}"
        assert says in refusal.value.problem


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (ecg("I", period=100), "fs: must be between"),
        (ecg("I", data="1 2 3"), "at least 5 s"),
        (ecg("I", data="E " * 1000), "no finite sample"),
        (ecg("I", "I"), r"leads\[1\]: repeats lead I"),
        (bundle(ecg("I"), ecg("I", "I")), r"records\[1\].leads\[1\]: repeats lead I"),
        (bundle(*[ecg("I", data="1")] * 65), "holds 65 records; at most 64"),
        (bundle(), "valueSampledData: is missing"),
        ({"resourceType": "Patient"}, "valueSampledData: is missing"),
        (ecg(*["150452"] * 513), "more than 512 channels"),
    ],
)
def test_what_cannot_be_answered_says_why(body, says):
    with pytest.raises(UnservableError, match=says):
        read_fhir(body)


def test_leads_of_one_observation_must_be_sampled_alike():
    body = ecg("I", "II")
    body["component"][1]["valueSampledData"]["data"] += " 1"
    with pytest.raises(UnservableError, match=r"component\[1\].*sampled|differs"):
        read_fhir(body)


@pytest.mark.parametrize(
    "content",
    [
        b'{"resourceType": "Observation"',
        b'{"resourceType": "Observation", "a": ' + b"[" * 100_000,
        b'{"resourceType": "Observation", "a": "\xff"}',
        json.dumps(ecg()).encode()[:-3],
    ],
)
def test_json_that_is_cut_off_or_too_deep_is_unreadable(content):
    with pytest.raises(UnreadableError, match="line 1, column"):
        read_fhir(content)


@pytest.mark.parametrize("content", [b"<Observation/>", b"\xef\xbb\xbf  <Bundle xmlns='x'/>"])
def test_xml_is_told_to_be_json(content):
    with pytest.raises(UnreadableError, match="not as XML"):
        read([File(content, "", "application/fhir+xml")], Hints())


def test_a_declared_type_without_a_resource_type_is_told_so():
    with pytest.raises(UnservableError, match="resourceType: is missing"):
        fhir.read(File(b"{}", "", "application/fhir+json"), Hints())


# What is FHIR, and what only looks like it


@pytest.mark.parametrize(
    ("content", "is_fhir"),
    [
        (b'{"resourceType": "Observation"}', True),
        (b'\xef\xbb\xbf \n{"a": {"b": ["]}"]}, "resourceType" : "Bundle"}', True),
        (b'{"a": "\\"}", "resourceType":1}', True),
        (b'{"sig": [[1]], "more": {"resourceType": "Patient"}}', False),
        (b'{"record_id": "resourceType", "sig": []}', False),
        (b'{"record_id": "\\"resourceType\\": 1", "sig": []}', False),
        (b'[{"resourceType": "Observation"}]', False),
        (b'{} {"resourceType": "Observation"}', False),
        (b'{"a": "\\"resourceType\\"', False),
        (b"", False),
    ],
)
def test_the_resource_type_at_the_top_decides(content, is_fhir):
    assert fhir.matches(File(content)) is is_fhir


def test_a_plain_record_that_carries_a_resource_is_a_plain_record(record):
    body = {"sig": record.sig.tolist(), "fs": 100, "leads": list(LEADS), "units": "mV"}
    body["extra"] = {"resourceType": "Patient"}
    assert read_fhir(body)[0].leads == LEADS


# Privacy and bounds


def test_nothing_of_a_patient_is_kept_or_told():
    body = bundle(ecg("I"), {"resourceType": "Patient", "name": [{"text": "Mary Miller"}]})
    body["entry"][0]["resource"] |= {
        "id": "mary", "identifier": [{"value": "mary"}], "note": [{"text": "mary"}]
    }  # fmt: skip
    (record,) = read_fhir(body)
    assert record.meta == Meta()
    for change in ({"data": "mary"}, {"period": "mary"}, {"origin": {"code": "mary"}}):
        body["entry"][0]["resource"]["component"][0]["valueSampledData"] = sampled(**change)
        with pytest.raises(EcgError) as refusal:
            read_fhir(body)
        assert "mary" not in str(refusal.value).lower()


@pytest.mark.parametrize(
    "content",
    [
        b'{"resourceType": "Bundle", "entry": [' + b"{}," * 4_000_000 + b"{}]}",
        b'{"entry": [' + b"[]," * 4_000_000 + b'[]], "resourceType": "Bundle"}',
        b'{"resourceType": "Bundle", "a": "' + b'\\"' * 6_000_000,
        b'{"resourceType": "Bundle"' + b'\\"' * 6_000_000,
        b'{"resourceType": "Bundle", "a": ' + b"1" * 12_000_000 + b"}",
        json.dumps(ecg("I", data="1" * 12_000_000)).encode(),
        json.dumps(ecg("I", data="1e" * 6_000_000)).encode(),
        json.dumps(ecg("I", data=" " * 12_000_000 + "1")).encode(),
    ],
    ids=["objects", "arrays", "escapes", "quotes", "number", "sample", "junk", "spaces"],
)
def test_a_hostile_body_costs_little(content, peak_mb):
    started = time.process_time()
    with peak_mb(200), pytest.raises(EcgError):
        read_fhir(content)
    assert time.process_time() - started < 4  # traced, which takes twice as long


def test_samples_are_bounded_before_they_are_parsed():
    hints = Hints(limits=Limits(max_unpacked=10_000))
    with pytest.raises(TooLargeError, match="more samples"):
        read_fhir(ecg("I", "II", "V1"), hints)
    assert read_fhir(ecg("I", "II"), hints)


def test_a_long_lead_is_parsed_in_little_more_memory_than_it_takes(peak_mb):
    data = sampled(data=" ".join(["-12"] * 2_000_000))
    with peak_mb(2 * 8 + 15):  # the samples, put together, and some in parsing
        sig = read_millivolts(data, 1, ())
    assert sig.shape == (1, 2_000_000) and (sig == np.float32(-0.06)).all()


GOOD = json.dumps(bundle(ecg("I", "II"), single("V1", factor=0.5))).encode()


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_a_mutated_body_is_read_or_refused(data):
    content = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        piece = data.draw(
            st.binary(max_size=3) | st.sampled_from([b'"', b"{", b"]", b"null", b"E"])
        )
        content[at : at + data.draw(st.integers(0, 40))] = piece
    try:
        for record in read_fhir(bytes(content)):
            assert record.sig.dtype == np.float32 and record.sig.shape[0] == len(record.leads)
    except EcgError as error:
        assert "Mary" not in str(error)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    ),
    st.data(),
)
@settings(max_examples=100, deadline=None)
def test_any_value_anywhere_is_read_or_refused(value, data):
    body = bundle(ecg("I", "II"), single("V1"))
    at = body
    while True:
        key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        if isinstance(at[key], dict | list) and at[key] and data.draw(st.booleans()):
            at = at[key]
        else:
            break
    at[key] = value
    try:
        read_fhir(json.dumps(body).encode())
    except EcgError:
        pass
