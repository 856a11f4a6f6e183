"""What a rater's page is told of a presentation: the same of every ECG, but for its picture.

A body is filled up to a whole number of blocks, so that its length says nothing (and proxies are
told not to pack it, since that length would), and leaves after a whole number of beats; nothing of
an ECG's id, source or origin is in it, and a repeat is told as what it repeats was.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import orjson
from starlette.responses import Response

from ecg.draw import Layout, layout, svg_of
from ecg.generated import twelve_leads
from ecg.leads import LEADS
from ecg.record import Record
from service.rating.material import unpacked
from service.rating.plan import in_words
from service.rating.studies import Presentation, Progress, Rater, Study

BLOCK = 2**17  # of a body; a print of ten seconds takes half of it
SMALL_BLOCK = 2**12  # where there is no picture
BEAT_S = 0.025  # of a presentation's answers; looking one up and drawing it takes a third of it


def padded(value: dict[str, Any], block: int, request_id: str) -> Response:
    """JSON that is a multiple of the block long, whatever it says."""
    body = orjson.dumps({**value, "request_id": request_id, "filling": ""})
    body = body[:-2] + b"." * (-len(body) % block) + body[-2:]
    headers = {"X-Request-ID": request_id, "Cache-Control": "no-store, no-transform"}
    return Response(body, headers=headers, media_type="application/json")


def until_due(elapsed_s: float) -> float:
    """How long an answer that was so long in the making waits for the next beat, s."""
    return -elapsed_s % BEAT_S


def shown(study: Study, one: Presentation) -> dict[str, Any]:
    """The presentation with its pictures, which are drawn anew each time: one that is kept would
    come sooner when it is repeated."""
    filtered = _filtered(study.plan["preparation"]["highpass_hz"])
    pages = [_layout(unpacked(sig), study.fs, filtered) for sig in one.sigs]
    return {
        "presentation": one.id,
        "position": one.position,
        "label": {"code": one.label, "words": in_words(one.label)},
        "revision": one.stands.revision,
        "answer": one.stands.answer,
        "prints": [svg_of(page) for page in pages],
        "strips": [{**asdict(strip), "top": strip.top} for strip in pages[0].strips],
    }


def so_far(study: Study, rater: Rater, found: Progress) -> dict[str, Any]:
    """The study as its rater may know it."""
    return {
        "study": study.name,
        "mode": study.mode,
        "rater": rater.name,
        "simulated": rater.simulated,
        "closed": study.closed is not None,
        "total": found.total,
        "answered": found.answered,
        "last": found.last,
    }


def _layout(sig: np.ndarray, fs: float, filtered: str) -> Layout:
    """Of float16 mV [8, n_samples]; nothing says what made it."""
    (twelve,) = twelve_leads(sig.astype(np.float32)[None])
    return layout(Record(twelve, fs, LEADS), filtered=filtered)


def _filtered(highpass_hz: float | None) -> str:
    return "no filter" if highpass_hz is None else f"high-pass {highpass_hz:g} Hz"
