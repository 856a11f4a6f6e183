"""ECG files of any readable format into any writable one: python -m ecg.convert IN OUT.

Nothing of a patient is in OUT: samples, fs and leads, and, where a format has a place for it, that
a model made them. A file of OUT in a folder is named as the file of IN that it comes from.
"""

from __future__ import annotations

import argparse
import posixpath
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ecg.errors import EcgError, UnknownFormatError, UnservableError
from ecg.formats import READABLE, WRITERS, File, Hints, npz, read, wfdb
from ecg.formats.source import unpack
from ecg.limits import Limits
from ecg.record import Meta, Record

LIMITS_HERE = Limits(max_unpacked=4 * 1024**3)  # a day of twelve leads
FORMAT_OF = {end: name for name, writer in WRITERS.items() for end in writer.extensions}
OTHER_THAN_WFDB = re.compile(r"[^A-Za-z0-9_-]")  # what a record's name may not hold


class Refusal(Exception):
    """Nothing can be converted so: what is wrong, in a line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all converted; 1: some files were not, each named; 2: nothing could be tried."""
    asked = _parser().parse_args(arguments)
    try:
        return _convert(asked)
    except Refusal as refusal:
        _say(f"{refusal}")
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ecg.convert",
        description=(
            f"Converts ECG files. Readable: {READABLE}. Writable: {', '.join(WRITERS)}. "
            "OUT holds samples, fs and leads, and nothing of a patient: no name, id, date or note. "
            "In a folder, its files are named as those of IN: see that these names tell nothing."
        ),
        epilog=(
            "Exit code: 0 all converted, 1 some files were not (each is named), "
            "2 nothing could be converted (one line says why)."
        ),
    )
    parser.add_argument("source", metavar="IN", type=Path, help="a file, a folder or a zip")
    parser.add_argument(
        "target",
        metavar="OUT",
        help=f"a file, whose extension is the format's ({', '.join(FORMAT_OF)}), or a folder, "
        "with --to",
    )
    parser.add_argument("--to", choices=WRITERS, help="OUT's format, whatever its extension")
    parser.add_argument("--fs", help="Hz, where a file does not say it")
    parser.add_argument("--leads", help="such as I,II,V1, where a file does not name them")
    parser.add_argument("--units", help="mV or uV, where a file does not say it")
    parser.add_argument("--force", action="store_true", help="overwrite files that are there")
    return parser


def _convert(asked: argparse.Namespace) -> int:
    target = Path(asked.target)
    into_folder = target.is_dir() or asked.target.endswith("/") or not target.suffix
    suffix = "" if into_folder else target.suffix.lower()
    name = asked.to or FORMAT_OF.get(suffix)
    if name is None:
        kind = "is a folder" if into_folder else f"has no known format's extension ({suffix})"
        raise Refusal(f"OUT {kind}: say --to {'|'.join(WRITERS)}")
    leads = tuple(asked.leads.split(",")) if asked.leads else None
    try:
        sources = _sources(asked.source)
    except (OSError, EcgError) as error:
        raise Refusal(f"IN cannot be read: {_why(error)}") from None
    if not sources:
        raise Refusal("IN holds no file")
    batch = _Batch(name, Hints(asked.fs, leads, asked.units, LIMITS_HERE), asked.force)
    if into_folder:
        batch.into_folder(sources, target)
    else:
        batch.into_file(sources, target)
    return batch.end(alone=len(sources) == 1)


@dataclass(frozen=True)
class _Source:
    """What one or several records are read from. `beside_header`: it has a WFDB header's name, but
    is no signal file: annotations, which are no failure."""

    name: str
    load: Callable[[], list[File]]
    beside_header: bool = False


def _sources(path: Path) -> list[_Source]:
    """Of a file, a folder or a zip, in the order of their names. Errors: OSError, EcgError."""
    if path.is_dir():
        inside = (p for p in sorted(path.rglob("*")) if p.is_file())
        names = [p.relative_to(path).as_posix() for p in inside]
        return _grouped(
            [n for n in names if "/." not in f"/{n}"], lambda n: (path / n).read_bytes()
        )
    content = path.read_bytes()
    file = File(content, path.name)
    if content.startswith(b"PK\x03\x04") and not npz.matches(file):
        members = {member.name: member.content for member in unpack(file, LIMITS_HERE)}
        return _grouped(sorted(members), members.__getitem__)
    if wfdb.claims(file):
        return [_Source(path.name, lambda: _record_files(file, lambda n: _beside(path, n)))]
    return [_Source(path.name, lambda: [file])]


def _grouped(names: Sequence[str], load: Callable[[str], bytes]) -> list[_Source]:
    """Each WFDB header with its signal files; any other file by itself."""
    headers = {n: File(load(n), n) for n in names if n.lower().endswith(".hea")}
    parts = {part for header in headers.values() for part in wfdb.signal_names(header)}
    stems = {posixpath.splitext(n)[0] for n in headers}
    sources = []

    def inside(name: str) -> bytes:
        if name not in names:
            raise FileNotFoundError
        return load(name)

    for name in names:
        if name in headers:
            sources.append(_Source(name, lambda h=headers[name]: _record_files(h, inside)))
        elif name not in parts:
            known = posixpath.splitext(name)[0] in stems
            sources.append(_Source(name, lambda n=name: [File(load(n), n)], known))
    return sources


