"""python -m loadtest.synthesize: what `POST /synthesize` gives under load, beside the raw networks.

The service runs on this machine already (`make serve`). Measured in turns, in the same run: the
networks by themselves, in batches, on all cores; one client; many clients at once. Every answer
under load is then compared with its answer alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from ecg.generation import generate_many
from ecg.labels import Labels
from ecg.store import Generator, load_generator

LABELS = ({"atrial_substrate": "normal"}, {"atrial_substrate": "abnormal"})
TOLERANCE_MV = 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.synthesize", description=(__doc__ or "").partition(": ")[2]
    )
    parser.add_argument("--url", default="http://127.0.0.1:3000")
    parser.add_argument("--store", type=Path, default=Path("models_store"))
    parser.add_argument("--name", default="ldm")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--each", type=int, default=10, help="requests of each client")
    parser.add_argument("--rounds", type=int, default=3, help="of everything, in turns")
    parser.add_argument("--out", type=Path, help="the figures as JSON")
    args = parser.parse_args()
    generator = load_generator(args.store / args.name, args.device)
    served = httpx.get(f"{args.url}/models", timeout=30).raise_for_status().json()["models"]
    if generator.card.sha256 not in [m["sha256"] for m in served]:
        raise SystemExit(f"{args.url} serves another generator than {args.store / args.name}")
    rounds = [one_round(args, generator) for _ in range(args.rounds)]
    found = summary(rounds, args)
    print(json.dumps(found, indent=1))
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n")


def one_round(args: argparse.Namespace, generator: Generator) -> dict[str, Any]:
    raw = {n: raw_rate(generator, args.clients, n) for n in (8, 16, 32)}
    seconds = [one_client(args.url, 8, seed) for seed in range(5)]
    latencies, wall, answers = asyncio.run(many_clients(args.url, args.clients, args.each))
    return {
        "raw_rate": max(raw.values()),
        "raw_batch_size": max(raw, key=lambda n: raw[n]),
        "s_per_ecg_at_8": float(np.median(seconds)) / 8,
        "rate": len(latencies) / wall,
        "latencies_s": latencies,
        "largest_difference_mv": compared_alone(args.url, answers),
    }


def raw_rate(generator: Generator, n: int, batch_size: int) -> float:
    """ECGs a second of the networks alone, `n` at once over all cores, decoded."""
    labels = [Labels(**LABELS[i % 2]) for i in range(n)]
    workers = 1 if generator.device == "cuda" else os.cpu_count() or 1
    each = max(1, min(batch_size, -(-n // workers)))
    began = time.perf_counter()
    for _ in generate_many(generator, labels, range(n), 0, workers=workers, batch_size=each):
        pass
    return n / (time.perf_counter() - began)


def one_client(url: str, n: int, seed: int) -> float:
    """Seconds of one request for n ECGs of a label, on an idle service."""
    began = time.perf_counter()
    request = {"n": n, "seed": seed, **LABELS[1]}
    httpx.post(f"{url}/synthesize", json=request, timeout=120).raise_for_status()
    return time.perf_counter() - began


async def many_clients(
    url: str, clients: int, each: int
) -> tuple[list[float], float, dict[int, bytes]]:
    """Latencies, the wall time, and the answers by seed."""
    latencies: list[float] = []
    answers: dict[int, bytes] = {}
    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=limits) as client:

        async def one(k: int) -> None:
            for i in range(each):
                seed = k * each + i
                request = {"n": 1, "seed": seed, **LABELS[seed % 2]}
                began = time.perf_counter()
                answer = (await client.post("/synthesize", json=request)).raise_for_status()
                latencies.append(time.perf_counter() - began)
                answers[seed] = answer.content

        began = time.perf_counter()
        await asyncio.gather(*(one(k) for k in range(clients)))
        return latencies, time.perf_counter() - began, answers


def compared_alone(url: str, answers: dict[int, bytes]) -> float:
    """The largest difference, mV, of any answer under load from the same one on an idle service."""
    worst = 0.0
    with httpx.Client(base_url=url, timeout=120) as client:
        for seed, content in answers.items():
            request = {"n": 1, "seed": seed, **LABELS[seed % 2]}
            alone = client.post("/synthesize", json=request).raise_for_status().json()["sig"]
            both = np.array(alone) - np.array(json.loads(content)["sig"])
            worst = max(worst, float(np.abs(both).max()))
    return worst


def summary(rounds: list[dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    """Medians over the rounds; latencies of all of them."""
    raw = float(np.median([r["raw_rate"] for r in rounds]))
    rate = float(np.median([r["rate"] for r in rounds]))
    latency = np.concatenate([r["latencies_s"] for r in rounds])
    full_batch_s = args.clients / raw
    p50, p99 = np.quantile(latency, (0.5, 0.99))
    difference = max(r["largest_difference_mv"] for r in rounds)
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "clients": args.clients,
        "requests": len(latency),
        "rounds": len(rounds),
        "raw_ecgs_a_second": round(raw, 2),
        "raw_batch_size": rounds[0]["raw_batch_size"],
        "ecgs_a_second": round(rate, 2),
        "share_of_raw": round(float(np.median([r["rate"] / r["raw_rate"] for r in rounds])), 3),
        "s_per_ecg_at_n_8": round(float(np.median([r["s_per_ecg_at_8"] for r in rounds])), 4),
        "p50_s": round(float(p50), 3),
        "p99_s": round(float(p99), 3),
        "full_batch_s": round(full_batch_s, 3),
        "p99_to_full_batch": round(float(p99) / full_batch_s, 2),
        "largest_difference_mv": difference,
        "answers_equal": bool(difference <= TOLERANCE_MV),
    }


if __name__ == "__main__":
    main()
