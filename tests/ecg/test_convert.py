"""The converter: all pairs of formats, folders, what it refuses, and what it tells."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from ecg import convert
from ecg.formats import READABLE, WRITERS, File, Hints, hdf5, npz, read, wfdb
from ecg.leads import LEADS
from ecg.record import Record
from tests.conftest import DATA, ROOT, wfdb_files
from tests.service.bodies import as_csv, as_json, as_npz, as_zip

NAME = "00009_lr"
HINTS = Hints("100", None, "mV")
SAYING = ("--fs", "100", "--units", "mV")
TARGETS = [(name, end) for name, writer in WRITERS.items() for end in writer.extensions]


def apple(record):
    """The record's lead I as an Apple Watch writes it."""
    head = "Name,Jane Doe\nSample Rate,100 hertz\n\n\nLead,Lead I\nUnit,µV\n\n"
    return (head + "".join(f"{v:.3f}\n" for v in (record.sig[0] * 1000.0).tolist())).encode()


# File name -> its bytes, of a record; a WFDB header's .dat lies beside it.
SOURCES = {
    "x.json": as_json,
    "x.npz": as_npz,
    "x.csv": as_csv,
    "x.h5": lambda record: hdf5.write([record]),
    "x.zip": lambda record: as_zip(wfdb_files(NAME)),
    "x.hea": lambda record: wfdb_files(NAME)[0].content,
    "apple.csv": apple,
}


@pytest.fixture
def folder(tmp_path, record):
    """A folder of one record in every readable format."""
    inside = tmp_path / "in"
    inside.mkdir()
    for name, write in SOURCES.items():
        (inside / name).write_bytes(write(record))
    shutil.copy(DATA / f"{NAME}.dat", inside)
    return inside


def run(capsys, *arguments):
    """Exit code, the summary, and the lines of complaints and notes."""
    code = convert.main([str(a) for a in arguments])
    said = capsys.readouterr()
    return code, said.out.strip(), said.err.splitlines()


def back(path):
    files = [File(path.read_bytes(), path.name)]
    if path.suffix == ".hea":
        files.append(File(path.with_suffix(".dat").read_bytes(), f"{path.stem}.dat"))
    return read(files, HINTS)


@pytest.mark.parametrize(("name", "end"), TARGETS)
@pytest.mark.parametrize("source", SOURCES)
def test_every_readable_format_becomes_every_writable_one(
    source, name, end, folder, record, tmp_path, capsys
):
    target = tmp_path / f"out{end}"
    code, summary, said = run(capsys, folder / source, target, *SAYING)
    assert (code, summary) == (0, "converted 1 record(s) into 1 file(s); 0 failed")
    assert len(said) == bool(WRITERS[name].loses)
    (got,) = back(target)
    n_leads = 1 if source == "apple.csv" else 12
    assert (got.fs, got.leads) == (100.0, LEADS[:n_leads])
    np.testing.assert_allclose(got.sig, record.sig[:n_leads], atol=1e-7)


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_becomes_a_folder(name, folder, record, tmp_path, capsys):
    (folder / "deeper").mkdir()
    shutil.move(folder / "x.npz", folder / "deeper" / "a b.npz")
    for twin in ("x.json", "x.csv", "x.h5", "x.zip"):  # each would become x
        shutil.move(folder / twin, folder / f"{twin[2:]}.{twin[2:]}")
    out = tmp_path / "out"
    code, summary, said = run(capsys, folder, out, "--to", name, *SAYING)
    assert (code, summary) == (0, "converted 7 record(s) into 7 file(s); 0 failed"), said
    end = WRITERS[name].extensions[0]
    (deeper,) = (out / "deeper").glob(f"*{end}")
    assert deeper.stem == ("a_b" if name == "wfdb" else "a b")
    made = sorted(p for p in out.rglob(f"*{end}"))
    assert len(made) == 7
    for path in made:
        (got,) = back(path)
        np.testing.assert_allclose(got.sig, record.sig[: len(got.leads)], atol=1e-7)


