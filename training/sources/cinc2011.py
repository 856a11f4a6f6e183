"""PhysioNet/CinC Challenge 2011, set A, in its official layout (Silva et al. 2011, ODC-BY 1.0)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ecg.formats import File, Hints, read
from ecg.record import Record
from training.sources.labelled import Archive, hashed_fold

NAME = "cinc2011"
LICENCE = "ODC-BY 1.0"
CITATION = (
    "Silva, Moody and Celi, Improving the Quality of ECGs Collected using Mobile Phones: the "
    "PhysioNet/Computing in Cardiology Challenge 2011; set A"
)
LISTS = {"RECORDS-acceptable": True, "RECORDS-unacceptable": False}
TUNING = range(1, 6)  # folds, a hash of the name: the other half is only reported on


@dataclass(frozen=True)
class Judged:
    """A record, and whether experts accepted it."""

    record: Record
    name: str
    acceptable: bool
    tuning: bool


def load(path: Path) -> Iterator[Judged]:
    """Twelve leads, 10 s at 500 Hz; records judged neither way are left out."""
    archive = Archive(path)
    root = archive.root("RECORDS-acceptable")
    for listed, acceptable in LISTS.items():
        for name in archive.read(f"{root}{listed}").decode().split():
            files = [
                File(archive.read(f"{root}{name}{ending}"), name + ending)
                for ending in (".hea", ".dat")
            ]
            record = read(files, Hints())[0]
            yield Judged(record, name, acceptable, hashed_fold(name) in TUNING)
