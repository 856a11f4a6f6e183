"""Apple Watch exports in several languages; what the header tells of the patient stays in it."""

import random
import time

import numpy as np
import pytest

from ecg.errors import EcgError, TooLargeError, UnreadableError, UnservableError
from ecg.formats import File, Hints, read
from ecg.formats import apple as apple_reader

ENGLISH = (
    'Name,"Doe, Jane"\nDate of Birth,"Mar 4, 1961"\nRecorded Date,2024-05-06 07:08:09 +0200\n'
    'Classification,Sinus Rhythm\nSymptoms,"Rapid, pounding heartbeat"\nSoftware Version,2.0\n'
    'Device,"Watch6,4"\nSample Rate,512 hertz\n\n\nLead,Lead I\nUnit,µV\n\n'
)
GERMAN = (
    'Name;"Doe, Jane"\nGeburtsdatum;04.03.1961\nAufzeichnungsdatum;2024-05-06 07:08:09 +0200\n'
    "Klassifizierung;Sinusrhythmus\nSymptome;\nSoftwareversion;2.0\nGerät;Watch6,4\n"
    "Messrate;511,5 Hertz\n\n\nAbleitung;Ableitung I\nEinheit;µV\n\n"
)
NONE = Hints()
TELLING = ("Doe", "Jane", "1961", "2024", "Rapid", "Watch6", "Sinus", "265")


@pytest.fixture(scope="module")
def microvolts():
    """30 s of something like an ECG, beyond 1 mV so that thousands are grouped."""
    t = np.arange(15_360) / 512
    return np.round(1400 * np.sin(2 * np.pi * t) ** 15 + 60 * np.sin(t) - 265.868, 3)


def body(values, write="{:.3f}".format, end="\n"):
    return "".join(write(v) + end for v in values.tolist())


def only(text, hints=NONE, **kind):
    content = text if isinstance(text, bytes) else text.encode()
    (record,) = read([File(content, **kind)], hints)
    return record


def german(v, grouped=False):
    text = f"{v:,.3f}" if grouped else f"{v:.3f}"
    return text.translate(str.maketrans(".,", ",."))