def test_a_zip_of_more_records_than_a_request_may_hold(record, tmp_path, capsys):
    many = [File(as_npz(record), f"{i // 10}/{i}.npz") for i in range(70)]
    (tmp_path / "many.zip").write_bytes(as_zip([*many, *wfdb_files(NAME)]))
    code, summary, _ = run(capsys, tmp_path / "many.zip", tmp_path / "out", "--to", "hdf5")
    assert (code, summary) == (0, "converted 71 record(s) into 71 file(s); 0 failed")
    assert (tmp_path / "out" / "6" / "69.h5").is_file() and (
        tmp_path / "out" / f"{NAME}.h5"
    ).is_file()


def test_a_zip_writes_nowhere_but_below_out(record, tmp_path, capsys):
    hostile = [
        File(as_npz(record), name) for name in ("../../up.npz", "/root.npz", "a/../../b.npz")
    ]
    (tmp_path / "in.zip").write_bytes(as_zip(hostile))
    out = tmp_path / "deep" / "out"
    assert run(capsys, tmp_path / "in.zip", out, "--to", "npz")[0] == 0
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.npz")) == [
        "a/b.npz",
        "root.npz",
        "up.npz",
    ]
    assert len(list(tmp_path.rglob("*.npz"))) == 3


def test_a_header_reads_nothing_outside_its_folder(tmp_path, capsys):
    header, signal = wfdb_files(NAME)
    (tmp_path / "secret.dat").write_bytes(signal.content)
    inside = tmp_path / "in"
    inside.mkdir()
    for path in ("../secret.dat", str(tmp_path / "secret.dat")):
        text = header.content.decode().replace(f"{NAME}.dat", path)
        (inside / "x.hea").write_text(text)
        for source in (inside / "x.hea", inside):
            code, _, said = run(capsys, source, tmp_path / "out.npz")
            assert code == 2 and said[0].startswith("x.hea: ") and len(said) == 1
            assert not (tmp_path / "out.npz").exists()


def test_several_records_in_one_file(record, tmp_path, capsys):
    source = tmp_path / "two.npz"
    source.write_bytes(npz.write([record, Record(-record.sig, record.fs, record.leads)]))
    assert run(capsys, source, tmp_path / "two.h5")[0] == 0
    first, second = back(tmp_path / "two.h5")
    np.testing.assert_array_equal(first.sig, -second.sig)

    code, summary, said = run(capsys, source, tmp_path / "two.csv")
    assert (code, summary) == (2, "") and "IN holds 2 records, and a csv file one" in said[0]
    assert run(capsys, source, tmp_path / "out", "--to", "csv")[0] == 0
    assert [p.name for p in sorted((tmp_path / "out").iterdir())] == ["two-1.csv", "two-2.csv"]


def test_a_folder_becomes_one_file_where_the_records_are_alike(folder, record, tmp_path, capsys):
    (folder / "apple.csv").unlink()
    code, summary, _ = run(capsys, folder, tmp_path / "all.npz", *SAYING)
    assert (code, summary) == (0, "converted 6 record(s) into 1 file(s); 0 failed")
    assert len(back(tmp_path / "all.npz")) == 6


def test_what_fails_is_named_and_does_not_stop_the_others(folder, tmp_path, capsys):
    (folder / "broken.npz").write_bytes(as_npz(back(folder / "x.npz")[0])[:-400])
    (folder / "notes.txt").write_text("Jane Doe, 63 years")
    (folder / "lone.hea").write_bytes(wfdb_files(NAME)[0].content.replace(b"00009", b"00010"))
    code, summary, said = run(capsys, folder, tmp_path / "out", "--to", "npz", *SAYING)
    assert code == 1 and summary.endswith("; 8 failed")
    failures = {line.split(": ")[0]: line for line in said}
    assert "truncated" in failures["broken.npz"]
    assert READABLE in failures["notes.txt"]
    assert "not sent with it" in failures["lone.hea"]
    assert "another file of IN has become x.npz" in failures["x.zip"]
    assert not any("Jane" in line for line in said)