def _record_files(header: File, load: Callable[[str], bytes]) -> list[File]:
    """A header and those of its signal files that are there."""
    parts = []
    for name in sorted(wfdb.signal_names(header)):
        try:
            parts.append(File(load(name), name))
        except (OSError, KeyError, ValueError):  # the reader says that it was not sent
            continue
    return [header, *parts]


def _beside(header: Path, name: str) -> bytes:
    """A file in the header's folder: a header may name none elsewhere. Errors: OSError."""
    if "/" in name or "\\" in name:
        raise FileNotFoundError
    return (header.parent / name).read_bytes()


@dataclass
class _Batch:
    """Sources into files of one format; what failed is named and does not stop the others."""

    format_name: str
    hints: Hints
    force: bool
    n_records: int = 0
    written: set[Path] = field(default_factory=set)
    failed: int = 0
    lost: set[float] = field(default_factory=set)  # fs that the format does not keep

    def into_folder(self, sources: Sequence[_Source], folder: Path) -> None:
        """Each source into one file, or into several, numbered, of a format that holds one each."""
        writer = WRITERS[self.format_name]
        for source in sources:
            records = self._read(source)
            groups = [records] if writer.several and _alike(records) else [[r] for r in records]
            for i, group in enumerate(groups):
                number = f"-{i + 1}" if len(groups) > 1 else ""
                self._try(source.name, self._target(folder, source.name, number), group)

    def into_file(self, sources: Sequence[_Source], target: Path) -> None:
        """All sources' records into one file. Errors: Refusal, and nothing is written."""
        if target.exists() and not self.force:
            raise Refusal("OUT is there already; --force overwrites it")
        records = [record for source in sources for record in self._read(source)]
        if not records:
            return
        if len(records) > 1 and not WRITERS[self.format_name].several:
            raise Refusal(
                f"IN holds {len(records)} records, and a {self.format_name} file one: "
                f"let OUT be a folder, with --to {self.format_name}"
            )
        self._try(target.name, target, records)

    def end(self, alone: bool) -> int:
        """The exit code, after a word on what is lost and a summary."""
        loses = WRITERS[self.format_name].loses
        for fs in sorted(self.lost):
            _say(f"note: {self.format_name} keeps {loses}: its reader needs fs={fs:.12g}, units=mV")
        done = f"{self.n_records} record(s) into {len(self.written)} file(s)"
        print(f"converted {done}; {self.failed} failed")
        if not self.failed:
            return 0
        return 2 if alone else 1

    def _read(self, source: _Source) -> list[Record]:
        try:
            records = read(source.load(), self.hints)
        except UnknownFormatError as error:
            if not source.beside_header:
                self._fail(source.name, error)
            return []
        except (OSError, EcgError) as error:
            self._fail(source.name, error)
            return []
        for channels in {r.meta.ignored_channels for r in records if r.meta.ignored_channels}:
            _say(f"note: {source.name}: not among the twelve leads: {', '.join(channels)}")
        return records

    def _target(self, folder: Path, name: str, number: str) -> Path:
        """Where a source's file goes: nowhere but below the folder, whatever its name."""
        *above, last = (part for part in name.split("/") if part not in ("", ".", ".."))
        stem = posixpath.splitext(last)[0] + number
        extension = WRITERS[self.format_name].extensions[0]
        if extension == ".hea":
            stem = OTHER_THAN_WFDB.sub("_", stem)
        return folder.joinpath(*above, stem + extension)

    def _try(self, name: str, target: Path, records: list[Record]) -> None:
        try:
            self._write(target, [_without_patient(record) for record in records])
        except (OSError, EcgError) as error:
            self._fail(name, error)
            return
        self.n_records += len(records)
        self.written.add(target)
        if WRITERS[self.format_name].loses:
            self.lost |= {record.fs for record in records}

    def _write(self, target: Path, records: list[Record]) -> None:
        writer = WRITERS[self.format_name]
        if self.format_name == "wfdb" and target.suffix.lower() == ".hea":
            if OTHER_THAN_WFDB.search(target.stem):
                raise UnservableError("a WFDB record's name has letters, digits, - and _ alone")
            named = wfdb.write_files(records[0], target.stem)
            contents = {target.with_name(file): content for file, content in named.items()}
        else:
            contents = {target: writer.write(records if writer.several else records[0])}
        if target in self.written:
            raise FileExistsError(None, f"another file of IN has become {target.name} already")
        if not self.force and any(path.exists() for path in contents):
            raise FileExistsError(None, f"{target.name} is there already; --force overwrites it")
        target.parent.mkdir(parents=True, exist_ok=True)
        for path, content in contents.items():
            path.write_bytes(content)

    def _fail(self, name: str, error: OSError | EcgError) -> None:
        self.failed += 1
        _say(f"{name}: {_why(error)}")


def _alike(records: Sequence[Record]) -> bool:
    return len({(r.n_samples, r.fs, r.leads) for r in records}) == 1


def _without_patient(record: Record) -> Record:
    return replace(record, meta=Meta(synthetic=record.meta.synthetic))


def _why(error: OSError | EcgError) -> str:
    if isinstance(error, OSError):
        return error.strerror or "it cannot be used"
    # The line begins with the file's name: its place in the list that was read says no more.
    where = error.where.removeprefix("files[0]").removeprefix(".")
    return str(type(error)(error.problem, where))


def _say(line: str) -> None:
    """On one line, whatever a file's name holds."""
    print("".join(c if c.isprintable() else "?" for c in line), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
