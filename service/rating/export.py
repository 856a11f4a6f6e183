"""A closed study as tables and arrays: all that its report is computed from, and its ECGs.

A folder of `study.npz`, which holds everything, and for the eye `ecgs.csv`, `presentations.csv` and
`answers.csv`. What is read back is what was written, so a report needs no database.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from ecg.generated import twelve_leads
from ecg.leads import LEADS
from service.rating.material import unpacked
from service.rating.studies import Study, raters_of
from service.rating.tables import ANSWERS, ITEMS, PRESENTATIONS, RATERS, utc

FORMAT = 1
NPZ, CSVS = "study.npz", ("ecgs", "raters", "presentations", "answers")


@dataclass(frozen=True)
class EcgRow:
    """`number` is its place in `sig`; `origin` is JSON."""

    id: str
    number: int
    source: str
    label: str
    origin: str


@dataclass(frozen=True)
class RaterRow:
    """By a random id, without a name."""

    id: str
    number: int
    simulated: bool


@dataclass(frozen=True)
class PresentationRow:
    """`ecg` was shown, in a pair on the left of `other`; `repeat_of` an earlier one."""

    id: str
    rater: str
    position: int
    ecg: str
    other: str
    repeat_of: str


@dataclass(frozen=True)
class AnswerRow:
    """A revision; `given` is JSON, `created` when it was kept, in UTC."""

    id: str
    presentation: str
    revision: int
    based_on: int
    undone: bool
    given: str
    created: str


@dataclass(frozen=True)
class Export:
    """sig: float16 mV [n, 8, n_samples], the ECGs in the order of their numbers."""

    study: dict[str, Any]
    ecgs: list[EcgRow]
    raters: list[RaterRow]
    presentations: list[PresentationRow]
    answers: list[AnswerRow]
    sig: np.ndarray


def of(engine: sa.Engine, study: Study) -> Export:
    """Errors: ValueError where the study is open: what its ECGs are is not told yet."""
    if study.closed is None:
        raise ValueError("the study is still open")
    mine = sa.select(RATERS.c.id).where(RATERS.c.study == study.id)
    shown = sa.select(PRESENTATIONS).where(PRESENTATIONS.c.rater.in_(mine))
    said = sa.select(ANSWERS).join(PRESENTATIONS).where(PRESENTATIONS.c.rater.in_(mine))
    items = sa.select(ITEMS).where(ITEMS.c.study == study.id).order_by(ITEMS.c.number)
    with engine.connect() as connection:
        ecgs = connection.execute(items).all()
        presentations = connection.execute(
            shown.order_by(PRESENTATIONS.c.rater, PRESENTATIONS.c.position)
        ).all()
        answers = connection.execute(
            said.order_by(ANSWERS.c.presentation, ANSWERS.c.revision)
        ).all()
    told = {**asdict(study), "created": _text(study.created), "closed": _text(study.closed)}
    return Export(
        {"format": FORMAT, **told},
        [EcgRow(e.id, e.number, e.source, e.label, e.origin) for e in ecgs],
        [RaterRow(r.id, r.number, r.simulated) for r in raters_of(engine, study.id)],
        [
            PresentationRow(p.id, p.rater, p.position, p.item, p.other or "", p.repeat_of or "")
            for p in presentations
        ],
        [
            AnswerRow(
                a.id, a.presentation, a.revision, a.based_on, a.undone, a.given, _text(a.created)
            )
            for a in answers
        ],
        np.stack([unpacked(e.sig) for e in ecgs]),
    )


def files(found: Export) -> dict[str, bytes]:
    """File name -> content."""
    tables = _tables(found)
    arrays: dict[str, np.ndarray] = {
        "study": np.array(json.dumps(found.study)),
        "sig": found.sig,
        "data": twelve_leads(found.sig.astype(np.float32)).transpose(0, 2, 1),
        "fs": np.array(found.study["fs"], dtype=np.float64),
        "leads": np.array(LEADS),
        "units": np.array("mV"),
    }
    for name, (kind, rows) in tables.items():
        for field in fields(kind):
            values = [getattr(row, field.name) for row in rows]
            arrays[f"{name}.{field.name}"] = np.array(values, dtype=_DTYPES[str(field.type)])
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)  # pyright: ignore[reportArgumentType]
    written = {NPZ: out.getvalue()}
    for name, (kind, rows) in tables.items():
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        names = [field.name for field in fields(kind)]
        writer.writerow(names)
        writer.writerows([cell(getattr(row, name)) for name in names] for row in rows)
        written[f"{name}.csv"] = text.getvalue().encode()
    return written


def zipped(found: Export) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files(found).items():
            archive.writestr(name, content)
    return out.getvalue()


def write(found: Export, folder: Path) -> None:
    """Errors: FileExistsError."""
    folder.mkdir(parents=True)
    for name, content in files(found).items():
        (folder / name).write_bytes(content)


def read(path: Path) -> Export:
    """Of a folder, or of its NPZ. Errors: ValueError that says what is wrong."""
    file = path / NPZ if path.is_dir() else path
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as f:
            arrays = {name: f[name] for name in f.files if name != "data"}
        study = json.loads(str(arrays["study"]))
        if study["format"] == FORMAT:
            tables = [_rows(kind, name, arrays) for name, kind in _KINDS.items()]
            return Export(study, *tables, sig=arrays["sig"])  # type: ignore[arg-type]
    except Exception as error:  # numpy and zipfile leak many kinds
        kind = type(error).__name__
        raise ValueError(
            f"{file} is no export ({kind}): name the folder of `python -m service.studies export`"
        ) from None
    raise ValueError(f"{file} is of format {study['format']}, and {FORMAT} is read here")


_KINDS: dict[str, type] = dict(
    zip(CSVS, (EcgRow, RaterRow, PresentationRow, AnswerRow), strict=True)
)
_DTYPES: dict[str, type] = {"str": np.str_, "int": np.int64, "bool": np.bool_}


def _tables(found: Export) -> dict[str, tuple[type, Sequence[Any]]]:
    return {name: (kind, getattr(found, name)) for name, kind in _KINDS.items()}


def _rows(kind: type, name: str, arrays: dict[str, np.ndarray]) -> list[Any]:
    columns = [arrays[f"{name}.{field.name}"].tolist() for field in fields(kind)]
    return [kind(*values) for values in zip(*columns, strict=True)]


def cell(value: Any) -> Any:
    """A spreadsheet takes a text that begins so for a formula."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@"):
        return f"'{value}"
    return value


def _text(time: Any) -> str:
    known = utc(time)
    return known.isoformat(timespec="microseconds") if known else ""