def test_what_lies_beside_a_header_is_no_failure(tmp_path, capsys):
    for ending in (".hea", ".dat"):
        shutil.copy(DATA / f"{NAME}{ending}", tmp_path)
    (tmp_path / f"{NAME}.atr").write_bytes(b"\x01\x70\x00\x00")
    (tmp_path / ".hidden").write_bytes(b"no ECG")
    code, summary, said = run(capsys, tmp_path, tmp_path / "out", "--to", "npz")
    assert (code, summary, said) == (0, "converted 1 record(s) into 1 file(s); 0 failed", [])


def test_what_is_there_is_kept_unless_forced(folder, tmp_path, capsys):
    target = tmp_path / "kept.npz"
    target.write_bytes(b"kept")
    code, _, said = run(capsys, folder / "x.json", target)
    assert (code, said) == (2, ["OUT is there already; --force overwrites it"])
    assert target.read_bytes() == b"kept"
    out = tmp_path / "out"
    out.mkdir()
    (out / "x.dat").write_bytes(b"kept")  # a header's other half counts too
    code, _, said = run(capsys, folder / "x.json", out, "--to", "wfdb")
    assert code == 2 and "--force overwrites it" in said[0]
    assert (out / "x.dat").read_bytes() == b"kept" and not (out / "x.hea").exists()
    assert run(capsys, folder / "x.json", target, "--force")[0] == 0
    assert run(capsys, folder / "x.json", out, "--to", "wfdb", "--force")[0] == 0
    assert back(target)[0].leads == back(out / "x.hea")[0].leads


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nowhere.csv", "out.npz"), "IN cannot be read: No such file"),
        (("x.json", "out.mp3"), "no known format's extension (.mp3): say --to npz|hdf5|"),
        (("x.json", "out"), "OUT is a folder: say --to"),
        (("x.json", "out/"), "OUT is a folder: say --to"),
        (("x.csv", "out.npz"), "x.csv: fs: is missing"),
        (("x.csv", "out.npz", "--fs", "9", "--units", "mV"), "x.csv: fs: must be between"),
        (("empty", "out.npz"), "IN holds no file"),
        (("x.json", "out put.hea"), "a WFDB record's name has letters, digits"),
    ],
)
def test_what_cannot_be_is_one_line_and_2(arguments, says, folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "empty").mkdir()
    code, _, said = run(capsys, *arguments)
    assert code == 2 and len(said) == 1 and says in said[0]
    assert not list(folder.glob("out*"))


def test_what_csv_loses_is_told_with_what_its_reader_needs(folder, tmp_path, capsys):
    _, _, said = run(capsys, folder / "x.npz", tmp_path / "x.csv")
    assert said == ["note: csv keeps neither fs nor units: its reader needs fs=100, units=mV"]


def test_channels_that_are_left_out_are_told(record, tmp_path, capsys):
    files = wfdb.write_files(record, "r")
    header = files["r.hea"].replace(b" V6\n", b" RESP\n")
    (tmp_path / "r.hea").write_bytes(header)
    (tmp_path / "r.dat").write_bytes(files["r.dat"])
    code, _, said = run(capsys, tmp_path / "r.hea", tmp_path / "x.npz")
    assert (code, said) == (0, ["note: r.hea: not among the twelve leads: RESP"])
    assert back(tmp_path / "x.npz")[0].leads == LEADS[:11]


@pytest.mark.parametrize(("name", "end"), TARGETS)
def test_nothing_of_a_patient_is_in_out(name, end, record, tmp_path, capsys):
    body = json.loads(as_json(record))
    (tmp_path / "x.json").write_text(json.dumps({**body, "record_id": "DOE-JANE", "name": "Doe"}))
    assert run(capsys, tmp_path / "x.json", tmp_path / f"out{end}")[0] == 0
    assert b"DOE" not in (tmp_path / f"out{end}").read_bytes()


def test_it_runs_as_a_program(tmp_path):
    command = [sys.executable, "-m", "ecg.convert"]
    done = subprocess.run(
        [*command, DATA / f"{NAME}.hea", tmp_path / "x.npz"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    shown = subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert "nothing of a patient" in " ".join(shown.stdout.split())
