"""PTB-XL in its official layout (Wagner et al. 2020, doi 10.1038/s41597-020-0495-6, CC BY 4.0)."""

from __future__ import annotations

import ast
import csv
import io
from collections.abc import Iterator
from pathlib import Path

from ecg.formats import File, Hints, read
from ecg.statements import STATEMENTS, atrial_substrate_abnormal
from training.sources.labelled import ABSENT, PRESENT, Archive, Labelled

NAME = "ptb-xl"
LICENCE = "CC BY 4.0"
CITATION = (
    "Wagner et al., PTB-XL, a large publicly available electrocardiography dataset, "
    "Scientific Data 2020, doi 10.1038/s41597-020-0495-6; version 1.0.3, PhysioNet"
)


def load(path: Path) -> Iterator[Labelled]:
    """The 100 Hz records. A statement is present if it is in `scp_codes`, at any likelihood."""
    archive = Archive(path)
    root = archive.root("ptbxl_database.csv")
    table = io.StringIO(archive.read(f"{root}ptbxl_database.csv").decode())
    for row in csv.DictReader(table):
        codes = ast.literal_eval(row["scp_codes"])
        name = row["filename_lr"]
        files = [
            File(archive.read(f"{root}{name}{ending}"), Path(name).name + ending)
            for ending in (".hea", ".dat")
        ]
        yield Labelled(
            record=read(files, Hints())[0],
            name=name,
            patient=row["patient_id"],
            strat_fold=int(row["strat_fold"]),
            atrial=PRESENT if atrial_substrate_abnormal(codes) else ABSENT,
            statements={code: PRESENT if code in codes else ABSENT for code in STATEMENTS},
            age=float(row["age"]) if row["age"] else None,
            sex={"0": "male", "1": "female"}.get(row["sex"].removesuffix(".0")),
        )
