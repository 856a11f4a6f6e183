"""Request bodies of real ECGs: the page's twelve-lead examples from PTB-XL (CC BY 4.0)."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecg.formats import File, Hints, read
from ecg.leads import LEADS
from ecg.record import Record

EXAMPLES = Path(__file__).resolve().parent.parent / "service" / "pages" / "examples"
NPZ, JSON = {"Content-Type": "application/x-npz"}, {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Body:
    """What is posted, and where to."""

    name: str
    path: str
    content: bytes
    headers: Mapping[str, str]
    segments: int  # that the answer is worth: of ECGs classified, or of ECGs generated


def records() -> list[Record]:
    """Twelve leads, 10 s, 100 Hz, each."""
    index = json.loads((EXAMPLES / "index.json").read_text())
    files = [File((EXAMPLES / e["file"]).read_bytes(), e["file"]) for e in index["examples"]]
    read_ = [read([f], Hints("100", None, "mV"))[0] for f in files]
    return [r for r in read_ if r.leads == LEADS and r.n_samples == 1000]


def npz(sig: np.ndarray) -> bytes:
    """`sig` [lead, time] or [n, lead, time] as clients send it: float32, not compressed."""
    out = io.BytesIO()
    sig = np.asarray(sig, np.float32)
    np.savez(out, sig=sig, fs=100.0, leads=np.array(LEADS), units="mV")
    return out.getvalue()


def one_npz(record: Record) -> Body:
    return Body("one segment, NPZ", "/classify", npz(record.sig), NPZ, 1)


def one_json(record: Record) -> Body:
    said = {
        "sig": record.sig.astype(float).round(3).tolist(),
        "fs": 100,
        "leads": LEADS,
        "units": "mV",
    }
    return Body("one segment, JSON", "/classify", json.dumps(said).encode(), JSON, 1)


def many_npz(some: Sequence[Record], n: int = 32) -> Body:
    sig = np.stack([some[i % len(some)].sig for i in range(n)])
    return Body(f"{n} records, NPZ", "/classify", npz(sig), NPZ, n)


def synthesize(n: int) -> Body:
    content = json.dumps({"n": n, "atrial_substrate": "abnormal"}).encode()
    return Body(f"synthesize, n = {n}", "/synthesize", content, JSON, n)


def malformed() -> Body:
    """An archive cut off in the middle, as a broken upload leaves it."""
    whole = one_npz(records()[0]).content
    return Body("malformed", "/classify", whole[: len(whole) // 2], NPZ, 0)
