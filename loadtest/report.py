"""A run's figures as plots and as the tables of loadtest/README.md."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
README = Path(__file__).with_name("README.md")
INK, CAUTION, SOFT = "#0b4f6c", "#b3261e", "#7a8b99"


def write_report(folder: Path, said: dict[str, Any], peaks: Sequence, offered: Sequence) -> None:
    """latency.png in `folder`, and the tables between the README's marks."""
    draw(folder / "latency.png", said, offered)
    text = README.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    README.write_text(f"{before}{BEGIN}\n{tables(said, peaks, offered)}\n{END}{after}")


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """A column a key; a row lacks what it has no key for."""
    rows = list(rows)
    with path.open("w", newline="") as f:
        out = csv.DictWriter(f, list(dict.fromkeys(key for row in rows for key in row)))
        out.writeheader()
        out.writerows(rows)


def tables(said: dict[str, Any], peaks: Sequence, offered: Sequence) -> str:
    limit, model, knee = said["limit"], said["model"], said["knee"]
    lines = [
        f"{said['machine']}; {said['made']}; {model['name']} {model['version']}, sha256 "
        f"`{model['sha256'][:12]}…`; "
        f"medians of {said['rounds']} rounds, client on the same machine.",
        "",
        f"**The limit**, preparation and model in one process: {limit['segments_a_second']:,.0f} "
        f"segments a second, {limit['runs']} run(s) at a time of {limit['threads']} thread(s), "
        f"{limit['batch']} segments each: {limit['preparation_ms']:.2f} ms of preparation and "
        f"{limit['model_ms']:.2f} ms of model a segment.",
        "",
        "| closed loop (wrk) | clients | requests/s | segments/s | of the limit | p50 ms | p99 ms "
        "| CPU ms a request | without preparation and model | MiB | failed |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for p in peaks:
        share = around = ""
        if not p.scenario.startswith("synth"):
            share = _share(p.segments_a_second, limit)
            n_segments = p.segments_a_second / p.requests_a_second
            inside = n_segments * (limit["preparation_ms"] + limit["model_ms"])
            around = f"{p.cpu_ms - inside:.2f}"
        lines.append(
            f"| {p.scenario} | {p.clients} | {p.requests_a_second:,.0f} | "
            f"{p.segments_a_second:,.0f} | {share} | {p.p50_ms:.1f} | "
            f"{p.p99_ms:.1f} | {p.cpu_ms:.2f} | {around} | {p.mib:,.0f} | {p.failed} |"
        )
    lines += [
        "",
        f"**The knee**: {knee['rate']:,.0f} single segments a second arriving at a constant rate, "
        f"p50 {knee['p50_ms']:.1f} ms, p99 {knee['p99_ms']:.1f} ms.",
        "",
        "| open loop (Locust), offered/s | served/s | p50 ms | p99 ms | failed |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {o.rate:,.0f} | {o.goodput:,.0f} | {o.p50_ms:.1f} | {o.p99_ms:.1f} | {o.failed} |"
        for o in offered
    ]
    return "\n".join(lines)


def draw(path: Path, said: dict[str, Any], offered: Sequence) -> None:
    """Latency against the rate that is offered, the knee marked."""
    fig, axis = plt.subplots(figsize=(8, 4.2))
    rates = [o.rate for o in offered]
    axis.plot(rates, [o.p50_ms for o in offered], "o-", color=INK, label="p50")
    axis.plot(rates, [o.p99_ms for o in offered], "o-", color=CAUTION, label="p99")
    axis.axvline(said["knee"]["rate"], color=SOFT, ls="--", label="knee")
    axis.set(
        xlabel="single segments arriving a second", ylabel="ms from due to answered", yscale="log",
        title=f"{said['model']['name']} {said['model']['version']} on {said['machine']}",
    )  # fmt: skip
    axis.legend()
    axis.grid(alpha=0.3)
    fig.tight_layout()
    fig.savefig(path, dpi=110)
    plt.close(fig)


def _share(rate: float, limit: dict[str, Any]) -> str:
    return f"{rate / limit['segments_a_second']:.0%}"
