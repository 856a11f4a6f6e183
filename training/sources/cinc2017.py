"""PhysioNet/CinC Challenge 2017 in its official layout (Clifford et al. 2017, ODC-BY 1.0)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ecg.formats import File, Hints, read
from ecg.record import Record
from training.sources.labelled import ABSENT, PRESENT, Archive, Labelled, hashed_fold

NAME = "cinc2017"
LICENCE = "ODC-BY 1.0"
CITATION = (
    "Clifford et al., AF Classification from a Short Single Lead ECG Recording: the "
    "PhysioNet/Computing in Cardiology Challenge 2017, doi 10.22489/CinC.2017.065-469"
)


def load_all(path: Path) -> Iterator[tuple[Record, str, str]]:
    """Every record with its name and its class: N, A, O or ~ (too noisy to say)."""
    archive = Archive(path)
    root = archive.root("REFERENCE.csv")
    for line in archive.read(f"{root}REFERENCE.csv").decode().split():
        name, label = line.split(",")
        files = [
            File(archive.read(f"{root}{name}{ending}"), name + ending)
            for ending in (".hea", ".mat")
        ]
        yield read(files, Hints())[0], name, label


def load(path: Path) -> Iterator[Labelled]:
    """One hand-held lead, about lead I. A = AFIB present and the substrate abnormal; N and O = AFIB
    absent, substrate unknown; ~ says only that the quality is bad and is left out.

    There are no patient ids: the fold is a hash of the record's name.
    """
    for record, name, label in load_all(path):
        if label == "~":
            continue
        fibrillates = label == "A"
        labels = {"AFIB": PRESENT if fibrillates else ABSENT}
        yield Labelled(
            record=record,
            name=name,
            patient=name,
            strat_fold=hashed_fold(name),
            statements=labels,
            **({"atrial": PRESENT} if fibrillates else {}),
        )
