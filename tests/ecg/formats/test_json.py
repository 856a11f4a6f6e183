"""JSON: one record or several, and every wrong field by its name."""

import json

import numpy as np
import pytest

from ecg.errors import EcgError, UnreadableError, UnservableError
from ecg.formats import File, Hints, read
from ecg.leads import LEADS
from tests.service.bodies import as_json


def body(**changes):
    """A good record but for the changes; ... leaves a field out."""
    given = {"sig": [[0.5] * 500] * 2, "fs": 100, "leads": ["I", "II"], "units": "mV"} | changes
    return {name: value for name, value in given.items() if value is not ...}


def read_json(value, hints=None):
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return read([File(content)], hints or Hints())


@pytest.mark.parametrize("units", ["mV", "uV"])
def test_the_same_samples_come_back(units, record):
    (back,) = read_json(as_json(record, units))
    np.testing.assert_array_equal(back.sig, record.sig)
    assert (back.fs, back.leads, back.meta.record_id) == (100.0, LEADS, None)


def test_several_records_keep_their_order_and_ids(records):
    items = [json.loads(as_json(r, record_id=name)) for name, r in records.items()]
    back = read_json({"records": items})
    for one, (name, expected) in zip(back, records.items(), strict=True):
        assert one.meta.record_id == name
        np.testing.assert_array_equal(one.sig, expected.sig)


def test_null_is_a_missing_sample():
    (back,) = read_json(body(sig=[[None, 1, 0.5] + [0] * 497, [0] * 500]))
    assert np.argwhere(np.isnan(back.sig)).tolist() == [[0, 0]]
    assert back.sig[0, 1:3].tolist() == [1, 0.5]


def test_a_record_id_of_256_characters_is_kept():
    assert read_json(body(record_id="x" * 256))[0].meta.record_id == "x" * 256


@pytest.mark.parametrize(
    ("said", "synthetic"), [({}, False), ({"synthetic": None}, False), ({"synthetic": True}, True)]
)
def test_a_record_may_say_that_it_is_synthetic(said, synthetic):
    assert read_json(body(**said))[0].meta.synthetic is synthetic


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b" \r\n\t"])
def test_white_space_and_a_byte_order_mark_may_come_first(start):
    assert len(read_json(start + json.dumps(body()).encode())) == 1


def test_hints_stand_in_for_what_the_body_does_not_say():
    hints = Hints("200", ("V1", "V2"), "uV")
    (back,) = read_json({"sig": [[500] * 1000] * 2}, hints)
    assert (back.fs, back.leads) == (200.0, ("V1", "V2"))
    assert (back.sig == 0.5).all()


