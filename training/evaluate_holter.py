"""python -m training.evaluate_holter: AF burden and episodes of built recordings, by a service.

Recordings of an hour are put together from a fold's: stretches of half a minute to ten minutes, in
turns without and with atrial fibrillation, each one person's few seconds over and over. So the
times are known; but they are no Holter recordings: nobody moves, no rhythm begins by itself, and a
person whom the model misses is missed for a whole stretch. What is judged is what a client gets.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from training.sources import cinc2017, ptbxl
from training.sources.labelled import PRESENT, Labelled

LENGTHS_S = (30, 60, 120, 300, 600)  # of a stretch
LEADS = {cinc2017.NAME: ("I",), ptbxl.NAME: ("I", "II", "V1")}
FS = {cinc2017.NAME: 300.0, ptbxl.NAME: 100.0}
FOUND = 0.5  # of an episode's time must be in reported ones


@dataclass(frozen=True)
class Built:
    """`sig` mV [lead, time]; episodes: when it is atrial fibrillation, (start_s, end_s)."""

    sig: np.ndarray
    fs: float
    leads: tuple[str, ...]
    episodes: tuple[tuple[float, float], ...]

    @property
    def duration_s(self) -> float:
        return self.sig.shape[1] / self.fs


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.evaluate_holter", description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:3000")
    parser.add_argument("--ptb-xl", type=Path)
    parser.add_argument("--cinc2017", type=Path)
    parser.add_argument("--fold", type=int, default=10)
    parser.add_argument("--recordings", type=int, default=20, help="with AF, and as many without")
    parser.add_argument("--minutes", type=float, default=60.0, help="of each")
    parser.add_argument("--out", type=Path, help="JSON of the figures")
    args = parser.parse_args()
    figures = []
    with httpx.Client(base_url=args.url, timeout=300) as client:
        for source, path in ((cinc2017, args.cinc2017), (ptbxl, args.ptb_xl)):
            if path is None:
                continue
            items = [item for item in source.load(path) if item.strat_fold == args.fold]
            rng = np.random.default_rng(args.fold)
            for with_af in (True, False):
                built = [
                    build(items, source.NAME, 60 * args.minutes, with_af, rng)
                    for _ in range(args.recordings)
                ]
                judged = judge(built, [ask(client, one) for one in built])
                figures.append(
                    {"data": f"{source.NAME} fold {args.fold}", "with_af": with_af, **judged}
                )
                print(json.dumps(figures[-1]), flush=True)
    if args.out:
        args.out.write_text(json.dumps(figures, indent=1) + "\n")


def build(
    items: Sequence[Labelled], name: str, duration_s: float, with_af: bool, rng: np.random.Generator
) -> Built:
    """A recording of stretches in turns, the first without atrial fibrillation."""
    leads, fs = LEADS[name], FS[name]
    fibrillating = [item for item in items if item.statements["AFIB"] == PRESENT]
    others = [item for item in items if item.statements["AFIB"] != PRESENT]
    pieces: list[np.ndarray] = []
    episodes = []
    at = 0.0
    while at < duration_s:
        af = with_af and len(pieces) % 2 == 1
        chosen = (fibrillating if af else others)[rng.integers(len(fibrillating if af else others))]
        length = float(min(rng.choice(LENGTHS_S), duration_s - at))
        record = chosen.record
        sig = record.sig[[record.leads.index(lead) for lead in leads]]
        n = round(length * fs)
        pieces.append(np.tile(sig, -(-n // sig.shape[1]))[:, :n])
        if af:
            episodes.append((at, at + length))
        at += length
    return Built(np.concatenate(pieces, axis=1), fs, leads, tuple(episodes))


def ask(client: httpx.Client, built: Built) -> dict:
    """The burden that the service answers."""
    body = io.BytesIO()
    microvolts = np.rint(1000 * np.nan_to_num(built.sig)).astype("<i2")
    np.savez(body, sig=microvolts, fs=built.fs, leads=np.array(built.leads), units="uV")
    answer = client.post("/classify", content=body.getvalue())
    result = answer.raise_for_status().json()["results"][0]
    return result["af_burden"]


def judge(built: Sequence[Built], answered: Sequence[dict]) -> dict:
    """Errors of the burden in points of a hundred, and episodes found and made up."""
    shares = [sum(end - start for start, end in one.episodes) / one.duration_s for one in built]
    error = np.array(
        [100 * ((a["share"] or 0.0) - share) for a, share in zip(answered, shares, strict=True)]
    )
    known: list[tuple[float, bool]] = []  # length and whether it was found
    made_up = 0
    for one, a in zip(built, answered, strict=True):
        reported = [(e["start_s"], e["end_s"]) for e in a["episodes"]]
        for episode in one.episodes:
            length = episode[1] - episode[0]
            known.append((length, _overlap(episode, reported) >= FOUND * length))
        made_up += sum(_overlap(r, one.episodes) == 0 for r in reported)
    hours = sum(one.duration_s for one in built) / 3600
    out = {
        "recordings": len(built),
        "hours": round(hours, 2),
        "mean_share": round(float(np.mean(shares)), 4),
        "analysed": round(sum(a["analysed_s"] for a in answered) / 3600 / hours, 4),
        "burden_error_points": round(float(error.mean()), 2),
        "burden_absolute_error_points": round(float(np.abs(error).mean()), 2),
        "false_episodes_per_24_h": round(24 * made_up / hours, 2),
    }
    if known:
        out |= {"episodes": len(known), "episodes_found": _share(found for _, found in known)}
        for low, high in ((0, 60), (60, 300), (300, 1e9)):
            name = f"found_from_{low}_s"
            out[name] = _share(found for length, found in known if low <= length < high)
    return out


def _overlap(stretch: tuple[float, float], others: Sequence[tuple[float, float]]) -> float:
    return sum(max(0.0, min(stretch[1], b) - max(stretch[0], a)) for a, b in others)


def _share(found) -> float | None:
    found = list(found)
    return round(sum(found) / len(found), 4) if found else None


if __name__ == "__main__":
    main()
