"""python -m loadtest.rating: whether the time of an answer tells a rater what it shows.

    make serve &
    python -m training.real_set --data runs/data/ptb-xl.npz --out real.npz
    python -m loadtest.rating http://127.0.0.1:3000 --real real.npz

Studies half real and half generated are made in the service and shown to a program, which asks for
every ECG several times in a drawn order; then each study is closed and its export tells the truth.
AUROC of the time for the source, and for what is a repeat: 0.5 says nothing. Where no keys are
asked for; the studies stay in the service's database.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np


@dataclass(frozen=True)
class Timed:
    """Of presentations: ms [times, n] of their answers, which are generated, which are repeats."""

    ms: np.ndarray
    generated: np.ndarray
    repeat: np.ndarray


def main() -> None:
    args = parser().parse_args()
    timed = []
    with httpx.Client(base_url=args.url, timeout=600) as client:
        for seed in range(args.studies):
            timed.append(one_study(client, args.real.read_bytes(), args.ecgs, seed, args.times))
            print(f"study {seed + 1} of {args.studies}", flush=True)
    ms = np.concatenate([one.ms for one in timed], axis=1)
    generated = np.concatenate([one.generated for one in timed])
    repeat = np.concatenate([one.repeat for one in timed])
    print(f"median {np.median(ms):.1f} ms, {ms.shape[1]} presentations, {len(ms)} times each")
    for name, score in (("one look", ms[0]), (f"the median of {len(ms)}", np.median(ms, axis=0))):
        for of, truth in (("source", generated), ("repeat", repeat)):
            found, half = auroc(score, truth)
            print(f"{of} by {name}: AUROC {found:.3f} [{found - half:.3f}, {found + half:.3f}]")


def parser() -> argparse.ArgumentParser:
    described, _, more = (__doc__ or "").partition("\n\n")
    p = argparse.ArgumentParser(
        prog="python -m loadtest.rating",
        description=described.partition(": ")[2],
        epilog=more,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("url")
    p.add_argument("--real", type=Path, required=True, help="a set of training.real_set")
    p.add_argument("--studies", type=int, default=3)
    p.add_argument("--ecgs", type=int, default=300, help="of a study, half of them real")
    p.add_argument("--times", type=int, default=5, help="that each ECG is asked for")
    return p


def one_study(client: httpx.Client, real: bytes, n: int, seed: int, times: int) -> Timed:
    name = next(iter(answered(client.get("/studies/list")).json()["generators"]))
    plan = {"name": f"Times {seed}", "labels": {"normal": 5, "abnormal": 1}, "seed": seed}
    plan |= {"generated": {name: n // 2}, "real": n - n // 2, "repeats": 0.1}
    files = [("file", ("plan.json", json.dumps(plan))), ("file", ("real.npz", real))]
    study = answered(client.post("/studies/create", files=files)).json()["study"]
    asked = {"study": study, "name": "simulated rater: times", "simulated": True}
    rater = answered(client.post("/studies/invite", json=asked)).json()
    bearer = {"Authorization": f"Bearer {rater['token']}"}
    total = answered(client.get("/rate/progress", headers=bearer)).json()["total"]
    rng = np.random.default_rng(seed)
    ms = np.zeros((times, total))
    for look in range(times):
        for position in rng.permutation(total):
            began = time.perf_counter()
            found = client.get(f"/rate/ecg?position={position}", headers=bearer)
            ms[look, position] = 1000 * (time.perf_counter() - began)
            answered(found)
    answered(client.post("/studies/close", json={"study": study}))
    exported = answered(client.get(f"/studies/export?study={study}")).content
    source = {row["id"]: row["source"] for row in table(exported, "ecgs")}
    shown = sorted(table(exported, "presentations"), key=lambda row: int(row["position"]))
    generated = np.array([source[row["ecg"]] != "real" for row in shown])
    return Timed(ms, generated, np.array([bool(row["repeat_of"]) for row in shown]))


def answered(answer: httpx.Response) -> httpx.Response:
    """The same. Errors: SystemExit with what the service says instead."""
    if answer.status_code != 200:
        raise SystemExit(f"{answer.request.url.path}: {answer.status_code}, {answer.text}")
    return answer


def table(exported: bytes, name: str) -> list[dict[str, str]]:
    """Of an export's zip."""
    with zipfile.ZipFile(io.BytesIO(exported)) as archive:
        return list(csv.DictReader(io.StringIO(archive.read(f"{name}.csv").decode())))


def auroc(score: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """How often a true one's score is the larger, ties half; and half its 95% interval at chance
    (Mann and Whitney 1947, doi 10.1214/aoms/1177730491)."""
    a, b = score[truth][:, None], score[~truth][None, :]
    found = float(((a > b) + 0.5 * (a == b)).mean())
    n, m = int(truth.sum()), int((~truth).sum())
    return found, 1.96 * math.sqrt((n + m + 1) / (12 * n * m))


if __name__ == "__main__":
    main()
