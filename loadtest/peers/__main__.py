"""python -m loadtest.peers: this service beside others, with the same model, bodies and client.

Every server is started anew in every round, in turns, asked for one answer that must be the
model's, warmed, and measured in a closed loop by wrk. One that can't be installed or started, or
that answers something else, is reported and left out.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import httpx
import numpy as np

from ecg.decision import calibrate
from loadtest import bodies, wrk
from loadtest.bodies import Body
from loadtest.peers.contenders import HERE, Contender, contenders
from loadtest.report import write_csv
from loadtest.run import Peak, machine, medians, peak_of
from loadtest.server import ROOT, Served, serving

CLIENTS = (16, 64)
WARM_S = 3
CLOSE = 1e-4  # between probabilities: another batch size changes float32's last digits

os.environ.setdefault("PEER_MODEL", str(ROOT / "models_store" / "prednet"))
from loadtest.peers import answering  # noqa: E402  it reads that variable, as it does in the peers


class Excluded(Exception):
    """A server that can't be measured, and why."""


def main() -> None:
    args = parser().parse_args()
    chosen = [c for c in contenders() if args.only is None or c.name in args.only]
    single = [bodies.one_npz(r) for r in bodies.records()]
    classifier = answering.load()
    expected = {calibrated: right(classifier, single[0], calibrated) for calibrated in (0, 1)}
    peaks: list[Peak] = []
    excluded: dict[str, str] = {}
    for k in range(args.rounds):
        print(f"round {k + 1} of {args.rounds}", flush=True)
        for one in (c for c in chosen if c.name not in excluded):
            try:
                peaks += measure(one, single, expected[one.calibrated], args.seconds)
            except Excluded as error:
                excluded[one.name] = str(error).splitlines()[0]
                print(f"{one.name}: {error}", file=sys.stderr, flush=True)
    peaks = [p for p in medians(peaks) if p.scenario not in excluded]
    args.out.mkdir(parents=True, exist_ok=True)
    left_out = [{"scenario": name, "excluded": why} for name, why in excluded.items()]
    write_csv(args.out / "peers.csv", [*map(asdict, peaks), *left_out])
    said = (
        f"{machine()}; {time.strftime('%Y-%m-%d')}; {classifier.card.name} "
        f"{classifier.card.version}, sha256 `{classifier.card.sha256[:12]}…`; medians of "
        f"{args.rounds} round(s) of {args.seconds} s, one-segment NPZ bodies, client (wrk) on the "
        "same machine."
    )
    text = table(said, chosen, peaks, excluded)
    (args.out / "peers.md").write_text(text)
    print(text)


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m loadtest.peers", description=(__doc__ or "").partition(": ")[2]
    )
    p.add_argument("--only", nargs="+", choices=[c.name for c in contenders()], metavar="NAME",
                   help=", ".join(c.name for c in contenders()))  # fmt: skip
    p.add_argument("--rounds", type=int, default=3, help="in turns; medians count")
    p.add_argument("--seconds", type=int, default=8, help="of each measurement")
    p.add_argument("--out", type=Path, default=ROOT / "loadtest" / "results")
    return p


def right(classifier: answering.Classifier, body: Body, calibrated: bool) -> np.ndarray:
    """The probabilities [segment, output] that a server of this model answers."""
    arrays = answering.batch(answering.prepared(classifier, body.content))
    logits = classifier.logits(*arrays)
    if not calibrated:
        return answering.probability(logits)
    card = classifier.card
    return calibrate(logits, arrays[1].sum(axis=1), card.calibration, card.implying)[0]


def measure(
    one: Contender, single: Sequence[Body], expected: np.ndarray, seconds: int
) -> list[Peak]:
    """Errors: Excluded."""
    some = [one.body(b) for b in single]
    try:
        one.install()
        with serving(one.command(), one.ready, one.variables) as server:
            verify(one, server, some[0], expected)
            wrk.run(server.url, some, max(CLIENTS), WARM_S)
            found = [peak_of(server, one.name, some, n, seconds) for n in CLIENTS]
    except subprocess.CalledProcessError as error:
        raise Excluded(f"not installed: pip or venv ended with {error.returncode}") from error
    except OSError as error:
        raise Excluded(f"not started: {error}") from error
    except SystemExit as error:
        raise Excluded(f"not measured: {error}") from error
    for peak in found:
        print(peak, flush=True)
    return found


def verify(one: Contender, server: Served, body: Body, expected: np.ndarray) -> None:
    """Errors: Excluded, unless the answer is the model's."""
    try:
        answer = httpx.post(
            server.url + body.path, content=body.content, headers=body.headers, timeout=60
        )
        said = np.array(one.said(answer.raise_for_status().json()), np.float64)
    except httpx.HTTPStatusError as error:
        raise Excluded(f"answers {error.response.status_code}: {error.response.text}") from error
    except (httpx.HTTPError, LookupError, TypeError, ValueError) as error:
        raise Excluded(f"answers nothing readable: {error!r}") from error
    if said.shape != expected.shape or not np.allclose(said, expected, rtol=0, atol=CLOSE):
        raise Excluded(f"answers {said.round(4).tolist()}, not {expected.round(4).tolist()}")


def table(
    said: str, chosen: Sequence[Contender], peaks: Sequence[Peak], excluded: Mapping[str, str]
) -> str:
    """Markdown, the fastest at 16 clients first."""
    rows = {c.name: [p for p in peaks if p.scenario == c.name] for c in chosen}
    order = sorted(chosen, key=lambda c: -rows[c.name][0].requests_a_second if rows[c.name] else 1)
    lines = [said, "", "| server | version |", "|---|---|"]
    for n in CLIENTS:
        lines[2] += f" requests/s, {n} clients | p50 ms | p99 ms | CPU ms a request |"
        lines[3] += "---|" * 4
    lines[2] += " MiB | failed |"
    lines[3] += "---|" * 2
    for one in order:
        row = f"| {one.title} | {version(one)} |"
        if one.name in excluded:
            lines.append(row + " excluded: see stderr |" + " |" * (4 * len(CLIENTS) + 1))
            continue
        for p in rows[one.name]:
            row += (
                f" {p.requests_a_second:,.0f} | {p.p50_ms:.1f} | {p.p99_ms:.1f} | {p.cpu_ms:.2f} |"
            )
        mib = max(p.mib for p in rows[one.name])
        lines.append(row + f" {mib:,.0f} | {sum(p.failed for p in rows[one.name])} |")
    return "\n".join(lines) + "\n"


def version(one: Contender) -> str:
    """Of the server itself: the first of its requirements."""
    if one.environment is None:
        return ""
    wanted = (HERE / f"requirements-{one.environment}.txt").read_text()
    return wanted.splitlines()[0].replace("==", " ")


if __name__ == "__main__":
    main()
