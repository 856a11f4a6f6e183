"""WFDB as PhysioNet's own library reads it, whatever the header and the stored values are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import wfdb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecg.errors import UnreadableError
from ecg.formats import File, Hints, read
from ecg.formats.wfdb_samples import FORMATS, n_bytes, n_values
from ecg.record import LARGEST_MV
from tests.conftest import DATA, PTB_XL

FS = 50
NAMES = ("I", "PLETH", "II", "V1", "aVF")


@dataclass(frozen=True)
class Made:
    """A record of random values. `gain` and so on are what stands in the header."""

    fmt: str
    n_samples: int
    n_signals: int
    offset: int
    gain: list[str]
    seed: int
    said: bool
    n_files: int
    first: int

    def write(self, folder: Path) -> list[File]:
        rng = np.random.default_rng(self.seed)
        length = f" {self.n_samples}" if self.said else ""
        offset = f"+{self.offset}" if self.offset else ""
        lines = [f"rec {self.n_signals} {FS}{length}"]
        for k, inside in enumerate(np.array_split(np.arange(self.n_signals), self.n_files)):
            for i in inside:
                lines.append(
                    f"{k}.dat {self.fmt}{offset} {self.gain[i]} 16 0 {self.first} 0 0 {NAMES[i]}"
                )
            content = rng.bytes(self.offset + n_bytes(self.fmt, self.n_samples * len(inside)))
            (folder / f"{k}.dat").write_bytes(self.as_stored(content))
        (folder / "rec.hea").write_text("\n".join(lines) + "\n")
        return [File(path.read_bytes(), path.name) for path in sorted(folder.iterdir())]

    def as_stored(self, content: bytes) -> bytes:
        """311 leaves two bits of four bytes unused; the library takes one of them for a value's."""
        if self.fmt != "311":
            return content
        used = np.frombuffer(content, np.uint8).copy()
        used[self.offset + 3 :: 4] &= 0x3F
        return used.tobytes()


made = st.builds(
    Made,
    fmt=st.sampled_from(FORMATS),
    n_samples=st.integers(5 * FS, 5 * FS + 12),
    n_signals=st.integers(1, len(NAMES)),
    offset=st.sampled_from([0, 1, 24, 512]),
    gain=st.lists(
        st.sampled_from(["200", "1000.0(0)/mV", "12.5(-77)/uV", "0", "1e2(3)/mV", "4(1000)/nV"]),
        min_size=len(NAMES),
        max_size=len(NAMES),
    ),
    seed=st.integers(0, 2**32),
    said=st.booleans(),
    n_files=st.integers(1, 2),
    first=st.integers(-500, 500),
)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(made=made)
def test_every_format_gives_what_the_library_reads(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    made = (
        made if made.n_files <= made.n_signals else made.__class__(**{**vars(made), "n_files": 1})
    )
    files = made.write(folder)
    (record,) = read(files, Hints())
    theirs = wfdb.rdrecord(str(folder / "rec"))
    assert record.n_samples == theirs.sig_len
    assert record.fs == theirs.fs
    rows = [i for i, name in enumerate(theirs.sig_name) if name in record.leads]
    factors = {"mV": 1.0, "uV": 1e-3, "nV": 1e-6}
    millivolts = theirs.p_signal.T[rows] * [[factors[theirs.units[i]]] for i in rows]
    millivolts[~(np.abs(millivolts) < LARGEST_MV)] = np.nan
    np.testing.assert_array_equal(record.sig, millivolts.astype(np.float32))


def in_parts(tmp_path: Path, header: str, content: bytes) -> list[File]:
    (tmp_path / "rec.hea").write_text(header)
    (tmp_path / "rec.dat").write_bytes(content)
    return [File(header.encode(), "rec.hea"), File(content, "rec.dat")]


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_shifted_signal_comes_to_its_place(fmt, tmp_path, rng):
    """The library reads it where the file has it, and fails where it should shift it."""
    content = rng.integers(1, 63, n_bytes(fmt, 900), dtype=np.uint8).tobytes()
    lines = [f"rec.dat {fmt}{shift} 200/mV 16 0 0 0 0 " for shift in ("", ":7", ":2")]
    header = "\n".join([f"rec 3 {FS} 300", lines[0] + "I", lines[1] + "II", lines[2] + "V1"])
    (record,) = read(in_parts(tmp_path, header, content), Hints())
    theirs = wfdb.rdrecord(str(tmp_path / "rec"), ignore_skew=True).p_signal.T
    for row, there, shift in zip(record.sig, theirs.astype(np.float32), (0, 7, 2), strict=True):
        np.testing.assert_array_equal(row[: 300 - shift], there[shift:])
        assert np.isnan(row[300 - shift :]).all()


@pytest.mark.parametrize("fmt", ["16", "212", "8"])
def test_of_several_samples_a_frame_their_mean_is_taken(fmt, tmp_path, rng):
    """The library rounds it to a whole unit."""
    content = rng.integers(1, 40, n_bytes(fmt, 4 * 300), dtype=np.uint8).tobytes()
    header = f"rec 2 {FS} 300\nrec.dat {fmt}x3 200 0 I\nrec.dat {fmt} 200 0 II"
    (record,) = read(in_parts(tmp_path, header, content), Hints())
    theirs = wfdb.rdrecord(str(tmp_path / "rec"), smooth_frames=False).e_p_signal
    np.testing.assert_allclose(record.sig[0], theirs[0].reshape(-1, 3).mean(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(record.sig[1], theirs[1].astype(np.float32))


def test_a_frame_with_a_missing_sample_is_missing(tmp_path):
    values = np.arange(600, dtype="<i2")
    values[101] = -(2**15)
    header = f"rec 1 {FS} 300\nrec.dat 16x2 200/mV 16 0 0 0 0 I"
    (record,) = read(in_parts(tmp_path, header, values.tobytes()), Hints())
    assert np.flatnonzero(np.isnan(record.sig[0])).tolist() == [50]


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_file_that_is_a_byte_short_is_refused(fmt, tmp_path):
    for n_samples in range(300, 306):
        content = bytes(n_bytes(fmt, n_samples) - 1)
        header = f"rec 1 {FS} {n_samples}\nrec.dat {fmt} 200/mV 16 0 0 0 0 I"
        with pytest.raises(UnreadableError, match="too short"):
            read(in_parts(tmp_path, header, content), Hints())
        assert n_values(fmt, n_bytes(fmt, n_samples)) >= n_samples


@pytest.mark.parametrize(
    "name", [*(path.removesuffix(".hea") for path in (f"{n}.hea" for n in PTB_XL)), "A00004"]
)
def test_real_records_are_what_the_library_reads(name):
    theirs = wfdb.rdrecord(str(DATA / name))
    files = [File(path.read_bytes(), path.name) for path in DATA.glob(f"{name}.*")]
    (record,) = read(files, Hints())
    np.testing.assert_array_equal(record.sig, theirs.p_signal.T.astype(np.float32))
    assert record.fs == theirs.fs
