"""Philips XML: a device's file, and files written with the codec of such devices."""

import base64

import numpy as np
import pytest

from ecg.errors import EcgError, UnreadableError, UnservableError
from ecg.formats import File, Hints, read
from ecg.leads import LEADS
from tests.conftest import DATA
from tests.ecg.formats.mutations import survives

N = 5500


@pytest.fixture(scope="module")
def counts():
    """Twelve leads that walk as an ECG does, and a pulse of calibration behind 10.7 s."""
    rng = np.random.default_rng(4)
    leads = rng.integers(-9, 10, size=(12, N)).cumsum(axis=1)
    leads -= (np.linspace(0, 1, N) * leads[:, -1:]).astype(int)
    first, second = leads[:2]
    leads[2] = second - first + rng.integers(-1, 2, N)
    leads[3:6] = [(-(first + second)) // 2, first - second // 2, second - first // 2]
    leads[:, 5350:5450] += 200
    return leads


# The codec, in the devices' direction


def half(counts):
    return np.trunc(counts / 2).astype(int)


def stored(counts):
    """Limb leads as what differs from their sums of I and II, which are rounded to zero."""
    out = counts.copy()
    out[2] = counts[1] - counts[0] - counts[2]
    out[3] = -counts[3] - half(counts[0] + counts[1])
    out[4] = half(counts[0] - counts[2]) - counts[4]
    out[5] = half(counts[1] + counts[2]) - counts[5]
    return out


def xli(counts):
    return b"".join(xli_lead(row) for row in counts)


def xli_lead(row):
    second = 2 * row[1:-1] - row[:-2] - row[2:]
    words = np.concatenate((row[:2], second[1:] + 64, [64])).astype(">i2")
    high, low = np.frombuffer(words.tobytes(), np.uint8).reshape(-1, 2).T
    packed = lzw(high.tobytes() + low.tobytes())
    first = int(second[0]).to_bytes(2, "little", signed=True)
    return len(packed).to_bytes(4, "little") + b"\x01\x00" + first + packed


def lzw(content):
    """Codes of 10 bits, strings up to 1022, 1023 at the end."""
    known = {bytes([i]): i for i in range(256)}
    codes, word = [], b""
    for byte in content:
        longer = word + bytes([byte])
        if longer in known:
            word = longer
            continue
        codes.append(known[word])
        if len(known) <= 1022:
            known[longer] = len(known)
        word = bytes([byte])
    codes += [known[word], 1023]
    bits = "".join(f"{code:010b}" for code in codes)
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


# Documents


def document(text, attributes, signal="", version="1.04"):
    return (
        '<?xml version="1.0" encoding="utf-16"?>'
        '<restingecgdata xmlns="http://www3.medical.philips.com"><documentinfo>'
        f"<documenttype>PhilipsECG</documenttype><documentversion>{version}</documentversion>"
        "</documentinfo><dataacquisition><signalcharacteristics>"
        "<samplingrate>500</samplingrate><acquisitiontype>STD-12</acquisitiontype>"
        f"{signal}</signalcharacteristics></dataacquisition>"
        "<patient><generalpatientdata><name><lastname>Miller</lastname></name>"
        f"</generalpatientdata></patient><waveforms><parsedwaveforms {attributes}>"
        f"{text}</parsedwaveforms><repbeats><repbeat leadname='I'>AAAA</repbeat></repbeats>"
        "</waveforms></restingecgdata>"
    ).encode("utf-16")


NEWER = (
    'dataencoding="Base64" compression="{}" numberofleads="12" leadlabels="{}" '
    'durationperchannel="{}" samplespersecond="500" resolution="5" signaloffset="0" '
    'signalsigned="True" bitspersample="16"'
)


def newer(text, compression="XLI", leads=LEADS, ms=11_000, **more):
    return document(text, NEWER.format(compression, " ".join(leads), ms), **more)


def b64(content):
    return base64.encodebytes(content).decode()


@pytest.fixture(scope="module")
def compressed(counts):
    return newer(b64(xli(stored(counts))))


def only(content):
    (record,) = read([File(content)], Hints())
    return record


def millivolts(counts):
    return (counts * 5.0 * 1e-3).astype(np.float32)


def test_a_devices_file_is_read():
    record = only((DATA / "1_04_ad4d3d80_orig.zip").read_bytes())
    assert (record.sig.shape, record.fs, record.leads) == ((12, 5000), 500.0, LEADS)
    first, second, third, avr, avl, avf = record.sig[:6].astype(float)
    one = 0.005 * 1.0001  # a count
    assert np.abs(second - first - third).max() <= one
    assert np.abs(avr + (first + second) / 2).max() <= one  # 1.5 if halves were rounded down


def test_its_first_ten_seconds_hold_no_calibration_pulse():
    record = only((DATA / "1_04_ad4d3d80_orig.zip").read_bytes())
    assert record.duration_s == 10 and record.sig[0].max() < 0.9  # the pulse is 1 mV


def test_compressed_leads_are_those_that_were_compressed(counts, compressed):
    record = only(compressed)
    np.testing.assert_array_equal(record.sig, millivolts(counts[:, :5000]))
    assert (record.leads, record.fs) == (LEADS, 500.0)


def test_the_older_version_says_less(counts):
    older = (
        'compressflag="True" compressmethod="XLI" filterflag="True" dataencoding="Base64" '
        'durationperchannel="11000" nbitspersample="16"'
    )
    signal = (
        "<signalresolution>5</signalresolution><signaloffset>0</signaloffset>"
        "<numberchannelsallocated>12</numberchannelsallocated>"
    )
    four_more = np.zeros((4, N), dtype=int)
    text = b64(xli(np.concatenate((stored(counts), four_more))))
    record = only(document(text, older, signal, "1.03"))
    np.testing.assert_array_equal(record.sig, millivolts(counts[:, :5000]))
    assert record.leads == LEADS


def test_plain_numbers_and_base64_are_as_they_are(counts):
    plain = " ".join(map(str, counts.ravel()))
    binary = b64(counts.astype("<i2").tobytes())
    attributes = NEWER.format("", " ".join(LEADS), 11_000)
    for content in (
        newer(binary, "Uncompressed"),
        newer(binary, ""),
        document(binary, attributes.replace("compression", 'compressflag="False" compressmethod')),
        document(plain, attributes.replace("Base64", "Plain")),
        document(plain.replace(" ", ",\n"), attributes.replace("Base64", "Plain")),
    ):
        np.testing.assert_array_equal(only(content).sig, millivolts(counts[:, :5000]))


def test_a_recording_without_the_pulse_is_read_whole(counts):
    content = newer(b64(counts[:, :5000].astype("<i2").tobytes()), "", ms=10_000)
    np.testing.assert_array_equal(only(content).sig, millivolts(counts[:, :5000]))


def test_leads_beyond_the_twelve_are_ignored(counts):
    names = [*LEADS[:6], "V1", "V2", "V3", "V3R", "V7", "Miller"]
    record = only(newer(b64(xli(stored(counts))), leads=names))
    assert record.leads == tuple(names[:9])
    assert record.meta.ignored_channels == ("V3R", "V7", "channel 12")


def test_an_offset_is_the_count_of_zero_volts(counts):
    shifted = newer(b64((counts[:, :5000] + 9000).astype("<u2").tobytes()), "", ms=10_000)
    text = shifted.decode("utf-16").replace('signaloffset="0"', 'signaloffset="9000"')
    content = text.replace('signalsigned="True"', 'signalsigned="False"').encode("utf-16")
    np.testing.assert_allclose(only(content).sig, millivolts(counts[:, :5000]), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        (('"XLI"', '"ZIP"'), UnservableError, "compression"),
        (('"Base64"', '"Hex"'), EcgError, ""),
        (('"11000"', '"x"'), UnservableError, "durationperchannel"),
        (('"11000"', '"1e300"'), UnservableError, "durationperchannel"),
        (('"11000"', '"11500"'), UnreadableError, "fewer samples"),
        (('"11000"', '"8000"'), UnreadableError, "more samples"),
        (('"500"', '"0"'), UnservableError, "fs"),
        (('resolution="5"', 'resolution="0"'), UnservableError, "resolution"),
        (('resolution="5"', ""), UnservableError, "resolution"),
        (('leads="12"', 'leads="99"'), UnservableError, "numberofleads"),
        (("I II III", "I II II"), UnservableError, "repeats lead II"),
        (("parsedwaveforms", "otherwaveforms"), UnservableError, "no parsedwaveforms"),
    ],
)
def test_what_is_wrong_is_said(change, kind, says, compressed):
    content = compressed.decode("utf-16").replace(*change).encode("utf-16")
    if change[1] == '"Hex"':
        content = content.decode("utf-16").replace("XLI", "").encode("utf-16")
    with pytest.raises(kind) as refusal:
        only(content)
    assert says in str(refusal.value) and "Miller" not in str(refusal.value)


def test_a_lead_that_unpacks_to_millions_is_refused_early(peak_mb):
    packed = lzw(bytes(3_000_000))
    lead = len(packed).to_bytes(4, "little") + b"\x01\x00\x00\x00" + packed
    with peak_mb(20), pytest.raises(UnreadableError, match="more samples"):
        only(newer(b64(lead * 12)))


def test_mutations_are_read_or_refused(compressed):
    survives(compressed.decode("utf-16").replace("utf-16", "utf-8").encode())
