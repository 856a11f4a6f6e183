"""HL7 aECG: a published example, and its parts written by the guide, one variation at a time."""

import numpy as np
import pytest

from ecg.errors import EcgError, TooLargeError, UnreadableError, UnservableError
from ecg.formats import File, Hints, markup, read
from ecg.leads import LEADS
from tests.conftest import DATA
from tests.ecg.formats.mutations import survives

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
N = 3000


@pytest.fixture(scope="module")
def counts():
    return np.random.default_rng(1).integers(-800, 800, size=(12, N))


def sequence(code, digits, scale="5", unit="uV", origin=("0", "uV")):
    digits = digits if isinstance(digits, str) else " ".join(map(str, digits))
    return (
        f'<component><sequence><code code="{code}" codeSystem="2.16.840.1.113883.6.24"/>'
        f'<value xsi:type="SLIST_PQ"><origin value="{origin[0]}" unit="{origin[1]}"/>'
        f'<scale value="{scale}" unit="{unit}"/><digits>{digits}</digits></value>'
        "</sequence></component>"
    )


def times(increment="2", unit="ms", head='value="20240102030405.000"', code="TIME_ABSOLUTE"):
    return (
        f'<component><sequence><code code="{code}"/><value xsi:type="GLIST_TS"><head {head}/>'
        f'<increment value="{increment}" unit="{unit}"/></value></sequence></component>'
    )


def sequence_set(*sequences):
    return f"<component><sequenceSet>{''.join(sequences)}</sequenceSet></component>"


def leads(counts, names=LEADS, **more):
    return [
        sequence(f"MDC_ECG_LEAD_{name.upper()}", row, **more)
        for name, row in zip(names, counts, strict=False)
    ]


def series(*sets, code="RHYTHM", derived=""):
    return (
        f'<component><series><code code="{code}" codeSystem="2.16.840.1.113883.5.4"/>'
        f"{''.join(sets)}{derived}</series></component>"
    )


def document(*parts, head=HEAD):
    return (
        f'{head}<AnnotatedECG xmlns="urn:hl7-org:v3" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
        "<id root='1'/><componentOf><name>Mary Miller</name></componentOf>"
        f"{''.join(parts)}</AnnotatedECG>"
    )


def all_of(text):
    content = text if isinstance(text, bytes) else text.encode()
    return read([File(content)], Hints())


def only(text):
    (record,) = all_of(text)
    return record


def plain(counts, **more):
    return document(series(sequence_set(times(), *leads(counts, **more))))


# The published example


@pytest.fixture(scope="module")
def example():
    (record,) = read([File((DATA / "hl7_Example_aECG.zip").read_bytes())], Hints())
    return record


def test_the_published_example_is_read(example):
    assert (example.fs, example.n_samples, set(example.leads)) == (500.0, 5000, set(LEADS))
    assert example.meta.ignored_channels == ()
    np.testing.assert_allclose(np.abs(example.sig).max(), 1.9275)


def test_its_scp_copy_is_the_same_to_the_last_bit(example):
    """One recording in two formats, twelve leads (tests/data/README.md)."""
    (copy,) = read([File((DATA / "ecgtoolkit_Example.scp").read_bytes())], Hints())
    rows = [copy.leads.index(name) for name in example.leads]
    np.testing.assert_array_equal(copy.sig[rows], example.sig)
    assert copy.fs == example.fs


# Samples


def test_samples_are_scale_times_digit(counts):
    record = only(plain(counts))
    expected = (counts * 5.0 * 1e-3).astype(np.float32)
    np.testing.assert_array_equal(record.sig, expected)
    assert (record.leads, record.fs) == (LEADS, 500.0)


@pytest.mark.parametrize(
    ("scale", "unit"),
    [("0.005", "mV"), ("5000", "nV"), ("5", "UV"), ("5", "µV"), ("0.000005", "V")],
)
def test_units_do_not_matter(scale, unit, counts):
    record = only(plain(counts, scale=scale, unit=unit))
    np.testing.assert_allclose(record.sig, only(plain(counts)).sig, rtol=1e-6)