@pytest.mark.parametrize(
    ("changes", "where", "says"),
    [
        ({"fs": ...}, "fs", "is missing"),
        ({"fs": None}, "fs", "is missing"),
        ({"fs": "100"}, "fs", "not a string"),
        ({"fs": True}, "fs", "between 50 and 4000"),
        ({"fs": [100]}, "fs", "is not a number"),
        ({"fs": 49}, "fs", "between 50 and 4000"),
        ({"units": ...}, "units", "is missing"),
        ({"units": {}}, "units", "must be mV or uV"),
        ({"leads": ...}, "leads", "is missing"),
        ({"leads": "I,II"}, "leads", "list of lead names"),
        ({"leads": {"I": 1}}, "leads", "list of lead names"),
        ({"leads": ["I", "ii", "V1"]}, "leads", "names 3 leads, but sig has 2 rows"),
        ({"leads": ["I", "VII"]}, "leads[1]", "is not one of"),
        ({"leads": ["I", ["II"]]}, "leads[1]", "is not one of"),
        ({"leads": ["I", "i"]}, "leads[1]", "repeats lead I"),
        ({"leads": ["I"] * 10_000, "sig": [[0.0]] * 10_000}, "leads", "there are 12"),
        ({"sig": ...}, "sig", "is missing"),
        ({"sig": []}, "sig", "list of lists"),
        ({"sig": "0"}, "sig", "list of lists"),
        ({"sig": [0.5] * 500}, "sig", "list of lists"),
        ({"sig": [[], []]}, "sig", "at least 5 s"),
        ({"sig": [[0.5] * 499] * 2}, "sig", "at least 5 s"),
        ({"sig": [[0.5] * 500, [0.5] * 499]}, "sig[1]", "499 samples, but sig[0] has 500"),
        ({"sig": [[0.5] * 500, ["0.5"] * 500]}, "sig[1]", "not a number"),
        ({"sig": [[True] * 500] * 2}, "sig[0]", "not a number"),
        ({"sig": [[[0.5]] * 500] * 2}, "sig[0]", "not a number"),
        ({"sig": [[{}] * 500] * 2}, "sig[0]", "not a number"),
        ({"sig": [[None] * 500] * 2}, "sig", "no finite sample"),
        ({"sig": [[1e300] * 500] * 2}, "sig", "no finite sample"),
        ({"record_id": 7}, "record_id", "at most 256"),
        ({"synthetic": "yes"}, "synthetic", "true or false"),
        ({"record_id": "x" * 257}, "record_id", "at most 256"),
    ],
)
def test_what_is_wrong_is_named_alone_and_among_several(changes, where, says):
    for value, prefix in (
        (body(**changes), ""),
        ({"records": [body(), body(**changes)]}, "records[1]."),
    ):
        with pytest.raises(UnservableError) as refusal:
            read_json(value)
        assert refusal.value.where == prefix + where
        assert says in refusal.value.problem


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([], "must be an object"),
        ([body()], "must be an object"),
        ({"records": []}, "at least one record"),
        ({"records": body()}, "at least one record"),
        ({"records": [5]}, "records[0]: must be an object"),
        ({"records": [body()] * 65}, "holds 65 records; at most 64"),
        ({}, "is missing"),
    ],
)
def test_a_body_of_another_shape_is_unservable(value, says):
    with pytest.raises(UnservableError) as refusal:
        read_json(value)
    assert says in str(refusal.value)


def test_64_records_are_accepted():
    assert len(read_json({"records": [body()] * 64})) == 64


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b'{"sig": [[NaN]]}',
        b'{"sig": [[Infinity]]}',
        b'{"sig": [[1.0, ]]}',
        b"{'sig': []}",
        b'{"sig": [[0.1]], "record_id": "\xff"}',
        b'{"record_id": "\\ud800"}',
        b"[" * 100_000,
        b'{"sig":' * 5000,
        json.dumps(body()).encode()[:-1],
        json.dumps(body()).encode() + b"}",
    ],
)  # fmt: skip
def test_what_is_not_json_is_unreadable_and_says_where(content):
    with pytest.raises(UnreadableError, match="line 1, column"):
        read_json(content)


@pytest.mark.parametrize(("name", "media_type"), [("x.JSON", ""), ("", "application/json")])
def test_what_claims_to_be_json_is_told_what_is_wrong_with_it(name, media_type):
    with pytest.raises(UnreadableError, match="not valid JSON"):
        read([File(b"sig: 1", name, media_type)], Hints())


def test_a_literal_nan_is_told_to_be_null():
    with pytest.raises(UnreadableError, match="write null for a missing sample"):
        read_json(b'{"sig": [[NaN]]}')


def test_a_message_never_holds_what_the_body_holds():
    for bad in (
        body(record_id=["Mary Miller"]),
        body(leads=["I", "Mary Miller"]),
        body(units="Mary Miller"),
        body(fs="Mary Miller"),
        body(sig=[["Mary Miller"] * 500] * 2),
        body(sig=[[0.5] * 500, [0.4321] * 2]),
    ):
        with pytest.raises(EcgError) as refusal:
            read_json(bad)
        assert "Mary" not in str(refusal.value) and "0.4321" not in str(refusal.value)
