"""CSV as people and programs write it; what it does not say is required, not guessed."""

import numpy as np
import pytest

from ecg.errors import EcgError, UnreadableError, UnservableError
from ecg.formats import File, Hints, read
from ecg.leads import LEADS
from tests.service.bodies import as_csv

HINTS = Hints("100", None, "mV")


def only(content, hints=HINTS, name="", media_type=""):
    (record,) = read([File(content, name, media_type)], hints)
    return record


def rows(n=500, cells="0.1,0.2"):
    return "\n".join([cells] * n)


@pytest.fixture
def content(record):
    return as_csv(record)


def test_the_same_samples_come_back(content, record):
    back = only(content)
    np.testing.assert_array_equal(back.sig, record.sig)
    assert (back.fs, back.leads) == (100.0, LEADS)


def test_microvolts_are_millivolts_by_the_hint(record):
    back = only(as_csv(record, "uV"), Hints("100", None, "uV"))
    np.testing.assert_array_equal(back.sig, record.sig)


WAYS = {
    "semicolons": lambda text: text.replace(",", ";"),
    "tabs": lambda text: text.replace(",", "\t"),
    "spaces": lambda text: text.replace(",", " , "),
    "Windows line ends": lambda text: text.replace("\n", "\r\n"),
    "no newline at the end": lambda text: text.rstrip("\n"),
    "empty lines at the end": lambda text: text + "\n\n",
    "a byte order mark": lambda text: "\ufeff" + text,
    "quoted names": lambda text: text.replace("aVL,aVF", '"aVL","aVF"'),
    "quoted cells": lambda text: "\n".join(
        ",".join(f'"{cell}"' for cell in line.split(",")) for line in text.splitlines()
    ),
    "exponents": lambda text: text.replace("-0.", "-0000.", 1),
    "capitals and prefixes": lambda text: text.replace("aVR", "Lead AVR", 1),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_write_it_is_read(way, content, record):
    text = WAYS[way](content.decode())
    np.testing.assert_array_equal(only(text.encode()).sig, record.sig)


def test_empty_cells_and_nan_are_missing_samples():
    text = f"I,V1\n,0.2\n0.1,\nnan, \n{rows()}\n"
    sig = only(text.encode()).sig
    assert np.argwhere(np.isnan(sig)).tolist() == [[0, 0], [0, 2], [1, 1], [1, 2]]


def test_a_single_lead_needs_no_delimiter():
    back = only(("V2\n" + rows(cells="0.5")).encode())
    assert back.leads == ("V2",) and back.n_samples == 500


@pytest.mark.parametrize(
    ("hints", "where"), [(Hints(None, None, "mV"), "fs"), (Hints("100"), "units")]
)
def test_fs_and_units_are_required(hints, where, content):
    with pytest.raises(UnservableError, match="is missing") as refusal:
        only(content, hints)
    assert refusal.value.where == where


@pytest.mark.parametrize(
    ("text", "kind", "where", "says"),
    [
        (f"time,I\n{rows()}", UnservableError, "leads[0]", "is not one of"),
        (f"I,I\n{rows()}", UnservableError, "leads[1]", "repeats lead I"),
        ("I,II\n", UnservableError, "", "no sample below the header"),
        ("I,II", UnservableError, "", "no sample below the header"),
        ("I,II\n\n  \n", UnservableError, "", "no sample below the header"),
        (f"I,II\n{rows(499)}", UnservableError, "sig", "at least 5 s"),
        (f"I,II\n{rows(3)}\n0.1,high\n{rows()}", UnservableError, "line 5", "not a number"),
        (f"I,II\n{rows(3)}\n0.1\n{rows()}", UnreadableError, "line 5", "1 cells, expected 2"),
        (f"I,II\n{rows(cells='1,2,3')}", UnreadableError, "", "3 columns under 2 lead names"),
        (f"I,II\n{rows(cells='1;2')}", UnreadableError, "line 2", "1 cells, expected 2"),
        (f"I;II\n{rows(cells='0,1;0,2')}", UnservableError, "line 2", "not a number"),
        (f"I,II\n{rows(cells='True,1')}", UnservableError, "line 2", "not a number"),
        (f"I,II\n{rows(cells=',')}", UnservableError, "sig", "no finite sample"),
        (f"I,II\n0.1,\"{'9' * 200_000}\"\n", UnreadableError, "", "no number"),
        (f"I,II\n0.1,\"0.2\n{rows()}", EcgError, "", ""),
        (f"I,II\n0.1,0.2\r0.1,0.x\n{rows()}", UnservableError, "line 3", "not a number"),
    ],
)  # fmt: skip
def test_what_is_wrong_names_the_line(text, kind, where, says):
    with pytest.raises(kind) as refusal:
        only(text.encode())
    assert says in refusal.value.problem
    if says:
        assert refusal.value.where == where


def test_what_is_no_text_is_unreadable():
    with pytest.raises(EcgError):
        only(b"I,II\n0.1,0.2\n\xff\xfe,0.1\n" + rows().encode())


def test_a_message_never_holds_what_the_file_holds():
    with pytest.raises(EcgError) as refusal:
        only(f"I,II\n{rows()}\nMary Miller,1961-02-03\n".encode())
    assert "Mary" not in str(refusal.value) and "1961" not in str(refusal.value)


@pytest.mark.parametrize(("name", "media_type"), [("a.CSV", ""), ("", "text/csv; charset=utf-8")])
def test_a_file_that_claims_to_be_csv_is_told_which_leads_there_are(name, media_type):
    with pytest.raises(UnservableError, match="is not one of I, II, III"):
        only(f"time,value\n{rows()}".encode(), name=name, media_type=media_type)