WAYS = {
    "English": ENGLISH,
    "German": GERMAN.replace("511,5", "512"),
    "no-break space and Hz": ENGLISH.replace("512 hertz", "512,000\u00a0Hz"),
    "Russian": ENGLISH.replace("Sample Rate,512 hertz", "Частота,512 герц"),
    "Japanese": ENGLISH.replace("Sample Rate,512 hertz", "サンプルレート,512ヘルツ"),
    "Greek mu": ENGLISH.replace("µ", "μ"),
    "uV": ENGLISH.replace("µ", "u"),
    "tabs": ENGLISH.replace("Rate,512", "Rate\t512"),
    "everything quoted": ENGLISH.replace("Sample Rate,512 hertz", '"Sample Rate","512 hertz"'),
    "a byte order mark": "\ufeff" + ENGLISH,
    "a name alone": ENGLISH.replace('Name,"Doe, Jane"', "Name"),
    "Windows line ends": ENGLISH.replace("\n", "\r\n"),
}
NUMBERS = {
    "points": "{:.3f}".format,
    "commas": german,
    "commas in quotes": lambda v: f'"{german(v)}"',
    "points, thousands grouped": "{:,.3f}".format,
    "commas, thousands grouped": lambda v: german(v, grouped=True),
    "a separator behind": lambda v: f"{v:.3f},",
    "a Unicode minus": lambda v: f"{v:.3f}".replace("-", "−"),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_header_is_read(way, microvolts):
    record = only(WAYS[way] + body(microvolts))
    assert (record.fs, record.leads) == (512.0, ("I",))
    np.testing.assert_allclose(record.sig[0], microvolts / 1000, rtol=1e-6)


@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("header", [ENGLISH, GERMAN], ids=["English", "German"])
def test_every_decimal_mark_is_read(header, numbers, microvolts):
    record = only(header + body(microvolts, NUMBERS[numbers]))
    assert record.fs == (512.0 if header is ENGLISH else 511.5)
    np.testing.assert_allclose(record.sig[0], microvolts / 1000, rtol=1e-6)


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_other_encodings_are_read(encoding, microvolts):
    record = only((ENGLISH + body(microvolts)).encode(encoding))
    np.testing.assert_allclose(record.sig[0], microvolts / 1000, rtol=1e-6)


def test_millivolts(microvolts):
    record = only(ENGLISH.replace("µV", "mV") + body(microvolts / 1000, "{:.6f}".format))
    np.testing.assert_allclose(record.sig[0], microvolts / 1000, rtol=1e-6, atol=1e-6)


def test_the_file_counts_more_than_what_is_said_beside_it(microvolts):
    record = only(ENGLISH + body(microvolts), Hints("250", ("V2",), "mV"))
    assert (record.fs, record.leads) == (512.0, ("I",))
    np.testing.assert_allclose(record.sig[0], microvolts / 1000, rtol=1e-6)


@pytest.mark.parametrize(
    ("line", "hints", "where"),
    [
        ("Sample Rate,512 hertz", Hints("500"), "fs"),
        ("Unit,µV", Hints(units="uV"), "units"),
    ],
)
def test_what_the_file_lacks_must_be_said(line, hints, where, microvolts):
    text = ENGLISH.replace(line, "") + body(microvolts)
    with pytest.raises(UnservableError, match="is missing") as refusal:
        only(text)
    assert refusal.value.where == where
    record = only(text, hints)
    assert record.fs == float(hints.fs or 512)
    np.testing.assert_allclose(record.sig[0], microvolts / 1000, rtol=1e-6)


def test_another_lead_than_the_wrist(microvolts):
    assert only(ENGLISH.replace("Lead I", "Lead II") + body(microvolts)).leads == ("II",)
    unnamed = ENGLISH.replace("Lead,Lead I\n", "") + body(microvolts)
    assert only(unnamed).leads == ("I",)
    assert only(unnamed, Hints(leads=("V2",))).leads == ("V2",)


def test_a_patient_whose_name_is_a_lead_moves_none(microvolts):
    text = ENGLISH.replace('"Doe, Jane"', "Elizabeth II") + body(microvolts)
    assert only(text).leads == ("I",)


def test_nothing_of_the_patient_is_kept(microvolts):
    meta = only(ENGLISH + body(microvolts)).meta
    assert meta.record_id is None and not meta.ignored_channels


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        (lambda b: ENGLISH + b + "-265x\n", UnservableError, "not one number"),
        (lambda b: ENGLISH + b + "Doe Jane\n", UnservableError, "not one number"),
        (lambda b: ENGLISH + b + "-265.1 7\n", UnservableError, "one number"),
        (lambda b: ENGLISH + "1.5\n" * 3000 + "2,25\n", UnreadableError, "cannot be told apart"),
        (lambda b: ENGLISH + "1.5\n" * 100, UnservableError, "at least 5 s"),
        (lambda b: ENGLISH.replace("512", "9999") + b, UnservableError, "between 50 and 4000"),
        (lambda b: ENGLISH + "1.50000\n" * 1_100_000, TooLargeError, "more than 8 MiB"),
    ],
)
def test_a_refusal_tells_nothing_of_the_patient(text, kind, says, microvolts):
    with pytest.raises(kind, match=says) as refusal:
        only(text(body(microvolts)))
    assert not any(word in str(refusal.value) for word in TELLING)


@pytest.mark.parametrize(
    "text",
    ["I,II\nmV,mV\n0.1,0.2\n", "I\n0.1\n0.2\n", "", "\n\n", "0.1\n", ENGLISH, "a,512 hertz\n"],
)
def test_other_texts_are_not_taken_for_one(text):
    assert not apple_reader.matches(File(text.encode()))


def test_only_an_ecg_error_without_the_patient_escapes_from_mutated_files(microvolts):
    rng = random.Random(0)
    content = (ENGLISH + body(microvolts[:3000])).encode()
    started = time.process_time()
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(rng.randint(1, 5)):
            at = rng.choice([rng.randrange(400), rng.randrange(len(damaged))])
            damaged[at : at + rng.randrange(3)] = rng.choice(
                [b"", b",", b".", b"\x00", b"\xff", b"\n"]
            )
        try:
            read([File(bytes(damaged), "ecg.csv")], Hints("512", None, "uV"))
        except EcgError as error:
            assert not any(word in str(error) for word in TELLING)
    assert time.process_time() - started < 30


@pytest.mark.parametrize("filler", [b" ", b'"', b",", b"1", b"a,", b"1,", b"\xc2\xa0", b"a,1 "])
def test_long_lines_cost_little(filler):
    started = time.process_time()
    for content in (filler * 500_000, ENGLISH.encode() + filler * 500_000 + b"\n1\n"):
        with pytest.raises(EcgError):
            read([File(content)], Hints("512", None, "uV"))
    assert time.process_time() - started < 2
