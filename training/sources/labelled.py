"""A record with what is known about it, and the archive it comes from."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ecg.record import Record

PRESENT, ABSENT, UNKNOWN = 1, 0, -1


@dataclass(frozen=True)
class Labelled:
    """`atrial` and `statements` hold PRESENT or ABSENT; what is not named is UNKNOWN.

    Folds 1-8 train, 9 chooses, 10 reports. `patient` groups the records of one person.
    """

    record: Record
    name: str
    patient: str
    strat_fold: int
    atrial: int = UNKNOWN
    statements: Mapping[str, int] = field(default_factory=dict)
    age: float | None = None
    sex: str | None = None


def hashed_fold(name: str) -> int:
    """1 to 10, even and reproducible: 80/10/10 for what has no folds of its own."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % 10 + 1


class Archive:
    """A database's files, in a folder or in its zip as downloaded."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise SystemExit(f"{path} does not exist: give the database's folder or its zip")
        self._zip = zipfile.ZipFile(path) if path.is_file() else None
        self._folder = path
        names = self._zip.namelist() if self._zip else (str(p) for p in path.rglob("*"))
        self._names = list(names)

    def root(self, marker: str) -> str:
        """The folder inside that holds the file `marker`, with a slash, or nothing."""
        found = min((n for n in self._names if Path(n).name == marker), key=len, default=None)
        if found is None:
            raise SystemExit(f"{self._folder} holds no {marker}: is it the right database?")
        return found[: -len(marker)]

    def read(self, name: str) -> bytes:
        return self._zip.read(name) if self._zip else Path(name).read_bytes()