def test_an_origin_is_added_in_its_own_unit(counts):
    record = only(plain(counts, origin=("0.25", "mV")))
    np.testing.assert_allclose(record.sig, counts * 0.005 + 0.25, atol=1e-6)


@pytest.mark.parametrize(
    ("increment", "unit", "fs"),
    [("0.002", "s", 500), ("2", "ms", 500), ("2000", "us", 500), ("0.003333", "s", 300),
     ("1.953125", "ms", 512), ("0.004", "s", 250), ("0.0078", "s", 1 / 0.0078)],
)  # fmt: skip
def test_increments_give_fs(increment, unit, fs, counts):
    text = document(series(sequence_set(times(increment, unit), *leads(counts))))
    assert only(text).fs == pytest.approx(fs, rel=1e-12)


def test_missing_values_are_gaps(counts):
    digits = ["NA", "nan", "NULL", *map(str, counts[0][3:])]
    record = only(
        document(series(sequence_set(times(), sequence("MDC_ECG_LEAD_II", " ".join(digits)))))
    )
    assert np.flatnonzero(np.isnan(record.sig[0])).tolist() == [0, 1, 2]


def test_a_shorter_lead_ends_in_a_gap(counts):
    sequences = [*leads(counts[:1]), *leads(counts[1:2, :2900], ["II"])]
    sig = only(document(series(sequence_set(times(), *sequences)))).sig
    assert np.isnan(sig[1, 2900:]).all() and np.isfinite(sig[1, :2900]).all()


@pytest.mark.parametrize("code", ["2:{}", "MINDRAY_ECG_LEAD_{name}", "mdc_ecg_lead_{name}"])
def test_leads_by_number_and_by_makers_names(code, counts):
    numbers = {"I": 1, "II": 2, "V1": 3, "V6": 8, "III": 61, "aVF": 64}
    codes = [code.format(n, name=name) for name, n in numbers.items()]
    sequences = [sequence(c, row) for c, row in zip(codes, counts, strict=False)]
    assert only(document(series(sequence_set(times(), *sequences)))).leads == tuple(numbers)


def test_other_channels_are_named_without_repeating_what_may_be_a_patients(counts):
    codes = ["MDC_ECG_LEAD_X", "Mary Miller", "MDC_RESP", "MDC_ECG_LEAD_AVRNEG"]
    others = [sequence(code, counts[0]) for code in codes]
    record = only(document(series(sequence_set(times(), *others, *leads(counts)))))
    assert record.meta.ignored_channels == (
        "MDC_ECG_LEAD_X",
        "channel 2",
        "MDC_RESP",
        "MDC_ECG_LEAD_AVRNEG",
    )
    assert record.leads == LEADS


def test_a_thousand_other_channels_are_refused(counts):
    others = [sequence(f"MDC_{i}", "1") for i in range(1000)]
    with pytest.raises(UnservableError, match="more than 512 channels"):
        all_of(document(series(sequence_set(times(), *others, *leads(counts)))))


# Series and sets


def test_the_rhythm_is_read_whatever_beats_are_beside_and_in_it(counts):
    beat = sequence_set(times(), *leads(counts[:, :600] * 0 + 7))
    derived = (
        f'<derivation><derivedSeries><code code="REPRESENTATIVE_BEAT"/>{beat}'
        "</derivedSeries></derivation>"
    )
    text = document(
        series(beat, code="REPRESENTATIVE_BEAT"),
        series(sequence_set(times(), *leads(counts)), derived=derived),
        series(beat, code="MEDIAN_BEAT"),
    )
    np.testing.assert_array_equal(only(text).sig, only(plain(counts)).sig)


def test_beats_alone_are_no_ecg(counts):
    text = document(series(sequence_set(times(), *leads(counts)), code="REPRESENTATIVE_BEAT"))
    with pytest.raises(UnservableError, match="no rhythm series"):
        all_of(text)


