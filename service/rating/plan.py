"""What a study is to be: which ECGs of which labels from where, in which mode, on which seed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from ecg.labels import Labels
from ecg.statements import ATRIAL_STATEMENTS, STATEMENTS

REAL = "real"
SUBSTRATES = ("normal", "abnormal")
MOST = 2000  # ECGs a study
Mode = Literal["single", "pairs"]
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}")


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be printable characters")
    return text


Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]


class Plan(BaseModel):
    """As the owner says it. `labels`: label -> weight; each source gives the labels in the same
    shares, so that a label says nothing of the source. `generated`: generator -> how many."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Name
    mode: Mode = "single"
    labels: Annotated[dict[str, Annotated[int, Field(ge=1, le=1000)]], Field(min_length=1)]
    generated: dict[str, Annotated[int, Field(ge=1, le=MOST)]] = {}
    real: Annotated[int, Field(ge=0, le=MOST)] = 0
    repeats: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    seed: Annotated[int, Field(ge=0, lt=2**53)]

    @model_validator(mode="after")
    def _makes_sense(self) -> Plan:
        for label in self.labels:
            labels_of(label)
        for name in self.generated:
            if not _FOLDER.fullmatch(name):
                raise ValueError("generated must name folders of the models store")
        if not 2 <= self.n <= MOST:
            raise ValueError(f"a study has 2 to {MOST} ECGs: say how many are real and generated")
        return self

    @property
    def n(self) -> int:
        return self.real + sum(self.generated.values())


def labels_of(label: str) -> Labels:
    """What `AFIB`, `SR+LVH`, `normal` or `abnormal` asks of an ECG. Errors: ValueError."""
    if label in SUBSTRATES:
        return Labels(atrial_substrate=label)
    codes = tuple(label.split("+"))
    if unknown := [code for code in codes if code not in STATEMENTS]:
        raise ValueError(f"label {unknown[0]!r}: neither normal, abnormal nor a SCP statement")
    if len(set(codes)) < len(codes):
        raise ValueError(f"label {label!r}: names a statement twice")
    substrate = "abnormal" if set(codes) & set(ATRIAL_STATEMENTS) else None
    return Labels(atrial_substrate=substrate, statements=codes)


def in_words(label: str) -> str:
    """As a rater reads it."""
    if label in SUBSTRATES:
        return f"atrial substrate {label}"
    return ", ".join(f"{STATEMENTS[code].description} ({code})" for code in label.split("+"))


def parsed(text: str) -> dict[str, int]:
    """`NORM:2,AFIB` as {"NORM": 2, "AFIB": 1}. Errors: ValueError."""
    found: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, colon, n = part.rpartition(":") if ":" in part else (part, "", "1")
        if not name or not n.isdecimal() or name in found:
            raise ValueError(f"{part!r}: say NAME or NAME:NUMBER, each name once")
        found[name] = int(n)
    return found


def shares(labels: Mapping[str, int], n: int) -> dict[str, int]:
    """How many of n have each label: by weight, what is left over to the largest remainders."""
    weights = np.array(list(labels.values()), dtype=np.float64)
    exact = n * weights / weights.sum()
    each = np.floor(exact).astype(int)
    for i in np.argsort(each - exact, kind="stable")[: n - each.sum()]:
        each[i] += 1
    return dict(zip(labels, each.tolist(), strict=True))


def has(label: str, present: Sequence[str], substrate: str | None) -> bool:
    """Whether an ECG with these statements and this substrate shows the label."""
    if label in SUBSTRATES:
        return substrate == label
    return set(label.split("+")) <= set(present)
