"""The same record as each kind of body."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import numpy as np

from ecg.formats import File
from ecg.record import Record

UNITS = {"mV": 1.0, "uV": 1000.0}


def as_json(record: Record, units: str = "mV", **more: Any) -> bytes:
    return json.dumps(
        {
            "sig": (record.sig.astype(float) * UNITS[units]).tolist(),
            "fs": record.fs,
            "leads": record.leads,
            "units": units,
            **more,
        }
    ).encode()


def as_npz(record: Record, units: str = "mV", dtype: str = "float32") -> bytes:
    return npz(
        sig=(record.sig.astype(float) * UNITS[units])
        .round(0 if "int" in dtype else 9)
        .astype(dtype),
        fs=record.fs,
        leads=np.array(record.leads),
        units=units,
    )


def npz(**arrays: Any) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def as_csv(record: Record, units: str = "mV") -> bytes:
    out = io.StringIO()
    sig = record.sig.T.astype(float) * UNITS[units]
    np.savetxt(out, sig, delimiter=",", header=",".join(record.leads), comments="", fmt="%.8g")
    return out.getvalue().encode()


def as_zip(files: list[File]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.writestr(file.name, file.content)
    return out.getvalue()


def as_parts(files: list[File]) -> list[tuple[str, tuple[str, bytes]]]:
    """For httpx's `files=`."""
    return [("file", (file.name, file.content)) for file in files]