def test_several_series_are_several_records(counts):
    text = document(
        series(sequence_set(times(), *leads(counts[:3]))),
        series(sequence_set(times("4"), *leads(counts[3:], ["V1", "V2"]))),
    )
    first, second = all_of(text)
    assert (first.fs, first.leads, second.fs) == (500.0, ("I", "II", "III"), 250.0)
    np.testing.assert_array_equal(second.sig, (counts[3:5] * 5.0 * 1e-3).astype(np.float32))


def test_what_is_wrong_with_one_of_several_series_is_said_of_it(counts):
    text = document(
        series(sequence_set(times(), *leads(counts))),
        series(sequence_set(times(), *leads(counts, unit="mmHg"))),
    )
    with pytest.raises(UnservableError) as refusal:
        all_of(text)
    assert refusal.value.where == "series[1].I"


@pytest.mark.parametrize("kind", ["absolute", "relative"])
def test_three_by_four_leads_lie_where_they_were_recorded(kind, counts):
    """Sets of 2.5 s one after the other, as a paper print shows them."""
    heads = {
        "absolute": [f'value="2024010203{4 + (57 + q) // 60:02d}{(57 + q) % 60:02d}.{h}"'
                     for q, h in ((0, "000"), (2, "500"), (5, "000"), (7, "500"))],
        "relative": [f'value="{ms}" unit="ms"' for ms in (0, 2500, 5000, 7500)],
    }[kind]  # fmt: skip
    sets = [
        sequence_set(times(head=head), *leads(counts[3 * i : 3 * i + 3, :1250], LEADS[3 * i :]))
        for i, head in enumerate(heads)
    ]
    record = only(document(series(*sets)))
    assert record.sig.shape == (12, 5000)
    for i in range(12):
        at = 1250 * (i // 3)
        known = np.flatnonzero(np.isfinite(record.sig[i]))
        assert (known[0], known[-1], len(known)) == (at, at + 1249, 1250)
        np.testing.assert_allclose(record.sig[i, known], counts[i, :1250] * 0.005, atol=1e-6)


def test_sets_of_the_same_time_are_records_of_their_own(counts):
    one = sequence_set(times(), *leads(counts[:2]))
    assert len(all_of(document(series(one, one)))) == 2


# XML


def test_utf_16_and_prefixes_are_read(counts):
    text = plain(counts).replace('encoding="UTF-8"', 'encoding="UTF-16"')
    expected = only(plain(counts)).sig
    for content in (text.encode("utf-16"), b"\xfe\xff" + text.encode("utf-16-be")):
        np.testing.assert_array_equal(only(content).sig, expected)
    prefixed = text.replace('encoding="UTF-16"', "").replace("xmlns=", "xmlns:h=")
    for tag in ("AnnotatedECG", "component", "series", "code", "sequenceSet", "sequence"):
        prefixed = prefixed.replace(f"<{tag}", f"<h:{tag}").replace(f"</{tag}>", f"</h:{tag}>")
    prefixed = prefixed.replace("<h:componentOf", "<componentOf")
    inner = only(prefixed.replace("</h:componentOf>", "</componentOf>"))
    np.testing.assert_array_equal(inner.sig, expected)


@pytest.mark.parametrize(
    ("declared", "written"),
    [("UTF-16", "utf-8"), ("UTF-8", "latin-1"), ("GB2312", "gb2312"), ("nonsense", "utf-8")],
)
def test_a_file_in_another_encoding_than_it_declares_is_read(declared, written, counts):
    name = "张伟" if written == "gb2312" else "Müller"
    text = plain(counts).replace('encoding="UTF-8"', f'encoding="{declared}"')
    content = text.replace("Mary Miller", name).encode(written)
    np.testing.assert_array_equal(only(content).sig, only(plain(counts)).sig)


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {new} "{f"&{old};" * 10}">' for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "prolog",
    [
        f"{BOMB}]>",
        '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>',
        '<!DOCTYPE x [<!ENTITY % a SYSTEM "http://127.0.0.1:9/x.dtd"> %a;]>',
    ],
)
def test_entities_are_refused_and_nothing_is_fetched(prolog, counts, peak_mb, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", None)
    text = plain(counts).replace("?>\n", f"?>\n{prolog}").replace("Mary Miller", "&a;")
    with peak_mb(20), pytest.raises(UnreadableError, match="entities") as refusal:
        all_of(text)
    assert "hostname" not in str(refusal.value)


def test_an_entity_that_is_not_declared_is_no_xml(counts):
    text = plain(counts).replace("?>\n", '?>\n<!DOCTYPE x SYSTEM "x.dtd">')
    with pytest.raises(UnreadableError, match="well-formed"):
        all_of(text.replace("Mary Miller", "&a;"))


GROWN = {
    "elements": "<a/>" * 250_000,
    "depth": "<a>" * 100_000,
    "attributes": f"<a {' '.join(f'b{i}=_' for i in range(500_000))}/>".replace("_", "''"),
    "attributes of many": "<a b='' c='' d=''/>" * 60_000,
    "a comment": f"<!--{' ' * 5_000_000}-->",
}


SAID = {
    "elements": "more than 200,000 elements",
    "depth": "nested deeper than 64",
    "attributes": "longer than 2 MiB",
    "attributes of many": "more than 200,000 elements and attributes",
    "a comment": "longer than 2 MiB",
}


@pytest.mark.parametrize("kind", GROWN)
def test_what_grows_in_memory_is_bounded(kind, peak_mb):
    content = document(GROWN[kind]).encode()
    with peak_mb(100), pytest.raises(TooLargeError, match=SAID[kind]):
        all_of(content)


@pytest.mark.parametrize("text", ["<", "<AnnotatedECG", "<AnnotatedECG>", "<!--", "<?xml", "<![["])
def test_less_than_a_document_is_refused(text):
    with pytest.raises(EcgError):
        read([File(text.encode(), "ecg.aecg")], Hints())


def test_the_root_is_found_behind_comments_and_a_doctype():
    prolog = '\ufeff <!-- <a> --> <?b c?> <!DOCTYPE d [ <!ELEMENT e (f)> ]> <!DOCTYPE g "h">'
    assert markup.root_name(f"{prolog}<i:AnnotatedECG j='k'>".encode()) == "AnnotatedECG"
    assert markup.root_name(b"I,II\n1,2") is None


# What is refused


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (('<increment value="2"', '<increment value="0"'), "fs"),
        (('<increment value="2"', '<increment value="-2"'), "fs"),
        (('<increment value="2"', '<increment value="x"'), "fs"),
        (('unit="ms"', 'unit="min"'), "s, ms or us"),
        (('unit="ms"', ""), "s, ms or us"),
        (("TIME_ABSOLUTE", "TAKEN"), "no time sequence"),
        (('<scale value="5"', '<scale value="0"'), "scale of zero"),
        (('<scale value="5"', '<scale value="inf"'), "scale of zero"),
        (('<scale value="5" unit="uV"', '<scale value="5"'), "unit is not V"),
        (("<digits>", "<digits>12,5 "), "not a number"),
        (('_LEAD_II"', '_LEAD_I"'), "repeats lead I"),
        (("_LEAD_", "_X_"), "none of the channels"),
        (("digits", "numbers"), "no samples"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(change, says, counts):
    text = plain(counts).replace(*change)
    with pytest.raises(EcgError) as refusal:
        all_of(text)
    assert says in str(refusal.value)


def test_ten_seconds_at_an_hour_each_are_refused():
    sets = [
        sequence_set(times(head=f'value="{h}" unit="s"'), *leads(np.ones((1, 2600))))
        for h in (0, 3600)
    ]
    assert len(all_of(document(series(*sets)))) == 2


def test_mutations_are_read_or_refused(counts):
    survives(plain(counts[:, :2600]).encode())
